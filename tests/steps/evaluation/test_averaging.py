"""MindEye1 reads the average of an image's responses, MindEye2 each response (MindEye1, spec section 8)."""

import pytest
import torch

from mindeye_pl.data.layout import test_set as of_tests
from mindeye_pl.models.mindeye import MindEye1
from mindeye_pl.models.reconstructor import BrainQuery, Reconstructor
from mindeye_pl.steps.brain.predictions import predict_retrieval
from mindeye_pl.types import Averaging
from tests.models.tiny import alignment, residual_mlp

N, R, V = 3, 3, 20


def brains(averaging: Averaging) -> of_tests.TestSet:
    voxels = torch.randn(N, R, V, generator=torch.Generator().manual_seed(1))
    weights = torch.tensor([[1, 0, 0], [0.5, 0, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    return of_tests.TestSet(voxels, torch.arange(N), weights, torch.tensor([1, 2, 3]), averaging)


@pytest.fixture
def model() -> MindEye1:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MindEye1(alignment([V]), residual_mlp()).eval()


def test_voxels_are_averaged_before_the_network(model: MindEye1) -> None:
    test_set = brains("voxels")
    averaged = torch.einsum("nr,nrv->nv", test_set.weights, test_set.voxels)
    expected = model.predict(averaged).retrieval
    torch.testing.assert_close(predict_retrieval(model, test_set, test_set.weights), expected)
    voxels, weights = test_set.queries()
    made = Reconstructor(model).predict_step(BrainQuery(test_set.stimulus_ids, voxels, weights))
    torch.testing.assert_close(made["retrieval"], expected)


def test_outputs_are_averaged_after_it(model: MindEye1) -> None:
    test_set = brains("outputs")
    each = model.predict(test_set.voxels.flatten(0, 1)).retrieval.unflatten(0, (N, R))
    expected = torch.einsum("nr,nrsd->nsd", test_set.weights, each)
    torch.testing.assert_close(predict_retrieval(model, test_set, test_set.weights), expected)
    voxels = predict_retrieval(model, brains("voxels"), test_set.weights)
    torch.testing.assert_close(voxels[0], expected[0])  # of one response
    assert not torch.allclose(voxels[1:], expected[1:])
