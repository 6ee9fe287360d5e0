"""Released files: where they are found, and how one that is not whole is refused."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from mindeye_pl.errors import UserError
from mindeye_pl.weights.locate import download_command, find_weights, verify
from tests.conftest import CommandLine


def released(**changes: object) -> SimpleNamespace:
    entry = {"repository": "owner/name", "repository_type": "model", "file": "weights.safetensors"}
    return SimpleNamespace(**(entry | {"bytes": None, "sha256": None} | changes))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.arange(100.0)}, str(path))
    return path


@pytest.mark.parametrize("place", ["owner/name", "name", "."])
def test_found_by_folder(tmp_path: Path, place: str) -> None:
    path = tmp_path / place / "weights.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert find_weights(released(), tmp_path) == path


def test_not_found_without_asking_the_network(tmp_path: Path) -> None:
    assert find_weights(released(repository="owner/nothing-of-this-name"), tmp_path) is None


def test_command_says_the_kind_of_repository() -> None:
    assert download_command(released()) == "hf download owner/name weights.safetensors"
    assert download_command(released(repository_type="dataset")).endswith("--repo-type dataset")


def test_whole_file_with_its_checksum(weights: Path) -> None:
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    verify(released(sha256=digest, bytes=weights.stat().st_size), weights)


def test_wrong_checksum(weights: Path) -> None:
    with pytest.raises(UserError, match=r"another checksum .* hf download owner/name"):
        verify(released(sha256="0" * 64), weights)


def test_truncated_download(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UserError, match="not whole"):
        verify(released(), weights)


def test_truncated_torch_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.arange(100.0)}, path)
    verify(released(), path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="not whole"):
        verify(released(), path)


def test_check_weights_names_every_missing_file(cli: CommandLine, tmp_path: Path) -> None:
    code, out, _ = cli("pipeline=check_weights", f"paths.weights={tmp_path}")
    assert code == 0
    for name in ("openclip_bigg", "unclip", "sd_vae", "convnext", "bigg_to_l", "git_large_coco", "sdxl_base"):
        assert f"{name}: hf download " in out


def test_check_weights_refuses_a_truncated_file(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "bigG_to_L_epoch8.pth").write_bytes(b"PK\x03\x04 the rest never came")
    cli.refuses("pipeline=check_weights", f"paths.weights={tmp_path}", says=("bigG_to_L_epoch8.pth", "not whole"))
