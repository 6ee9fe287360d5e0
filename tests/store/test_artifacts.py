import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mindeye_pl.errors import UserError
from mindeye_pl.store.artifacts import FACTS, SCHEMA_VERSION, ArtifactSpec, ArtifactStore
from mindeye_pl.store.fingerprint import fingerprint
from mindeye_pl.store.manifest import MANIFEST

SPEC = ArtifactSpec("pretrain", "subj02", {"epochs": 3}, {"data": "abc"})
#: Of SPEC under schema 3. A change makes all users train again.
FINGERPRINT = "28f74c22c05ae2390f0ffde44bb9d442c90c26886ac4a82316f5f14ae456a987"


def make(store: ArtifactStore, spec: ArtifactSpec = SPEC, content: str = "weights") -> bool:
    with store.making(spec) as work:
        if work is None:
            return False
        (work / "model").write_text(content)
    return True


def test_fingerprint_depends_on_all_determining_settings_alone() -> None:
    same = ArtifactSpec("pretrain", "another label", {"epochs": 3}, {"data": "abc"})
    assert same.fingerprint == SPEC.fingerprint
    others = [
        ArtifactSpec("finetune", "subj02", {"epochs": 3}, {"data": "abc"}),
        ArtifactSpec("pretrain", "subj02", {"epochs": 4}, {"data": "abc"}),
        ArtifactSpec("pretrain", "subj02", {"epochs": 3}, {"data": "abd"}),
    ]
    assert len({spec.fingerprint for spec in [SPEC, *others]}) == 4
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})


def test_made_once_and_found_again(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    assert store.find(SPEC) is None
    assert make(store)
    assert not make(store, content="other")
    artifact = store.find(SPEC)
    assert artifact is not None
    assert (artifact.folder / "model").read_text() == "weights"
    assert artifact.fingerprint == SPEC.fingerprint
    assert artifact.manifest["files"] == {"model": len("weights")}


def fail_half_way(store: ArtifactStore) -> None:
    with store.making(SPEC) as work:
        assert work is not None
        (work / "half").write_text("half")
        raise RuntimeError


def test_a_failed_build_leaves_unfinished_work_but_no_artifact(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with pytest.raises(RuntimeError):
        fail_half_way(store)
    assert store.find(SPEC) is None
    with store.making(SPEC) as work:
        assert work is not None
        assert (work / "half").read_text() == "half"  # taken up, not begun again


def test_fingerprints_are_stable() -> None:
    assert SPEC.fingerprint == FINGERPRINT
    assert SCHEMA_VERSION == 3


def test_a_step_of_another_version_is_rebuilt(tmp_path: Path) -> None:
    store, later = ArtifactStore(tmp_path), replace(SPEC, version=2)
    make(store)
    assert store.find(later) is None
    make(store, later, "other weights")
    assert len({spec.fingerprint for spec in (SPEC, later, replace(SPEC, version=3))}) == 3
    for spec, content in ((SPEC, "weights"), (later, "other weights")):
        artifact = store.find(spec)
        assert artifact is not None
        assert (artifact.folder / "model").read_text() == content


def test_the_manifest_has_checksums_and_versions(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path, made_with=lambda: {"mindeye_pl": "9.9", "commit": "abc"})
    with store.making(SPEC) as work:
        assert work is not None
        (work / "model").write_text("weights")
        (work / "parts").mkdir()
        (work / "parts" / MANIFEST).write_text("a file of the step's own")
        (work / FACTS).write_text('{"trials": 750}')
        (work / ".model.0123456789ab.tmp").write_text("wei")  # of a killed process
        (work / ".more.tmp").mkdir()
        (work / ".more.tmp" / "half").write_text("half")
    artifact = store.find(SPEC)
    assert artifact is not None
    manifest = artifact.manifest
    assert manifest["sha256"]["model"] == hashlib.sha256(b"weights").hexdigest()
    assert manifest["sha256"].keys() == manifest["files"].keys() == {"model", f"parts/{MANIFEST}"}
    assert manifest["made_with"] == {"mindeye_pl": "9.9", "commit": "abc"}
    assert manifest["facts"] == {"trials": 750}
    assert artifact.fingerprint == FINGERPRINT, "what it was made with determines nothing"
    assert not list(tmp_path.rglob("*.maker.json"))


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in manifest.items() if value is not None}))


BROKEN_MANIFESTS: dict[str, Callable[[str], str]] = {
    "empty": lambda text: "",
    "no json": lambda text: "{",
    "cut off": lambda text: text[: len(text) // 2],
    "no utf-8": lambda text: text + "\udcff",
    "a list": lambda text: "[]",
    "a number": lambda text: "3",
    "nested without end": lambda text: "[" * 100_000,
    "an empty object": lambda text: "{}",
    "of something else": lambda text: text.replace(FINGERPRINT, fingerprint("other")),
    "a fingerprint that is none": lambda text: text.replace(f'"{FINGERPRINT}"', "7"),
    "files as a list": lambda text: text.replace('"files": {', '"files": [], "other": {'),
    "sizes that are none": lambda text: text.replace('"model": 7', '"model": "seven"'),
    "files elsewhere": lambda text: text.replace('"model": 7', '"../../model": 7'),
    "of another schema": lambda text: text.replace('"schema": 3', '"schema": 4'),
    "without a version": lambda text: text.replace('"version"', '"revision"'),
    "without checksums": lambda text: text.replace('"sha256"', '"md5"'),
}


@pytest.mark.parametrize("how", BROKEN_MANIFESTS)
def test_a_broken_manifest_is_one_line_and_never_reused(tmp_path: Path, how: str) -> None:
    store = ArtifactStore(tmp_path)
    make(store)
    path = store.folder(SPEC) / MANIFEST
    broken = BROKEN_MANIFESTS[how](path.read_text())
    assert broken != path.read_text()
    path.write_text(broken, errors="surrogateescape")
    with pytest.raises(UserError, match=r"Fix: .*rm -r") as caught:
        store.find(SPEC)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError), store.making(SPEC):
        pass
    # The command that it names is one that works.
    assert caught.value.fix is not None
    assert str(store.folder(SPEC)) in caught.value.fix
    shutil.rmtree(store.folder(SPEC))
    assert make(store)


