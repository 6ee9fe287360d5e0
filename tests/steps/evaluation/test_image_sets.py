"""Sets of images that are scored: the refined images, blended once, and samples of other images."""

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from torchvision.transforms.v2.functional import resize

from mindeye_pl.config import compose_config
from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.refiner import blend
from mindeye_pl.steps.evaluation.image_sets import ImageSet, Size, sample_others
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "low_level=vae_blur", "refine=tiny")


def test_the_blend_at_the_scored_size_is_the_blend_at_the_refiners_size() -> None:
    """Published: both images at a third of the refiner's side, then 0.75 and 0.25."""
    generator = torch.Generator().manual_seed(0)
    refined, blurry = torch.rand(2, 3, 48, 48, generator=generator), torch.rand(2, 3, 14, 14, generator=generator)
    size = Size(16, 16, antialias=False)
    scored = blend(size.resize(refined), size.resize(blurry), 0.25)
    by_hand = 0.75 * resize(refined, [16, 16], antialias=False) + 0.25 * resize(blurry, [16, 16], antialias=False)
    torch.testing.assert_close(scored, by_hand)
    torch.testing.assert_close(scored, size.resize(blend(refined, blurry, 0.25)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("refine", "protocol", "refused"), [(0.25, 0.25, True), (0.25, 0.0, False), (0.0, 0.25, False)]
)
def test_the_blurry_image_is_not_blended_in_twice(refine: float, protocol: float, refused: bool) -> None:
    GlobalHydra.instance().clear()
    config = compose_config([*COMMAND, f"refine.blend={refine}", f"protocol.blend={protocol}"])
    if not refused:
        EVALUATE_RECONSTRUCTIONS.check(config)
        return
    with pytest.raises(
        UserError, match=r"blended in twice .got: refine.blend=0.25 and protocol.blend=0.25.*refine.blend=0"
    ):
        EVALUATE_RECONSTRUCTIONS.check(config)
    config.evaluate.reconstructions = "folder"  # images of others, which are blended here alone
    EVALUATE_RECONSTRUCTIONS.check(config)


def test_scored_images_are_not_rounded() -> None:
    """Read some at a time, resized, blended: equal to the published arithmetic on all."""
    generator = torch.Generator().manual_seed(0)
    refined, blurry = torch.rand(5, 3, 24, 24, generator=generator), torch.rand(5, 3, 9, 9, generator=generator)
    size = Size(16, 16, antialias=False)
    images = ImageSet(refined, size, blurry, 0.25)
    small, other = (resize(one, [16, 16], antialias=False) for one in (refined, blurry))
    by_hand = 0.75 * small + 0.25 * other
    assert len(images) == 5
    assert torch.equal(torch.cat(list(images.split(2))), by_hand)
    assert torch.equal(images[torch.tensor([4, 0])], by_hand[[4, 0]])
    assert torch.equal(ImageSet(refined, size)[1:3], small[1:3])
    assert images[:1].dtype == torch.float32


@pytest.mark.parametrize(("num_stimuli", "count"), [(100, 10), (30, 10), (29, 9), (13, 0), (10, 0)])
def test_samples_of_other_images_are_disjoint(num_stimuli: int, count: int) -> None:
    test_ids = np.arange(3, 13)[:10]
    samples = sample_others(num_stimuli, test_ids % num_stimuli, seed=0)
    assert [len(some) for some in samples] == ([count, count] if count else [])
    if samples:
        drawn = np.concatenate(samples)
        assert len(set(drawn.tolist()) | set(test_ids.tolist())) == 2 * count + len(test_ids)
        assert drawn.max() < num_stimuli
        again = sample_others(num_stimuli, test_ids, seed=0)
        assert all(np.array_equal(one, other) for one, other in zip(samples, again, strict=True))


def test_samples_depend_on_the_seed() -> None:
    first, second = (sample_others(100, np.arange(10), seed)[0] for seed in (0, 1))
    assert not np.array_equal(first, second)
