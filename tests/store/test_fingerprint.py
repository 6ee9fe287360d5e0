"""Digests of whole files, remembered while the file stays as it is; names of folders made of any text."""

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindeye_pl.store import fingerprint as module
from mindeye_pl.store.fingerprint import CACHE, fingerprint_file, folder_name, folders_of


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_SETTLED_AFTER_NS", 0)
    return tmp_path / "cache" / "fingerprints"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read, in order."""
    read, digest = list[Path](), module._digest
    monkeypatch.setattr(module, "_digest", lambda path: (read.append(path), digest(path))[1])
    return read


def write(path: Path, megabytes: int = 2) -> Path:
    path.write_bytes(b"brain" * (megabytes * 1024 * 1024 // 5 + 1))
    return path


def test_a_digest_is_that_of_the_content(tmp_path: Path, cache: Path) -> None:
    for size in (0, 1):
        path = write(tmp_path / f"{size}", size)
        assert fingerprint_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_large_file_is_read_once(tmp_path: Path, cache: Path, reads: list[Path]) -> None:
    path = write(tmp_path / "betas")
    first = fingerprint_file(path)
    assert fingerprint_file(path) == fingerprint_file(tmp_path / "." / "betas") == first
    assert len(reads) == len(list(cache.iterdir())) == 1


def test_a_correction_in_place_is_noticed(tmp_path: Path, cache: Path, reads: list[Path]) -> None:
    """One byte anywhere, the size and even the time of change as before."""
    path = write(tmp_path / "betas")
    before, times = fingerprint_file(path), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    with path.open("r+b") as file:
        file.seek(777_777)
        file.write(b"X")
    os.utime(path, ns=times)
    assert fingerprint_file(path) != before
    assert len(reads) == 2


def test_a_file_that_has_just_changed_is_not_remembered(
    tmp_path: Path, cache: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SETTLED_AFTER_NS", 3_600_000_000_000)
    path = write(tmp_path / "betas")
    assert fingerprint_file(path) == fingerprint_file(path)
    assert len(reads) == 2
    assert not cache.exists()


@pytest.mark.parametrize("found", ["", "abc", "\0" * 64])
def test_a_damaged_memory_is_made_anew(found: str, tmp_path: Path, cache: Path, reads: list[Path]) -> None:
    path = write(tmp_path / "betas")
    first = fingerprint_file(path)
    (remembered,) = cache.iterdir()
    remembered.write_text(found)
    assert fingerprint_file(path) == first
    assert remembered.read_text() == first


def test_a_cache_that_cannot_be_written(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE, str(tmp_path / "file"))
    path = write(tmp_path / "betas")
    assert fingerprint_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@given(st.text())
def test_any_text_becomes_the_name_of_one_folder(text: str) -> None:
    name = folder_name(text)
    assert 1 <= len(name.encode()) <= 80
    assert Path("a", name).parts == ("a", name)
    assert not name.startswith(".")
    assert folder_name(name) == name


def test_names_of_folders() -> None:
    assert folder_name("subj01-1h-pretrained-seed42") == "subj01-1h-pretrained-seed42"
    assert folder_name("my gallery/../x\x1b[2J\n") == "my-gallery-..-x-2J-"
    assert folders_of("sweeps/seeds") == Path("sweeps/seeds")
    assert folders_of("/../x/..") == Path("unnamed/unnamed/x/unnamed")
    assert folder_name("..") == folder_name("") == "unnamed"
    long, other = folder_name("é" * 300), folder_name("é" * 299)
    assert long.startswith("ééé")
    assert long != other
