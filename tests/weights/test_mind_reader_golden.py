"""Mind Reader's published mapper at a small size, through the importer of its checkpoint format."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.brain.voxel_cnn import VoxelCNN
from mindeye_pl.weights.registry import load_published, save_published
from tests.golden import weights as golden
from tests.weights.test_convert import Malice
from tests.weights.test_mindeye2_golden import agree

CASE = Path(golden.__file__).parent / "mind_reader_mapper"


def published_state() -> dict[str, Tensor]:
    """The state dict that the case was recorded with."""
    keys = json.loads((CASE / "keys.json").read_text())
    return {
        key: torch.from_numpy(golden.tensor(keys["salt"], key, tuple(shape))) for key, shape in keys["keys"].items()
    }


def save(folder: Path, state: dict[str, Tensor]) -> Path:
    path = folder / "mapper.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def mapper(tmp_path_factory: pytest.TempPathFactory) -> VoxelCNN:
    mapper = load_published("mind_reader_mapper", save(tmp_path_factory.mktemp("golden"), published_state()))
    assert isinstance(mapper, VoxelCNN)
    return mapper


def test_embedding(mapper: VoxelCNN) -> None:
    io = load_file(CASE / "io.safetensors")
    assert not mapper.training
    agree(mapper.predict(io["voxels"]), io["embedding"])


@pytest.mark.parametrize("name", ["mapper.pth", "mapper.safetensors"])
def test_round_trip(tmp_path: Path, mapper: VoxelCNN, name: str) -> None:
    save_published("mind_reader_mapper", mapper, tmp_path / name)
    written = load_file(tmp_path / name) if name.endswith("safetensors") else torch.load(tmp_path / name)
    state = published_state()
    assert written.keys() == state.keys()
    assert all(torch.equal(written[key], value) for key, value in state.items())
    again = load_published("mind_reader_mapper", tmp_path / name).state_dict()
    assert all(torch.equal(again[key], value) for key, value in mapper.state_dict().items())


def test_other_numbers_of_stems_and_blocks_are_read_off(tmp_path: Path) -> None:
    other = VoxelCNN(40, 5, channels=3, num_stems=2, num_blocks=1, hidden_dim=4, sigmoid=True).eval()
    path = tmp_path / "map.pth"
    save_published("mind_reader_mapper", other, path)
    block = [f"encoder.2.net.{layer}" for layer in (0, 2, 4)]
    layers = {key.rpartition(".")[0] for key in torch.load(path)}
    assert layers == {"encoder.0.0", "encoder.1.0", *block, "encoder.3", "fc.1", "fc.3"}
    voxels = torch.randn(2, 38)
    torch.testing.assert_close(
        load_published("mind_reader_mapper", path, sigmoid=True).predict(voxels), other.predict(voxels)
    )
    plain = load_published("mind_reader_mapper", path)
    torch.testing.assert_close(plain.predict(voxels).sigmoid(), other.predict(voxels))


def test_float64_files_are_read(tmp_path: Path, mapper: VoxelCNN) -> None:
    path = save(tmp_path, {key: value.double() for key, value in published_state().items()})
    voxels = torch.randn(2, 64)
    assert torch.equal(load_published("mind_reader_mapper", path).predict(voxels), mapper.predict(voxels))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda state: state.update(extra=torch.ones(1)), r"no Mind Reader mapper .*got: extra; .*encoder, fc"),
        (lambda state: state.pop("encoder.0.0.weight"), r"no Mind Reader mapper .*got: encoder\.0\.0\.bias"),
        (lambda state: state.pop("fc.1.weight"), r"expected: fc\.1\.weight"),
        (lambda state: state.pop("encoder.3.net.2.bias"), r"blocks\.2\.net\.2\.bias \(got: missing"),
        (lambda state: state.update({"fc.3.weight": torch.ones(2, 12, 1)}), r"got: \(2, 12\); expected: \(1, 12\)"),
        (lambda state: state.update({"fc.1.weight": torch.ones(12, 32)}), r"fc\.1\.weight of shape \(12, 32\)"),
    ],
)
def test_another_architecture_is_named(tmp_path: Path, spoil: Callable[[dict[str, Tensor]], object], says: str) -> None:
    state = published_state()
    spoil(state)
    with pytest.raises(UserError, match=says):
        load_published("mind_reader_mapper", save(tmp_path, state))


def test_code_is_not_executed(tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    torch.save(published_state() | {"hook": Malice(trace)}, tmp_path / "mapper.pth")
    with pytest.raises(UserError, match="was not executed"):
        load_published("mind_reader_mapper", tmp_path / "mapper.pth")
    assert not trace.exists()
