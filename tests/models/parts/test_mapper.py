"""A mapper: its loss, its padding, and its weight decay."""

import pytest
import torch

from mindeye_pl.errors import UserError
from mindeye_pl.losses.mapper import STAGE_A, STAGE_B, MapperWeights
from mindeye_pl.models.parts.mapper import Mapper
from tests.losses.test_mapper import by_hand
from tests.models import tiny


def mapper(voxels: tuple[int, ...] = (11, 8), **options: object) -> Mapper:
    torch.manual_seed(0)
    return tiny.mapper(voxels, **options)


@pytest.mark.parametrize(("weights", "shares"), [(STAGE_A, (0.4, 0.6, 0.0)), (STAGE_B, (0.2, 0.3, 0.5))])
def test_parts_are_weighted_and_sum_to_the_total(weights: MapperWeights, shares: tuple[float, ...]) -> None:
    predicted = torch.randn(7, 6, requires_grad=True)
    target = torch.nn.functional.normalize(torch.randn(7, 6), dim=-1)
    loss = mapper().compute_loss(predicted, target, weights, name="image")
    parts = dict(
        zip(("image_mse", "image_cosine", "image_contrastive"), by_hand(predicted.detach(), target), strict=True)
    )
    expected = {name: share * part for (name, part), share in zip(parts.items(), shares, strict=True) if share}
    assert {name: part.item() for name, part in loss.parts.items()} == pytest.approx(expected, rel=1e-5)
    assert loss.total.item() == pytest.approx(sum(expected.values()), rel=1e-5)
    assert loss.outputs["image"] is predicted
    assert not any(part.requires_grad for part in loss.parts.values())


def test_voxels_are_padded_to_what_the_stems_can_halve() -> None:
    assert mapper((11, 8, 15)).network.padded_voxels == (12, 8, 16)
    assert mapper((11, 8), num_stems=2).network.padded_voxels == (12, 8)
    assert mapper((15_724, 8), pad_multiple=32).network.padded_voxels == (15_744, 32)
    assert mapper((11, 8), padded_voxels=12).network.padded_voxels == (12, 12)
    assert mapper((11, 8), padded_voxels=[14, 8]).network.padded_voxels == (14, 8)


@pytest.mark.parametrize(
    ("padded", "says"),
    [
        (10, r"padded_voxels .*got: 10; expected: a multiple of 2, at least 11.*padded_voxels=null"),
        (13, "got: 13; expected: a multiple of 2"),
        ([12], r"got: \[12\]; expected: 2 numbers"),
    ],
)
def test_padding_that_does_not_fit_is_refused(padded: int | list[int], says: str) -> None:
    with pytest.raises(UserError, match=says):
        mapper(padded_voxels=padded)


def test_each_subject_has_its_own_map_over_positions_and_no_more() -> None:
    model = mapper()
    one, other = torch.randn(2, 11), torch.randn(2, 8)
    before = model(one, 0), model(other, 1)
    model.network.over_positions.linears[1].weight.data += 1
    assert torch.equal(model(one, 0), before[0])
    assert not torch.equal(model(other, 1), before[1])
    model.network.stems[0].weight.data += 1
    assert not torch.equal(model(one, 0), before[0])


def test_the_published_optimiser_decays_everything() -> None:
    published, corrected = (mapper(gain_decay=value).parameter_groups() for value in ("published", "corrected"))
    assert [group["weight_decay"] for group in published] == [1e-5]
    assert [group["weight_decay"] for group in corrected] == [1e-5, 0.0]
    assert {p.ndim for p in corrected[1]["params"]} == {1}


def test_voxel_counts_are_stored_with_the_weights() -> None:
    assert mapper((11, 8)).state_dict()["voxels.counts"].tolist() == [11, 8]
