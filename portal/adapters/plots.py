"""The door to matplotlib: figures drawn as SVG that takes its colors and letters from the page around it."""

import re
import warnings
from collections.abc import Sequence
from html import escape
from io import StringIO
from typing import Any

INK, SERIES, SECOND = "#010203", "#040506", "#070809"
STYLE = re.compile(r' style="([^"]*)"')
SIZE = re.compile(r'<svg [^>]*viewBox="([^"]*)"[^>]*>')
# Of each drawn element only these are kept; the page's policy lets no element bring a style of its own.
KEPT = frozenset("fill stroke stroke-width stroke-opacity stroke-linecap text-anchor".split())  # noqa: SIM905
UNWANTED = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->|<style[^>]*>.*?</style>|<clipPath.*?</clipPath>", re.DOTALL)
GROUP, CLIP, MARK = re.compile(r'<g id="[^"]*"'), re.compile(r' clip-path="[^"]*"'), re.compile(r'(id="|href="#)(?=m)')
WIDTH, ROW, MARGIN = 7.2, 0.27, 0.75


def draw(rows: Sequence[tuple[str, float, tuple[float, float] | None, bool]], *, axis: str, alt: str, name: str) -> str:
    """Draw figures under each other as points with their intervals.

    Args:
        rows: of each figure its label, value, interval, and whether it is one of the second kind.
        axis: what is measured.
        alt: what the drawing shows, in words.
        name: sets its inner names apart from those of others on a page.
    """
    from matplotlib import rc_context  # noqa: PLC0415
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    names = [label for label, *_ in rows]
    look: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "portal", "text.parse_math": False}
    with rc_context(look), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that its own font lacks are drawn by the browser
        figure = Figure(figsize=(WIDTH, MARGIN + ROW * len(rows)), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for at, (_, value, interval, second) in enumerate(rows):
            color = SECOND if second else SERIES
            if interval is not None:
                axes.plot(interval, (at, at), color=color, linewidth=2)
            axes.plot([value], [at], marker="D" if second else "o", color=color, markersize=6)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel(axis)
        axes.grid(axis="x", color=INK, alpha=0.2)
        axes.tick_params(colors=INK)
        axes.xaxis.label.set_color(INK)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(INK)
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        out = StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return _page_like(out.getvalue(), alt, name)


def _page_like(svg: str, alt: str, name: str) -> str:
    body = CLIP.sub("", GROUP.sub("<g", UNWANTED.sub("", svg[svg.index("<svg ") :])))
    body = MARK.sub(rf"\g<1>{name}-", STYLE.sub(_attributes, body))
    head = f'class="plot" role="img" aria-label="{escape(alt)}">'
    return SIZE.sub(lambda match: f'<svg viewBox="{match[1]}" {head}', body, count=1).strip()


def _attributes(match: re.Match[str]) -> str:
    parts = (part.partition(":") for part in match[1].split(";"))
    found = {name.strip(): value.strip() for name, _, value in parts}
    kept = {name: value for name, value in found.items() if name in KEPT}
    kind = next((name for color, name in ((SERIES, "series"), (SECOND, "series second")) if color in kept.values()), "")
    if any(part.startswith("font") for part in found):
        kept |= {"font-size": "10", "fill": INK}
    values = {INK: "currentColor", SERIES: "currentColor", SECOND: "currentColor"}
    words = "".join(f' {name}="{escape(values.get(value, value))}"' for name, value in kept.items())
    return f' class="{kind}"{words}' if kind else words