def test_an_incompletely_copied_folder_is_never_reused(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    make(store)
    model = store.folder(SPEC) / "model"
    model.write_text("wei")
    with pytest.raises(UserError, match=r"incomplete .*model of 3 bytes; expected: 7 bytes.* Fix: rm -r"):
        store.find(SPEC)
    model.unlink()
    with pytest.raises(UserError, match=r"incomplete .*no file model.* Fix: rm -r"):
        store.find(SPEC)
    (store.folder(SPEC) / MANIFEST).unlink()
    with pytest.raises(UserError, match=r"unreadable.* Fix: rm -r"):
        store.find(SPEC)


def test_a_copy_with_a_hidden_file_of_the_desktop_is_reused(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    make(store)
    (store.folder(SPEC) / ".DS_Store").touch()
    assert store.find(SPEC) is not None


def test_two_versions_of_the_code_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore(tmp_path)
    make(store)
    monkeypatch.setattr("mindeye_pl.store.artifacts.SCHEMA_VERSION", 4)
    assert store.find(SPEC) is None
    make(store, content="of the later version")
    monkeypatch.undo()
    artifact = store.find(SPEC)
    assert artifact is not None
    assert (artifact.folder / "model").read_text() == "weights"
    assert len(list((tmp_path / "pretrain").glob("subj02-*"))) == 2


@pytest.mark.parametrize("utc", ["2999-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "yesterday", 3])
def test_nothing_depends_on_clocks(tmp_path: Path, utc: object) -> None:
    store = ArtifactStore(tmp_path)
    make(store)
    edit_manifest(store.folder(SPEC), finished_utc=utc)
    for path in store.folder(SPEC).iterdir():
        os.utime(path, (2**33, 2**33))
    assert store.find(SPEC) is not None
    assert not make(store)


def test_duration_is_not_negative_if_the_clock_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore(tmp_path)
    clock = iter(range(10**9, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: next(clock))
    make(store)
    artifact = store.find(SPEC)
    assert artifact is not None
    assert 0 <= artifact.manifest["seconds"] < 60


@pytest.mark.parametrize("where", ["store", "store/pretrain", "store/pretrain/{name}"])
def test_an_existing_file_at_the_path_is_one_line(tmp_path: Path, where: str) -> None:
    path = tmp_path / where.format(name=SPEC.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    store = ArtifactStore(tmp_path / "store")
    with pytest.raises(UserError, match=rf"{re.escape(str(path))} is (not a folder|in the way)"):
        make(store)
    assert path.read_text() == "mine"


def test_a_broken_link_is_refused_before_the_first_step(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    (tmp_path / "pretrain").mkdir()
    store.folder(SPEC).symlink_to(tmp_path / "unmounted")
    with pytest.raises(UserError, match="is not a folder"):
        make(store)


def test_an_artifact_that_was_moved_and_linked_is_reused(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    make(store)
    shutil.move(store.folder(SPEC), tmp_path / "elsewhere")
    store.folder(SPEC).symlink_to(tmp_path / "elsewhere")
    assert store.find(SPEC) is not None
    assert not make(store)


def test_shared_artifacts_are_not_rebuilt(tmp_path: Path) -> None:
    make(ArtifactStore(tmp_path / "lab"))
    store = ArtifactStore(tmp_path / "mine", tmp_path / "lab")
    before = sorted((tmp_path / "lab").rglob("*"))
    artifact = store.find(SPEC)
    assert artifact is not None
    assert artifact.folder.is_relative_to(tmp_path / "lab")
    assert not make(store)
    other = replace(SPEC, determined_by={"epochs": 4})
    assert make(store, other)
    assert store.folder(other).is_relative_to(tmp_path / "mine")
    assert sorted((tmp_path / "lab").rglob("*")) == before, "nothing is written there"


def test_damaged_shared_artifacts_are_rebuilt_in_the_own_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = ArtifactStore(tmp_path / "lab")
    make(lab)
    (lab.folder(SPEC) / "model").write_text("wei")
    store = ArtifactStore(tmp_path / "mine", tmp_path / "lab")
    assert store.find(SPEC) is None
    assert make(store)
    artifact = store.find(SPEC)
    assert artifact is not None
    assert artifact.folder == store.folder(SPEC)
    assert capsys.readouterr().out.count("skipped") == 1


def test_a_shared_store_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="shared_artifacts"):
        ArtifactStore(tmp_path, tmp_path / "typo")
    assert ArtifactStore(tmp_path, tmp_path).shared is None
