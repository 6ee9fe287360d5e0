"""Page section with charts."""

from collections.abc import Sequence

from mindeye_pl.reports.render.figures import Drawable, as_svg
from mindeye_pl.reports.render.section import Section, fill, slug


def charts_section(title: str, charts: Sequence[Drawable], note: str = "") -> Section | None:
    """Return a section with charts side by side, None if there are none.

    Args:
        title: of the section.
        charts: curves, bars or maps, in order.
        note: sentence below the charts.
    """
    if not charts:
        return None
    drawn = [
        {"title": chart.title, "description": chart.describe(), "svg": as_svg(chart), "wide": chart.size[0] > 6}
        for chart in charts
    ]
    html = fill("curves.html", charts=drawn, note=note)
    return Section(slug(title), title, html, figures={slug(f"{title} {chart.title}"): chart for chart in charts})
