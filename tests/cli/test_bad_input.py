"""Every user's mistake is one line: what, seen, wanted, mend; exit code 2, artifacts untouched."""

import io
import os
import pickle
import resource
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.weights.loaders import bundled as laptop
from tests.conftest import CommandLine

EXPERIMENT = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none")


@pytest.fixture
def nsd(tiny_nsd: Path, tmp_path: Path) -> DataLayout:
    """A copy of the tiny world that a test may break, read as the user's own NSD."""
    shutil.copytree(tiny_nsd, tmp_path / "nsd")
    return DataLayout(tmp_path / "nsd")


def real(nsd: DataLayout, *more: str) -> tuple[str, ...]:
    """The command line of an experiment on the folder of a user."""
    return (*EXPERIMENT, f"paths.nsd={nsd.root}", *more)


def test_missing_data_folder(cli: CommandLine, tmp_path: Path) -> None:
    cli.refuses(*EXPERIMENT, "data=nsd", f"paths.nsd={tmp_path / 'nowhere'}", says=("nowhere", "paths.nsd="))


def test_missing_subject_file(cli: CommandLine, nsd: DataLayout) -> None:
    nsd.betas(5).unlink()
    cli.refuses(*real(nsd), says=(nsd.betas(5).name, "missing", "subject 5"))


def test_truncated_hdf5(cli: CommandLine, nsd: DataLayout) -> None:
    path = nsd.betas(2)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    cli.refuses(*real(nsd), says=(path.name, "truncated"))


def test_a_data_file_without_permission(cli: CommandLine, nsd: DataLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    accessible = os.access
    for path in (nsd.betas(2), nsd.shard(2, "train", 1), nsd.stimuli):
        # A superuser may read all.
        monkeypatch.setattr(os, "access", lambda one, mode, path=path: one != path and accessible(one, mode))
        cli.refuses(*real(nsd), says=(f"{path} may not be read", "permission denied", "Fix: chmod u+r"))


def test_truncated_tar(cli: CommandLine, nsd: DataLayout) -> None:
    path = nsd.shard(2, "train", 1)
    path.write_bytes(path.read_bytes()[:5000])
    cli.refuses(*real(nsd), says=("subj02/train/1.tar",))


def test_betas_with_nan(cli: CommandLine, nsd: DataLayout) -> None:
    with h5py.File(nsd.betas(2), "r+") as file:
        file["betas"][:, 3] = np.nan
    cli.refuses(*real(nsd), says=(nsd.betas(2).name, "not finite", "row"))


def edit_behaviour(path: Path, column: int, value: float) -> None:
    """Rewrites one column of the first trial of a shard."""
    import io

    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar.getmembers()]  # type: ignore[union-attr]
    with tarfile.open(path, "w") as tar:
        edited = False
        for member, content in members:
            if member.name.endswith(".behav.npy") and not edited:
                behaviour = np.load(io.BytesIO(content))
                behaviour[0, column] = value
                buffer = io.BytesIO()
                np.save(buffer, behaviour)
                content, edited = buffer.getvalue(), True
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_behaviour_row_past_the_betas(cli: CommandLine, nsd: DataLayout) -> None:
    edit_behaviour(nsd.shard(2, "train", 0), column=5, value=10_000_000)
    cli.refuses(*real(nsd), says=("0.tar", nsd.betas(2).name, "1e+07", "expected: 0 to"))


def test_image_id_past_the_images(cli: CommandLine, nsd: DataLayout) -> None:
    edit_behaviour(nsd.shard(2, "train", 0), column=0, value=99_999)
    cli.refuses(*real(nsd), says=("0.tar", nsd.stimuli.name, "99999", "expected: 0 to"))


def test_more_sessions_than_exist(cli: CommandLine, nsd: DataLayout) -> None:
    cli.refuses(*real(nsd, "data.num_sessions=99"), says=("data.num_sessions", "99", "Fix: data.num_sessions="))


def test_more_sessions_than_are_simulated(cli: CommandLine) -> None:
    cli.refuses(*EXPERIMENT, "data.num_sessions=99", says=("data.num_sessions", "99", "up to 4", "num_sessions=4"))
    assert not cli.artifacts(), "before anything is made"


def test_shards_of_another_subject_or_session(cli: CommandLine, nsd: DataLayout) -> None:
    own, other = nsd.shard(1, "train", 0), nsd.shard(1, "train", 1)
    kept = own.read_bytes()
    shutil.copy(other, own)
    cli.refuses(*real(nsd), says=("subj01/train/0.tar holds another session", "got: session 2", "session 1 alone"))
    shutil.copy(nsd.shard(2, "train", 0), own)
    cli.refuses(*real(nsd), says=("subj01/train/0.tar holds another subject", "got: subject 2", "expected: subject 1"))
    own.write_bytes(kept)
    shutil.copy(nsd.shard(2, "new_test"), nsd.shard(1, "new_test"))
    cli.refuses(*real(nsd), says=("subj01/new_test/0.tar holds another subject",))


