"""Augmented views: near the image, other than it, the same whatever the batch."""

import pytest
import torch

from mindeye_pl.nn.clip.augmented_views import AUGMENTATIONS, BlackSquare, Solarise, augmented_views


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_views_follow_from_the_image_alone(augmentation: str) -> None:
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    views = augmented_views(images, 4, augmentation=augmentation)
    assert torch.equal(torch.get_rng_state(), before)
    assert views.shape == (3, 4, 3, 16, 16)
    assert 0 <= views.min() <= views.max() <= 1
    assert torch.equal(augmented_views(images[1:2], 4, augmentation=augmentation)[0], views[1])
    assert not torch.equal(views[0, 0], views[0, 1])
    assert not torch.equal(views[0], images[:1].expand_as(views[0])), "one of them may be the whole image"


def test_a_black_square_is_centred_on_any_pixel_and_cropped_at_the_edge() -> None:
    torch.manual_seed(0)
    blacken, image = BlackSquare(0.3), torch.ones(3, 40, 40)
    areas, reached = set(), torch.zeros(40, 40, dtype=torch.bool)
    for _ in range(400):
        black = blacken(image).eq(0)
        assert torch.equal(black[0], black[1])
        rows, columns = black[0].any(1), black[0].any(0)
        assert torch.equal(black[0], rows[:, None] & columns), "a rectangle"
        assert max(int(rows.sum()), int(columns.sum())) <= 12
        areas.add(int(black[0].sum()))
        reached |= black[0]
    assert max(areas) == 12 * 12
    assert min(areas) < 12 * 12, "the middle may be at the edge"
    assert reached.all()
    assert image.eq(1).all(), "the image itself stays"


def test_mind_readers_views_are_cropped_flipped_and_always_masked() -> None:
    """A white image shows the mask alone; a ramp from left to right shows which views are flipped and grey."""
    masked = augmented_views(torch.ones(1, 3, 64, 64), 40, augmentation="mind_reader")[0]
    assert ((masked < 0.05).all(1).flatten(1).sum(1) > 9).all(), "a corner of the square at least"
    ramp = torch.linspace(0.2, 1, 64).expand(1, 1, 64, 64) * torch.tensor([1.0, 0.6, 0.3]).view(1, 3, 1, 1)
    views = augmented_views(ramp, 200, augmentation="mind_reader")[0]
    slope = (views[..., 48:] - views[..., :16]).mean((1, 2, 3))
    assert 0.35 < (slope < 0).float().mean() < 0.65
    grey = (views[:, 0] - views[:, 2]).abs().amax((1, 2)) < 0.02
    assert 0.1 < grey.float().mean() < 0.32


def test_solarise_shifts_and_inverts_what_is_bright() -> None:
    """The distribution of kornia's RandomSolarize(thresholds=0.1, additions=0.1), by its values on a ramp."""
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 1001)[None, None]
    additions, thresholds = [], []
    for _ in range(400):
        made = Solarise()(ramp)[0, 0]
        kept = made[200:251].mean() - ramp[0, 0, 200:251].mean()  # below every threshold, whatever the addition
        turn = int((made.diff() < -0.001).nonzero()[0]) if (made.diff() < -0.05).any() else int(made.argmax())
        additions.append(float(kept))
        thresholds.append(float(ramp[0, 0, turn]) + float(kept))
        torch.testing.assert_close(made[950], 1 - (ramp[0, 0, 950] + kept).clamp(0, 1), atol=1e-5, rtol=0)
    added, turned = torch.tensor(additions), torch.tensor(thresholds)
    assert -0.1 <= added.min() < -0.09
    assert 0.09 < added.max() <= 0.1
    assert 0.39 < turned.min() < 0.42
    assert 0.58 < turned.max() < 0.61
