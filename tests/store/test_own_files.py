"""Damaged files of the project: one line with the fix, or made again."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindeye_pl.errors import UserError
from mindeye_pl.store.artifacts import FACTS, Artifact, ArtifactSpec, ArtifactStore
from mindeye_pl.store.atomic import write_arrays, write_json
from mindeye_pl.store.own_files import (
    holds_tensors,
    opened_tensors,
    read_arrays,
    read_json,
    read_or_make,
    read_tensors,
    run_again,
)


def opened(path: Path, *, fix: str | None = None) -> Any:
    with opened_tensors(path, fix=fix) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def write(path: Path) -> None:
    if path.suffix == ".json":
        write_json(path, {"a": [0.1, float("nan"), 3]})
    else:
        write_arrays(path, {"a": np.array([0.1, np.nan, 3])})


READERS: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("a.json", read_json),
    ("a.safetensors", read_tensors),
    ("a.safetensors", read_arrays),
    ("a.safetensors", opened),
)


@pytest.mark.parametrize(("name", "read"), READERS)
def test_damaged_files(tmp_path: Path, name: str, read: Callable[..., Any]) -> None:
    path = tmp_path / name
    with pytest.raises(FileNotFoundError):
        read(path)
    write(path)
    np.testing.assert_array_equal(read(path)["a"], [0.1, np.nan, 3])
    assert holds_tensors(path) == (path.suffix != ".json")
    for content in (path.read_bytes()[:-5], b"", b"\xff" * 40, b"[" * 100_000, b"3"):
        path.write_bytes(content)
        assert not holds_tensors(path)
        with pytest.raises(UserError, match=f"{name} is damaged .*Fix: rm -r {tmp_path}, and run again"):
            read(path)
        with pytest.raises(UserError, match=f"Fix: rm {path}, and run again"):
            read(path, fix=run_again(path))
        made: list[Path] = []
        again = read_or_make(path, read, lambda made=made: (made.append(path), write(path)))  # type: ignore[misc]
        np.testing.assert_array_equal(again["a"], [0.1, np.nan, 3])
        assert made == [path]
        read_or_make(path, read, lambda: pytest.fail("the file is there"))
    path.unlink()
    os.mkfifo(path)
    assert not holds_tensors(path)
    with pytest.raises(UserError, match="got: a named pipe"):
        read(path)


def test_json_of_another_kind(tmp_path: Path) -> None:
    write_json(path := tmp_path / "a.json", {"a": "text"})
    for kind in (list[str], dict[str, int], dict[str, list[Any]]):
        with pytest.raises(UserError, match=r"a\.json is damaged .*valid"):
            read_json(path, kind)
    assert read_json(path, dict[str, str]) == {"a": "text"}


def finished(root: Path, facts: str | None = None) -> Artifact:
    store, spec = ArtifactStore(root), ArtifactSpec("evaluate", "subj01", {"a": 1})
    with store.making(spec) as work:
        assert work is not None
        write_json(work / "scores.json", {"rows": [0.5]})
        if facts is not None:
            (work / FACTS).write_text(facts)
    artifact = store.find(spec)
    assert artifact is not None
    return artifact


def test_json_of_a_finished_artifact_is_compared_with_its_checksum(tmp_path: Path) -> None:
    path = finished(tmp_path).folder / "scores.json"
    assert read_json(path) == {"rows": [0.5]}
    whole = path.read_text()
    for changed in (whole.replace("rows", "raws"), whole.replace("0.5", "0.4")):
        path.write_text(changed)
        with pytest.raises(UserError, match=rf"scores\.json is damaged .*checksum.*Fix: rm -r {path.parent}, and run"):
            read_json(path)


def test_damaged_facts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"facts\.json is damaged .*Fix: rm .*facts\.json, and run again"):
        finished(tmp_path, facts="{")
    assert finished(tmp_path, facts='{"a": 1}').manifest["facts"] == {"a": 1}