def test_test_images_among_the_training_shards(cli: CommandLine, nsd: DataLayout) -> None:
    """As laboratories write them: one tar for each session, with all of its trials."""
    session = nsd.shard(1, "train", 0)
    with tarfile.open(session) as train, tarfile.open(nsd.shard(1, "new_test")) as tested:
        trials = {member.name: train.extractfile(member).read() for member in train}  # type: ignore[union-attr]
        for place, member in enumerate(tested):
            content = tested.extractfile(member).read()  # type: ignore[union-attr]
            behaviour = np.load(io.BytesIO(content)) if member.name.endswith(".behav.npy") else None
            if behaviour is not None and behaviour[0, 2] == 1:
                trials[f"sample{900 + place:09d}.behav.npy"] = content
    with tarfile.open(session, "w") as tar:
        for name, content in trials.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    says = ("test images are among the training trials of subject 1", "data.test_images_in_training=drop")
    cli.refuses(*real(nsd), says=says)
    assert cli(*real(nsd), "data.test_images_in_training=drop", "plan=true")[0] == 0


def test_subject_inside_the_pretraining_set(cli: CommandLine) -> None:
    cli.refuses(
        *EXPERIMENT, "pretrain.subjects=[1,2]", says=("subject 1", "pretrain.subjects", "Fix: pretrain.subjects=[2]")
    )


def test_unknown_subject(cli: CommandLine) -> None:
    cli.refuses(*EXPERIMENT, "data.subject=3", says=("data.subject", "3", "[1, 2, 5, 7]"))


