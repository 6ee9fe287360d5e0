"""The gradients of the whole MindEye2 after the all-reduce of two processes are those of one process.

Whatever is drawn is handed in: which voxels are mixed, the prior's times and noise; nothing is dropped.

Legend: b trials of one subject on one rank, S tokens, D token width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from mindeye_pl.losses.mixco import MixCo
from mindeye_pl.models import mindeye
from mindeye_pl.models.mindeye import MindEye2
from mindeye_pl.models.objectives import Objective
from mindeye_pl.models.parts.low_level import LowLevel
from mindeye_pl.nn.brain.low_level import LowLevelHead
from mindeye_pl.types import BrainBatch
from tests.distributed.two_ranks import on_two_ranks
from tests.models.tiny import alignment, mixer, prior

VOXELS = (9, 7)
SHARE = 5  # b
EPOCHS = {"mixco": 0, "softclip": 9}

#: negatives, phase, subjects, permutation and diagonal. What is published mixes up subjects by their place in the
#: batch, which two ranks lay out otherwise than one: with one subject it is the same, with more only `corrected` is.
CASES = [
    ("local", "mixco", 2, "published"),
    ("local", "softclip", 2, "published"),
    ("gathered", "mixco", 1, "published"),
    ("gathered", "mixco", 2, "corrected"),
    ("gathered", "softclip", 2, "published"),
]


@dataclass
class Shard:
    """Data and random draws of one process in a step; rows are in the order of subjects."""

    batch: BrainBatch
    mixing: MixCo
    times: Tensor
    noise: Tensor


def shard(rank: int, subjects: int, rule: str) -> Shard:
    rng = torch.Generator().manual_seed(rank)
    rows, sizes = SHARE * subjects, (SHARE,) * subjects
    batch = BrainBatch(
        [torch.randn(SHARE, VOXELS[subject], generator=rng) for subject in range(subjects)],
        list(range(subjects)),
        torch.arange(rows),
        {
            "tokens": torch.randn(rows, 4, 16, generator=rng),
            "latents": torch.randn(rows, 4, 64, generator=rng),
            "maps": torch.randn(rows, 2 * 4, 512, generator=rng),
        },
    )
    partner = torch.cat([torch.randperm(SHARE, generator=rng) for _ in sizes])
    mixing = MixCo(partner, torch.rand(rows, generator=rng), sizes, rule, rule)
    times = torch.randint(100, (rows,), generator=rng)
    return Shard(batch, mixing, times, torch.randn(rows, 4, 16, generator=rng))


def whole(first: Shard, second: Shard) -> Shard:
    """The step of one process with both shares: each subject's rows side by side."""
    subjects = len(first.batch.voxels)

    def rows(of_first: Tensor, of_second: Tensor) -> Tensor:
        parts = zip(of_first.split(SHARE), of_second.split(SHARE), strict=True)
        return torch.cat([part for pair in parts for part in pair])

    one, other = first.batch, second.batch
    batch = BrainBatch(
        [torch.cat(pair) for pair in zip(one.voxels, other.voxels, strict=True)],
        one.subject_index,
        torch.arange(2 * SHARE * subjects),
        {kind: rows(target, other.targets[kind]) for kind, target in one.targets.items()},
    )
    mixing = MixCo(
        rows(first.mixing.partner, second.mixing.partner + SHARE),
        rows(first.mixing.weight, second.mixing.weight),
        (2 * SHARE,) * subjects,
        first.mixing.permutation,
        first.mixing.diagonal,
    )
    return Shard(batch, mixing, rows(first.times, second.times), rows(first.noise, second.noise))


def system(negatives: str) -> MindEye2:
    torch.manual_seed(0)
    model = MindEye2(
        alignment(VOXELS),
        mixer(dropout=0.0),
        LowLevel(LowLevelHead(12, latent_size=8, widths=(8, 8, 16))),
        prior(drop_probability=0.0),
        Objective(negatives=negatives),
    )
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


class Loss(nn.Module):
    """The training loss as the forward pass that data-parallel training wraps."""

    def __init__(self, model: MindEye2):
        super().__init__()
        self.model = model

    def forward(self, taken: Shard, epoch: int) -> Tensor:
        with drawn(self.model, taken):
            return self.model.compute_loss(taken.batch, epoch=epoch, num_epochs=10).total


@contextmanager
def drawn(model: MindEye2, taken: Shard) -> Iterator[None]:
    assert model.prior is not None
    network = model.prior.network
    handed_in = partial(type(network).loss, network, times=taken.times, noise=taken.noise)
    with mock.patch.object(network, "loss", handed_in), mock.patch.object(mindeye, "draw_mixco", mixing_of(taken)):
        yield


def mixing_of(taken: Shard):  # type: ignore[no-untyped-def]
    return lambda sizes, **options: taken.mixing


def gradients(model: MindEye2) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def of_one_rank(rank: int) -> dict[tuple, dict[str, Tensor]]:
    found = {}
    for case in CASES:
        negatives, phase, subjects, rule = case
        loss = Loss(system(negatives))
        parallel = nn.parallel.DistributedDataParallel(loss, find_unused_parameters=True)
        parallel(shard(rank, subjects, rule), EPOCHS[phase]).backward()
        found[case] = gradients(loss.model)
    return found


@pytest.fixture(scope="module")
def of_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple, dict[str, Tensor]]]:
    return on_two_ranks(of_one_rank, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_gradients_of_two_ranks_are_those_of_one(case: tuple, of_two_ranks: list) -> None:
    negatives, phase, subjects, rule = case
    shards = [shard(rank, subjects, rule) for rank in range(2)]
    loss = Loss(system("local"))
    if negatives == "local":  # each share is a batch of its own
        sum(loss(taken, EPOCHS[phase]) / 2 for taken in shards).backward()  # type: ignore[union-attr]
    else:
        loss(whole(*shards), EPOCHS[phase]).backward()
    wanted = gradients(loss.model)
    parts = {name.split(".")[0] for name in wanted}
    assert parts == {"alignment", "backbone", "low_level", "prior"}
    for rank in range(2):
        found = of_two_ranks[rank][case]
        for name, gradient in wanted.items():
            # A bias in front of a norm has a gradient of nothing but rounding.
            close = {"rtol": 1e-5, "atol": 1e-5 * float(gradient.abs().max()) + 1e-7}
            torch.testing.assert_close(found[name], gradient, msg=lambda words, name=name: f"{name}: {words}", **close)


def test_more_wrong_answers_make_another_gradient(of_two_ranks: list) -> None:
    found = of_two_ranks[0]
    local, gathered = found["local", "softclip", 2, "published"], found["gathered", "softclip", 2, "published"]
    for part in ("alignment", "backbone", "low_level"):
        assert any(not torch.allclose(local[n], gathered[n], rtol=1e-2) for n in local if n.startswith(part)), part


def test_one_process_gathers_nothing(tmp_path: Path) -> None:
    taken = shard(0, 2, "published")
    losses = [float(Loss(system(negatives))(taken, 0).detach()) for negatives in ("local", "gathered")]
    assert losses[0] == losses[1]
