"""The door to Markdown: words that people wrote, made into HTML that is safe to show to others."""

import re
from functools import lru_cache
from html import escape
from xml.etree.ElementTree import Element

import nh3
from markdown import Markdown
from markdown.extensions import Extension
from markdown.extensions.tables import TableExtension
from markdown.treeprocessors import Treeprocessor

TAGS = frozenset(
    """a abbr b bdi bdo blockquote br caption code dd del details div dl dt em figcaption figure h1 h2 h3 h4 h5 h6 hr i
    ins kbd li ol p pre q s samp small strong sub summary sup table tbody td tfoot th thead tr ul var""".split()  # noqa: SIM905
)
# What stands inside these is not for readers either, so it goes with its tag.
DROPPED = frozenset(
    "button embed iframe math noscript object option script select style svg template textarea title".split()  # noqa: SIM905
)
ATTRIBUTES = {
    "*": {"dir", "id", "lang", "title"},
    "a": {"href"},
    "details": {"open"},
    "ol": {"start"},
    "td": {"align", "colspan", "rowspan"},
    "th": {"align", "colspan", "rowspan", "scope"},
}
SCHEMES = {"http", "https", "mailto"}
REL = "noopener nofollow ugc"
ANCHOR = re.compile(r"[A-Za-z][\w.:-]{0,99}", re.ASCII)
# Ids that pages themselves use, or promise to programs; a text must not answer to them.
TAKEN = frozenset({"access-token", "completion", "error-summary-title", "gate", "main", "result"})
HEADING = re.compile(r"<(/?)h([1-6])(?=[ >])")
FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})", re.MULTILINE)
DETAILS = re.compile(r"^<details(?P<open> open)?>", re.MULTILINE)
LOWEST = 6


class _Pictures(Treeprocessor):
    """Puts a link where a picture would be: opening a page makes no reader's browser call another site."""

    def run(self, root: Element) -> None:
        """Rewrite the pictures of a document in place."""
        linked = {picture for link in root.iter("a") for picture in link.iter("img")}
        for picture in list(root.iter("img")):
            source, words = picture.get("src", ""), picture.get("alt", "") or "picture"
            picture.attrib.clear()
            picture.text = words
            picture.tag = "span" if picture in linked else "a"
            if picture not in linked:
                picture.set("href", source)


class _Quiet(Extension):
    """Teaches Markdown to draw no pictures."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Register the rewriting of pictures, after inline marks have become elements."""
        md.treeprocessors.register(_Pictures(md), "pictures", 5)


@lru_cache(maxsize=256)  # texts named by a digest never change, so neither does what is made of them
def markdown(text: str) -> str:
    """Return the HTML of a Markdown text: no script, no style, no picture, nothing that loads from elsewhere.

    A heading moves one level down, since the page that shows the text has the only first-level one;
    ``### Title {#key}`` gives it the anchor ``key``.
    """
    clean = text.encode("utf-8", "replace").decode()
    try:
        html = _convert(clean)
    except RecursionError:
        # Nesting that nobody reads: the words are shown as they were written.
        return f"<pre>{escape(clean)}</pre>"
    safe = nh3.clean(
        html, tags=set(TAGS), clean_content_tags=set(DROPPED), attributes=ATTRIBUTES, attribute_filter=_attribute,
        url_schemes=SCHEMES, link_rel=REL,
    )  # fmt: skip
    return HEADING.sub(_one_lower, safe)


def _convert(text: str) -> str:
    tables = TableExtension(use_align_attribute=True)
    extensions: list[str | Extension] = [
        "attr_list", "def_list", "fenced_code", "footnotes", "md_in_html", "sane_lists", tables, _Quiet(),
    ]  # fmt: skip
    return Markdown(extensions=extensions, output_format="html").convert(_open_details(text))


def _open_details(text: str) -> str:
    """Let Markdown be written inside ``<details>``, as Hub cards do, except where the tag is shown as code."""
    parts = FENCE.split(text)
    outside = True
    for at in range(0, len(parts), 2):
        if outside:
            parts[at] = DETAILS.sub(r'<details\g<open> markdown="1">', parts[at])
        outside = not outside
    return "".join(parts)


def _attribute(_tag: str, name: str, value: str) -> str | None:
    if name == "id" and (not ANCHOR.fullmatch(value) or value in TAKEN):
        return None
    return value


def _one_lower(match: re.Match[str]) -> str:
    return f"<{match[1]}h{min(int(match[2]) + 1, LOWEST)}"
