"""The metrics page is up to date, and every metric has all fields."""

from pathlib import Path

import pytest

from mindeye_pl.metrics import describe
from mindeye_pl.metrics.describe import FIELDS, collect_metrics, is_metric, parse_fields, render_page

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

OWN = {
    "correlation_distance_per_image",
    "effective_rank",
    "n_way_per_image",
    "pixcorr_per_image",
    "retrieval_accuracy",
    "ssim_per_image",
}


def test_metrics_page_is_up_to_date() -> None:
    assert PAGE.read_text() == render_page(), "python -m mindeye_pl.metrics.describe > docs/metrics.md"


def test_every_metric_has_all_fields() -> None:
    found = {metric.name: metric for metric in collect_metrics()}
    assert set(found) >= OWN
    for metric in found.values():
        assert tuple(metric.fields) == FIELDS
        assert metric.fields["Direction"] in ("higher is better.", "lower is better."), metric.name
        assert metric.summary.endswith("."), metric.name


def test_metrics_follow_the_order_of_the_sections() -> None:
    modules = list(dict.fromkeys(metric.module for metric in collect_metrics()))
    known = [module for module in describe.SECTIONS if module in modules]
    assert modules == known + sorted(set(modules) - set(known))


def test_missing_field_raises_an_error_with_the_function_name() -> None:
    def half_a_metric() -> None:
        """An incomplete metric.

        Formula: one
            and two
        Range: 0 to 1
        """

    assert is_metric(half_a_metric)
    with pytest.raises(ValueError, match=r"half_a_metric has the lines \('Formula', 'Range'\)"):
        parse_fields(half_a_metric)
    half_a_metric.__doc__ = "Complete.\n\n" + "\n".join(f"{field}: a\n    b" for field in FIELDS) + "\n\nArgs:\n  x: y"
    assert parse_fields(half_a_metric) == dict.fromkeys(FIELDS, "a b")
    assert not is_metric(render_page)
