"""Figures: drawn once, shown on the page as SVG in the page's colours, or written as PNG and PDF for a paper."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mindeye_pl.store.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.container import Container
    from matplotlib.figure import Figure

#: Dots per inch of a PNG, as journals ask for.
DPI = 300
_SETTINGS: dict[Any, Any] = {"font.size": 9.5, "font.family": "sans-serif", "text.parse_math": False}


@dataclass(frozen=True)
class Palette:
    """Colours of a figure: text and axes, the lines behind, what is drawn, and what it is drawn on."""

    ink: str
    faint: str
    series: tuple[str, ...]


#: Colours that matplotlib writes and the page replaces, so that light and dark are the page's matter.
PAGE = Palette("#0a0b0c", "#0a0b0d", tuple(f"#0a0b1{i}" for i in range(6)))
CSS_COLOURS = {PAGE.ink: "var(--muted)", PAGE.faint: "var(--line)"} | {
    colour: f"var(--series-{i + 1})" for i, colour in enumerate(PAGE.series)
}
#: The page's light colours, on white paper.
PAPER = Palette("#3c4248", "#dcd9d4", ("#0d6b72", "#c2661a", "#6a5aa8", "#3b7f3f", "#b03a5b", "#7a6a4f"))


class Drawable(Protocol):
    """What can be drawn: it knows its title, its size in inches and its content in words."""

    @property
    def title(self) -> str:
        """What is drawn."""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""

    def words(self) -> str:
        """The figure for those who cannot see it."""

    def draw_on(self, figure: "Figure", palette: Palette) -> None:
        """Draws it on an empty figure."""


def as_svg(drawable: Drawable) -> str:
    """The figure as an `<svg>` element for the page.

    Text stays text, colours are the page's, no id clashes with another figure's, and there is neither a style sheet nor
    a style attribute in it, as the page's security policy allows none.
    """
    import matplotlib

    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": drawable.words()}
    with matplotlib.rc_context(_SETTINGS | settings):
        written = StringIO()
        _drawn(drawable, PAGE).savefig(written, format="svg", metadata={"Date": None}, transparent=True)
    return _for_the_page(written.getvalue())


def write_figure(drawable: Drawable, stem: Path) -> list[Path]:
    """Writes `stem.png` and `stem.pdf` for a paper, atomically; the same figure is the same file.

    Returns:
        The two paths.
    """
    import matplotlib

    paths = []
    settings: dict[Any, Any] = {"pdf.fonttype": 42}  # letters stay letters for whoever edits the PDF
    with matplotlib.rc_context(_SETTINGS | settings):
        figure = _drawn(drawable, PAPER)
        for form, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
            path = stem.with_name(f"{stem.name}.{form}")
            with replacing(path) as temporary:
                figure.savefig(temporary, format=form, dpi=DPI, metadata=metadata)
            paths.append(path)
    return paths


def _drawn(drawable: Drawable, palette: Palette) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=drawable.size, layout="constrained")
    drawable.draw_on(figure, palette)
    return figure


def plain_axes(axes: "Axes", palette: Palette, grid: str = "y") -> None:
    """The look that all charts share: no frame, faint lines behind, quiet numbers."""
    axes.tick_params(which="both", colors=palette.ink, length=0)
    axes.grid(axis=grid, color=palette.faint, linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(palette.faint)


def legend_above(axes: "Axes", palette: Palette, handles: "Sequence[Artist | Container] | None" = None) -> None:
    """The legend between the title and the chart, of all that has a label or of the artists given."""
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=3,
        frameon=False,
        labelcolor=palette.ink,
        handlelength=1.2,
        borderaxespad=0.2,
        columnspacing=1.4,
    )


def _for_the_page(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style\b.*?</style>", "", svg, flags=re.DOTALL)  # the page's style sheet has its two rules
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)  # the page decides, the view box keeps the shape
    svg = re.sub(r'<g id="named: ([^"]*)">', r"<g><title>\1</title>", svg)  # shown under the pointer
    svg = re.sub(r'(<g\b[^>]*?) id="[^"]*"', r"\1", svg)  # the same in every chart, and nothing refers to them
    svg = re.sub(r' style="([^"]*)"', lambda found: _as_attributes(found[1]), svg)
    for colour, variable in CSS_COLOURS.items():
        svg = svg.replace(colour, variable)
    return svg.strip()


def _as_attributes(style: str) -> str:
    """The content of a style attribute as attributes of their own; the font's family is the page's."""
    kept = {}
    for declaration in filter(str.strip, style.split(";")):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font" and (size := re.search(r"[\d.]+px", value)):
            kept["font-size"] = size[0]
        elif name not in ("font", "font-family"):
            kept[name] = value
    return "".join(f' {name}="{value}"' for name, value in kept.items())
