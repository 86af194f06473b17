"""What in a text is secret, or about a person: found by its form, and by its check digits where it has some."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 200_000
SECRETS = re.compile(
    r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----"
    r"|\b(?:lm[oprs]_|hf_|ghp_|gho_|ghs_|github_pat_|glpat-|sk-|xox[abprs]-|npm_)[A-Za-z0-9_-]{16,200}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bAIza[0-9A-Za-z_-]{35}"
    r"|\beyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{8,500}"
    r"|(?i:\b(?:password|passwort|mot de passe|contraseña|senha|密码|كلمة المرور)\s{0,3}[:=：]\s{0,3}\S{6,100})"  # noqa: RUF001
)
MAIL = re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}\b")
CARD = re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
PHONE = re.compile(r"(?<![\w+])\+\d(?:[ ().-]{0,2}\d){7,14}(?!\d)")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a text that should not be kept; `kind` is ``secret``, ``mail``, ``card``, ``iban`` or ``phone``."""

    kind: str
    start: int
    end: int


def spans(text: str) -> list[Span]:
    """Return the pieces of a text that are secret or about a person, in order."""
    return sorted(_spans(text[:LONGEST]), key=lambda span: (span.start, span.end))


def _spans(text: str) -> Iterator[Span]:
    for kind, pattern in (("secret", SECRETS), ("mail", MAIL), ("card", CARD), ("iban", IBAN), ("phone", PHONE)):
        for found in pattern.finditer(text):
            if _holds(kind, found[0]):
                yield Span(kind, found.start(), found.end())


def sensitive(text: str) -> dict[str, int]:
    """Count what is secret and what is about a person, by the names of the features."""
    kinds = Counter("secrets" if span.kind == "secret" else "personal_data" for span in spans(text))
    return dict(kinds)


def _holds(kind: str, said: str) -> bool:
    """Check the check digits: ISO/IEC 7812 (Luhn) for cards, ISO 13616 for accounts."""
    if kind == "card":
        digits = [int(c) for c in said if c.isdigit()][::-1]
        return sum(d if at % 2 == 0 else d * 2 - 9 * (d > 4) for at, d in enumerate(digits)) % 10 == 0  # noqa: PLR2004
    if kind == "iban":
        plain = said.replace(" ", "")
        return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1
    return True
