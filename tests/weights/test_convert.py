"""Tensors out of checkpoints that hold more, without a line of the file being run."""

import argparse
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from mindeye_pl.errors import UserError
from mindeye_pl.weights.convert import convert, main
from mindeye_pl.weights.files import read_state


class Malice:
    """A pickle that would leave a file if it were executed."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self.target,)


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    shared = torch.randn(4, 4)
    return {"a.weight": shared, "a.tied": shared, "b": torch.arange(3), "c": torch.randn(2).half(), "d": shared.T}


def checkpoint(path: Path, tensors: dict[str, torch.Tensor], **more: object) -> Path:
    content = {"state_dict": tensors, "hyper_parameters": argparse.Namespace(lr=1e-3, path=path), **more}
    torch.save(content, path)
    return path


def test_every_tensor_comes_out_as_it_was(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "unclip.ckpt", tensors, callbacks={Malice: [Malice(tmp_path / "no")]})
    target = tmp_path / "unclip.safetensors"
    assert convert(source, target) == len(tensors)
    found = load_file(target)
    assert found.keys() == tensors.keys()
    for key, value in tensors.items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], value)
    with safe_open(str(target), framework="pt") as file:
        assert len(file.metadata()["sha256"]) == 64
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert read_state(target).keys() == tensors.keys()


@pytest.mark.parametrize("old_format", [False, True])
def test_code_is_not_executed(tensors: dict[str, torch.Tensor], tmp_path: Path, old_format: bool) -> None:
    trace, source = tmp_path / "executed", tmp_path / "last.pth"
    content = {"model_state_dict": tensors, "hook": Malice(trace)}
    torch.save(content, source, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(UserError, match="was not executed") as refused:
        read_state(source)
    assert f"python -m mindeye_pl.weights.convert {source}" in str(refused.value)
    convert(source, tmp_path / "last.safetensors")
    assert not trace.exists()
    pickle.loads(pickle.dumps(Malice(trace)))  # it would have
    assert trace.exists()


def test_other_files_are_refused_as_checkpoints(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": 1}}, tmp_path / "empty.ckpt")
    with pytest.raises(UserError, match="no state dict"):
        convert(tmp_path / "empty.ckpt", tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"ends in \.safetensors"):
        convert(tmp_path / "empty.ckpt", tmp_path / "a.pt")


def test_the_command(tensors: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = checkpoint(tmp_path / "unclip.ckpt", tensors)
    main([str(source), str(tmp_path / "out.safetensors")])
    assert "5 tensors" in capsys.readouterr().out
    (tmp_path / "file").touch()
    for arguments in (
        [tmp_path / "none.ckpt", tmp_path / "out.safetensors"],
        [source, tmp_path / "file" / "a.safetensors"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(list(map(str, arguments)))
        assert stop.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
