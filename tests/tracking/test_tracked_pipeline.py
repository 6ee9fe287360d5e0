"""Tiny experiment tracked offline: its records, and their upload by W&B."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from safetensors.numpy import load_file

from mindeye_pl.config import compose_config
from tests import forked
from tests.conftest import CommandLine
from tests.tracking.offline_record import OfflineRecord, offline_records
from tests.tracking.wandb_server import KEY, wandb_server

COMMAND = (
    *("+experiment=finetune_subj01_1h", "scale=tiny"),
    *("logger.wandb.mode=offline", "metrics.bootstrap_resamples=50"),
)
#: With every image that a reconstruction can have.
IMAGES = ("low_level=vae_blur", "vae=tiny", "refine=tiny", "logger.wandb.num_images=5")

PARTS = ("loss", "contrastive", "prior", "low_level")
GROUPS = ("alignment", "backbone", "backbone_no_decay", "prior", "prior_no_decay", "low_level", "low_level_no_decay")


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    return kept | more


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run one tracked experiment; `log.txt` is its output."""
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - environment().keys():
            patch.delenv(name)
        printed = forked.run(*COMMAND, *IMAGES, "paths.outputs=outputs", folder=folder)
    (folder / "outputs" / "log.txt").write_text(printed)
    return folder / "outputs"


@pytest.fixture(scope="module")
def records(outputs: Path) -> dict[str, OfflineRecord]:
    """Records by step."""
    found = offline_records(outputs)
    assert all(len(each) == 1 for each in found.values())
    return {step: each[0] for step, each in found.items()}


@pytest.fixture
def simulated(outputs: Path, cli: CommandLine) -> CommandLine:
    """Command line with separate outputs, in which only the data are simulated."""
    for folder in ("artifacts/simulate", "targets"):
        shutil.copytree(outputs / folder, cli.outputs / folder)
    return cli


def artifact(outputs: Path, step: str) -> Path:
    (folder,) = (outputs / "artifacts" / step).glob("*-*")
    return folder


def test_every_step_is_a_run(outputs: Path, records: dict[str, OfflineRecord]) -> None:
    made = {path.name for path in (outputs / "artifacts").iterdir() if path.is_dir() and any(path.glob("*-*"))}
    assert records.keys() == made - {"clusters"}
    assert len(records) == 13
    for step, record in records.items():
        manifest = json.loads((artifact(outputs, step) / "manifest.json").read_text())
        assert record.run.run_id == manifest["fingerprint"][:16]
        assert record.run.display_name == f"{step} {manifest['label']}"
        assert record.run.run_group == "finetune_subj01_1h"
        assert record.run.project == "mindeye_pl"
        assert record.config["scale"]["name"] == "tiny"
        assert record.config["artifact"]["inputs"] == manifest["inputs"]
        assert record.of_kind("exit")[0].exit_code == 0
        assert record.summary["cost/seconds"] == manifest["seconds"]


def test_tags_of_all_runs(records: dict[str, OfflineRecord]) -> None:
    everywhere = {"seed=42", "scale=tiny", "simulated"}
    assert set(records["simulate"].run.tags) == everywhere
    assert set(records["pretrain"].run.tags) == everywhere | {"subj02", "subj05", "subj07", "hours=all"}
    for step in ("finetune", "evaluate", "reconstruct", "evaluate_reconstructions"):
        assert set(records[step].run.tags) == everywhere | {"subj01", "hours=1", "pretrained"}


@pytest.mark.parametrize("step", ["pretrain", "finetune"])
def test_training_logs_everything_once(outputs: Path, records: dict[str, OfflineRecord], step: str) -> None:
    record = records[step]
    epochs = [row for row in record.history if "epoch" in row]
    history = json.loads((artifact(outputs, step) / "history.json").read_text())
    assert [row["epoch"] for row in epochs] == [0, 1]
    for row, expected in zip(epochs, history, strict=True):
        names = {f"{where}/{part}" for where in ("train", "validation") for part in PARTS}
        names |= {f"validation/{name}" for name in ("image_retrieval", "brain_retrieval", "pool_size")}
        assert {name: row[name] for name in names} == {name: expected[name] for name in names}
        for name in ("seconds", "trials_per_second", "peak_memory_gb"):
            assert row[f"performance/{name}"] == expected[name]
    single = [row for row in record.history if "epoch" not in row]
    assert single
    for row in single:
        assert {f"train_step/{part}" for part in PARTS} <= row.keys()
        assert row["trainer/global_step"] % 10 == 0
    for name in {name for row in record.history for name in row if "/" in name and name != "trainer/global_step"}:
        steps = [row["trainer/global_step"] for row in record.history if name in row]
        assert steps == sorted(set(steps)), name
    rates = {name for row in record.history for name in row if name.startswith("lr/")}
    assert rates == {f"lr/{group}" for group in GROUPS}
    assert epochs[-1]["trainer/global_step"] == max(row["trainer/global_step"] for row in record.history)
    assert record.of_kind("metric")[-1].step_metric == "trainer/global_step"


