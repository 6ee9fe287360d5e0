import json
from pathlib import Path

import pytest

from mindeye_pl.reports.render import published
from mindeye_pl.reports.render.published import published_rows
from mindeye_pl.reports.render.table import COLUMNS, Column

EIGHT = ("pixcorr", "ssim", "alexnet2_two_way", "alexnet5_two_way", "inception_two_way", "clip_two_way",
         "effnet_distance", "swav_distance")  # fmt: skip
CONTENT = json.loads((Path(published.__file__).with_name("published.json")).read_text())
ALL = [Column(name, name) for name in CONTENT["metrics"]]


def test_published_numbers_have_sources_and_valid_ranges() -> None:
    for table in CONTENT["tables"]:
        assert table["provenance"] in ("P", "C"), table["table"]
        assert table["paper"] in CONTENT["papers"]
        assert table["table"]
        names = 2 if table["subject"] == "each" else 1
        for row in table["rows"]:
            assert len(row) == len(table["scores"]) + names, row[0]
            for name, value in zip(table["scores"], row[names:], strict=True):
                unit = CONTENT["metrics"][name]["unit"]
                assert value is None or unit == "percent" or value < 1 or name == "fid", (row[0], name, value)
                assert value is None or unit == "number" or 1 < value <= 100, (row[0], name, value)


def test_published_rows_of_mindeye2() -> None:
    rows = {(row.name, row.note): row for row in published_rows(1, "all", ALL)}
    mean = rows["MindEye2", "mean of subjects 1, 2, 5, 7"]
    assert mean.score("pixcorr").value == 0.322  # type: ignore[union-attr]
    assert mean.score("brain_gnet_V1").value == 0.364  # type: ignore[union-attr]
    assert mean.source == "arXiv:2403.11207, Table 1, Table 3, mean of Table 7"
    own = rows["MindEye2", "subject 1"]
    image = own.score("image_retrieval")
    assert image is not None
    assert (image.value, image.chance, image.pool_size) == (0.9996, 1 / 300, 300)
    swav = own.score("swav_distance")
    assert swav is not None
    assert not swav.higher_is_better
    assert all(row.kind == "published" and row.source for row in rows.values())


@pytest.mark.parametrize("hours", [1, 40])
def test_printed_means_equal_the_means_over_subjects(hours: int) -> None:
    columns = [Column(name, name) for name in (*EIGHT, "image_retrieval", "brain_retrieval")]
    each = [
        row for subject in (1, 2, 5, 7) for row in published_rows(subject, hours, columns)
        if (row.name, row.note) == ("MindEye2", f"subject {subject}")
    ]  # fmt: skip
    (mean,) = [row for row in published_rows(None, hours, columns) if row.name == "MindEye2"]
    assert len(each) == 4
    for score in mean.scores:
        values = [row.score(score.name).value for row in each]  # type: ignore[union-attr]
        assert sum(values) / 4 == pytest.approx(score.value, abs=0.0016), score.name


def test_published_rows_are_filtered() -> None:
    assert published_rows(1, 5, ALL)[0].note == "ceiling", "only the ceiling was printed for 5 hours"
    assert published_rows(1, 37, ALL) == published_rows(1, "all", ALL), "the sessions that were released first"
    assert published_rows(3, 40, COLUMNS) == published_rows(None, 40, COLUMNS), "no paper printed subject 3"
    assert all({score.name for score in row.scores} <= {"image_retrieval", "brain_retrieval"}
               for row in published_rows(1, 1, COLUMNS))  # fmt: skip
    assert all("Table 3" not in row.source for row in published_rows(None, 40, COLUMNS)), "only sources of shown scores"
    names = {row.name for row in published_rows(1, 40, ALL)}
    assert {"MindEye1", "Brain Diffuser", "Takagi and Nishimoto", "MindEye2, from scratch"} <= names
    assert len(published_rows(1, 10, ALL, detail=True)) > len(published_rows(1, 10, ALL))
    (notebook,) = [row for row in published_rows(1, 40, ALL, detail=True) if row.name == "MindEye1, notebook"]
    assert {score.num_images for score in notebook.scores} == {982}
