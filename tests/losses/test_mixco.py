import pytest
import torch
from torch import Tensor

from mindeye_pl.losses.mixco import MixCo, draw_mixco, mix_voxels

SIZES = (5, 3, 4)


def naive_targets(mixing: MixCo, offsets: list[int]) -> Tensor:
    """Fill rows one by one: own weight on the diagonal, partner's weight in the partner's column."""
    targets = torch.zeros(12, 12)
    for row in range(12):
        column = int(mixing.partner[row]) + (offsets[row] if mixing.permutation == "corrected" else 0)
        targets[row, row] = mixing.weight[row]
        rest = 1 - mixing.weight[row]
        targets[row, column] = rest if mixing.diagonal == "published" else targets[row, column] + rest
    return targets


@pytest.mark.parametrize("permutation", ["published", "corrected"])
@pytest.mark.parametrize("diagonal", ["published", "corrected"])
def test_mixco_targets_equal_a_loop(permutation: str, diagonal: str) -> None:
    torch.manual_seed(1)
    offsets = [0] * 5 + [5] * 3 + [8] * 4
    for _ in range(20):
        mixing = draw_mixco(SIZES, permutation=permutation, diagonal=diagonal)
        torch.testing.assert_close(mixing.targets(), naive_targets(mixing, offsets))


def test_corrected_targets_are_weights_within_a_subject() -> None:
    torch.manual_seed(2)
    owner = torch.repeat_interleave(torch.arange(3), torch.tensor(SIZES))
    for _ in range(20):
        targets = draw_mixco(SIZES, permutation="corrected", diagonal="corrected").targets()
        torch.testing.assert_close(targets.sum(1), torch.ones(12))
        assert (targets[owner[:, None] != owner[None, :]] == 0).all()


def test_published_permutation_uses_indices_of_the_whole_batch() -> None:
    mixing = MixCo(torch.tensor([1, 0, 1, 0]), torch.full((4,), 0.7), (2, 2))
    assert mixing.targets()[2, 1] == pytest.approx(0.3)  # subject 2's first sample, subject 1's second image
    corrected = MixCo(mixing.partner, mixing.weight, (2, 2), permutation="corrected")
    assert corrected.targets()[2, 3] == pytest.approx(0.3)


def test_published_diagonal_is_zero_for_an_unmixed_fixed_point() -> None:
    mixing = MixCo(torch.tensor([0, 1]), torch.tensor([1.0, 0.6]), (2,))
    torch.testing.assert_close(mixing.targets().diagonal(), torch.tensor([0.0, 0.4]))
    corrected = MixCo(mixing.partner, mixing.weight, (2,), diagonal="corrected")
    torch.testing.assert_close(corrected.targets(), torch.eye(2))


def test_voxels_are_mixed_within_a_subject() -> None:
    torch.manual_seed(3)
    voxels = [torch.randn(size, 6 + size) for size in SIZES]
    mixing = draw_mixco(SIZES)
    start = 0
    for own, mixed in zip(voxels, mix_voxels(voxels, mixing), strict=True):
        for row in range(len(own)):
            weight, partner = mixing.weight[start + row], mixing.partner[start + row]
            torch.testing.assert_close(mixed[row], weight * own[row] + (1 - weight) * own[partner])
        start += len(own)


def test_draw_mixco_mixes_half_and_follows_the_global_seed() -> None:
    torch.manual_seed(4)
    first = draw_mixco([2000])
    assert (first.weight == 1).float().mean() == pytest.approx(0.5, abs=0.05)
    assert sorted(first.partner.tolist()) == list(range(2000))
    torch.manual_seed(4)
    assert torch.equal(draw_mixco([2000]).weight, first.weight)
