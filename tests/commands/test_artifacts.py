"""`pipeline=artifacts`: what it prints, what it removes and what it never removes."""

import json
import shlex
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mindeye_pl.commands import artifacts as step
from mindeye_pl.engine.run import Run
from mindeye_pl.errors import UserError
from mindeye_pl.runner.experiment import requested_steps
from mindeye_pl.store.artifacts import ArtifactSpec, ArtifactStore
from mindeye_pl.store.manifest import MANIFEST
from tests.conftest import CONF, CommandLine

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none")
SECOND_SUBJECT = ("+experiment=scratch", "data.subject=2", "report.compare=[]")
STORE = ("pipeline=artifacts", "scale=tiny", "logger=none")
PRUNE = (*STORE, "artifacts.action=prune")
STEPS = (
    *("simulate", "pretrain", "finetune", "evaluate", "reconstruct", "fit_encoder", "evaluate_reconstructions"),
    "draw_true_tokens",
    *("ridge_tokens", "ridge_noise_free", "ridge_latents", "ridge_unclip", "ridge_blur_unclip"),
)


def manage(outputs: Path, *overrides: str, shared: Path | None = None, **settings: object) -> None:
    """Run the command without an experiment, and without composing the whole configuration."""
    artifacts = OmegaConf.merge(OmegaConf.load(CONF / "config.yaml").artifacts, settings)
    paths = {"artifacts": str(outputs / "artifacts"), "shared_artifacts": str(shared) if shared else None}
    run = Run(OmegaConf.create({"paths": paths, "artifacts": artifacts}), overrides)
    step.manage_artifacts(run.store, artifacts, overrides, requested_steps)


def only(outputs: Path, step: str) -> Path:
    """The one artifact of a step."""
    (folder,) = (outputs / "artifacts" / step).glob("[!.]*")
    return folder


def names(outputs: Path) -> set[str]:
    return {path.parent.name for path in (outputs / "artifacts").glob(f"*/[!.]*/{MANIFEST}")}


def another(outputs: Path, step: str, **by: object) -> ArtifactSpec:
    """A small artifact that no experiment uses, beside the others."""
    spec = ArtifactSpec(step, "of-another-day", by)
    with ArtifactStore(outputs / "artifacts").making(spec) as work:
        assert work is not None
        (work / "model").write_text("weights")
    return spec


def unfinished(outputs: Path, spec: ArtifactSpec) -> Path:
    store = ArtifactStore(outputs / "artifacts")
    with pytest.raises(RuntimeError), store.making(spec) as work:  # noqa: PT012
        assert work is not None
        (work / "half").write_text("half")
        raise RuntimeError
    return store.work_folder(spec)


def test_the_list(cli: CommandLine, finished: Path) -> None:
    unfinished(finished, ArtifactSpec("finetune", "subj09", {"epochs": 1}, {"data": "abc"}))
    code, out, err = cli(*STORE)
    assert code == 0, err
    *lines, total = [line.rstrip() for line in out.splitlines()]
    assert max(map(len, lines)) <= 80
    for name in STEPS:
        assert name in lines
        assert any(only(finished, name).name in line for line in lines)
    after = dict(pairwise(lines))
    (model,) = (line for line in lines if only(finished, "pretrain").name in line)
    assert after[model] == "  whole; used by 1 finetune"
    (work,) = (line for line in lines if line.startswith("subj09"))
    assert after[work].startswith("  unfinished by process ")
    assert total.startswith(f"{finished}/artifacts: {len(STEPS) + 1} artifacts, ")
    assert total.endswith("; 1 unfinished")


def test_an_empty_store_is_listed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    manage(tmp_path)
    assert "0 artifacts, 0 bytes" in capfd.readouterr().out


