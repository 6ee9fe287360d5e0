"""docs/tutorials/nsd_from_scratch.md, followed on a release in miniature: downloads, preparation, report."""

import fnmatch
import json
import re
import shlex
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra

from mindeye_pl.config import compose_config
from mindeye_pl.data.layout.betas import read_betas, read_noise_free
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.trials import load_training_trials
from mindeye_pl.data.nsd.inspection import PreparationSettings, files_below, inspect_release
from mindeye_pl.data.nsd.release import NsdRelease
from tests import forked
from tests.data.small_nsd_release import SmallRelease, write_captions, write_release

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "tutorials" / "nsd_from_scratch.md").read_text()
COMMANDS = [line for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
BUCKET = "s3://natural-scenes-dataset/"

#: What keeps a run small, beside the commands of the page.
SMALL = (
    *("scale=tiny", "logger=none", "paths.outputs=outputs", "report.compare=[]"),
    *("data.trials_per_session=48", "data.num_workers=0", "vae.image_size=32"),  # the tiny VAE is of small images
)


@pytest.fixture(scope="module")
def bucket(tiny_nsd: Path, tmp_path_factory: pytest.TempPathFactory) -> SmallRelease:
    """A release of three subjects with files that nobody asked for."""
    pytest.importorskip("nibabel")
    world = DataLayout(tiny_nsd)
    release = write_release(world, (1, 2, 5), tmp_path_factory.mktemp("bucket"))
    write_captions(release, json.loads(world.captions.read_text()))
    (release.subject(1) / "func1pt8mm" / "mean.nii.gz").write_text("not read")
    return release


def follow(command: str, bucket: SmallRelease, here: Path) -> str | None:
    """Run a command of the page in a folder; downloads are copies from the bucket."""
    words = [word.replace("/data/nsd", str(here / "nsd")) for word in shlex.split(command)]
    match words:
        case ["aws", "s3", "cp", "--no-sign-request", source, target]:
            copy(bucket.root / source.removeprefix(BUCKET), Path(target))
        case ["aws", "s3", "sync", "--no-sign-request", source, target, "--exclude", "*", *patterns]:
            assert patterns[::2] == ["--include"] * (len(patterns) // 2)
            folder = bucket.root / source.removeprefix(BUCKET)
            for path in (path for path in folder.rglob("*") if path.is_file()):
                name = path.relative_to(folder).as_posix()
                if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns[1::2]):
                    copy(path, Path(target) / name)
        case ["curl", "--location", _, "--output", target]:
            with zipfile.ZipFile(target, "w") as archive:
                for path in (bucket.stimuli.parent / "annotations").iterdir():
                    archive.write(path, f"annotations/{path.name}")
        case ["python", "-m", "mindeye_pl", *overrides]:
            made = here / "outputs" / "artifacts" / "prepare_nsd"
            artifact = next(iter(made.glob("[!.]*")), Path("none")) if made.is_dir() else Path("none")
            own = [word.replace("paths.nsd=ARTIFACT", f"paths.nsd={artifact}") for word in overrides]
            return forked.run(*own, *SMALL, folder=here)
        case ["python", "-m", module, *arguments]:
            return forked.run(*arguments, module=module, folder=here)
        case _:
            raise AssertionError(f"cannot follow {command}")
    return None


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def test_the_downloads_are_what_is_read(bucket: SmallRelease, tmp_path: Path) -> None:
    without_captions = True
    for command in COMMANDS:
        if command.startswith(("aws", "curl", "python -m zipfile")):
            follow(command, bucket, tmp_path)
        if "betas/ppdata" in command and without_captions:
            assert not NsdRelease(tmp_path / "nsd").caption_files()
            without_captions = False
    (tmp_path / "nsd" / "annotations.zip").unlink()
    release, settings = NsdRelease(tmp_path / "nsd"), PreparationSettings(trials_per_session=48)
    read = set(files_below(release, (1, 2), settings))
    assert read == {path for path in release.root.rglob("*") if path.is_file()}
    inspect_release(release, (1, 2), settings)
    named = set(re.findall(r"`(nsddata\S*?)`", PAGE))
    assert {path for path in named if not (release.root / path).is_file()} == set()


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("python -m mindeye_pl")])
def test_every_command_composes(command: str) -> None:
    GlobalHydra.instance().clear()
    assert compose_config(shlex.split(command)[3:]).pipeline.steps


@pytest.mark.slow
def test_the_page_leads_to_a_report(bucket: SmallRelease, tiny_nsd: Path, tmp_path: Path) -> None:
    printed = [follow(command, bucket, tmp_path) for command in COMMANDS]
    plan, prepared, trained = (text or "" for text in printed[-4:-1])
    made = tmp_path / "outputs" / "artifacts"
    assert "will run" in plan
    assert "subj01: 4 sessions, 192 trials, 40 voxels" in prepared
    assert "simulated" not in trained
    assert (tmp_path / "outputs" / "reports" / "finetune_subj01_1h" / "index.html").is_file()
    (artifact,) = (made / "prepare_nsd").glob("[!.]*")
    assert signal_correlation(DataLayout(artifact), DataLayout(tiny_nsd), tmp_path / "cache") > 0.7
    by_step, by_folder = (json.loads((path / "scores.json").read_text()) for path in (made / "evaluate").glob("[!.]*"))
    assert by_step["rows"] == by_folder["rows"]


def signal_correlation(layout: DataLayout, world: DataLayout, cache: Path) -> float:
    """Median over the voxels of subject 1 of the correlation of prepared responses with the world's noise-free ones."""
    trials = load_training_trials(layout, 1, "all", cache)
    betas, signal = read_betas(layout, 1, trials.beta_rows), read_noise_free(world, 1, trials.stimulus_ids)
    voxels = betas.shape[1]
    return float(np.median(np.corrcoef(betas.T, signal.T)[range(voxels), range(voxels, 2 * voxels)]))
