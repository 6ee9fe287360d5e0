"""The generator: sizes, noise, styles, conditions, precision."""

import pytest
import torch
from torch import Tensor

from mindeye_pl.nn.stylegan2.conditions import CHOICES, with_second_condition
from mindeye_pl.nn.stylegan2.generator import Generator
from mindeye_pl.nn.stylegan2.mapping import mix_styles


def small(image_size: int = 16, **options: object) -> Generator:
    torch.manual_seed(0)
    sizes = {"latent_dim": 6, "w_dim": 8, "image_dim": 4, "caption_dim": 4, "channel_base": 128, "channel_max": 12}
    generator = Generator(image_size, **(sizes | {"mapping_layers": 2} | options))
    for name, weight in generator.named_parameters():
        if name.endswith("noise_strength"):
            weight.data.fill_(0.1)
        if name.endswith("bias") and "affine" not in name:
            weight.data.normal_(std=0.1)
    return generator.eval()


def draw(count: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(count, 6), torch.randn(count, 4), torch.randn(count, 4)


@pytest.mark.parametrize(("condition", "count"), [("both", 55_503_266), ("caption", 44_997_026)])
def test_published_size_on_the_meta_device(condition: str, count: int) -> None:
    with torch.device("meta"):
        generator = Generator(condition=condition)
    assert sum(weight.numel() for weight in generator.parameters()) == count
    assert generator.num_layers == 14
    assert [block.convs[-1].conv.weight.shape[0] for block in generator.blocks] == [512] * 5 + [256, 128]
    assert [block.mixed for block in generator.blocks] == [False] * 3 + [True] * 4


@pytest.mark.parametrize("size", [16, 32, 64])
def test_every_size(size: int) -> None:
    images = small(size)(*draw(2))
    assert images.shape == (2, 3, size, size)
    assert images.isfinite().all()


@pytest.mark.parametrize("size", [8, 48, 0])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(AssertionError, match=f"images of {size} pixels"):
        small(size)


def test_an_image_does_not_depend_on_its_batch() -> None:
    generator, given = small(), draw()
    whole = generator(*given, noise="fixed")
    alone = [generator(*(tensor[i : i + 1] for tensor in given), noise="fixed") for i in range(3)]
    torch.testing.assert_close(whole, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert (whole[0] - whole[1]).abs().max() > 1e-2


def test_both_convolution_methods_make_the_same_images() -> None:
    given = draw()
    torch.testing.assert_close(
        small(fused=False)(*given, noise="fixed"), small()(*given, noise="fixed"), rtol=1e-4, atol=1e-5
    )


def test_noise() -> None:
    generator, given = small(), draw()
    none, fixed, drawn = (generator(*given, noise=noise) for noise in ("none", "fixed", "random"))
    assert not torch.allclose(none, fixed)
    assert not torch.allclose(none, drawn)
    assert torch.equal(generator(*given, noise="none"), none)
    assert torch.equal(generator(*given, noise="fixed"), fixed)
    assert not torch.allclose(generator(*given), drawn), "each call draws"
    torch.manual_seed(7)
    first = generator(*given)
    torch.manual_seed(7)
    assert torch.equal(generator(*given), first)
    for block in generator.blocks:
        for conv in block.convs:
            conv.noise_strength.data.zero_()
    for noise in ("fixed", "random"):
        assert torch.equal(generator(*given, noise=noise), none), "of strength 0"
    with pytest.raises(AssertionError, match="loud"):
        generator(*given, noise="loud")


def test_styles_are_mixed_from_a_resolution_on() -> None:
    generator, (latents, image, caption) = small(32), draw()
    seen: list[list[Tensor]] = []
    for block in generator.blocks:
        block.register_forward_hook(lambda module, inputs, output: seen[-1].append(output[0]))
    styles, others = generator.styles(latents), generator.styles(latents.flip(0))
    assert styles.shape == (3, generator.num_layers, 8)
    for cut in (generator.num_layers, 3):
        seen.append([])
        generator.synthesise(mix_styles(styles, others, cut), image, caption, noise="none")
    unchanged = [torch.equal(before, after) for before, after in zip(*seen, strict=True)]
    assert unchanged == [True, True, False, False], "layer 0 at 4 pixels, 1 and 2 at 8"


def test_the_last_style_is_the_last_share_of_the_image_alone() -> None:
    generator, (latents, image, caption) = small(), draw()
    last: list[Tensor] = []
    generator.blocks[-1].register_forward_hook(lambda module, inputs, output: last.append(output[0]))
    styles = generator.styles(latents)
    mixed = mix_styles(styles, styles.flip(0), generator.num_layers - 1)
    images = [generator.synthesise(of, image, caption, noise="none") for of in (styles, mixed)]
    assert torch.equal(*last)
    assert not torch.allclose(*images)


def test_the_average_is_followed_in_training_alone() -> None:
    generator, given = small(), draw()
    generator(*given)
    assert generator.mapping.average.eq(0).all()
    generator.train()(*given)
    torch.testing.assert_close(generator.mapping.average, 0.005 * generator.mapping(given[0]).mean(0))


@pytest.mark.parametrize("condition", CHOICES)
def test_each_choice_reads_its_embeddings(condition: str) -> None:
    generator, (latents, image, caption) = small(condition=condition), draw()
    plain = generator(latents, image, caption, noise="none")
    other_image = generator(latents, 3 * image, caption, noise="none")
    other_caption = generator(latents, image, 3 * caption, noise="none")
    assert torch.equal(other_image, plain) == (condition == "caption")
    assert torch.equal(other_caption, plain) == (condition == "image")


def test_two_equal_conditions_are_one() -> None:
    one, two = small(condition="caption"), small()
    two.load_state_dict(with_second_condition(one.state_dict()))
    latents, _, caption = draw()
    assert torch.equal(two(latents, caption, caption, noise="fixed"), one(latents, None, caption, noise="fixed"))


@pytest.mark.parametrize("fused", [True, False])
def test_half_precision_is_for_the_highest_resolutions(fused: bool) -> None:
    given = draw()
    exact = small(32, fused=fused)(*given, noise="fixed")
    for mixed_resolutions, tolerance in ((0, 1e-6), (2, 0.1), (4, 0.1)):
        generator = small(32, fused=fused, mixed_resolutions=mixed_resolutions)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            images = generator(*given, noise="fixed")
        assert images.dtype == torch.float32
        assert ((images - exact).abs().max() / exact.abs().max() < tolerance).item()
        images.square().mean().backward()
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in generator.parameters())


def test_every_weight_learns() -> None:
    generator = small().train()
    generator(*draw()).square().mean().backward()
    silent = [name for name, weight in generator.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert silent == []
