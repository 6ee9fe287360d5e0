"""Figures, rendered as SVG in the page's colours, or as PNG and PDF for a paper."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mindeye_pl.store.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.container import Container
    from matplotlib.figure import Figure

#: Colours of text and axes, of grid lines, and of data series: the page's light theme, on white paper.
INK, FAINT = "#3c4248", "#dcd9d4"
SERIES = ("#0d6b72", "#c2661a", "#6a5aa8", "#3b7f3f", "#b03a5b", "#7a6a4f")
#: On the page they are CSS variables, so that its light and dark themes apply.
CSS_COLOURS = {INK: "var(--muted)", FAINT: "var(--line)"} | {
    colour: f"var(--series-{i})" for i, colour in enumerate(SERIES, 1)
}


class Drawable(Protocol):
    """Interface of a figure."""

    @property
    def title(self) -> str:
        """Title of the figure."""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""

    def describe(self) -> str:
        """Return a text alternative of the figure."""

    def draw_on(self, figure: "Figure") -> None:
        """Draw the content on an empty figure."""


def as_svg(drawable: Drawable) -> str:
    """Render a figure as an `<svg>` element for the page.

    Text stays text, colours are the page's CSS variables, ids are unique in the page, and there are no style sheets or
    style attributes, which the page's security policy forbids.
    """
    written = StringIO()
    with _drawn(drawable) as figure:
        figure.savefig(written, format="svg", metadata={"Date": None}, transparent=True)
    return _for_the_page(written.getvalue())


def write_figure(drawable: Drawable, stem: Path) -> list[Path]:
    """Write `stem.png` and `stem.pdf` atomically and return their paths; equal figures produce equal files."""
    paths = [stem.with_name(f"{stem.name}.{form}") for form in ("png", "pdf")]
    with _drawn(drawable) as figure:
        for path, metadata in zip(paths, ({"Software": None}, {"CreationDate": None}), strict=True):
            with replacing(path) as temporary:
                figure.savefig(temporary, format=path.suffix[1:], metadata=metadata)
    return paths


@contextmanager
def _drawn(drawable: Drawable) -> "Iterator[Figure]":
    """Yield the figure, drawn in the common style; more lines than colours get dashes."""
    from cycler import cycler
    from matplotlib.figure import Figure
    from matplotlib.style import context

    lines = cycler(linestyle=["-", "--", ":"]) * cycler(color=SERIES)
    colours: dict[str, Any] = dict.fromkeys(("axes.labelcolor", "legend.labelcolor", "xtick.color", "ytick.color"), INK)
    colours |= {"axes.edgecolor": FAINT, "grid.color": FAINT, "axes.prop_cycle": lines}
    style = Path(__file__).parent / "templates" / "figure.mplstyle"
    with context([str(style), colours, {"svg.hashsalt": drawable.describe()}]):
        figure = Figure(figsize=drawable.size)
        drawable.draw_on(figure)
        yield figure


def legend_above(axes: "Axes", handles: "Sequence[Artist | Container] | None" = None) -> None:
    """Add a legend above the chart, of all labelled artists or of the given ones."""
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)


def _for_the_page(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style\b.*?</style>", "", svg, flags=re.DOTALL)  # its rules are in the page's style sheet
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)  # the page sets the size, the view box the aspect
    svg = re.sub(r'<g id="named: ([^"]*)">', r"<g><title>\1</title>", svg)  # shown as a tooltip
    svg = re.sub(r'(<g\b[^>]*?) id="[^"]*"', r"\1", svg)  # equal in every chart, and never referenced
    svg = re.sub(r' style="([^"]*)"', lambda found: _as_attributes(found[1]), svg)
    for colour, variable in CSS_COLOURS.items():
        svg = svg.replace(colour, variable)
    return svg.strip()


def _as_attributes(style: str) -> str:
    """Convert a style attribute to presentation attributes, without the font family."""
    kept = {}
    for declaration in filter(str.strip, style.split(";")):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font" and (size := re.search(r"[\d.]+px", value)):
            kept["font-size"] = size[0]
        elif name not in ("font", "font-family"):
            kept[name] = value
    return "".join(f' {name}="{value}"' for name, value in kept.items())
