"""The published encoding model, through the importer of its checkpoint format."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.features.gnet import GNet
from mindeye_pl.weights.formats.gnet import FORMAT
from mindeye_pl.weights.registry import load_published
from tests.golden import weights as golden
from tests.weights.test_convert import Malice
from tests.weights.test_mindeye2_golden import agree

CASE = Path(golden.__file__).parent / "gnet_small"
SUBJECTS = (1, 7)


def part(name: str) -> dict[str, Tensor]:
    keys = json.loads((CASE / "keys.json").read_text())[name]
    state = {
        key: torch.from_numpy(golden.tensor(keys["salt"], key, tuple(shape))) for key, shape in keys["keys"].items()
    }
    if name == "readout":
        state["w"] *= 30
    return {key: value.long() if key.endswith("num_batches_tracked") else value for key, value in state.items()}


def joined() -> dict[str, Any]:
    """The content of a published file: subject 1 is the golden case, subject 7 has fewer voxels."""
    encoder, readout = part("enc"), part("readout")
    fewer = {key: value[:3].clone() for key, value in readout.items()}
    counts = {1: 7, 7: 3}
    return {
        "best_params": {"enc": encoder, "fwrfs": {1: readout, 7: fewer}},
        "final_params": {"enc": {key: torch.zeros_like(value) for key, value in encoder.items()}},
        "best_epoch": np.int64(30),
        "input_mean": encoder["mu"].numpy(),
        "val_cc": {s: np.linspace(0, 0.6, n, dtype=np.float32) for s, n in counts.items()},
        "voxel_mask": {s: np.arange(60) % 8 < 1 for s in counts},
        "voxel_roi": {s: np.arange(n, dtype=np.float64) for s, n in counts.items()},
        "voxel_index": {s: [np.arange(n)] for s, n in counts.items()},
        "brain_nii_shape": {s: np.array([3, 4, 5]) for s in counts},
    }


def save(path: Path, content: dict[str, Any], **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("golden") / "gnet_multisubject.pt", joined())


@pytest.fixture(scope="module")
def io() -> dict[str, Tensor]:
    return load_file(CASE / "io.safetensors")


@pytest.fixture(scope="module")
def gnet(path: Path) -> GNet:
    return load_published("gnet", path)


@torch.no_grad()
def test_betas(gnet: GNet, io: dict[str, Tensor]) -> None:
    assert not gnet.training
    fine, coarse = gnet.encoder(io["images"])
    agree(fine.mean((2, 3)), io["maps0_mean"])
    agree(coarse.mean((2, 3)), io["maps1_mean"])
    agree(gnet(io["images"], 1), io["betas"])
    agree(gnet(io["images"], 7), io["betas"][:, :3])


def test_subjects_and_their_voxels(gnet: GNet, path: Path) -> None:
    assert gnet.subjects == [1, 7]
    assert [len(gnet.readouts[str(subject)].bias) for subject in SUBJECTS] == [7, 3]


@pytest.mark.parametrize("old_format", [False, True])
def test_code_is_not_executed_and_the_weights_are_read(tmp_path: Path, io: dict[str, Tensor], old_format: bool) -> None:
    trace = tmp_path / "executed"
    content = joined() | {"hook": Malice(trace), "settings": argparse.Namespace(trunk_width=64)}
    path = save(tmp_path / "gnet.pt", content, _use_new_zipfile_serialization=not old_format)
    gnet = load_published("gnet", path)
    with torch.no_grad():
        agree(gnet(io["images"], 1), io["betas"])
    assert not trace.exists()


def test_plain_state_dicts_are_accepted(tmp_path: Path, gnet: GNet, path: Path) -> None:
    save_file(FORMAT.read(path), tmp_path / "gnet.safetensors")
    again = load_published("gnet", tmp_path / "gnet.safetensors").state_dict()
    for key, value in gnet.state_dict().items():
        torch.testing.assert_close(again[key], value, rtol=0, atol=0)


def test_the_mean_comes_from_the_file_where_the_encoder_has_none(tmp_path: Path, gnet: GNet) -> None:
    content = joined()
    del content["best_params"]["enc"]["mu"]
    loaded = load_published("gnet", save(tmp_path / "gnet.pt", content))
    assert torch.equal(loaded.encoder.mean, gnet.encoder.mean)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda params: params["enc"].update(extra=torch.ones(1)), r"got: enc\.extra"),
        (lambda params: params["fwrfs"][7].update(rf2=torch.ones(3, 2, 2)), r"fields\.2"),
        (lambda params: params["enc"].pop("enc.conv4a.conv1.bias"), r"fine\.0\.conv\.bias \(got: missing"),
        (
            lambda params: params["enc"].pop("enc.conv3.weight"),
            r"no GNet checkpoint .*expected: enc\.enc\.conv3\.weight",
        ),
        (
            lambda params: params["fwrfs"][1].update(w=torch.ones(7, 500)),
            r"weight \(got: \(7, 500\); expected: \(7, 512\)",
        ),
        (lambda params: params.pop("fwrfs"), "has no voxels"),
        (lambda params: params["enc"].update(name="gnet"), r"enc\.name is no tensor"),
    ],
)
def test_another_architecture_is_named(tmp_path: Path, spoil: Callable[[dict[str, Any]], object], says: str) -> None:
    content = joined()
    spoil(content["best_params"])
    with pytest.raises(UserError, match=says):
        load_published("gnet", save(tmp_path / "gnet.pt", content))


def test_other_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_published("gnet", tmp_path / "none.pt")
    with pytest.raises(UserError, match=r"no GNet checkpoint .*got: \['state_dict'\]"):
        load_published("gnet", save(tmp_path / "other.pt", {"state_dict": {"a": torch.ones(1)}}))
    whole = save(tmp_path / "whole.pt", joined()).read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="is damaged"):
        load_published("gnet", tmp_path / "cut.pt")
