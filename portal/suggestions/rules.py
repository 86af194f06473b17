"""From incident to text: what a kind of case shows that a model card or a clause should say."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from portal.audit.rules import Event
from portal.cases.rules import Origin
from portal.core.errors import Invalid

WORDS_MAX = 2_000
HEADING = "## Limitations"
FROM = {
    Origin.RULE: "found by detection rules",
    Origin.REPORT: "reported from outside",
    Origin.LEAK: "found in leaked access tokens",
    Origin.APPEAL: "contested on appeal",
    Origin.STAFF: "found by staff",
}


@dataclass(frozen=True)
class TextSuggested(Event, name="cases:text:suggested"):
    """A case led to a change that was suggested for a model card or a clause; `target` names which."""

    target: str


def case_class(origin: Origin, clause_keys: Sequence[str]) -> str:
    """Return the kind of a case in words that name nobody: which clauses it is about, and how it came to light."""
    about = ", ".join(f"`{key}`" for key in sorted(clause_keys)) or "no particular clause"
    return f"cases about {about}, {FROM[origin]}"


def check_words(words: str) -> str:
    """Return what a text should say, as it is suggested, or raise `Invalid`."""
    kept = " ".join(words.split())
    if not kept:
        raise Invalid("words_missing", "Write what should be said.", field="words")
    if len(kept) > WORDS_MAX:
        raise Invalid("words_long", f"Keep this to {WORDS_MAX:,} characters.", field="words")
    if not all(letter.isprintable() for letter in kept):
        raise Invalid("words_letters", "This holds characters that cannot be kept.", field="words")
    return kept


def with_limitation(card: str, words: str, kind: str) -> str:
    """Return a card with one more limitation, which says after which kind of case; the same again changes nothing."""
    line = f"- {words} *(Added after {kind}.)*"
    if line in card.splitlines():
        return card
    section = re.compile(rf"^{re.escape(HEADING)}[^\n]*\n(?:(?!^#{{1,2}} ).*\n?)*", re.MULTILINE)
    found = section.search(card)
    if found is None:
        return f"{card.rstrip()}\n\n{HEADING}\n\n{line}\n"
    before, after = card[: found.end()].rstrip(), card[found.end() :].lstrip()
    gap = "\n\n" if before.endswith(found[0].splitlines()[0]) else "\n"
    return f"{before}{gap}{line}\n" + (f"\n{after}" if after else "")


def remark(key: str, words: str, kind: str) -> str:
    """Write the remark on a clause for whoever drafts the next version."""
    return f"{words}\n\nThis comes from {kind}. Say so in the explanation of the change of {key}."
