"""The encoding model's resizing, voxel blocks and batches; its values are pinned by the golden case."""

import numpy as np
import pytest
import torch
from PIL import Image

from mindeye_pl.nn.features.gnet import IMAGE_SIZE, GNet, compress, resize_by_pillow


@pytest.fixture(scope="module")
def gnet() -> GNet:
    torch.manual_seed(0)
    model = GNet({1: 11, 5: 4}, prefilter=(4, 6), early=5, width=8, trunk=3).eval()
    for readout in model.readouts.values():
        for field in readout.fields:
            field.data.normal_()
    return model


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(5, 3, 64, 48, generator=torch.Generator().manual_seed(1))


def by_hand(gnet: GNet, images: torch.Tensor, subject: int) -> torch.Tensor:
    """Voxel by voxel, place by place, in numpy."""
    readout = gnet.readouts[str(subject)]
    with torch.no_grad():
        maps = [features.numpy().astype(np.float64) for features in gnet.encoder(images)]
    betas = np.zeros((len(images), len(readout.bias)))
    for v in range(betas.shape[1]):
        pooled = []
        for field, features in zip(readout.fields, maps, strict=True):
            weights = np.exp(field[v].detach().numpy().astype(np.float64))
            curved = np.log(1 + np.abs(features)) * np.tanh(features)
            pooled.append((weights / weights.sum() * curved).sum((2, 3)))
        values = np.concatenate(pooled, 1)
        values = np.log(1 + np.abs(values)) * np.tanh(values)
        betas[:, v] = values @ readout.weight[v].detach().numpy() + readout.bias[v].item()
    return torch.from_numpy(betas).float()


@pytest.mark.parametrize("voxels_per_block", [1, 3, 512])
def test_readout_against_a_second_implementation(
    gnet: GNet, images: torch.Tensor, voxels_per_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    square = resize_by_pillow(images)
    for subject in gnet.subjects:
        monkeypatch.setattr(gnet.readouts[str(subject)], "voxels_per_block", voxels_per_block)
        with torch.no_grad():
            betas = gnet(square, subject)
        torch.testing.assert_close(betas, by_hand(gnet, square, subject), rtol=1e-4, atol=1e-6)


def test_batches_and_order_change_nothing(gnet: GNet, images: torch.Tensor) -> None:
    betas = gnet.predict(images, 1)
    assert betas.shape == (5, 11)
    torch.testing.assert_close(gnet.predict(images, 1, batch_size=2), betas)
    torch.testing.assert_close(gnet.predict(images.flip(0), 1), betas.flip(0))


def test_the_published_resize_is_pillows_on_bytes(images: torch.Tensor) -> None:
    resized = resize_by_pillow(images)
    assert resized.shape == (5, 3, IMAGE_SIZE, IMAGE_SIZE)
    for seen, image in zip(resized, images, strict=True):
        grey_levels = np.floor(image.numpy() * 255).astype(np.uint8).transpose(1, 2, 0)
        wanted = np.asarray(Image.fromarray(grey_levels).resize((IMAGE_SIZE, IMAGE_SIZE), Image.LANCZOS))
        np.testing.assert_array_equal(seen.numpy().transpose(1, 2, 0), wanted.astype(np.float32) / 255)


def test_compress_keeps_the_sign() -> None:
    values = torch.tensor([-3.0, -1e-4, 0, 1e-4, 3])
    torch.testing.assert_close(compress(values), torch.log(1 + values.abs()) * values.tanh(), rtol=1e-3, atol=1e-9)
    assert torch.equal(compress(values).sign(), values.sign())


def test_wrong_arguments_are_assertion_errors(gnet: GNet, images: torch.Tensor) -> None:
    with pytest.raises(AssertionError, match=r"subject 3 of \[1, 5\]"):
        gnet.predict(images, 3)
    with pytest.raises(AssertionError, match="no image"):
        gnet.predict(images[:0], 1)
    with pytest.raises(AssertionError, match="eval"):
        GNet({1: 2}, prefilter=(2, 2), early=2, width=2, trunk=1).predict(images, 1)
