"""The door to Markdown: words that people wrote, made into HTML that is safe to show to others."""

import re
import unicodedata
from functools import lru_cache
from html import escape
from html.parser import HTMLParser
from xml.etree.ElementTree import Element

import nh3
from markdown import Markdown
from markdown.extensions import Extension
from markdown.extensions.tables import TableExtension
from markdown.inlinepatterns import InlineProcessor
from markdown.treeprocessors import Treeprocessor
from markdown.util import AtomicString

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
ANCHOR = re.compile(r"[^\W\d_][^\s\"'<>&/]{0,99}")
# Ids that pages themselves use, or promise to programs; a text must not answer to them.
TAKEN = frozenset({"access-token", "completion", "error-summary-title", "gate", "main", "result"})
HEADING = re.compile(r"<(/?)h([1-6])(?=[ >])")
FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})", re.MULTILINE)
# In cards of the Hub, Markdown goes on inside these.
BOXES = re.compile(r"^<(details(?: open)?|(?:div|section|center)\b[^<>]*)>", re.MULTILINE)
# By the rule of pandoc a formula ends in a $ that follows no space and precedes no digit, so prices are none.
FORMULA = r"(?<![\\$\w])(\$\$?)(?=[^\s$])((?:\\.|[^$\\])+?)(?<=\S)\1(?![\d$])"
LINK = re.compile(
    r"""(?P<picture><img\b(?:[^>"']{1,99}+|"[^"]{0,2000}"|'[^']{0,2000}'){0,60}+>)|(?P<open><a\b)|(?P<close></a>)""",
    re.IGNORECASE,
)
NAMED = re.compile(r'<a\s+name="([^"<>]*)"', re.IGNORECASE)
ENTRY = re.compile(r"<li>(\s*(?:<p>)?<strong>([a-z_]+\.[a-z0-9_]+)</strong>)")
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


class _Formulas(InlineProcessor):
    """Keeps a formula as it was written: its marks are not those of Markdown."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[Element, int, int]:  # type: ignore[override] # noqa: ARG002, N802
        """Return a formula as code."""
        code = Element("code")
        code.text = AtomicString(m[0])
        return code, m.start(0), m.end(0)


class _Quiet(Extension):
    """Teaches Markdown to draw no pictures, and to leave formulas alone."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Register the rewriting of pictures, after inline marks have become elements; formulas after code."""
        md.treeprocessors.register(_Pictures(md), "pictures", 5)
        md.inlinePatterns.register(_Formulas(FORMULA, md), "formulas", 185)


class _Headings(Treeprocessor):
    """Gives each heading the anchor that the Hub gives it, so that a card's own list of contents works."""

    def run(self, root: Element) -> None:
        """Name the headings of a document in place."""
        counts: dict[str, int] = {}
        for heading in root.iter():
            if re.fullmatch("h[1-6]", str(heading.tag)) and not heading.get("id"):
                slug = _slug("".join(heading.itertext()))
                counts[slug] = counts.get(slug, -1) + 1
                heading.set("id", f"{slug}-{counts[slug]}" if counts[slug] else slug)


class _Anchored(Extension):
    """Teaches Markdown to name headings."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Register the naming of headings, when their words are known."""
        md.treeprocessors.register(_Headings(md), "headings", 4)


def _slug(words: str) -> str:
    kept = "".join(c for c in words.lower() if c in " -_" or unicodedata.category(c)[0] in "LNM")
    return kept.strip().replace(" ", "-")


@lru_cache(maxsize=256)  # texts named by a digest never change, so neither does what is made of them
def markdown(text: str) -> str:
    """Return the HTML of a Markdown text: no script, no style, no picture, nothing that loads from elsewhere.

    A heading moves one level down, since the page that shows the text has the only first-level one;
    ``### Title {#key}`` gives it the anchor ``key``.
    """
    return _shown(text)


@lru_cache(maxsize=256)
def card(text: str) -> str:
    """Return the HTML of a model card's Markdown; headings and card items have anchors, as others link to them."""
    return ENTRY.sub(_entry, _shown(text, _Anchored()))


def _shown(text: str, *more: Extension) -> str:
    clean = text.encode("utf-8", "replace").decode()
    try:
        html = _convert(clean, *more)
    except RecursionError:
        # Nesting that nobody reads: the words are shown as they were written.
        return f"<pre>{escape(clean)}</pre>"
    safe = nh3.clean(
        _without_pictures(NAMED.sub(r'<a id="\1"', html)), tags=set(TAGS), clean_content_tags=set(DROPPED),
        attributes=ATTRIBUTES, attribute_filter=_attribute, url_schemes=SCHEMES, link_rel=REL,
    )  # fmt: skip
    return HEADING.sub(_one_lower, safe)


def _entry(match: re.Match[str]) -> str:
    return f'<li id="{match[2]}">{match[1]}'


class _Tag(HTMLParser):
    """The attributes of one tag."""

    def __init__(self, tag: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.feed(tag)

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the attributes."""
        self.found = {name: value or "" for name, value in attrs}


def _without_pictures(html: str) -> str:
    """Put a link where somebody wrote a picture as a tag, as for one that is Markdown."""
    depth = 0

    def replaced(match: re.Match[str]) -> str:
        nonlocal depth
        depth += bool(match["open"])
        depth -= bool(match["close"]) and depth > 0
        if not match["picture"]:
            return match[0]
        found = _Tag(match[0]).found
        words = escape(found.get("alt", "").strip() or "picture")
        source = found.get("src", "")
        return f'<a href="{escape(source)}">{words}</a>' if source and not depth else words

    return LINK.sub(replaced, html)


def _convert(text: str, *more: Extension) -> str:
    tables = TableExtension(use_align_attribute=True)
    extensions: list[str | Extension] = [
        "attr_list", "def_list", "fenced_code", "footnotes", "md_in_html", "sane_lists", tables, _Quiet(), *more,
    ]  # fmt: skip
    return Markdown(extensions=extensions, output_format="html").convert(_open_boxes(text))


def _open_boxes(text: str) -> str:
    """Let Markdown be written inside ``<details>`` and the like, as in cards, except where they are shown as code."""
    parts = FENCE.split(text)
    outside = True
    for at in range(0, len(parts), 2):
        if outside:
            parts[at] = BOXES.sub(r'<\1 markdown="1">', parts[at])
        outside = not outside
    return "".join(parts)


def _attribute(_tag: str, name: str, value: str) -> str | None:
    if name == "id" and (not ANCHOR.fullmatch(value) or value in TAKEN):
        return None
    return value


def _one_lower(match: re.Match[str]) -> str:
    return f"<{match[1]}h{min(int(match[2]) + 1, LOWEST)}"