@pytest.mark.parametrize("step", ["evaluate", "evaluate_reconstructions"])
def test_every_score_is_in_the_summary(outputs: Path, records: dict[str, OfflineRecord], step: str) -> None:
    content = json.loads((artifact(outputs, step) / "scores.json").read_text())
    summary = records[step].summary
    for score in content["rows"]["model"]:
        name = f"score/{score['name']}"
        assert summary[name] == pytest.approx(score["value"])
        parts = {"chance": score["chance"], "pool": score["pool_size"], "images": score["num_images"]}
        parts |= dict(zip(("low", "high"), score["interval"] or (None, None), strict=True))
        for part, value in parts.items():
            assert summary.get(f"{name}_{part}") == (None if value is None else pytest.approx(value)), (name, part)
    assert summary["facts/test_evaluations"] == 1
    if step == "evaluate_reconstructions":
        assert {"score/pixcorr", "score/caption_rougeL", "ceiling/brain_V1"} <= summary.keys()


def test_tables_of_scores_have_null_rows_and_ceilings(outputs: Path, records: dict[str, OfflineRecord]) -> None:
    for step, table, nulls, ceilings in (
        ("evaluate", "retrieval", {"shuffled"}, {"ceiling"}),
        (
            "evaluate_reconstructions",
            "reconstruction_scores",
            {"grey", "mean_image", "other_image", "shuffled", "other_images"},
            {"vae"},
        ),
    ):
        rows = records[step].table(table)
        content = json.loads((artifact(outputs, step) / "scores.json").read_text())["rows"]
        assert len(rows) == sum(map(len, content.values()))
        assert nulls == {row["line"] for row in rows if row["kind"] == "null"}
        assert ceilings <= {row["line"] for row in rows if row["kind"] == "ceiling"}
        first = content["model"][0]
        (row,) = (row for row in rows if row["line"] == "model" and row["metric"] == first["name"])
        assert [row["value"], row["low"], row["high"]] == pytest.approx([first["value"], *first["interval"]])
    assert {row["line"] for row in records["evaluate_reconstructions"].table("caption_scores")} >= {"shuffled"}


def test_every_panel_of_the_dashboard_has_a_name_that_is_logged(records: dict[str, OfflineRecord]) -> None:
    config = compose_config([])
    summary = {name for record in records.values() for name in record.summary}
    logged = [item for record in records.values() for row in record.history for item in row.items()]
    curves = {name for name, value in logged if not isinstance(value, dict)}
    tables, images = (
        {name for name, value in logged if isinstance(value, dict) and value["_type"] == kind}
        for kind in ("table-file", "images/separated")
    )

    def known(name: str) -> bool:
        path = name.removeprefix("config.")
        return name in summary if path == name else OmegaConf.select(config, path) is not None

    panels = [panel for section in config.tracking.sections.values() for panel in section.panels]
    of_kind = {kind: [panel for panel in panels if panel.kind == kind] for kind in {panel.kind for panel in panels}}
    drawn = {name for panel in of_kind["line"] for name in panel.get("y", ())}
    assert drawn <= curves
    assert drawn >= {name for name in curves if name.startswith(("train/", "validation/", "performance/"))}
    for panel in of_kind["line"]:
        assert "pattern" not in panel or any(re.search(panel.pattern, name) for name in curves), panel.pattern
    assert {panel.name for panel in of_kind["table"]} == tables
    assert {key for panel in of_kind["media"] for key in panel["keys"]} == images
    assert {name for panel in of_kind["bar"] for name in panel.metrics} <= summary
    assert all(known(name) for panel in of_kind["scatter"] for name in (panel.x, panel.y))
    assert all(known(name) for panel in of_kind["parallel"] for name in panel.columns)
    assert all(known(name) for name in config.tracking.runs.columns if name != "run.tags")
    assert of_kind.keys() == {"line", "bar", "scatter", "parallel", "media", "table", "text", "run_comparer"}


