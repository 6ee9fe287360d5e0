"""Mind Reader's mapper: padding, sizes, and what an embedding depends on; its values are pinned by the golden case."""

import pytest
import torch

from mindeye_pl.errors import UserError
from mindeye_pl.nn.brain.voxel_cnn import VoxelCNN, pad_voxels


def small(**options: object) -> VoxelCNN:
    torch.manual_seed(0)
    return VoxelCNN(24, 6, channels=4, hidden_dim=5, **options)


def test_padding_is_symmetric_and_shorter_on_the_left() -> None:
    padded = pad_voxels(torch.ones(2, 15_724), 15_744)
    assert padded.shape == (2, 15_744)
    assert padded[:, 10:-10].eq(1).all()
    assert padded[:, :10].eq(0).all()
    assert padded[:, -10:].eq(0).all()
    assert pad_voxels(torch.ones(3), 6).tolist() == [0, 1, 1, 1, 0, 0]
    assert pad_voxels(torch.ones(3), 3).tolist() == [1, 1, 1]
    with pytest.raises(AssertionError, match="4 voxels do not go into 3"):
        pad_voxels(torch.ones(4), 3)


def test_published_size_on_the_meta_device() -> None:
    with torch.device("meta"):
        mapper = VoxelCNN()
        assert mapper(torch.empty(2, 15_724)).shape == (2, 512)
    assert sum(weight.numel() for weight in mapper.parameters()) == 1_156_929
    assert not list(mapper.buffers()), "no batch norm"


def test_voxels_are_padded_on_the_way_in() -> None:
    mapper, voxels = small(), torch.randn(3, 21)
    torch.testing.assert_close(mapper(voxels), mapper(pad_voxels(voxels, 24)))


def test_dimensions_share_the_map_over_positions() -> None:
    mapper, voxels = small(), torch.randn(3, 24)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    embedding = mapper(voxels)
    for weight in mapper.to_dimensions.parameters():
        weight.data = weight.data[order]
    torch.testing.assert_close(mapper(voxels), embedding[:, order])


def test_batches_change_nothing() -> None:
    mapper, voxels = small(), torch.randn(5, 24)
    predicted = mapper.predict(voxels, batch_size=2)
    torch.testing.assert_close(predicted, mapper(voxels))
    assert not predicted.requires_grad


def test_two_stems_and_a_sigmoid_for_a_map() -> None:
    plain, bounded = small(num_stems=2), small(num_stems=2, sigmoid=True)
    voxels = torch.randn(3, 24)
    assert plain.over_positions.linears[0].in_features == 6
    torch.testing.assert_close(bounded(voxels), plain(voxels).sigmoid())
    with pytest.raises(UserError, match="got: 22; expected: a multiple of 4"):
        VoxelCNN(22, num_stems=2, padded_voxels=22)
    assert VoxelCNN(22, num_stems=2).padded_voxels == (24,)
