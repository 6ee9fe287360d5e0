"""The bottleneck's projection against scikit-learn's PCA, and its properties."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from mindeye_pl.nn.brain.bottleneck import Bottleneck, principal_directions
from tests.models import tiny

WIDTH = 12


@pytest.fixture
def vectors() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(WIDTH, WIDTH, generator=generator)
    return torch.randn(40, WIDTH, generator=generator) @ mixing + 3


def squeezed(vectors: Tensor, dimensions: int) -> Tensor:
    mean, directions, _ = principal_directions(vectors)
    return Bottleneck(mean, directions[:dimensions])(vectors)


@pytest.mark.parametrize("dimensions", [1, 4, WIDTH])
def test_the_projection_is_that_of_principal_components(vectors: Tensor, dimensions: int) -> None:
    analysis = PCA(dimensions, svd_solver="full").fit(vectors.numpy())
    expected = analysis.inverse_transform(analysis.transform(vectors.numpy()))
    np.testing.assert_allclose(squeezed(vectors, dimensions), expected, atol=1e-4)
    _, _, variances = principal_directions(vectors)
    np.testing.assert_allclose(
        variances[:dimensions] * len(vectors) / (len(vectors) - 1), analysis.explained_variance_, rtol=1e-4
    )


def test_no_dimension_leaves_the_mean_alone_and_all_of_them_everything(vectors: Tensor) -> None:
    nothing = squeezed(vectors, 0)
    assert torch.equal(nothing, nothing[:1].expand_as(nothing))
    torch.testing.assert_close(nothing[0], vectors.mean(0))
    torch.testing.assert_close(squeezed(vectors, WIDTH), vectors)


def test_a_wider_bottleneck_keeps_what_a_narrower_one_does(vectors: Tensor) -> None:
    mean, directions, _ = principal_directions(vectors)
    narrow, wide = (Bottleneck(mean, directions[:count]) for count in (3, 7))
    torch.testing.assert_close(narrow(wide(vectors)), narrow(vectors))
    torch.testing.assert_close(narrow(narrow(vectors)), narrow(vectors))
    assert np.linalg.matrix_rank(narrow(vectors) - mean, tol=1e-3) == 3


def test_directions_without_variance_are_left_out(vectors: Tensor) -> None:
    flat = vectors[:, :4] @ torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(1))
    assert principal_directions(flat)[1].shape == (4, WIDTH)
    assert principal_directions(vectors[:5])[1].shape == (4, WIDTH), "five vectors span four directions"
    assert principal_directions(vectors[:1])[1].shape == (0, WIDTH)


def test_an_alignment_applies_its_bottleneck_and_stores_none_of_it() -> None:
    part, voxels = tiny.alignment([20], WIDTH), torch.randn(30, 20)
    names, aligned = set(part.state_dict()), part(voxels, 0).detach()
    mean, directions, _ = principal_directions(aligned)
    part.bottleneck = Bottleneck(mean, directions[:2])
    torch.testing.assert_close(part(voxels, 0), squeezed(aligned, 2))
    assert set(part.state_dict()) == names
