"""MindEye2 checkpoints of subject 2 alone, as other people save them: wrapped, bare, in half precision, incomplete."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.models.mindeye import MindEye2
from mindeye_pl.training.checkpoints import load_weights, read_weights
from mindeye_pl.weights.formats.renaming import without_wrappers
from mindeye_pl.weights.registry import load_published, load_published_system
from tests.weights.test_mindeye2_golden import published_state

VOXELS = 23


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """The published names and shapes with one ridge, of subject 2's voxels."""
    state = {key: value for key, value in published_state().items() if not key.startswith("ridge.linears.1.")}
    generator = torch.Generator().manual_seed(0)
    width = len(state["ridge.linears.0.weight"])
    return state | {"ridge.linears.0.weight": torch.randn(width, VOXELS, generator=generator)}


@pytest.fixture(scope="module")
def model(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> MindEye2:
    path = tmp_path_factory.mktemp("subject2") / "last.pth"
    torch.save({"model_state_dict": state}, path)
    return load_published("mindeye2", path)


def prefixed(state: dict[str, Tensor], prefix: str, *, below: str = "") -> dict[str, Tensor]:
    return {f"{below}{prefix}{key.removeprefix(below)}" if key.startswith(below) else key: state[key] for key in state}


def training(state: dict[str, Tensor]) -> dict[str, object]:
    """A checkpoint of the published training, with the state of a real optimiser and schedule."""
    parameters = [torch.nn.Parameter(value.clone()) for value in list(state.values())[:3]]
    optimizer = torch.optim.AdamW(parameters)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=5)
    torch.stack([parameter.square().sum() for parameter in parameters]).sum().backward()
    optimizer.step()
    states = {"optimizer_state_dict": optimizer.state_dict(), "lr_scheduler": schedule.state_dict()}
    return {"epoch": 149, "model_state_dict": state, "train_losses": [1.0], "lrs": [0.1], **states}


SAVED: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "inference only": lambda state: {"model_state_dict": state},
    "state dict": lambda state: state,
    "whole training": training,
    "torch.compile": lambda state: {"model_state_dict": prefixed(state, "_orig_mod.")},
    "compiled backbone": lambda state: {"model_state_dict": prefixed(state, "_orig_mod.", below="backbone.")},
    "data parallel": lambda state: {"model_state_dict": prefixed(state, "module.")},
    "compiled in parallel": lambda state: {"model_state_dict": prefixed(state, "module._orig_mod.")},
    "parallel, then compiled": lambda state: prefixed(state, "_orig_mod.module."),
}


@pytest.mark.parametrize("kind", SAVED)
def test_every_way_to_save_gives_the_same_model(
    kind: str, state: dict[str, Tensor], model: MindEye2, tmp_path: Path
) -> None:
    torch.save(SAVED[kind](state), path := tmp_path / "last.pth")
    weights = read_weights(path)
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    assert load_published_system(path).voxel_counts == [VOXELS]


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_safetensors_of_the_published_names(
    prefix: str, state: dict[str, Tensor], model: MindEye2, tmp_path: Path
) -> None:
    save_file(prefixed(state, prefix), path := tmp_path / "last.safetensors")
    for weights in (read_weights(path), load_published("mindeye2", path).state_dict()):
        assert weights.keys() == model.state_dict().keys()
        assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())


def test_safetensors_of_this_project_are_read_as_before(model: MindEye2, tmp_path: Path) -> None:
    own = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(own, path := tmp_path / "model.safetensors")
    weights = read_weights(path)
    assert weights.keys() == own.keys()
    assert all(torch.equal(weights[key], value) for key, value in own.items())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 5e-3), (torch.bfloat16, 5e-2)])
def test_half_precision(
    dtype: torch.dtype, tolerance: float, state: dict[str, Tensor], model: MindEye2, tmp_path: Path
) -> None:
    torch.save({"model_state_dict": {key: value.to(dtype) for key, value in state.items()}}, tmp_path / "half.pth")
    half = load_published("mindeye2", tmp_path / "half.pth")
    assert {value.dtype for value in half.state_dict().values() if value.is_floating_point()} == {torch.float32}
    voxels = torch.randn(3, VOXELS, generator=torch.Generator().manual_seed(1))
    exact, rounded = model.predict(voxels).tokens, half.predict(voxels).tokens
    assert (exact - rounded).norm() < tolerance * exact.norm()
    assert half.prior is not None
    assert model.prior is not None
    for name, table in model.prior.network.schedule.state_dict().items():
        assert torch.equal(half.prior.network.schedule.state_dict()[name], table), "the schedule is not rounded"


def test_a_missing_part_is_named(state: dict[str, Tensor], model: MindEye2, tmp_path: Path) -> None:
    for part, published in {"prior": "diffusion_prior.", "low_level": "backbone.b"}.items():
        left = {key: v for key, v in state.items() if not key.startswith(published) or "backbone_linear" in key}
        torch.save(left, path := tmp_path / f"{part}.pth")
        assert part not in load_published_system(path).parts(), "it is a model without that part"
        with pytest.raises(UserError, match=rf"{part}\.pth has no {part}: .*fix|{part}\.pth has no {part}") as error:
            load_weights(model, read_weights(path), path)
        assert f"{part}=none" in str(error.value)
        assert "\n" not in str(error.value)
        with pytest.raises(UserError, match=f"the configured model has not: {part}"):
            load_weights(load_published_system(path), model.state_dict(), path)


def test_an_extra_module_is_refused_by_its_first_weight(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"model_state_dict": state | {"semantic_head.weight": torch.zeros(2, 2)}}, path := tmp_path / "last.pth")
    with pytest.raises(UserError, match=r"no MindEye2 checkpoint.*semantic_head\.weight"):
        read_weights(path)


def test_a_state_dict_below_another_name_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"net": state, "step": 3}, path := tmp_path / "last.pth")
    with pytest.raises(UserError, match=r"holds no state dict.*net.*model_state_dict"):
        read_weights(path)


def test_names_that_would_become_one_keep_their_prefix() -> None:
    one = torch.zeros(1)
    both = {"a.weight": one, "_orig_mod.a.weight": one}
    assert without_wrappers(both).keys() == both.keys()
    assert without_wrappers({"module.a": one, "b": one}).keys() == {"module.a", "b"}, "not all are wrapped"
    assert without_wrappers({"module.module.a": one}).keys() == {"a"}
    assert without_wrappers({}) == {}
