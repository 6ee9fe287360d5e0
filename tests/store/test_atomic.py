"""A name holds the old file or the whole new one, whatever stops the writer."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mindeye_pl.errors import UserError
from mindeye_pl.store import atomic
from mindeye_pl.store.atomic import (
    remove_temporaries,
    replacing,
    temporary_path,
    write_array,
    write_arrays,
    write_json,
    write_stacked,
    write_tensors,
    write_text,
)

WRITES: dict[str, Callable[[Path], None]] = {
    "text": lambda path: write_text(path, "new"),
    "json": lambda path: write_json(path, {"new": 1}),
    "array": lambda path: write_array(path, np.arange(3)),
    "arrays": lambda path: write_arrays(path, {"a": np.arange(3)}),
    "tensors": lambda path: write_tensors(path, {"a": torch.arange(3)}),
}


@pytest.mark.parametrize("how", WRITES)
def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        WRITES[how](path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    WRITES[how](path)
    assert path.read_bytes() != b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("how", WRITES)
def test_others_may_read_what_the_umask_lets_them(tmp_path: Path, how: str) -> None:
    before = os.umask(0o027)
    try:
        WRITES[how](tmp_path / "file")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


KILLED = """
import os, signal, sys
from pathlib import Path
from mindeye_pl.store.atomic import replacing

with replacing(Path(sys.argv[1]), only_writer=sys.argv[2] == "only") as temporary:
    temporary.write_text("new")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("writers", ["only", "several"])
def test_a_killed_writer_keeps_the_old_file(tmp_path: Path, writers: str) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    for _ in range(2):
        command = [sys.executable, "-c", KILLED, str(path), writers]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == (2 if writers == "only" else 3), "the only writer's leftover is overwritten"
    remove_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_values_come_back(tmp_path: Path) -> None:
    write_tensors(tmp_path / "t", {"a": torch.arange(3)}, {"sizes": "3"})
    assert torch.equal(load_file(tmp_path / "t")["a"], torch.arange(3))
    with safe_open(str(tmp_path / "t"), framework="pt") as file:
        assert file.metadata() == {"sizes": "3"}
    write_arrays(tmp_path / "n", {"a": np.arange(6).reshape(2, 3).T})
    assert load_file(tmp_path / "n")["a"].tolist() == [[0, 3], [1, 4], [2, 5]]
    write_array(tmp_path / "a.npy", np.arange(3))
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]
    write_text(tmp_path / "text", "é")
    assert (tmp_path / "text").read_bytes() == "é".encode()


def test_folders(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with replacing(folder) as temporary:
        (temporary / "parts").mkdir(parents=True)
        (temporary / "parts" / "a").write_text("a")
        assert not folder.exists()
    assert (folder / "parts" / "a").read_text() == "a"
    with pytest.raises(RuntimeError), replacing(tmp_path / "other") as temporary:  # noqa: PT012
        temporary.mkdir()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == [folder]


def test_writers_at_once_do_not_share_a_temporary_path(tmp_path: Path) -> None:
    with temporary_path(tmp_path / "file") as first, temporary_path(tmp_path / "file") as second:
        assert first != second


def test_import_is_cheap() -> None:
    code = f"import sys, {atomic.__name__}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_many_files_become_one_of_stacked_tensors(tmp_path: Path) -> None:
    parts, made = [], []
    for place in range(3):
        generator = torch.Generator().manual_seed(place)
        tensors = {
            "images": torch.rand(3, 5, 5, generator=generator).half(),
            "stimulus_ids": torch.tensor(place),
            "tokens": torch.rand(2, 3, generator=generator),
            "odd": torch.randint(9, (3,), generator=generator).byte(),
            "latents": torch.rand(2, generator=generator).bfloat16(),
        }
        save_file(tensors, path := tmp_path / f"{place}.safetensors")
        parts.append(path)
        made.append(tensors)
    write_stacked(tmp_path / "all.safetensors", parts)
    found = load_file(tmp_path / "all.safetensors")
    assert found.keys() == made[0].keys()
    for name, rows in found.items():
        assert torch.equal(rows, torch.stack([tensors[name] for tensors in made]))
    save_file({"images": torch.zeros(3, 5, 5)}, parts[2])
    with pytest.raises(UserError, match=r"2\.safetensors is damaged .*other tensors.* Fix: rm "):
        write_stacked(tmp_path / "again.safetensors", parts)
    parts[0].write_bytes(parts[0].read_bytes()[:-1])
    with pytest.raises(UserError, match=r"0\.safetensors is damaged .* Fix: rm "):
        write_stacked(tmp_path / "again.safetensors", parts)
    assert not list(tmp_path.glob("*again*"))
