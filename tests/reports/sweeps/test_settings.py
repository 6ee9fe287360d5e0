"""Cells and findings of a sweep from records that are written here: no training."""

import json
from pathlib import Path

import numpy as np
import pytest

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.statistics.data_worth import COVERAGE
from mindeye_pl.metrics.statistics.differences import difference_over_images, difference_over_seeds
from mindeye_pl.metrics.statistics.intervals import interval_over_images
from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.metrics.statistics.seeds import interval_over_seeds
from mindeye_pl.reports.render.table import COLUMNS
from mindeye_pl.reports.sweeps.curves import curves
from mindeye_pl.reports.sweeps.findings import compare, compared, sentences
from mindeye_pl.reports.sweeps.jobs import Job, read_jobs, recorded
from mindeye_pl.reports.sweeps.settings import Cell, cells_of, common_seeds, in_words, pairs, swept_keys
from mindeye_pl.store.manifest import write_manifest

RETRIEVAL = COLUMNS[0]
NUM_IMAGES = 60
SEEDS = ("1", "2", "3")


def write_job(folder: Path, number: int, each: np.ndarray | None, **settings: str) -> Job:
    """A finished job with one score, or a failed one where `each` is None."""
    job = Job(number, ["+experiment=x", *(f"{key.replace('__', '.')}={value}" for key, value in settings.items())])
    if each is None:
        job.status, job.error = "failed", "no room"
        return job
    artifact = folder / f"evaluate{number}"
    artifact.mkdir()
    score = Score("image_retrieval", float(each.mean()), 0.01, 100, len(each), (0.1, 0.2))
    content = {"rows": {"model": [score.to_dict()]}, "of_each_image": {"model": {"image_retrieval": each.tolist()}}}
    (artifact / "scores.json").write_text(json.dumps(content))
    named = {"step": "evaluate", "label": "subj01", "fingerprint": f"{number:064d}", "version": 1, "inputs": {}}
    write_manifest(artifact, schema=3, determined_by={}, seconds=30.0, **named)
    job.status, job.artifacts = "finished", {"evaluate": str(artifact)}
    return job


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    """Hours by start by seed; pretrained from 1 h scores what scratch scores from 2 h."""
    rng = np.random.default_rng(0)
    hard = rng.uniform(0, 0.5, NUM_IMAGES)
    rates = {("1", "scratch"): 0.1, ("2", "scratch"): 0.3, ("4", "scratch"): 0.5}
    rates |= {("1", "pretrained"): 0.3, ("2", "pretrained"): 0.45, ("4", "pretrained"): 0.5}
    made = []
    for (hours, start), rate in rates.items():
        for seed in SEEDS:
            each = np.clip(hard + rate + 0.01 * rng.normal(size=NUM_IMAGES), 0, 1)
            settings = {"seed": seed, "data__num_sessions": hours, "finetune__start": start}
            made.append(write_job(tmp_path, len(made), each, **settings))
    return made


def test_swept_keys_are_those_that_differ(jobs: list[Job]) -> None:
    assert swept_keys(jobs) == ["seed", "data.num_sessions", "finetune.start"]
    assert swept_keys(jobs[:1]) == []


def test_jobs_that_differ_in_the_seed_are_one_cell(jobs: list[Job]) -> None:
    cells = cells_of(jobs)
    assert [cell.name for cell in cells][:2] == ["1 h, scratch", "2 h, scratch"]
    assert all(list(cell.jobs) == list(SEEDS) for cell in cells)
    each = cells[0].of_each("image_retrieval")
    assert each is not None
    assert each.shape == (3, NUM_IMAGES)
    score = cells[0].score("image_retrieval")
    assert score is not None
    assert score.value == pytest.approx(each.mean())
    assert score.interval is not None
    assert score.interval[0] < score.value < score.interval[1]
    assert (score.chance, score.pool_size) == (0.01, 100)
    assert cells[0].seconds() == 90
    assert cells[0].hours == 1


def test_the_order_of_jobs_changes_no_score(jobs: list[Job]) -> None:
    def scores(some: list[Job]) -> dict[str, Score | None]:
        return {cell.name: cell.score("image_retrieval") for cell in cells_of(some)}

    assert scores(jobs) == scores(jobs[::-1])


def test_a_cell_has_the_cost_of_the_steps_that_fit_the_subject(tmp_path: Path) -> None:
    each = np.linspace(0, 1, NUM_IMAGES)
    made = [write_job(tmp_path, number, each, seed=seed) for number, seed in enumerate(("1", "2"))]
    for job, parameters in zip(made, (1000, 3000), strict=True):
        for step, seconds in {"pretrain": 600.0, "closed_form_alignment": 30.0, "finetune": 60.0}.items():
            folder = tmp_path / f"{step}{job.number}"
            folder.mkdir()
            named = {"step": step, "label": "subj01", "fingerprint": f"{job.number:064d}", "version": 1, "inputs": {}}
            write_manifest(folder, schema=3, determined_by={}, seconds=seconds, **named)
            job.artifacts[step] = str(folder)
        (folder / "trained_parameters.json").write_text(json.dumps({"alignment": parameters, "low_level": 24}))
        (folder / "validation.json").write_text(json.dumps({"scores": []}))
    (cell,) = cells_of(made)
    minutes, parameters = cell.score("minutes"), cell.score("trained_parameters")
    assert minutes is not None
    assert parameters is not None
    assert (minutes.value, minutes.interval) == (1.5, None)
    assert (parameters.value, parameters.interval) == (2024, None)