def test_the_shared_store_is_used_and_verified_but_not_pruned(
    cli: CommandLine, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lab = finished.parent / "lab"
    shutil.move(finished / "artifacts", lab)
    (lab / "finetune" / ".123456789abc.work").mkdir()
    before = {str(path): path.stat().st_mtime_ns for path in lab.rglob("*")}
    code, out, err = cli(*COMMAND, f"paths.shared_artifacts={lab}")
    assert code == 0, err
    assert out.count(": cached, ") == 4
    assert not list((finished / "artifacts").glob(f"*/*/{MANIFEST}")), "nothing was made"
    manage(finished, shared=lab)
    assert f"{lab}: {len(STEPS) + 1} artifacts, " in capfd.readouterr().out
    manage(finished, shared=lab, action="verify")
    assert capfd.readouterr().out.count(": OK, ") == len(STEPS)
    manage(finished, shared=lab, action="prune", dry_run=False)
    assert "nothing to remove" in capfd.readouterr().out
    assert {str(path): path.stat().st_mtime_ns for path in lab.rglob("*")} == before


def test_verifying(finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    manage(finished, action="verify")
    out = capfd.readouterr().out
    assert out.count(": OK, ") == len(STEPS)
    assert "by size" not in out
    weights = only(finished, "finetune") / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    fix = rf"1 artifacts are damaged.* Fix: rm -r {weights.parent}"
    with pytest.raises(UserError, match=fix):
        manage(finished, action="verify")
    out = capfd.readouterr().out
    assert f"{weights.parent.name}: damaged: model.safetensors has another checksum. Fix: rm -r " in out
    assert out.count(": OK, ") == len(STEPS) - 1
    # Pruning sees it too, when it is told to read the files.
    manage(finished, action="prune")
    assert "nothing to remove" in capfd.readouterr().out
    manage(finished, action="prune", checksums=True, dry_run=False)
    assert f"finetune/{weights.parent.name}: removed" in capfd.readouterr().out
    # A manifest without checksums is damaged.
    path = only(finished, "simulate") / MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["sha256"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=rf"1 artifacts are damaged .*{path.parent}"):
        manage(finished, action="verify")


def test_an_incompletely_copied_artifact_is_refused(cli: CommandLine, finished: Path) -> None:
    weights = only(finished, "finetune") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    cli.refuses(*COMMAND, says=("is incomplete", "got: model.safetensors of 100 bytes", f"Fix: rm -r {weights.parent}"))
    manage(finished, action="prune", dry_run=False)
    code, out, err = cli(*COMMAND, "pipeline.steps=[finetune]")
    assert code == 0, err
    assert "finetune: done" in out


def test_pruning_is_dry_first_and_names_the_command_that_does_it(
    finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    work = unfinished(finished, ArtifactSpec("finetune", "subj09", {"epochs": 1}))
    (only(finished, "evaluate") / "scores.json").unlink()
    before = sorted(finished.rglob("*"))
    manage(finished, "pipeline=artifacts", "artifacts.keep_used_by=null", f"paths.outputs={finished}", action="prune")
    out = capfd.readouterr().out
    assert sorted(finished.rglob("*")) == before, "nothing was removed"
    assert "2 artifacts, " in out
    assert "scores.json is missing" in out
    assert "Nothing was removed" in out
    command = f"python -m mindeye_pl pipeline=artifacts artifacts.keep_used_by=null paths.outputs={finished}"
    assert out.splitlines()[-1] == f"{command} artifacts.dry_run=false"
    manage(finished, action="prune", dry_run=False)
    assert not work.exists()
    assert names(finished) == {only(finished, name).name for name in STEPS if name != "evaluate"}
    gone = {path for path in before if not path.exists()}
    assert all("/artifacts/evaluate/" in str(path) or "/artifacts/finetune/." in str(path) for path in gone)
    capfd.readouterr()
    manage(finished, action="prune")
    assert "nothing to remove" in capfd.readouterr().out


@pytest.mark.slow
def test_artifacts_of_named_experiments_are_kept(cli: CommandLine, finished: Path) -> None:
    spec = another(finished, "pretrain", epochs=99)
    keep = "artifacts.keep_used_by=[finetune_subj01_1h]"
    code, out, err = cli(*PRUNE, keep, "artifacts.dry_run=false")
    assert code == 0, err
    assert f"pretrain/{spec.name}: removed" in out
    assert len(names(finished)) == len(STEPS)
    # Of another subject only the data are the same.
    code, out, err = cli(*PRUNE, "artifacts.keep_used_by=[]", *SECOND_SUBJECT)
    assert code == 0, err
    assert f"{len(STEPS) - 1} artifacts, " in out
    assert f"simulate/{only(finished, 'simulate').name}" not in out
    (command,) = (line for line in out.splitlines() if line.startswith("python -m mindeye_pl "))
    assert shlex.split(command)[-1] == "artifacts.dry_run=false"
    assert "artifacts.keep_used_by=[]" in shlex.split(command)


@pytest.mark.slow
def test_the_rows_that_a_report_compares_with_are_kept(cli: CommandLine, finished: Path) -> None:
    cli.compares = True
    assert "nothing to remove" in cli(*PRUNE, "artifacts.keep_used_by=[scratch]")[1]


@pytest.mark.slow
def test_artifacts_of_every_sweep_job_are_kept(cli: CommandLine, finished: Path) -> None:
    more = ("report.compare=[]", "seed=42")
    code, out, err = cli(*PRUNE, "artifacts.keep_used_by=[sweeps/ablate_parts]", *more)
    assert code == 0, err
    assert "nothing to remove" in out, "the whole model is one of its jobs"


def test_nothing_is_removed_if_used_artifacts_cannot_be_determined(cli: CommandLine, finished: Path) -> None:
    now = "artifacts.dry_run=false"
    with pytest.raises(UserError, match="names no experiment"):
        manage(finished, action="prune", dry_run=False, keep_used_by=[])
    cli.refuses(*PRUNE, now, "artifacts.keep_used_by=[finetune_subj09_1h]", says=("finetune_subj09_1h",))
    keep = "artifacts.keep_used_by=[finetune_subj01_1h]"
    cli.refuses(*PRUNE, now, keep, "data=nsd", "paths.nsd=nowhere", says=("nowhere",))
    assert len(names(finished)) == len(STEPS)


def test_unfinished_work_of_an_experiment_that_is_kept_stays(
    cli: CommandLine, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = only(finished, "finetune")
    work = folder.with_name(f".{folder.name[-12:]}.work")
    folder.rename(work)
    keep = "artifacts.keep_used_by=[finetune_subj01_1h]"
    assert "nothing to remove" in cli(*PRUNE, keep, "report.compare=[]")[1]
    manage(finished, action="prune")
    assert work.name in capfd.readouterr().out


def _hold(outputs: Path, spec: ArtifactSpec) -> str:
    return f"""
import time
from itertools import pairwise
from pathlib import Path
from mindeye_pl.store.artifacts import ArtifactSpec, ArtifactStore
with ArtifactStore(Path({str(outputs)!r}) / "artifacts").making(ArtifactSpec({spec.step!r}, "", {{}}, {spec.inputs})):
    time.sleep(60)
"""


@pytest.mark.slow
def test_artifacts_being_built_and_their_inputs_are_kept(
    cli: CommandLine, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = another(finished, "pretrain", epochs=99)
    spec = ArtifactSpec("finetune", "", {}, {"pretrain": model.fingerprint})
    process = subprocess.Popen([sys.executable, "-c", _hold(finished, spec)])
    try:
        work = ArtifactStore(finished / "artifacts").work_folder(spec)
        while not work.with_suffix(".maker.json").exists():
            assert process.poll() is None
            time.sleep(0.02)
        keep = ("artifacts.keep_used_by=[finetune_subj01_1h]", "report.compare=[]", "artifacts.dry_run=false")
        code, out, err = cli(*PRUNE, *keep)
        assert code == 0, err
        assert "nothing to remove" in out
        manage(finished)
        assert f"being made by process {process.pid} on " in " ".join(capfd.readouterr().out.split())
    finally:
        process.kill()
        process.wait()
    out = cli(*PRUNE, *keep)[1]
    assert out.count(": removed") == 2
    assert not work.exists()


def test_unfinished_work_is_kept_without_locks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    work = unfinished(tmp_path, ArtifactSpec("finetune", "subj09", {"epochs": 1}))
    manage(tmp_path, action="prune", dry_run=False, locks="none")
    assert "nothing to remove" in capfd.readouterr().out
    assert work.exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"step": "train"}, "artifacts.step .*train.*pretrain"),
        ({"shared": Path("nowhere")}, "paths.shared_artifacts .*nowhere"),
    ],
)
def test_options_that_do_not_exist(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    another(tmp_path, "pretrain")
    with pytest.raises(UserError, match=words):
        manage(tmp_path, **settings)


NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


@pytest.mark.parametrize(
    ("utc", "words"),
    [
        ("2027-01-15T07:59:58Z", "2 s"),
        ("2027-01-15T08:03:00Z", "0 s"),
        ("2027-01-15T07:15:00Z", "45 min"),
        ("2027-01-12T08:00:00Z", "3 d"),
        ("2025-01-15T08:00:00Z", "2 y"),
        ("2027-01-16T08:00:00Z", "clock?"),
        ("9999-01-16T08:00:00Z", "clock?"),
        ("1970-01-01T00:00:00Z", "clock?"),
        ("0001-01-01T00:00:00Z", "clock?"),
        ("yesterday", "?"),
    ],
)
def test_ages_in_words(utc: str, words: str) -> None:
    assert step.in_age(utc, NOW) == words