class Malice:
    """A pickle that would leave a file if it were executed."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self.target,)


def test_pickle_with_code_is_never_executed(cli: CommandLine, tmp_path: Path) -> None:
    path, trace = tmp_path / "last.pth", tmp_path / "executed"
    path.write_bytes(pickle.dumps({"model_state_dict": Malice(trace)}))
    cli.refuses(*EXPERIMENT, f"finetune.checkpoint={path}", says=("last.pth",))
    torch.save({"model_state_dict": Malice(trace)}, path)
    cli.refuses(*EXPERIMENT, f"finetune.checkpoint={path}", says=("last.pth",))
    assert not trace.exists()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
NO_CHECKPOINTS = {
    "lfs.pth": (LFS, "Git LFS"),
    "page": (b"\n<!DOCTYPE html><p>404", "a web page"),
    "e.ckpt": (b"", "empty"),
}


@pytest.mark.parametrize("name", NO_CHECKPOINTS)
@pytest.mark.parametrize("option", ["finetune.checkpoint", "evaluate.checkpoint", "evaluate.low_level_checkpoint"])
def test_a_failed_download_is_no_checkpoint(option: str, name: str, cli: CommandLine, tmp_path: Path) -> None:
    content, words = NO_CHECKPOINTS[name]
    (path := tmp_path / name).write_bytes(content)
    torch.save({"model_state_dict": {}}, tmp_path / "whole.pth")
    low_level = option == "evaluate.low_level_checkpoint"
    more = ("model=mindeye1", f"evaluate.checkpoint={tmp_path / 'whole.pth'}") if low_level else ()
    cli.refuses(*EXPERIMENT, *more, f"{option}={path}", says=(f"{option}: {path} is not whole", words, "download it"))
    assert not cli.artifacts(), "before the first step"


def _reconstructions(path: Path, kind: str) -> Path:
    """Images of somebody else that nothing can be scored with."""
    if kind == "pointer":
        (path / "r.pt").write_bytes(LFS)
    elif kind == "another tensor":
        torch.save(torch.zeros(3, 8, 8), path / "r.pt")
    elif kind == "without blurry":
        torch.save(torch.zeros(10, 3, 8, 8), path / "x_all_enhancedrecons.pt")
        return path / "x_all_enhancedrecons.pt"
    else:
        (path / "r").mkdir()
        for id_, side in ((1, 8), (2, 9)):
            Image.new("RGB", (side, side)).save(path / "r" / f"{id_}.png")
        return path / "r"
    return path / "r.pt"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pointer", "a pointer of Git LFS"),
        ("another tensor", "holds another tensor"),
        ("without blurry", "x_all_blurryrecons.pt"),
        ("sizes", "has another size"),
        ("nothing", "evaluate.reconstructions does not exist"),
    ],
)
def test_unfit_reconstructions_before_the_first_step(kind: str, words: str, cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "nothing" if kind == "nothing" else _reconstructions(tmp_path, kind)
    given = ("pipeline=evaluate", f"evaluate.reconstructions={path}", "protocol.blend=0.25")
    cli.refuses(*EXPERIMENT, *given, says=(words,))
    assert not cli.artifacts()


def test_another_number_of_reconstructions_than_of_test_images(cli: CommandLine, nsd: DataLayout) -> None:
    torch.save(torch.zeros(7, 3, 8, 8), nsd.root / "r.pt")
    given = ("pipeline=evaluate", f"evaluate.reconstructions={nsd.root / 'r.pt'}")
    cli.refuses(*real(nsd), *given, says=("not as many images as the test set", "got: 7 images"))
    assert not cli.artifacts()


def test_checkpoint_of_another_architecture(cli: CommandLine, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    save_file({"encoder.weight": torch.zeros(3, 3)}, path)
    cli.refuses(*EXPERIMENT, f"finetune.checkpoint={path}", says=("model.safetensors", "another architecture"))


def test_voxel_count_that_differs_from_the_checkpoint(cli: CommandLine, finished: Path) -> None:
    """Weights fine-tuned to subject 1, asked to read subject 2."""
    (weights,) = finished.glob("artifacts/finetune/*/model.safetensors")
    command = ("+experiment=finetune_subj02_1h", "scale=tiny", "logger=none", f"evaluate.checkpoint={weights}")
    cli.refuses(*command, "pipeline=evaluate", says=("model.safetensors", "voxels", "subject 2"))


def test_paper_scale_lists_missing_files(cli: CommandLine) -> None:
    cli.refuses(
        "+experiment=finetune_subj01_1h",
        "scale=paper",
        "data=nsd",
        "logger=none",
        says=(
            "data folder",
            "hf download laion/CLIP-ViT-bigG-14-laion2B-39B-b160k open_clip_model.safetensors",
            "hf download pscotti/mindeyev2 sd_image_var_autoenc.pth --repo-type dataset",
            "hf download pscotti/mindeyev2 unclip6_epoch0_step110000.ckpt --repo-type dataset",
            "hf download pscotti/mindeyev2 bigG_to_L_epoch8.pth --repo-type dataset",
            "hf download microsoft/git-large-coco model.safetensors",
        ),
    )


def test_truncated_foundation_file(cli: CommandLine, tmp_path: Path) -> None:
    """A truncated copy of a shipped file is named before anything is trained."""
    for path in laptop.SHIPPED.glob("*.safetensors"):
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content[: len(content) // 2] if path.name == laptop.UNCLIP else content)
    choices = ("unclip=laptop", f"foundation.folder={tmp_path}")
    cli.refuses(*EXPERIMENT, *choices, says=("unclip.safetensors", "is not whole"))
    assert not cli.artifacts()


@pytest.mark.parametrize("group", ["unclip", "captioner"])
def test_foundation_model_for_another_token_width(cli: CommandLine, group: str) -> None:
    cli.refuses(
        *EXPERIMENT, f"{group}=laptop", "pipeline=reconstruct", says=(f"{group}=laptop", "width 16", "width 64")
    )


def test_checkpoint_of_another_token_width(cli: CommandLine, finished: Path, tmp_path: Path) -> None:
    (path,) = (finished / "artifacts" / "finetune").glob("subj01*pretrained*/model.safetensors")
    kept = tmp_path / "model.safetensors"
    kept.write_bytes(path.read_bytes())
    width = ("embedder.token_dim=24", "unclip=none", "captioner=none", "pipeline=evaluate")
    cli.refuses(*EXPERIMENT, f"evaluate.checkpoint={kept}", *width, says=("another architecture", "backbone"))


def test_unclip_pickle_with_code_is_never_executed(cli: CommandLine, tmp_path: Path) -> None:
    marker, path = tmp_path / "executed", tmp_path / "unclip6_epoch0_step110000.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "hook": Malice(marker)}, path)
    choices = ("unclip=sdxl", "captioner=none", f"paths.weights={tmp_path}", "pipeline=reconstruct")
    cli.refuses(*EXPERIMENT, *choices, says=(path.name, "was not executed"))
    assert not marker.exists()


def test_unknown_trainable_part(cli: CommandLine) -> None:
    cli.refuses(*EXPERIMENT, "finetune.trainable=cortex", says=("finetune.trainable", "cortex", "alignment"))


def limited(outputs: Path, kilobytes: int, *more: str) -> subprocess.CompletedProcess:
    """The command in a process whose files cannot grow past a size: to a program, a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, kilobytes * 1024))

    command = [sys.executable, "-m", "mindeye_pl", *EXPERIMENT, f"paths.outputs={outputs}", *more]
    return subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kilobytes", "step"),
    [pytest.param(100, "simulate", id="a data file"), pytest.param(60, "pretrain", id="a checkpoint")],
)
def test_disk_full_while_writing(cli: CommandLine, finished: Path, kilobytes: int, step: str) -> None:
    before = cli.artifacts()
    another = ("simulation.seed=5" if step == "simulate" else "seed=5", "pipeline.steps=[finetune]")
    result = limited(cli.outputs, kilobytes, *another)
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert "no room to write" in line
    assert "Fix: make room" in line
    assert cli.artifacts() == before, "nothing half-written under a final name"
    (work,) = (cli.outputs / "artifacts" / step).glob(".*.work")
    assert not list(work.glob(".*.part"))
    code, _, err = cli(*EXPERIMENT, *another)  # with room again, the same command goes on
    assert code == 0, err