def test_differences_are_paired_by_image_and_seed(jobs: list[Job]) -> None:
    cells = cells_of(jobs)
    rows = compare(cells, "finetune.start", "scratch", [RETRIEVAL], simulated=True)
    assert [row.name for row in rows] == [f"{hours} h: pretrained − scratch" for hours in (1, 2, 4)]
    first, second = (
        next(cell for cell in cells if cell.name == f"1 h, {start}") for start in ("pretrained", "scratch")
    )
    arrays = [cell.of_each("image_retrieval") for cell in (first, second)]
    expected = difference_over_seeds(*arrays, hits=True)  # type: ignore[arg-type]
    assert rows[0].scores[0].value == pytest.approx(expected.value)
    assert rows[0].scores[0].interval == expected.interval
    assert rows[0].note == "3 seeds"


def without_seed(jobs: list[Job], seed: str) -> list[Job]:
    return [job for job in jobs if job.settings()["seed"] != seed]


def test_intervals_of_two_seeds_are_over_images(jobs: list[Job]) -> None:
    cells, two = cells_of(jobs), cells_of(without_seed(jobs, "3"))
    (row, *_) = compare(two, "finetune.start", "scratch", [RETRIEVAL], simulated=True)
    assert row.note == "2 seeds, interval over images alone"
    pair = next(one for one in pairs(two, "finetune.start", "scratch") if one[0].hours == 1)
    arrays = [cell.of_each("image_retrieval") for cell in pair]
    assert row.scores[0].interval == difference_over_images(*arrays, hits=True).interval  # type: ignore[arg-type]
    score, of_three = two[0].score("image_retrieval"), cells[0].score("image_retrieval")
    assert score is not None
    assert of_three is not None
    each = two[0].of_each("image_retrieval")
    assert each is not None
    assert score.interval == interval_over_images(each.mean(0), hits=True)
    assert of_three.interval == interval_over_seeds(cells[0].of_each("image_retrieval"), hits=True)  # type: ignore[arg-type]


def test_a_failed_job_omits_its_seed(jobs: list[Job]) -> None:
    lost = next(job for job in jobs if job.settings()["seed"] == "2" and job.settings()["finetune.start"] == "scratch")
    lost.status, lost.error = "failed", "no room"
    cells = cells_of(jobs)
    (pair,) = [pair for pair in pairs(cells, "finetune.start", "scratch") if pair[0].hours == 1]
    assert common_seeds(*pair) == ["1", "3"]
    assert pair[1].failures() == ["seed 2: failed: no room"]
    (row, *_) = compare(cells, "finetune.start", "scratch", [RETRIEVAL], simulated=False)
    assert row.scores
    assert row.note == "2 seeds, interval over images alone"


def test_data_worth_of_a_start(jobs: list[Job]) -> None:
    said = sentences(cells_of(jobs), "finetune.start", "scratch", RETRIEVAL)
    assert said[0].startswith("By image retrieval pretraining is worth 2.0 times the data at 1 h, 95 % interval ")
    assert said[0].endswith(
        f"(3 seeds; it covers the truth in at least {100 * COVERAGE[3]:.0f} % of simulated sweeps)."
    )
    assert len(said) == 3


def test_data_worth_of_two_seeds_has_no_interval(jobs: list[Job]) -> None:
    said = sentences(cells_of(without_seed(jobs, "1")), "finetune.start", "scratch", RETRIEVAL)
    assert "interval " not in said[0].replace("an interval, which needs", "")
    assert said[0].endswith("times the data at 1 h (2 seeds: without an interval, which needs at least 3).")


def test_without_hours_differences_are_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    each = rng.uniform(0.4, 0.6, NUM_IMAGES)
    made = [write_job(tmp_path, 0, each, ablation="none"), write_job(tmp_path, 1, each - 0.2, ablation="no_prior")]
    made.append(write_job(tmp_path, 2, np.clip(each + rng.normal(0, 0.2, NUM_IMAGES), 0, 1), ablation="no_mixco"))
    worse, nothing = sentences(cells_of(made), "ablation", "none", RETRIEVAL)
    assert worse == (
        "no prior: image retrieval -20 points against whole model, "
        "95 % interval -24.9 to -15 (1 seed, interval over images alone)."
    )
    assert nothing.endswith(", which may be nothing.")


