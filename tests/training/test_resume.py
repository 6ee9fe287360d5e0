"""A training that is stopped inside an epoch resumes there and ends in the same weights and history, bit for bit."""

import json
import os
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.trainer.connectors.signal_connector import _HandlersCompose, _SignalConnector
from safetensors.torch import load_file
from torch.distributed import checkpoint as distributed_checkpoint

from mindeye_pl.errors import UserError
from mindeye_pl.training.callbacks.epoch_seed import EpochSeed
from mindeye_pl.training.callbacks.resume_checkpoint import ResumeCheckpoint, check_checkpoints, write_checksums
from tests.conftest import CommandLine
from tests.forked import Forked

SCRATCH = ("+experiment=scratch", "scale=tiny", "logger=none", "pipeline.steps=[finetune]")
STEPS = 8  # of an epoch
#: Measured of the machine, not of the model.
MEASURED = ("seconds", "trials_per_second", "peak_memory_gb")

Place = tuple[int, int]  # epoch and step, both from 0


@contextmanager
def at(place: Place, do: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Calls `do` at the start of a step, once."""
    start = EpochSeed.on_train_batch_start

    def hook(self: EpochSeed, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        start(self, trainer, module, batch, batch_idx)
        if (trainer.current_epoch, batch_idx) == place:
            do()

    with monkeypatch.context() as patch:
        patch.setattr(EpochSeed, "on_train_batch_start", hook)
        yield


def send(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def result(folder: Path, file: str = "model.safetensors") -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Weights and history of a finished training."""
    records = json.loads((folder / "history.json").read_text())
    return load_file(folder / file), [{k: v for k, v in one.items() if k not in MEASURED} for one in records]


def assert_same(folder: Path, other: Path, file: str = "model.safetensors") -> None:
    (weights, history), (others, other_history) = result(folder, file), result(other, file)
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        assert torch.equal(value, others[name]), name
    assert history == other_history


class Training:
    """A command that makes one training, undisturbed and stopped."""

    def __init__(self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch):
        self.cli, self.monkeypatch = cli, monkeypatch

    def undisturbed(self, *command: str, step: str = "finetune") -> Path:
        code, _, err = self.cli(*command)
        assert code == 0, err
        made = self.cli.made(step)
        return made.rename(made.with_name(f".undisturbed-{made.name}"))

    def stopped(
        self, *command: str, signals: dict[Place, signal.Signals], step: str = "finetune", resumes: bool = True
    ) -> Path:
        """Stopped by each of the signals in turn, and finished."""
        for place, number in signals.items():
            with at(place, send(number), self.monkeypatch):
                code, _, err = self.cli(*command)
            assert code == 128 + number, err
            assert err.strip().startswith(f"stopped by {number.name}"), err
            assert len(err.strip().splitlines()) == 1, err
            assert "the same command resumes" in err
        code, out, err = self.cli(*command)
        assert code == 0, err
        assert ("resuming" in out) == resumes
        assert not list(self.cli.made(step).glob("*.ckpt"))
        return self.cli.made(step)


@pytest.fixture
def training(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Training:
    return Training(cli, monkeypatch)


TERM, USR1 = signal.SIGTERM, signal.SIGUSR1
EARLY_AND_LATE = {(0, 1): TERM, (2, 4): USR1}


SLOW = pytest.mark.slow


def test_slurms_signal_is_answered_here_and_not_by_lightning(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under Slurm, Lightning would write `hpc_ckpt_1.ckpt` in the work folder and ask `scontrol` for another job."""
    variables = {"JOB_ID": "1", "JOB_NAME": "train", "NTASKS": "1", "NNODES": "1", "NODEID": "0", "PROCID": "0"}
    for name, value in (variables | {"LOCALID": "0", "NTASKS_PER_NODE": "1"}).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    registered, answering, register = set[int](), list[Any](), _SignalConnector._register_signal

    def note(number: int, handler: Any) -> None:
        if isinstance(handler, _HandlersCompose):
            registered.add(number)
        register(number, handler)  # type: ignore[arg-type]

    def interrupt() -> None:
        answering.extend(signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM))
        os.kill(os.getpid(), signal.SIGUSR1)

    command, cli = (*SCRATCH, "finetune.epochs=2"), training.cli
    monkeypatch.setattr(_SignalConnector, "_register_signal", staticmethod(note))
    with at((0, 1), interrupt, monkeypatch):
        code, _, err = cli(*command)
    assert code == 128 + signal.SIGUSR1, err
    assert registered == {signal.SIGUSR1, signal.SIGTERM}, "Lightning has seen Slurm"
    assert all(one.__func__ is ResumeCheckpoint._receive for one in answering)
    assert len(answering) == 2
    (work,) = (cli.outputs / "artifacts" / "finetune").glob(".*.work")
    assert [path.name for path in work.rglob("*.ckpt")] == ["last.ckpt"]
    code, out, err = cli(*command)
    assert code == 0, err
    assert "resuming" in out
    assert not list(cli.outputs.rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("more", "signals"),
    [
        pytest.param(
            ("model=mindeye2", "finetune.epochs=3"), {(0, 1): TERM, (0, 4): USR1, (2, 0): TERM}, id="mindeye2"
        ),
        pytest.param(("model=mindeye1", "finetune.epochs=3"), EARLY_AND_LATE, id="mindeye1", marks=SLOW),
        # batches grow in the last two epochs, which have two steps
        pytest.param(
            ("model=mind_reader", "unclip=none", "finetune.epochs=4"),
            {(1, 3): TERM, (2, 0): USR1, (3, 0): TERM},
            id="mind_reader",
            marks=SLOW,
        ),
        pytest.param(
            ("finetune.epochs=3", "+trainer.accumulate_grad_batches=3"), EARLY_AND_LATE, id="accumulation", marks=SLOW
        ),
        pytest.param(
            ("finetune.epochs=3", "finetune.max_steps=21"), {(0, 1): TERM, (2, 4): USR1}, id="budget", marks=SLOW
        ),
        pytest.param(("finetune.epochs=3", "data.num_workers=1"), EARLY_AND_LATE, id="workers", marks=SLOW),
        pytest.param(
            ("finetune.epochs=3", "finetune.keep=best_validation"), EARLY_AND_LATE, id="best_validation", marks=SLOW
        ),
        pytest.param(
            ("finetune.epochs=3", "finetune.trainable=[alignment,prior]"), EARLY_AND_LATE, id="frozen_parts", marks=SLOW
        ),
    ],
)
def test_signals_inside_epochs(training: Training, more: tuple[str, ...], signals: dict[Place, signal.Signals]) -> None:
    command = (*SCRATCH, *more)
    alone = training.undisturbed(*command)
    assert_same(training.stopped(*command, signals=signals), alone)


@pytest.mark.parametrize(
    "place", [pytest.param((0, STEPS - 1), id="first", marks=SLOW), pytest.param((1, STEPS - 1), id="last")]
)
def test_a_signal_in_the_last_step_of_an_epoch_waits_for_its_end(training: Training, place: Place) -> None:
    alone = training.undisturbed(*SCRATCH)
    resumes = place[0] == 0
    assert_same(training.stopped(*SCRATCH, signals={place: TERM}, resumes=resumes), alone)


@pytest.mark.parametrize(
    ("step", "more", "signals"),
    [
        # an exponential moving average of the weights, which is all that is left to do after the last step
        pytest.param("unclip", ("pipeline=pretrain_unclip",), {(0, 1): TERM, (1, 4): TERM}, marks=SLOW),
        # two optimisers under manual optimisation
        (
            "generator",
            ("pipeline=pretrain_generator", "embedder=laptop_embedding", "text_embedder=laptop"),
            {(0, 1): TERM, (1, 1): TERM},
        ),
    ],
)
def test_foundation_models(
    training: Training, step: str, more: tuple[str, ...], signals: dict[Place, signal.Signals]
) -> None:
    command = ("foundation=tiny", "scale=tiny", "logger=none", *more, f"pipeline.steps=[pretrain_{step}]")
    alone = training.undisturbed(*command, step=f"pretrain_{step}")
    resumes = step == "generator"  # the other one is stopped after its last step
    stopped = training.stopped(*command, signals=signals, step=f"pretrain_{step}", resumes=resumes)
    assert_same(stopped, alone, f"{step}.safetensors")


class KilledError(BaseException):
    """Ends a training as a kill does: without a last checkpoint."""


@pytest.mark.parametrize("place", [(0, 3), pytest.param((1, 0), marks=SLOW), pytest.param((1, STEPS - 1), marks=SLOW)])
def test_killed_after_a_timed_checkpoint(training: Training, place: Place) -> None:
    def kill() -> None:
        raise KilledError

    command = (*SCRATCH, "callbacks.checkpoint.every_n_minutes=0")
    alone = training.undisturbed(*command)
    with at(place, kill, training.monkeypatch), pytest.raises(KilledError):
        training.cli(*command)
    code, out, err = training.cli(*command)
    assert code == 0, err
    epoch, step = place
    assert (f"resuming in epoch {epoch + 1} after step {step}," if step else f"resuming after epoch {epoch},") in out
    assert_same(training.cli.made("finetune"), alone)


CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=SLOW), signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_stopped(training: Training, number: signal.Signals) -> None:
    command, cli = (*SCRATCH, "finetune.epochs=6"), training.cli
    alone = training.undisturbed(*command)
    often = "callbacks.checkpoint.every_n_minutes=0"
    process = Forked(*command, often, f"paths.outputs={cli.outputs}")
    while not list((cli.outputs / "artifacts" / "finetune").glob(".*.work/last.ckpt")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == CODES[number], errors
    assert [line for line in errors.splitlines() if f"stopped by {number.name} in epoch" in line] == errors.splitlines()
    code, out, err = cli(*command)
    assert code == 0, err
    assert "resuming" in out
    assert_same(cli.made("finetune"), alone)


def with_a_flipped_bit(path: Path) -> bytes:
    """Content of a file of `torch.save`, changed in its largest tensor: bytes between the entries mean nothing."""
    with zipfile.ZipFile(path) as file:
        largest = max(file.infolist(), key=lambda one: one.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + largest.file_size // 2 + 100] ^= 1
    return bytes(content)


def test_damaged_working_files_are_one_line(training: Training) -> None:
    """A flipped byte, a file that is cut off, curves that are no json: refused with the command that starts anew."""
    command, cli = (*SCRATCH, "finetune.epochs=6"), training.cli
    process = Forked(*command, "callbacks.checkpoint.every_n_minutes=0", f"paths.outputs={cli.outputs}")
    while not list((cli.outputs / "artifacts" / "finetune").glob(".*.work/last.ckpt")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=120)
    (checkpoint,) = (cli.outputs / "artifacts" / "finetune").glob(".*.work/last.ckpt")
    whole = checkpoint.read_bytes()
    for content in (with_a_flipped_bit(checkpoint), whole[:-1000], b""):
        checkpoint.write_bytes(content)
        cli.refuses(*command, says=("last.ckpt is damaged", f"Fix: rm -rf {checkpoint}"))
    checkpoint.write_bytes(whole)
    for text in ("[{", "{}", "[3]"):
        (history := checkpoint.with_name("history.json")).write_text(text)
        cli.refuses(*command, says=("history.json is damaged", f"Fix: rm {history}"))
    history.unlink()
    assert cli(*command)[0] == 0


def test_damaged_weights_of_the_best_epoch_are_one_line(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = ("finetune.keep=best_validation", "data.validation_images=4")
    command, cli = (*SCRATCH, *keep, "finetune.epochs=2", "callbacks.checkpoint.every_n_epochs=1"), training.cli
    with monkeypatch.context() as patch:
        patch.setattr("mindeye_pl.training.fit.weights_of_best", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cli(*command)
    (best,) = (cli.outputs / "artifacts" / "finetune").glob(".*.work/best_validation.ckpt")
    whole = best.read_bytes()
    for content in (with_a_flipped_bit(best), whole[:-1000], b""):
        best.write_bytes(content)
        cli.refuses(*command, says=("best_validation.ckpt is damaged", "Fix: rm -rf", "last.ckpt", str(best)))
    best.unlink()
    cli.refuses(*command, says=("best_validation.ckpt is damaged", "No such file"))
    best.write_bytes(whole)
    assert cli(*command)[0] == 0


def test_checkpoints_of_parts(tmp_path: Path) -> None:
    """As FSDP and DeepSpeed write them: a part of another checkpoint, a changed one, a missing one."""
    folder, state = tmp_path / "last.ckpt", {"weights": torch.arange(600.0), "step": torch.tensor(3)}
    distributed_checkpoint.save(state, checkpoint_id=folder, no_dist=True)
    write_checksums(folder)
    check_checkpoints([folder])
    (part,) = folder.glob("*.distcp")
    whole = part.read_bytes()
    changed = whole[:900] + bytes([whole[900] ^ 1]) + whole[901:]
    for content in (changed, whole[:-10]):
        part.write_bytes(content)
        with pytest.raises(UserError, match=rf"last\.ckpt is damaged.*{part.name} has .*Fix: rm -rf {folder} starts"):
            check_checkpoints([folder])
    part.unlink()
    with pytest.raises(UserError, match=f"{part.name} is missing"):
        check_checkpoints([folder])
    part.write_bytes(whole)
    check_checkpoints([folder])
    (folder / "manifest.json").unlink()  # killed while the first checkpoint was written
    with pytest.raises(UserError, match=r"last\.ckpt is damaged"):
        check_checkpoints([folder])


def test_killed_while_the_artifact_is_finished(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last epoch, while the files are hashed: nothing is trained again."""
    command, cli = (*SCRATCH, "finetune.epochs=2"), training.cli
    alone = training.undisturbed(*command)

    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr("mindeye_pl.steps.brain.finetune.write_kept_scores", die)
        process = Forked(*command, f"paths.outputs={cli.outputs}")
        process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    (work,) = (cli.outputs / "artifacts" / "finetune").glob(".*.work")
    for name, texts in {"trained.json": ("{", "{}", "[3]"), "history.json": ("[{", "[{}]", "{}")}.items():
        whole = (work / name).read_text()
        for text in texts:
            (work / name).write_text(text)
            cli.refuses(*command, says=(f"{name} is damaged", f"Fix: rm {work / name}"))
        (work / name).write_text(whole)
    code, out, err = cli(*command)
    assert code == 0, err
    assert "epoch 1 of 2" not in out
    assert "step " not in out
    assert_same(cli.made("finetune"), alone)