def rewrite(path: Path, name: str, changed: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace a dataset of a file by another one."""
    with h5py.File(path, "r+") as file:
        content = changed(file[name][:])
        del file[name]
        file[name] = content


def keep_trials(path: Path, count: int) -> None:
    """Keep the first trials of a shard."""
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    samples = list(dict.fromkeys(member.name.partition(".")[0] for member, _ in members))[:count]
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            if member.name.partition(".")[0] in samples:
                tar.addfile(member, io.BytesIO(content))


UNFIT: dict[str, tuple[Callable[[DataLayout], object], str]] = {
    "one test image": (lambda nsd: keep_trials(nsd.shard(1, "new_test"), 1), "trials of one test image"),
    "no test trial": (lambda nsd: keep_trials(nsd.shard(1, "new_test"), 0), "contains no test trial"),
    "no training trial": (lambda nsd: keep_trials(nsd.shard(1, "train", 0), 0), "no trial of subject 1"),
    "no voxel": (lambda nsd: rewrite(nsd.betas(1), "betas", lambda x: x[:, :0]), "does not contain betas"),
    "complex betas": (lambda nsd: rewrite(nsd.betas(1), "betas", lambda x: x.astype("c8")), "holds no numbers"),
    "images of a pixel": (lambda nsd: rewrite(nsd.stimuli, "images", lambda x: x[..., :1, :1]), "2 pixels or more"),
    "images to 255": (lambda nsd: rewrite(nsd.stimuli, "images", lambda x: x * 255), "holds values out of range"),
    "images of nan": (lambda nsd: rewrite(nsd.stimuli, "images", lambda x: x * np.nan), "not finite"),
    "few captions": (lambda nsd: nsd.captions.write_text('[["a"]]'), "another number of images"),
    "sentences": (lambda nsd: nsd.captions.write_text('["a"]'), "is not a captions file"),
    "captions in UTF-16": (lambda nsd: nsd.captions.write_text('[["é"]]', encoding="utf-16"), "is not a captions file"),
    "no captions": (lambda nsd: nsd.captions.write_text(""), "is not a captions file"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_unfit_files(kind: str, cli: CommandLine, nsd: DataLayout) -> None:
    change, words = UNFIT[kind]
    change(nsd)
    cli.refuses(*real(nsd), "finetune.start=scratch", says=(words,))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("paths.outputs=FILE", ("FILE", "cannot be used")),
        ("paths.outputs=/proc/x", ("/proc/x", "cannot be used")),
        ("paths.targets=FILE", ("FILE is in the way", "paths.targets=FOLDER")),
        ("paths.artifacts=/dev/null", ("/dev/null is in the way", "paths.artifacts=FOLDER")),
        ("paths.reports=FILE", ("FILE is in the way", "paths.reports=FOLDER")),
        ("paths.cache=/proc/x", ("/proc/x", "cannot be used")),
    ],
)
def test_paths_that_cannot_be_used(override: str, says: tuple[str, ...], cli: CommandLine, tmp_path: Path) -> None:
    (file := tmp_path / "file").touch()
    given = [one.replace("FILE", str(file)) for one in (override, *says)]
    if override.startswith("paths.outputs="):
        cli.outputs = Path(given[0].partition("=")[2])
    code, _, err = cli(*EXPERIMENT, "finetune.start=scratch", given[0])
    assert code == 2, err
    assert len(err.splitlines()) == 1, err
    for words in given[1:]:
        assert words in err
    assert not list(tmp_path.rglob("artifacts/finetune/subj*")), "found before the fine-tuning"