def test_comparisons_of_a_sweep(jobs: list[Job]) -> None:
    cells = cells_of(jobs)
    assert compared(jobs, cells, None, None) == ("finetune.start", "scratch")
    assert compared(jobs, cells, None, "pretrained") == ("finetune.start", "pretrained")
    only_hours = [job for job in jobs if job.settings()["finetune.start"] == "scratch"]
    assert compared(only_hours, cells_of(only_hours), None, None) == (None, "")
    with pytest.raises(UserError, match=r"sweep\.compare is not swept \(got: model; expected: one of"):
        compared(jobs, cells, "model", None)
    with pytest.raises(UserError, match=r"sweep\.baseline is not swept \(got: 3; expected: one of"):
        compared(jobs, cells, None, 3)


def test_curves_have_a_line_for_each_start_and_bars_over_seeds(jobs: list[Job]) -> None:
    (panel,) = curves(cells_of(jobs), [RETRIEVAL])
    assert [series.name for series in panel.series] == ["scratch", "pretrained"]
    assert list(panel.series[0].x) == [1, 2, 4]
    assert panel.log_x
    assert panel.references == {"chance": 0.01}
    values = [job_scores.scores["image_retrieval"].value for job_scores in cells_of(jobs)[0].by_seed.values()]
    assert (panel.series[0].low[0], panel.series[0].high[0]) == (min(values), max(values))  # type: ignore[index]


def test_curves_along_another_parameter_have_a_name_for_each_value(tmp_path: Path) -> None:
    """Values stand in the order of the sweep, and cells that lack the parameter are dashed lines."""
    each = np.linspace(0.2, 0.6, NUM_IMAGES)
    values = ("0", "16", "4", "null")
    made = [write_job(tmp_path, i, each + i / 10, bottleneck__dimensions=value) for i, value in enumerate(values)]
    cells = cells_of(made)
    ridge = Cell({}, cells[1].jobs, "ridge")
    (panel,) = curves([*cells, ridge], [RETRIEVAL], "bottleneck.dimensions")
    (line,) = panel.series
    assert (list(line.x), panel.x_names, panel.log_x) == ([0, 1, 2, 3], ("0", "16", "4", "all"), False)
    assert list(line.y) == pytest.approx([0.4, 0.5, 0.6, 0.7])
    assert (line.low, line.high) == ([0.1] * 4, [0.2] * 4), "one seed has the interval over images"
    assert panel.references == pytest.approx({"chance": 0.01, "ridge": 0.5})
    assert panel.describe().startswith(f"{RETRIEVAL.title}, to dimensions of the brain's code all: model from 40.0%")
    assert curves(cells, [RETRIEVAL]) == [], "no hours are swept"


def test_one_amount_of_data_has_no_curve(jobs: list[Job]) -> None:
    assert curves(cells_of([job for job in jobs if job.settings()["data.num_sessions"] == "1"]), [RETRIEVAL]) == []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("data.num_sessions", "0.25", "0.25 h"),
        ("finetune.start", "scratch", "scratch"),
        ("ablation", "no_low_level", "no low level"),
        ("model", "mindeye1", "MindEye1"),
        ("pretrain.subjects", "[2]", "pretrained on [2]"),
        ("generator.mappers", "trained", "mappers trained too"),
        ("bottleneck.dimensions", "1", "1 dimension"),
        ("bottleneck.dimensions", "4", "4 dimensions"),
        ("bottleneck.dimensions", "null", "all dimensions"),
        ("objective.contrastive", "False", "without contrastive loss"),
        ("optimizer.lr", "1e-3", "optimizer.lr=1e-3"),
    ],
)
def test_in_words(key: str, value: str, words: str) -> None:
    assert in_words(key, value) == words


def test_all_sessions_have_no_position_on_the_axis() -> None:
    assert Cell({"data.num_sessions": "all"}, {}).hours is None


def test_a_record_has_the_outcome_of_a_job(tmp_path: Path) -> None:
    with recorded(Job(0, ["seed=1"]), tmp_path / "0", lambda error: None) as job:
        assert read_jobs(tmp_path)[0].status == "running", "so that a job that is killed is seen"
        job.made.append("finetune")
    with recorded(Job(1, ["seed=2"]), tmp_path / "1", lambda error: f"mend {error}"):
        raise ValueError("it")
    with pytest.raises(KeyboardInterrupt), recorded(Job(2, []), tmp_path / "2", lambda error: None):
        raise KeyboardInterrupt
    finished, failed, stopped = read_jobs(tmp_path)
    assert (finished.status, finished.made) == ("finished", ["finetune"])
    assert (failed.status, failed.error) == ("failed", "mend it")
    assert stopped.status == "running"
    assert finished.settings() == {"seed": "1"}


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"number": 0, "overrides": ["seed=1"], "status": "fini"}'])
def test_a_damaged_record_is_one_line(tmp_path: Path, text: str) -> None:
    with recorded(Job(0, ["seed=1"]), tmp_path / "0", lambda error: None):
        pass
    (path := tmp_path / "0" / "job.json").write_text(text)
    with pytest.raises(UserError, match=rf"job\.json is damaged .*Fix: rm {path}, and the same command again"):
        read_jobs(tmp_path)
