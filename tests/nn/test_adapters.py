"""Adapters start without an effect, learn alone, and are merged into the weights that they stand for."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from mindeye_pl.errors import UserError
from mindeye_pl.nn import adapters
from mindeye_pl.nn.adapters import LowRank, add_adapters, full_ranks, merge_adapters
from mindeye_pl.nn.brain.alignment import PerSubject
from tests.models.tiny import low_level, mapper, mixer, prior, residual_mlp, separate_low_level

VOXELS = (9, 7)
LOW_RANK = LowRank(rank=3, alpha=6.0)


def denoised(network: nn.Module) -> Tensor:
    tokens = torch.linspace(-1, 1, 2 * 2 * 4 * 16).view(2, 2, 4, 16)
    return network.denoise(tokens[0], torch.tensor([3, 50]), tokens[1])


def rows(width: int) -> Tensor:
    return torch.linspace(-1, 1, 5 * width).view(5, width)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Tensor]]] = {
    "mixer": (lambda: mixer(mixer="corrected").network, lambda one: one(rows(12))[1]),
    "residual_mlp": (lambda: residual_mlp().network, lambda one: one(rows(12))[1]),
    "prior": (lambda: prior().network, denoised),
    "low_level": (lambda: low_level(latent_size=8).network, lambda one: one(rows(12))[0]),
    "separate": (lambda: separate_low_level(VOXELS).network, lambda one: one.head(one.hidden(rows(7), 1))[0]),
    "mapper": (lambda: mapper(VOXELS).network, lambda one: one(rows(7), 1)),
}


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r'not installed.*pip install "mindeye_pl\[adapters\]"'):
        add_adapters(mixer().network, LOW_RANK)


def test_layers_of_single_subjects_are_not_shared() -> None:
    assert set(full_ranks(mapper(VOXELS).network)) < {
        name for name, one in mapper(VOXELS).network.named_modules() if isinstance(one, nn.Linear)
    }
    ranks = full_ranks(separate_low_level(VOXELS).network)
    assert not any(name.startswith("alignment") for name in ranks)
    assert ranks["mlp.blocks.0.0"] == 12


@pytest.mark.parametrize("name", NETWORKS)
def test_adapters_from_start_to_merge(name: str) -> None:
    pytest.importorskip("peft")
    make, read = NETWORKS[name]
    torch.manual_seed(0)
    network = make().eval()
    plain, before = deepcopy(network), read(network).detach()
    add_adapters(network, LOW_RANK)
    torch.testing.assert_close(read(network).detach(), before, msg="B is zero")

    learning = {key: value for key, value in network.named_parameters() if value.requires_grad}
    own = tuple(f"{key}." for key, one in plain.named_modules() if isinstance(one, PerSubject))
    of_subjects = {key for key in learning if ".lora_" not in key}
    assert of_subjects == {key for key, _ in plain.named_parameters() if key.startswith(own)}
    torch.manual_seed(1)
    with torch.no_grad():
        for value in learning.values():
            value.normal_(std=0.3)
    for layer, full in full_ranks(plain).items():
        down, up = (learning[f"{layer}.lora_{matrix}.default.weight"].detach() for matrix in "AB")
        assert len(down) == up.shape[1] == min(LOW_RANK.rank, full)
        weight = plain.get_submodule(layer).weight
        weight.data += LOW_RANK.alpha / LOW_RANK.rank * up @ down  # a second implementation
    plain.load_state_dict({key: learning[key].detach() for key in of_subjects}, strict=False)

    unmerged = read(network).detach()
    assert not torch.allclose(unmerged, before)
    merge_adapters(network)
    assert vars(network).keys() == vars(plain).keys()
    assert [key for key, _ in network.named_parameters()] == [key for key, _ in plain.named_parameters()]
    torch.testing.assert_close(read(network), unmerged, rtol=1e-4, atol=1e-5)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[key], msg=key)


def test_dropout_acts_on_adapters_alone() -> None:
    pytest.importorskip("peft")
    torch.manual_seed(0)
    network = residual_mlp(stem_dropout=0.0, dropout=0.0).network
    before = network(rows(12))[0].detach()
    add_adapters(network, LowRank(rank=2, alpha=2.0, dropout=0.5))
    assert torch.equal(network(rows(12))[0], before)
    for key, value in network.named_parameters():
        if ".lora_B." in key:
            nn.init.ones_(value)
    assert not torch.equal(network(rows(12))[0], network(rows(12))[0])
