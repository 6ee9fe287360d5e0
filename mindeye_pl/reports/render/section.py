"""A part of the page, and the templates that parts are filled from."""

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
    """A part of the page.

    Attributes:
        id: for links to it.
        title: its heading.
        html: already escaped; `src="image:KEY"` stands where an image comes.
        images: data URIs by that key. The page holds each image once, also where several sections show it.
        figures: what was drawn in it, by file name, for the export.
    """

    id: str
    title: str
    html: str
    images: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Drawable] = field(default_factory=dict)


def slug(title: str) -> str:
    """A title as a name for links and files: small letters, digits and hyphens."""
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
    """A template of this package as HTML, every value escaped."""
    return _templates().get_template(template).render(**values)
