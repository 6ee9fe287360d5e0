import json
from pathlib import Path

import pytest
import torch

from mindeye_pl.metrics.retrieval import retrieval_accuracy, retrieval_scores
from mindeye_pl.reports.render import published
from mindeye_pl.reports.render.exports import as_csv
from mindeye_pl.reports.render.published import DIRECTIONS, published_rows, scores_of
from mindeye_pl.reports.render.published_page import SECTIONS, render_page
from mindeye_pl.reports.render.table import COLUMNS, SECONDARY, UNVERIFIED, Column, Results

EIGHT = ("pixcorr", "ssim", "alexnet2_two_way", "alexnet5_two_way", "inception_two_way", "clip_two_way",
         "effnet_distance", "swav_distance")  # fmt: skip
CONTENT = json.loads((Path(published.__file__).with_name("published.json")).read_text())
ALL = [Column(name, name) for name in CONTENT["metrics"]]


def printed(label: str, brain: torch.Tensor, clip: torch.Tensor) -> float:
    """Return the top-1 accuracy that MindEye1's and MindEye2's evaluations print under a label, by their formula.

    Their helper returns the transpose: cosine(Z, B)[b, z] = Z_z B_b / (|Z_z| |B_b|). Rows are ranked. "Image retrieval"
    is that of cosine(brain, clip), "Brain retrieval" that of cosine(clip, brain).
    """
    z, b = (brain, clip) if label == "Image retrieval" else (clip, brain)
    cosine = torch.einsum("zf,bf->bz", z, b) / (b.norm(dim=1)[:, None] * z.norm(dim=1)[None])
    return float((cosine.argmax(dim=1) == torch.arange(len(b))).float().mean())


@pytest.mark.parametrize("seed", range(3))
def test_the_papers_image_retrieval_ranks_brains_for_each_image(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(32, generator=generator)
    clip = mean + torch.randn(300, 32, generator=generator)
    brain = clip + torch.randn(300, 32, generator=generator)
    brain += torch.randn(300, 1, generator=generator) * mean  # some brains are near every image
    by_direction = {
        "image_retrieval": float(retrieval_accuracy(query=brain, gallery=clip)),
        "brain_retrieval": float(retrieval_accuracy(query=clip, gallery=brain)),
    }
    assert abs(by_direction["image_retrieval"] - by_direction["brain_retrieval"]) > 0.02, "the data tell them apart"
    scores = {score.name: score.value for score in retrieval_scores(brain=brain, clip=clip)}
    for label, name in DIRECTIONS["published"].items():
        assert printed(label, brain, clip) == pytest.approx(by_direction[name], abs=1e-6), label
        assert printed(label, brain, clip) == pytest.approx(scores[name], abs=1e-6), label
    assert DIRECTIONS["published"]["Image retrieval"] == "brain_retrieval"


def test_published_numbers_have_sources_and_valid_ranges() -> None:
    for table in CONTENT["tables"]:
        assert table["provenance"] in ("P", "C", "S"), f"{table['table']}: figures and recollections are not printed"
        assert table["paper"] in CONTENT["papers"]
        assert table["table"]
        names = 2 if table["subject"] == "each" else 1
        for row in table["rows"]:
            assert len(row) == len(table["scores"]) + names, row[0]
            for name, value in zip(scores_of(table), row[names:], strict=True):
                unit = CONTENT["metrics"][name]["unit"]
                assert value is None or unit != "number" or value < 1 or name == "fid", (row[0], name, value)
                small = name.startswith("top")  # rates among thousands of images
                limit = 1000 if name.endswith("cider") else 100  # CIDEr goes to 10
                assert value is None or unit != "percent" or small or 1 < value <= limit, (row[0], name, value)


def test_retrieval_of_the_published_code_is_in_the_columns_of_its_direction() -> None:
    printed = {
        (name, hours): tuple(round(100 * row.score(column.score).value, 2) for column in COLUMNS)  # type: ignore[union-attr]
        for hours in (1, 40)
        for row in published_rows(1, hours, COLUMNS, detail=True)
        if not row.secondary
        for name in [f"{row.name}, {row.note}"]
    }
    mean = "mean of subjects 1, 2, 5, 7"
    assert [column.score for column in COLUMNS] == ["image_retrieval", "brain_retrieval"]
    assert printed[f"MindEye2, {mean}", 40] == (98.3, 98.8)
    assert printed[f"MindEye2, {mean}", 1] == (57.4, 79.0)
    assert printed[f"MindEye1, {mean}", 40] == (84.1, 90.0)
    assert printed[f"Brain Diffuser, {mean}", 40] == (26.3, 18.8)
    assert printed["MindEye2, subject 1", 1] == (77.63, 93.96)
    assert printed["MindEye1, notebook, subject 1, 37 sessions, 982 test images", 40] == (94.8, 97.1)
    for code in ("mindeye2", "mindeye2_notebook", "mindeye1_notebook"):
        assert CONTENT["papers"][code]["retrieval"] == "published"


def test_secondary_rows_are_marked_and_keep_the_papers_labels() -> None:
    rows = {row.name: row for row in published_rows(1, 1, [*ALL])}
    duala = published_rows(None, 1, COLUMNS)
    (mean,) = [row for row in duala if row.name == "Duala"]
    assert mean.secondary
    assert mean.score("image_retrieval").value == 0.845  # type: ignore[union-attr]
    assert mean.unverified == {"image_retrieval", "brain_retrieval"}
    assert mean.mark(COLUMNS[0]) == UNVERIFIED == ("†", "label of the paper; direction unknown")
    assert SECONDARY in Results("Retrieval", [mean]).remarks(mean)
    assert "arXiv:2603.07625" in mean.source
    own = rows["MindEye2"]
    assert not own.secondary
    assert not own.unverified
    assert own.mark(COLUMNS[0]) is None
    assert {"MindAligner", "MindTuner", "Duala", "StableMind", "Brain-IT"} <= rows.keys()
    (text,) = [as_csv(Results("Retrieval", [mean])).splitlines()[1]]
    assert text.endswith(",True,True")


def test_published_rows_of_mindeye2() -> None:
    rows = {(row.name, row.note): row for row in published_rows(1, "all", ALL)}
    mean = rows["MindEye2", "mean of subjects 1, 2, 5, 7"]
    assert mean.score("pixcorr").value == 0.322  # type: ignore[union-attr]
    assert mean.score("brain_gnet_V1").value == 0.364  # type: ignore[union-attr]
    assert mean.source == "arXiv:2403.11207, Table 1, Table 3, mean of Table 7"
    own = next(row for (name, note), row in rows.items() if name == "MindEye2" and note.startswith("subject 1"))
    image = own.score("image_retrieval")
    assert image is not None
    assert (image.value, image.chance, image.pool_size) == (0.9987, 1 / 300, 300)
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


def test_the_docs_page_is_current_and_has_every_number() -> None:
    page = (Path(__file__).parents[3] / "docs" / "published.md").read_text()
    assert page == render_page(), "python -m mindeye_pl.reports.render.published_page > docs/published.md"
    assert {name for names in SECTIONS.values() for name in names} == CONTENT["metrics"].keys()
    for table in CONTENT["tables"]:
        for row in table["rows"]:
            assert f"| {row[0]} |" in page
    line = next(line for line in page.splitlines() if line.startswith("| MindEye2 | mean") and "57.4" in line)
    assert "| 57.4 | 79.0 | arXiv:2403.11207, Table 1 | primary |" in line
    assert "| 84.5 † | 81.1 † |" in page