def test_logged_images_have_captions(outputs: Path, records: dict[str, OfflineRecord]) -> None:
    record = records["reconstruct"]
    made = load_file(artifact(outputs, "reconstruct") / "reconstructions.safetensors")
    words = json.loads((artifact(outputs, "reconstruct") / "captions.json").read_text())
    captions = dict(zip(made["stimulus_ids"].tolist(), words, strict=True))
    rows, kinds = (record.table("reconstruction_table"), ["seen", "reconstruction", "refined", "blurry"])
    assert len(rows) == 5
    assert list(rows[0]) == ["stimulus", *kinds, "caption"]
    assert [row["caption"] for row in rows] == [captions[row["stimulus"]] for row in rows]
    images = record.logged("reconstructions")
    assert (images["_type"], images["count"]) == ("images/separated", 5)
    for row, caption, file in zip(rows, images["captions"], images["filenames"], strict=True):
        start = f"stimulus {row['stimulus']}: {' / '.join(kinds)}"
        assert caption.startswith(start)
        assert (record.folder / "files" / file).is_file()
    side = made["images"].shape[-1]
    assert images["width"] == 4 * side + 3 * 2


DRAWN = {"draw_true_tokens", "ridge_latents", "ridge_unclip", "ridge_blur_unclip"}


def test_lineage_links_outputs_to_inputs(records: dict[str, OfflineRecord]) -> None:
    """Artifacts used by a step have the digests of those created by another step."""
    types = {
        "simulate": "data",
        "pretrain": "checkpoint",
        "finetune": "checkpoint",
        "fit_encoder": "checkpoint",
        "evaluate": "scores",
        "reconstruct": "reconstructions",
        "draw_true_tokens": "reconstructions",
        "evaluate_reconstructions": "scores",
        "ridge_tokens": "reconstructions",
        "ridge_noise_free": "reconstructions",
        "ridge_latents": "reconstructions",
        "ridge_unclip": "reconstructions",
        "ridge_blur_unclip": "reconstructions",
    }
    made = {}
    for step, record in records.items():
        (own,) = (output for output in record.outputs() if output.type != "embeddings")
        assert own.type == types[step]
        metadata = json.loads(own.metadata)
        assert metadata["fingerprint"][:12] in own.aliases
        assert metadata["inputs"] == record.config["artifact"]["inputs"]
        assert metadata["determined_by"] or metadata["inputs"]
        made[step] = own
    by_digest = {own.digest: step for step, own in made.items()}
    expected = {
        "simulate": set(),
        "pretrain": {"simulate"},
        "finetune": {"simulate", "pretrain"},
        "fit_encoder": {"simulate"},
        "ridge_tokens": {"simulate"},
        "ridge_noise_free": {"simulate"},
        "ridge_latents": {"simulate"},
        "ridge_unclip": {"simulate", "ridge_tokens"},
        "ridge_blur_unclip": {"simulate", "ridge_tokens", "ridge_latents"},
        "evaluate": {"simulate", "finetune", "ridge_tokens", "ridge_noise_free"},
        "reconstruct": {"simulate", "finetune"},
        "draw_true_tokens": {"simulate"},
        "evaluate_reconstructions": {"simulate", "reconstruct", "fit_encoder"} | DRAWN,
    }
    for step, record in records.items():
        used = [one for one in record.inputs() if one.type != "embeddings"]
        assert {by_digest[one.digest] for one in used if one.digest in by_digest} == expected[step], step
        assert all(made[by_digest[one.digest]].name == one.name for one in used if one.digest in by_digest)
        others = {one.name.rpartition("-")[0] for one in used if one.digest not in by_digest}
        frozen = {"embedder", "vae", "unclip", "captioner", "refine", "laptop_clip", "laptop_text"}
        assert others <= {"split"} | frozen, step
    assert {one.name.rpartition("-")[0] for one in records["pretrain"].inputs()} >= {"split", "embedder", "vae"}


def test_targets_are_artifacts(records: dict[str, OfflineRecord]) -> None:
    filled = {one.name: one.digest for one in records["pretrain"].outputs() if one.type == "embeddings"}
    assert len(filled) == 2  # tokens and latents
    read = {one.name: one.digest for one in records["draw_true_tokens"].inputs() if one.type == "embeddings"}
    assert read.items() <= filled.items()
    assert read


