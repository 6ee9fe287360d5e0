"""Tables between two marks of a page."""

import pytest

from mindeye_pl.errors import UserError
from mindeye_pl.reports.results.tables import TableSpec, fill_tables, markdown_table
from tests.reports.results.written import summary

BOTH = "columns: [image_retrieval, pixcorr]"
PAGE = f"""# Results

<!-- table: {{from: hours, {BOTH}}} -->
<!-- /table -->

Words.

```
<!-- table: {{from: nothing, columns: []}} -->
<!-- /table -->
```
"""
TABLE = """\
*Simulated; revision `0123456789ab`; mindeye_pl 0.1.0; seeds 1, 2, 3.*

| | Image retrieval | PixCorr |
| --- | --- | --- |
| 0.25 h, scratch | 25.3 % (19.0-31.1) |  |
| 0.25 h, pretrained | 75.5 % (69.0-82.0) | 0.697 (0.660-0.729) |
| 0.25 h, scratch: ridge | 40.0 % |  |
"""


def table(spec: str, **summaries: dict) -> str:
    return markdown_table(TableSpec.parse(spec), {"hours": summary(), **summaries})


def test_a_page_is_filled_and_filling_it_again_changes_nothing() -> None:
    filled = fill_tables(PAGE, {"hours": summary()})
    assert TABLE in filled
    assert fill_tables(filled, {"hours": summary()}) == filled
    assert filled.replace(f"\n{TABLE}\n", "") == PAGE, "nothing else is changed, code neither"


def test_a_figure_that_is_edited_by_hand_is_put_right() -> None:
    filled = fill_tables(PAGE, {"hours": summary()})
    edited = filled.replace("25.3 %", "35.3 %")
    assert edited != filled
    assert fill_tables(edited, {"hours": summary()}) == filled


def test_differences_are_in_points() -> None:
    found = table(f"{{from: hours, part: differences, {BOTH}}}")
    assert "| | Image retrieval, points | PixCorr |" in found
    assert "| 0.25 h: pretrained − scratch | +51.5 (44.0 to 59.0) | +0.138 (0.109 to 0.175) |" in found


def test_rows_are_chosen_ordered_and_named() -> None:
    rows = 'rows: {"*: ridge": ridge, "*pretrained": null}, decimals: {image_retrieval: 0}'
    lines = table(f"{{from: hours, columns: [image_retrieval], {rows}}}").splitlines()
    assert lines[4:6] == ["| ridge | 40 % |", "| 0.25 h, pretrained | 76 % (69-82) |"]


def test_rows_of_two_summaries() -> None:
    other = summary(rows={"model": {"pixcorr": {"value": 0.5}}}, seeds=[42])
    found = table(
        '{from: [hours, run], columns: [pixcorr], rows: {"run#*": "quickstart", "*pretrained": null}}', run=other
    )
    assert found.splitlines()[4:6] == ["| quickstart | 0.500 |", "| 0.25 h, pretrained | 0.697 (0.660-0.729) |"]
    assert "seeds 1, 2, 3, 42" in found


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("{from: hours}", "not understood"),
        ("{from: hours, columns: [pixcorr], row: [a]}", "not understood"),
        ("{from: minutes, columns: [pixcorr]}", r"no such summary \(got: minutes"),
        ("{from: hours, columns: [ssim]}", r"such a score \(got: ssim"),
        ("{from: hours, columns: [pixcorr], rows: ['2 h*']}", r"names no row \(got: 2 h\*"),
    ],
)
def test_what_does_not_exist_is_refused(spec: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        table(spec)


def test_changed_code_and_several_revisions_are_refused_unless_allowed() -> None:
    with pytest.raises(UserError, match="changed code"):
        table("{from: dirty, columns: [pixcorr]}", dirty=summary(changes=True))
    assert "with uncommitted changes" in table(
        "{from: dirty, columns: [pixcorr], allow: [changes]}", dirty=summary(changes=True)
    )
    later = summary(revisions=["ffffffffffff"])
    with pytest.raises(UserError, match=r"several revisions \(got: 0123456789ab, ffffffffffff"):
        table("{from: [hours, later], columns: [pixcorr]}", later=later)
    assert "revisions `0123456789ab`, `ffffffffffff`" in table(
        "{from: [hours, later], columns: [pixcorr], allow: [mixed]}", later=later
    )
