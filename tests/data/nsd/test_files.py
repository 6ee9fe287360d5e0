import shutil

import pytest

from mindeye_pl.data.nsd.files import check_files
from mindeye_pl.data.nsd.layout import NSDLayout
from mindeye_pl.errors import UserError


def test_complete_dataset_passes(small_nsd):
    check_files(small_nsd, [1, 2], ("train", "new_test", "test"))


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"the data folder is missing \(got: .*/nowhere;.*Fix: paths\.nsd=FOLDER"):
        check_files(NSDLayout(tmp_path / "nowhere"), [1])


def test_folder_without_betas_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"contains no betas .*expected: betas_all_subj01.*Fix: paths\.nsd=FOLDER"):
        check_files(NSDLayout(tmp_path), [1])


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