def test_sync_command_uploads_all_records(outputs: Path, records: dict[str, OfflineRecord]) -> None:
    lines = (outputs / "log.txt").read_text().splitlines()
    (hint,) = (line for line in lines if "wandb sync" in line)
    assert hint == lines[-1]
    command = hint.split("to upload: ")[1]
    with wandb_server() as server:
        search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        known = environment(WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY, PATH=search)
        done = subprocess.run(["bash", "-c", command], cwd=outputs.parent, env=known, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert server.runs.keys() == {record.run.run_id for record in records.values()}
    for step, record in records.items():
        announced, rows = server.runs[record.run.run_id], server.history.get(record.run.run_id, [])
        assert (announced["displayName"], announced["groupName"]) == (record.run.display_name, record.run.run_group)
        assert announced["jobType"] == step
        assert set(announced["tags"]) == set(record.run.tags)
        assert [row.get("train/loss") for row in rows] == [row.get("train/loss") for row in record.history]
        used = {name for run_id, name in server.used if run_id == record.run.run_id}
        assert used == {one.name for one in record.inputs()}
    assert {one.name for record in records.values() for one in record.outputs()} <= set(server.made)


def test_cached_steps_open_no_run(outputs: Path, cli: CommandLine) -> None:
    cli.outputs = outputs
    before = sorted((outputs / "wandb").iterdir())
    code, out, err = cli(*COMMAND, *IMAGES, "pipeline.steps=[evaluate,reconstruct,evaluate_reconstructions]")
    assert code == 0, err
    assert "evaluate: cached" in out
    assert "wandb sync" not in out
    assert sorted((outputs / "wandb").iterdir()) == before


#: Runs the command and kills itself after the second of four epochs, right after its checkpoint.
KILLED = """
import os, signal
from mindeye_pl import cli
from mindeye_pl.training.callbacks.resume_checkpoint import ResumeCheckpoint
save = ResumeCheckpoint.on_train_epoch_end
def save_and_die(self, trainer, module):
    save(self, trainer, module)
    if trainer.current_epoch == 1:
        os.kill(os.getpid(), signal.SIGKILL)
ResumeCheckpoint.on_train_epoch_end = save_and_die
cli.main()
"""


@pytest.mark.slow
def test_killed_training_resumes_its_run(simulated: CommandLine) -> None:
    command = (*COMMAND, "pipeline.steps=[pretrain]", "pretrain.epochs=4", "callbacks.checkpoint.every_n_epochs=1")
    arguments = [sys.executable, "-c", KILLED, *command, f"paths.outputs={simulated.outputs}"]
    killed = subprocess.run(arguments, capture_output=True, text=True, env=environment(), timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    code, out, err = simulated(*command)
    assert code == 0, err
    first, second = offline_records(simulated.outputs)["pretrain"]
    assert first.run.run_id == second.run.run_id
    assert not first.of_kind("exit")
    epochs = [[row["epoch"] for row in record.history if "epoch" in row] for record in (first, second)]
    assert epochs[1] == [2, 3]
    assert epochs[0] in ([0, 1], [0])  # what is logged is on disk a fifth of a second later

    command_line = out.strip().splitlines()[-1].split("to upload: ")[1]
    assert command_line.startswith("WANDB_RESUME=allow ")
    with wandb_server() as server:
        search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        known = environment(WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY, PATH=search)
        subprocess.run(["bash", "-c", command_line], env=known, capture_output=True, timeout=120, check=True)
    (rows,) = server.history.values()
    assert [row["trainer/global_step"] for row in rows] == sorted({row["trainer/global_step"] for row in rows})
    assert [row["epoch"] for row in rows if "epoch" in row] == epochs[0] + epochs[1]
    assert [row["_step"] for row in rows] == list(range(len(rows)))


def test_disabled_tracks_nothing(simulated: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    code, out, err = simulated(*COMMAND[:2], "seed=43", "pipeline.steps=[pretrain]", "pretrain.epochs=1")
    assert code == 0, err
    assert "wandb sync" not in out
    assert not (simulated.outputs / "wandb").exists()


def test_unwritable_record_does_not_stop_training(simulated: CommandLine) -> None:
    (simulated.outputs / "wandb").write_text("a file where the folder would be")
    code, out, err = simulated(*COMMAND, "seed=43", "pipeline.steps=[pretrain]", "pretrain.epochs=1")
    assert code == 0, err
    assert out.count("W&B") == 1
    assert "pretrain: done" in out
