import numpy as np
import pytest
import torch

from mindeye_pl.data.datamodule import BrainDataset
from tests.data.small_nsd import StubTokens, make_trials


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_batch_in_subject_order(dtype):
    voxels = [np.random.default_rng(s).normal(size=(10, 3 + s)).astype(dtype) for s in range(2)]
    trials = [make_trials(np.arange(10) + 10 * s, 10, s + 1) for s in range(2)]
    batch = BrainDataset(voxels, trials, {"tokens": StubTokens()})[[(0, np.array([4, 2])), (1, np.array([9, 0]))]]
    assert [tuple(v.shape) for v in batch.voxels] == [(2, 3), (2, 4)]
    assert all(v.dtype == torch.float32 for v in batch.voxels)
    np.testing.assert_array_equal(batch.voxels[1], voxels[1][[9, 0]].astype(np.float32))
    assert batch.subject_index == [0, 1]
    assert batch.stimulus_ids.tolist() == [4, 2, 19, 10]
    assert batch.targets["tokens"].shape == (4, 2, 3)
    assert batch.targets["tokens"][:, 1, 2].tolist() == [4, 2, 19, 10]


def test_a_batch_of_the_second_subject_alone():
    voxels = [np.zeros((4, 3), np.float32), np.ones((4, 5), np.float32)]
    trials = [make_trials(np.arange(4), 4, subject) for subject in (1, 2)]
    batch = BrainDataset(voxels, trials, {"tokens": StubTokens()})[[(1, np.arange(4))]]
    assert batch.subject_index == [1]
    assert batch.voxels[0].shape == (4, 5)


def test_batches_own_their_memory():
    voxels = [np.zeros((4, 3), np.float32)]
    batch = BrainDataset(voxels, [make_trials(np.arange(4), 4)], {"tokens": StubTokens()})[[(0, np.arange(4))]]
    batch.voxels[0] += 1  # as augmentation in place would
    assert not voxels[0].any()


def test_slots_hold_the_responses_to_each_trials_image():
    stimulus_ids = [np.array([5, 8, 5, 9, 5, 8]), np.array([7, 7])]
    voxels = [np.random.default_rng(s).normal(size=(len(ids), 3 + s)) for s, ids in enumerate(stimulus_ids)]
    trials = [make_trials(ids, 10, s + 1) for s, ids in enumerate(stimulus_ids)]
    plain = BrainDataset(voxels, trials, {"tokens": StubTokens()})
    assert plain[[(0, np.array([0]))]].repetitions is None
    index = [(0, np.array([4, 1, 3])), (1, np.array([1]))]
    batch = BrainDataset(voxels, trials, {"tokens": StubTokens()}, repetition_slots=3)[index]
    assert [tuple(slots.shape) for slots in batch.repetitions] == [(3, 3, 3), (1, 3, 4)]
    rows = [np.array([[0, 2, 4], [1, 5, 1], [3, 3, 3]]), np.array([[0, 1, 0]])]
    for place, slots in enumerate(batch.repetitions):
        assert slots.dtype == torch.float32
        np.testing.assert_array_equal(slots, voxels[place][rows[place]].astype(np.float32))
    assert torch.equal(batch.voxels[0], plain[index].voxels[0])
    moved = batch.to(torch.float64)
    assert [slots.dtype for slots in moved.repetitions] == [torch.float64] * 2


class Rows:
    """A table of `(count, 2)` rows that tell their stimulus id, scaled."""

    def __init__(self, count: int, scale: float):
        self.count, self.scale = count, scale

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self.scale * ids[:, None, None], (len(ids), self.count, 2)).astype(np.float16)


def test_a_new_target_kind_is_one_entry():
    voxels, trials = [np.zeros((4, 3), np.float32)], [make_trials(np.arange(4) + 5, 4)]
    targets = {"tokens": StubTokens(), "captions": Rows(5, 2.0), "depth": Rows(4, 3.0)}
    batch = BrainDataset(voxels, trials, targets)[[(0, np.array([3, 0]))]]
    assert {kind: target.shape[1:] for kind, target in batch.targets.items()} == {
        "tokens": (2, 3),
        "captions": (5, 2),
        "depth": (4, 2),
    }
    assert batch.targets["captions"][:, 4, 1].tolist() == [16, 10]
    assert batch.targets["depth"][:, 3, 1].tolist() == [24, 15]
    assert {target.dtype for target in batch.to(torch.float64).targets.values()} == {torch.float64}
