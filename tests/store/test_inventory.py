"""The inventory of a store: artifacts, their states, and those that may be removed."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mindeye_pl.errors import UserError
from mindeye_pl.store import inventory as artifact_inventory
from mindeye_pl.store.artifacts import ArtifactSpec, ArtifactStore
from mindeye_pl.store.inventory import (
    DAMAGED,
    MAKING,
    OTHER_SCHEMA,
    REMOVED,
    UNFINISHED,
    WHOLE,
    Entry,
    read_store,
    remove,
    users,
    with_inputs,
)
from mindeye_pl.store.locks import REQUIRED
from mindeye_pl.store.manifest import MANIFEST

WORLD = ArtifactSpec("simulate", "tiny", {"simulation": {"voxel_counts": {1: 40, 2: 50, 10: 60}}})
MODEL = ArtifactSpec("pretrain", "subj02", {"epochs": 3}, {"data": WORLD.fingerprint})
TUNED = ArtifactSpec("finetune", "subj01", {"epochs": 2}, {"data": WORLD.fingerprint, "pretrain": MODEL.fingerprint})


def make(store: ArtifactStore, *specs: ArtifactSpec) -> None:
    for spec in specs:
        with store.making(spec) as work:
            assert work is not None
            (work / "model").write_text("weights")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """A world, a model of it and a fine-tuned one."""
    store = ArtifactStore(tmp_path / "store")
    make(store, WORLD, MODEL, TUNED)
    return store


def entry_of(store: ArtifactStore, spec: ArtifactSpec, *, checksums: bool = False) -> Entry:
    (entry,) = (one for one in read_store(store.root, checksums=checksums) if one.digits == spec.fingerprint[:12])
    return entry


def test_everything_is_listed_step_by_step(store: ArtifactStore) -> None:
    (store.root / "clusters" / f"tiny-k5-{16 * '0'}").mkdir(parents=True)
    (store.root / "pretrain" / "notes").mkdir()
    (store.root / "test_evaluations.json").write_text("{}")
    entries = list(read_store(store.root))
    assert [entry.name for entry in entries] == [f"{spec.step}/{spec.name}" for spec in (TUNED, MODEL, WORLD)]
    assert {entry.state for entry in entries} == {WHOLE}
    assert all(not entry.why for entry in entries)
    assert [entry.label for entry in read_store(store.root, "pretrain")] == ["subj02"]
    assert list(read_store(store.root.parent / "nowhere")) == []
    with pytest.raises(UserError, match=r"artifacts\.step.*got: train;"):
        list(read_store(store.root, "train"))
    (path := store.root.parent / "file").touch()
    with pytest.raises(UserError, match="in the way"):
        list(read_store(path))


def test_lineage(store: ArtifactStore) -> None:
    entries = list(read_store(store.root))
    assert [user.step for user in users(entries)[WORLD.fingerprint]] == ["finetune", "pretrain"]
    assert [user.step for user in users(entries)[MODEL.fingerprint]] == ["finetune"]
    assert TUNED.fingerprint not in users(entries)
    all_three = {spec.fingerprint for spec in (WORLD, MODEL, TUNED)}
    assert with_inputs({TUNED.fingerprint}, entries) == all_three
    assert with_inputs({MODEL.fingerprint}, entries) == all_three - {TUNED.fingerprint}
    assert with_inputs(set(), entries) == set()


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "model").read_bytes())
    content[3] ^= 1
    (folder / "model").write_bytes(content)


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGES: dict[str, tuple[Callable[[Path], object], str, bool]] = {
    "cut off": (lambda folder: (folder / "model").write_text("wei"), "model has 3 of 7 bytes", False),
    "missing": (lambda folder: (folder / "model").unlink(), "model is missing", False),
    "a bit": (flip_a_bit, "model has another checksum", True),
    "extra": (lambda folder: (folder / "more").touch(), "more is extra", True),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), "unreadable", False),
    "broken manifest": (lambda folder: (folder / MANIFEST).write_text("[]"), "a list, not an object", False),
    "other settings": (lambda folder: edit_manifest(folder, determined_by={"epochs": 30}), "was changed", False),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_is_named(store: ArtifactStore, how: str) -> None:
    damage, words, only_by_checksum = DAMAGES[how]
    damage(store.folder(MODEL))
    entry = entry_of(store, MODEL, checksums=True)
    assert entry.state == DAMAGED
    assert words in entry.why
    assert entry_of(store, MODEL).state == (WHOLE if only_by_checksum else DAMAGED)
    assert entry_of(store, TUNED, checksums=True).state == WHOLE
    # The command that mends does: what it leaves is whole, or is made anew.
    assert os.system(entry.fix) == 0
    if how == "extra":
        assert entry_of(store, MODEL, checksums=True).state == WHOLE
    else:
        make(store, MODEL)


def test_a_name_with_a_space_is_quoted_in_the_command(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "my store")
    make(store, MODEL)
    (store.folder(MODEL) / "model").unlink()
    assert os.system(entry_of(store, MODEL).fix) == 0
    assert not store.folder(MODEL).exists()


def test_another_artifact_under_this_name(store: ArtifactStore) -> None:
    shutil.rmtree(store.folder(MODEL))
    shutil.copytree(store.folder(TUNED), store.folder(MODEL))
    entry = entry_of(store, MODEL)
    assert entry.state == DAMAGED
    assert "another artifact" in entry.why


def test_other_schema_is_no_damage(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mindeye_pl.store.artifacts.SCHEMA_VERSION", 4)
    make(store, MODEL)
    monkeypatch.undo()
    (entry,) = (entry for entry in read_store(store.root) if entry.state != WHOLE)
    assert entry.state == OTHER_SCHEMA
    assert entry.why == "schema 4, not 3"


def test_work_is_unfinished_or_being_made(store: ArtifactStore) -> None:
    spec = replace(MODEL, determined_by={"epochs": 4})
    with pytest.raises(RuntimeError), store.making(spec) as work:  # noqa: PT012
        assert work is not None
        (work / "half").write_text("half")
        entry = entry_of(store, spec)
        assert (entry.state, entry.label, entry.inputs) == (MAKING, "subj02", spec.inputs)
        assert str(os.getpid()) in entry.why
        assert not remove(entry, locks=REQUIRED)
        raise RuntimeError
    entry = entry_of(store, spec)
    assert (entry.state, entry.label, entry.size) == (UNFINISHED, "subj02", 4)
    store.work_folder(spec).with_suffix(".maker.json").unlink()
    assert entry_of(store, spec).label == ""


def test_removing(store: ArtifactStore) -> None:
    assert remove(entry_of(store, TUNED), locks=REQUIRED)
    assert store.find(TUNED) is None
    assert [path.name for path in store.folder(TUNED).parent.iterdir()] == [f".{TUNED.fingerprint[:12]}.lock"]
    make(store, TUNED)


def test_a_removal_that_is_killed_leaves_nothing_under_a_final_name(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path) -> None:
        (path / "model").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(artifact_inventory.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove(entry_of(store, MODEL), locks=REQUIRED)
    monkeypatch.undo()
    assert store.find(MODEL) is None
    entry = entry_of(store, MODEL)
    assert entry.state == REMOVED
    make(store, MODEL)
    assert remove(entry, locks=REQUIRED)
    assert entry_of(store, MODEL).state == WHOLE


def test_artifacts_rebuilt_meanwhile_are_kept(store: ArtifactStore) -> None:
    (store.folder(MODEL) / "model").write_text("wei")
    looked_at = entry_of(store, MODEL)
    shutil.rmtree(store.folder(MODEL))
    make(store, MODEL)
    assert not remove(looked_at, locks=REQUIRED)
    assert store.find(MODEL) is not None


def test_removing_a_missing_artifact_is_no_error(store: ArtifactStore) -> None:
    entry = entry_of(store, MODEL)
    shutil.rmtree(store.folder(MODEL))
    assert not remove(entry, locks=REQUIRED)


def test_of_a_link_only_the_link_is_removed(store: ArtifactStore, tmp_path: Path) -> None:
    shutil.move(store.folder(MODEL), tmp_path / "other disk")
    store.folder(MODEL).symlink_to(tmp_path / "other disk")
    assert remove(entry_of(store, MODEL), locks=REQUIRED)
    assert not os.path.lexists(store.folder(MODEL))
    assert (tmp_path / "other disk" / "model").exists()
