"""Pooling of voxels by cluster, against a loop over clusters, and its symmetries."""

import pytest
import torch
from torch import Tensor

from mindeye_pl.nn.brain.cluster_pooling import ClusterPooling

VOXELS, CLUSTERS, WIDTH = (11, 7), 4, 6


def pooling(attention: str = "responses", **options: float) -> ClusterPooling:
    torch.manual_seed(0)
    network = ClusterPooling(VOXELS, CLUSTERS, WIDTH, attention=attention, **options)
    network.voxels.place(0, torch.tensor([0, 3, 0, 0, 1, 3, 3, 0, 1, 0, 0]))  # none in cluster 2
    return network.eval()


def pooled_one_by_one(network: ClusterPooling, responses: Tensor) -> Tensor:
    """Tokens of one trial `(V,)` by PyTorch's own attention, one cluster after the other."""
    embeddings, clusters = network.voxels.embeddings[0], network.voxels.clusters(0)
    tokens = []
    for cluster in range(CLUSTERS):
        mine = clusters == cluster
        if not mine.any():
            tokens.append(torch.zeros(WIDTH))
            continue
        values = responses[mine, None] * embeddings[mine]
        keys = values if network.attention == "responses" else embeddings[mine]
        query = network.queries[cluster : cluster + 1]
        tokens.append(torch.nn.functional.scaled_dot_product_attention(query[None], keys[None], values[None])[0, 0])
    return torch.cat(tokens)


@pytest.mark.parametrize("attention", ["responses", "embeddings"])
def test_pooling_is_attention_within_each_cluster(attention: str) -> None:
    network, voxels = pooling(attention), torch.randn(5, VOXELS[0])
    expected = torch.stack([pooled_one_by_one(network, one) for one in voxels])
    torch.testing.assert_close(network(voxels, 0), expected)
    assert network(voxels, 0).shape == (5, CLUSTERS * WIDTH)
    assert network(torch.randn(3, VOXELS[1]), 1).shape == (3, CLUSTERS * WIDTH)


@pytest.mark.parametrize("attention", ["responses", "embeddings"])
def test_the_order_of_the_voxels_does_not_matter(attention: str) -> None:
    network, voxels, order = pooling(attention), torch.randn(5, VOXELS[0]), torch.randperm(VOXELS[0])
    before = network(voxels, 0)
    network.voxels.place(0, network.voxels.clusters(0)[order], network.voxels.embeddings[0][order])
    torch.testing.assert_close(network(voxels[:, order], 0), before)


def test_weights_of_linear_pooling() -> None:
    network = pooling("embeddings")
    weights = network.voxel_weights(0)
    assert weights is not None
    torch.testing.assert_close(network(torch.eye(VOXELS[0]), 0), weights.T)
    assert pooling("responses").voxel_weights(0) is None


def test_queries_are_shared_and_voxels_are_not() -> None:
    network = pooling()
    network(torch.randn(2, VOXELS[1]), 1).sum().backward()
    assert network.queries.grad is not None
    assert network.voxels.embeddings[0].grad is None
    assert network.voxels.embeddings[1].grad is not None


def test_left_out_voxels_do_not_count() -> None:
    network = pooling(voxel_dropout=0.5)
    voxels = torch.randn(4000, VOXELS[0])
    voxels[:] = voxels[0]
    whole = network(voxels, 0)
    dropped = network.train()(voxels, 0).unflatten(1, (CLUSTERS, WIDTH))
    empty = (dropped[:, 1] == 0).all(1).float().mean()
    assert abs(empty - 0.25) < 0.05, "both voxels of cluster 1 are left out in one of four trials"
    assert (dropped[:, 2] == 0).all()
    assert len(dropped[:, 0].unique(dim=0)) > 20
    assert torch.equal(network.eval()(voxels, 0), whole)


def test_clusters_outside_the_range_are_refused() -> None:
    with pytest.raises(AssertionError):
        pooling().voxels.place(1, torch.full((VOXELS[1],), CLUSTERS))


def test_embeddings_start_from_given_columns() -> None:
    network, start = pooling(), torch.randn(VOXELS[0], 2)
    before = network.voxels.embeddings[0].detach().clone()
    network.voxels.place(0, network.voxels.clusters(0), start)
    assert torch.equal(network.voxels.embeddings[0][:, :2], start)
    torch.testing.assert_close(network.voxels.embeddings[0][:, 2:], 0.1 * before[:, 2:])
    more = torch.randn(VOXELS[0], WIDTH + 3)
    network.voxels.place(0, network.voxels.clusters(0), more)
    assert torch.equal(network.voxels.embeddings[0], more[:, :WIDTH])
