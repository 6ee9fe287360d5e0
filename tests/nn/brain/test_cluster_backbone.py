"""Backbone on cluster tokens."""

import pytest
import torch

from mindeye_pl.nn.brain.cluster_backbone import ClusterBackbone

CLUSTERS, WIDTH, HIDDEN, TOKENS, TOKEN_WIDTH = 4, 6, 10, 3, 8


@pytest.fixture
def backbone() -> ClusterBackbone:
    torch.manual_seed(0)
    return ClusterBackbone(CLUSTERS, WIDTH, HIDDEN, TOKENS, TOKEN_WIDTH, num_layers=2, heads=2).eval()


def test_shapes(backbone: ClusterBackbone) -> None:
    aligned = torch.randn(5, CLUSTERS * WIDTH)
    assert backbone.hidden(aligned).shape == (5, HIDDEN)
    for read in backbone(aligned):
        assert read.shape == (5, TOKENS, TOKEN_WIDTH)


def test_clusters_differ_by_their_identities_alone(backbone: ClusterBackbone) -> None:
    """Before the map to the hidden vector, exchanging clusters with their identities exchanges their tokens."""
    order = torch.tensor([2, 0, 3, 1])
    pooled = torch.randn(5, CLUSTERS, WIDTH)
    backbone.to_hidden = torch.nn.Identity()
    before = backbone.hidden(pooled.flatten(1)).unflatten(1, (CLUSTERS, WIDTH))
    backbone.identities.data = backbone.identities.data[order]
    after = backbone.hidden(pooled[:, order].flatten(1)).unflatten(1, (CLUSTERS, WIDTH))
    torch.testing.assert_close(after, before[:, order])


def test_clusters_interact(backbone: ClusterBackbone) -> None:
    pooled = torch.randn(1, CLUSTERS * WIDTH, requires_grad=True)
    backbone.to_hidden = torch.nn.Identity()
    backbone.hidden(pooled).unflatten(1, (CLUSTERS, WIDTH))[0, 0, 0].backward()
    assert pooled.grad is not None
    assert (pooled.grad.unflatten(1, (CLUSTERS, WIDTH)).abs().sum(2) > 0).all()
