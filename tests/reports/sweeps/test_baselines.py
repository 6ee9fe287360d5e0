"""Linear baselines and controls in a sweep's report, from records that are written here: no training."""

import json
from pathlib import Path

import numpy as np
import pytest

from mindeye_pl.conf_files import conf_dir
from mindeye_pl.config import compose_config
from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.reports.render.table import COLUMNS, IMAGE_COLUMNS
from mindeye_pl.reports.sweeps.baselines import baseline_cells, of_same_data
from mindeye_pl.reports.sweeps.curves import curves
from mindeye_pl.reports.sweeps.findings import compare, compare_with_baselines
from mindeye_pl.reports.sweeps.jobs import Job
from mindeye_pl.reports.sweeps.settings import cells_of, pairs

RETRIEVAL, PIXCORR = COLUMNS[0], IMAGE_COLUMNS[0]
NUM_IMAGES = 20


def write_job(folder: Path, number: int, rows: dict[str, dict[str, float]], hours: str, start: str, seed: str) -> Job:
    """A finished job with values of rows by step, whose regressions are shared by all of the same hours."""
    settings = (f"data.num_sessions={hours}", f"finetune.start={start}", f"seed={seed}")
    job = Job(number, ["+experiment=x", *settings], status="finished")
    for step, metric in (("evaluate", "image_retrieval"), ("evaluate_reconstructions", "pixcorr")):
        artifact = folder / f"{step}{number}"
        artifact.mkdir()
        plain = {row: [Score(metric, value, None, None, NUM_IMAGES).to_dict()] for row, value in rows[step].items()}
        each = {row: {metric: np.full(NUM_IMAGES, value).tolist()} for row, value in rows[step].items()}
        (artifact / "scores.json").write_text(json.dumps({"rows": plain, "of_each_image": each}))
        job.artifacts[step] = str(artifact)
    for step in ("ridge_tokens", "ridge_latents", "ridge_unclip"):
        job.artifacts[step] = str(folder / f"{step}-{hours}h")
    return job


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    made = []
    for hours, ridge in (("1", 0.2), ("2", 0.3)):
        for start in ("scratch", "pretrained"):
            for seed in ("1", "2"):
                images = {"model": 0.5, "ridge_latents": ridge, "ridge_unclip": ridge + 0.1}
                rows = {"evaluate": {"model": 0.6, "ridge": ridge}, "evaluate_reconstructions": images}
                made.append(write_job(tmp_path, len(made), rows, hours, start, seed))
    return made


def test_jobs_that_share_a_regression_are_one_row(jobs: list[Job]) -> None:
    found = baseline_cells(cells_of(jobs))
    assert [cell.name for cell in found] == ["1 h, ridge", "2 h, ridge", "1 h, ridge, blurry", "2 h, ridge, blurry"]
    assert [list(cell.by_seed) for cell in found] == [["1", "2"]] * 4
    values = {cell.name: cell.score("pixcorr").value for cell in found}  # type: ignore[union-attr]
    assert values == pytest.approx({
        "1 h, ridge": 0.3, "2 h, ridge": 0.4, "1 h, ridge, blurry": 0.2, "2 h, ridge, blurry": 0.3
    })  # fmt: skip
    assert found[0].score("image_retrieval").value == pytest.approx(0.2)  # type: ignore[union-attr]
    assert found[2].score("image_retrieval") is None, "latents find no image"


def test_ridge_is_a_further_line_of_each_curve(jobs: list[Job]) -> None:
    cells = cells_of(jobs)
    retrieval, pixcorr = curves([*cells, *baseline_cells(cells)], [RETRIEVAL, PIXCORR])
    assert [series.name for series in retrieval.series] == ["scratch", "pretrained", "ridge"]
    assert list(retrieval.series[-1].y) == pytest.approx([0.2, 0.3])
    assert [series.name for series in pixcorr.series] == ["scratch", "pretrained", "ridge", "ridge, blurry"]


def test_models_are_paired_with_baselines_of_their_data(jobs: list[Job]) -> None:
    cells = cells_of(jobs)
    baselines = baseline_cells(cells)
    assert [one.name for one in of_same_data(cells[0], baselines)] == ["1 h, ridge", "1 h, ridge, blurry"]
    rows = compare_with_baselines(cells, baselines, [RETRIEVAL, PIXCORR], simulated=True)
    assert len(rows) == 8
    assert rows[0].name == "1 h, scratch − ridge"
    assert [score.value for score in rows[0].scores] == pytest.approx([0.4, 0.2])
    assert [score.value for score in rows[1].scores] == pytest.approx([0.3])


def test_jobs_without_a_regression_have_no_baseline(jobs: list[Job]) -> None:
    for job in jobs:
        job.artifacts = {name: folder for name, folder in job.artifacts.items() if not name.startswith("ridge")}
    assert baseline_cells(cells_of(jobs)) == []
    jobs[0].status = "failed"
    assert baseline_cells(cells_of(jobs)) == []


def ablated(tmp_path: Path, *names: str) -> list[Job]:
    made = []
    for number, name in enumerate(names):
        artifact = tmp_path / str(number)
        artifact.mkdir()
        scores = {"rows": {"model": []}, "of_each_image": {"model": {"image_retrieval": [0.1 * number] * 5}}}
        score = Score("image_retrieval", 0.1 * number, None, None, 5)
        scores["rows"]["model"] = [score.to_dict()]
        (artifact / "scores.json").write_text(json.dumps(scores))
        node = {"name": name, "against": "no_blur_start" if name == "no_low_level" else None}
        job = Job(number, [f"ablation={name}"], "finished", artifacts={"evaluate": str(artifact)}, ablation=node)
        made.append(job)
    return made


def test_an_ablation_is_compared_with_its_control(tmp_path: Path) -> None:
    cells = cells_of(ablated(tmp_path, "none", "no_blur_start", "no_low_level"))
    names = [(cell.name, control.name) for cell, control in pairs(cells, "ablation", "none")]
    assert names == [("no blur start", "whole model"), ("no low level", "no blur start")]
    rows = compare(cells, "ablation", "none", [RETRIEVAL], simulated=True)
    assert [row.name for row in rows] == ["no blur start − whole model", "no low level − no blur start"]


def test_without_its_control_an_ablation_is_compared_with_the_baseline(tmp_path: Path) -> None:
    cells = cells_of(ablated(tmp_path, "none", "no_low_level"))
    assert [control.name for _, control in pairs(cells, "ablation", "none")] == ["whole model"]


def test_every_ablation_of_the_project_names_its_control() -> None:
    files = {path.stem for path in (conf_dir() / "ablation").glob("*.yaml")} - {"none"}
    for name in sorted(files):
        node = compose_config(["scale=tiny", f"ablation={name}"]).ablation
        assert node.name == name
        assert node.control
        assert node.get("against", "none") in (*files, "none")
