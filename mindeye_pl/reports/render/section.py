"""Sections of the page, and the templates that render them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from mindeye_pl.reports.render.figures import Drawable, as_svg

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        id: anchor.
        title: heading.
        html: escaped HTML; images have `src="image:KEY"`.
        images: data URIs by that key. The page embeds each image once, even if several sections show it.
        figures: its figures by file name, for the export.
    """

    id: str
    title: str
    html: str
    images: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Drawable] = field(default_factory=dict)


def slug(title: str) -> str:
    """Convert a title to a name for links and files: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    return Environment(
        loader=PackageLoader("mindeye_pl.reports.render"),
        autoescape=select_autoescape(),  # HTML only
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def fill(template: str, **values: Any) -> str:
    """Render a template; values are escaped in HTML."""
    return _templates().get_template(template).render(**values)


def charts_section(title: str, charts: Sequence[Drawable], note: str = "") -> Section | None:
    """Return a section with charts side by side and a note below them, None if there are no charts."""
    if not charts:
        return None
    html = fill("curves.html", charts=[(chart, as_svg(chart)) for chart in charts], note=note)
    return Section(slug(title), title, html, figures={slug(f"{title} {chart.title}"): chart for chart in charts})
