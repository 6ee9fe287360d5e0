import h5py
import numpy as np
import pytest

from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.errors import UserError


def test_stimuli_are_read_in_the_given_order(small_nsd):
    stimuli = Stimuli(small_nsd.stimuli)
    assert len(stimuli) == 80
    assert stimuli.shape == (80, 3, 4, 4)
    ids = np.array([9, 3, 79, 3])
    images = stimuli.read(ids)
    assert images.dtype == np.float16
    np.testing.assert_array_equal(images[:, 0, 0, 0], (ids / 128).astype(np.float16))


@pytest.mark.parametrize("outside", [-1, 80])
def test_stimulus_id_out_of_range_is_refused(small_nsd, outside):
    with pytest.raises(UserError, match=rf"stimulus id out of range in .*\(got: {outside}; expected: 0 to 79\)"):
        Stimuli(small_nsd.stimuli).read(np.array([1, outside]))


def test_file_without_images_is_refused(small_nsd):
    with h5py.File(small_nsd.stimuli, "w") as file:
        file["images"] = np.zeros((80, 4, 4, 3))
    with pytest.raises(UserError, match=r"coco_images_224_float16\.hdf5 does not contain images"):
        len(Stimuli(small_nsd.stimuli))
