import os
import shutil

import h5py
import pytest

from mindeye_pl.data.layout.paths import DataLayout, check_files, fingerprint_files
from mindeye_pl.errors import UserError
from mindeye_pl.store.fingerprint import fingerprint_file

SPLITS = ("train", "new_test", "test")


def test_complete_dataset_passes(small_nsd):
    check_files(small_nsd, [1, 2], ("train", "new_test", "test"))


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"the data folder is missing \(got: .*/nowhere;.*Fix: paths\.nsd=FOLDER"):
        check_files(DataLayout(tmp_path / "nowhere"), [1])


def test_folder_without_betas_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"contains no betas .*expected: betas_all_subj01.*Fix: paths\.nsd=FOLDER"):
        check_files(DataLayout(tmp_path), [1])


@pytest.mark.parametrize("subject", [0, 3, 9])
def test_missing_subject_is_refused(small_nsd, subject):
    with pytest.raises(
        UserError,
        match=rf"subj0{subject}_.*subjects \[1, 2\]; expected: subject {subject}\)\. Fix: data\.subjects=\[1, 2\]",
    ):
        check_files(small_nsd, [1, subject])


def test_missing_files_are_refused(small_nsd):
    shutil.rmtree(small_nsd.shard(2, "new_test").parent)
    check_files(small_nsd, [1, 2])
    with pytest.raises(UserError, match=r"wds/subj02/new_test/0\.tar is missing"):
        check_files(small_nsd, [1, 2], ("train", "new_test"))
    small_nsd.stimuli.unlink()
    with pytest.raises(UserError, match=r"coco_images_224_float16\.hdf5 is missing"):
        check_files(small_nsd, [1])


def test_copy_has_the_same_fingerprint(small_nsd, tmp_path):
    copy = DataLayout(tmp_path / "copy")
    shutil.copytree(small_nsd.root, copy.root)
    os.utime(copy.stimuli, ns=(1, 1))
    (copy.root / "notes.txt").write_text("not read")
    assert fingerprint_files(copy, [1, 2], SPLITS) == fingerprint_files(small_nsd, [2, 1], SPLITS)


def test_fingerprint_depends_on_every_file_that_is_read(small_nsd):
    fingerprints = {fingerprint_files(small_nsd, [1], SPLITS)}
    with h5py.File(small_nsd.betas(1), "r+") as file:
        file["betas"][79, 6] += 1
    fingerprints.add(fingerprint_files(small_nsd, [1], SPLITS))
    small_nsd.shard(1, "train", 3).unlink()
    fingerprints.add(fingerprint_files(small_nsd, [1], SPLITS))
    with h5py.File(small_nsd.stimuli, "r+") as file:
        file["images"][40] = 0
    fingerprints.add(fingerprint_files(small_nsd, [1], SPLITS))
    assert len(fingerprints) == 4


def test_fingerprint_ignores_other_subjects_and_splits(small_nsd):
    before = fingerprint_files(small_nsd, [1], SPLITS)
    train_alone = fingerprint_files(small_nsd, [1], splits=("train",))
    small_nsd.betas(2).unlink()
    assert fingerprint_files(small_nsd, [1], SPLITS) == before
    small_nsd.shard(1, "test").unlink()
    assert fingerprint_files(small_nsd, [1], SPLITS) != before
    assert fingerprint_files(small_nsd, [1], splits=("train",)) == train_alone
    with pytest.raises(UserError, match=r"Fix: data\.subjects=\[1\]"):
        fingerprint_files(small_nsd, [1, 2], SPLITS)


@pytest.mark.parametrize("offset", [0, 2**23 // 2, 2**23 - 1])
def test_file_fingerprint_covers_the_first_and_the_last_byte(tmp_path, offset):
    path = tmp_path / "file"
    data = bytearray(2**23)
    path.write_bytes(data)
    before = fingerprint_file(path)
    # The middle of the file is between two of the 16 blocks; the nearest block starts at 8/15.
    data[offset if offset != 2**23 // 2 else (2**23 - 2**16) * 8 // 15] = 1
    path.write_bytes(data)
    assert fingerprint_file(path) != before
    path.write_bytes(data[:-1] + b"\0\0")
    assert fingerprint_file(path) != before
