"""Sections of the page, and the templates that render them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from mindeye_pl.reports.render.figures import Drawable

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
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("mindeye_pl.reports.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def fill(template: str, **values: Any) -> str:
    """Render a template with escaped values as HTML."""
    return _templates().get_template(template).render(**values)
