"""Pooling of voxels into one token per functional cluster, with the same weights for all subjects.

Sources: Brain-IT (arXiv:2510.25976) and its public code (WeizmannVision/brainit-fmri).

Legend: B batch, V voxels of one subject, C clusters, n voxels of the largest cluster, d width of a cluster's token.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mindeye_pl.nn.brain.alignment import AlignmentNetwork, PerSubject
from mindeye_pl.types import PositiveInt, ProperFraction

#: What the attention's logits depend on.
Attention = Literal["responses", "embeddings"]

#: Values that a voxel's embedding starts from.
Start = Literal["random", "tuning"]


class VoxelEmbeddings(PerSubject):
    """One learned vector per voxel, and the cluster that the voxel belongs to.

    Clusters are in turn until `place` sets them.

    Args:
        voxel_counts: V of each subject, in the order of the subject indices.
        num_clusters: C.
        dim: d.
    """

    def __init__(self, voxel_counts: Sequence[int], num_clusters: int, dim: int):
        super().__init__()
        self.num_clusters = num_clusters
        self.embeddings = nn.ParameterList(nn.Parameter(torch.randn(count, dim) * dim**-0.5) for count in voxel_counts)
        for index, count in enumerate(voxel_counts):
            self.register_buffer(f"clusters_{index}", torch.arange(count) % num_clusters)
            size = -(-count // num_clusters)
            table = torch.arange(size * num_clusters).view(size, num_clusters).T
            self._keep_members(index, table.clamp(max=count - 1), table < count)
        self.register_load_state_dict_post_hook(_tabulate_all)

    def clusters(self, subject_index: int) -> Tensor:
        """Return the cluster of each voxel, `(V,)` int64."""
        return self.get_buffer(f"clusters_{subject_index}")

    @torch.no_grad()
    def place(self, subject_index: int, clusters: Tensor, start: Tensor | None = None) -> None:
        """Set one subject's clusters `(V,)` and, where they are given, the first columns `(V, K)` of its embeddings.

        Columns past d are left out; those past K keep a tenth of their random values.
        """
        assert clusters.min() >= 0, clusters.min()
        assert clusters.max() < self.num_clusters, f"cluster {clusters.max()} of {self.num_clusters}"
        self.clusters(subject_index).copy_(clusters)
        self.tabulate(subject_index)
        if start is not None:
            embeddings = self.embeddings[subject_index]  # (V, d)
            given = min(start.shape[1], embeddings.shape[1])
            embeddings[:, given:] *= 0.1
            embeddings[:, :given] = start[:, :given]

    def members(self, subject_index: int) -> tuple[Tensor, Tensor]:
        """Return the voxels of each cluster `(C, n)` int64, and the mask `(C, n)` bool that is false for padding."""
        return self.get_buffer(f"members_{subject_index}"), self.get_buffer(f"mask_{subject_index}")

    def _keep_members(self, subject_index: int, table: Tensor, mask: Tensor) -> None:
        # Their shapes depend on the clusters: found in a step, they would make it wait for the device.
        self.register_buffer(f"members_{subject_index}", table, persistent=False)
        self.register_buffer(f"mask_{subject_index}", mask, persistent=False)

    def tabulate(self, subject_index: int) -> None:
        """Find the members of one subject's clusters anew."""
        clusters = self.clusters(subject_index)
        counts = clusters.bincount(minlength=self.num_clusters)  # (C,)
        order = clusters.argsort(stable=True)
        first = counts.cumsum(0) - counts
        position = torch.arange(len(clusters), device=clusters.device) - first[clusters[order]]
        table = clusters.new_zeros(self.num_clusters, int(counts.max()))
        table[clusters[order], position] = order
        mask = torch.arange(table.shape[1], device=clusters.device) < counts[:, None]
        self._keep_members(subject_index, table, mask)


def _tabulate_all(module: nn.Module, _keys: object) -> None:
    """Find the members of all clusters after weights were loaded."""
    assert isinstance(module, VoxelEmbeddings)
    for subject_index in range(len(module.embeddings)):
        module.tabulate(subject_index)


class ClusterPooling(AlignmentNetwork):
    """Attention from one learned query per cluster to the cluster's voxels.

    A voxel's key and value are its response times its embedding, so the pooled token is the attention-weighted mean of
    these. Queries are shared by all subjects; the linear maps of the published attention are a part of them and of
    the backbone's first layer.

    Args:
        voxel_counts: V of each subject, in the order of the subject indices.
        num_clusters: C.
        cluster_dim: d; the shared space is C d wide.
        attention: what the logits depend on. `responses` (published): the response times the embedding, so that a
            voxel that is silent counts less or more. `embeddings`: the embedding alone, so that the alignment is linear
            in the voxels.
        start: values that the embeddings start from, which whoever places the voxels gives. `random`, as the published
            code has it | `tuning`, the voxel's weights of a ridge encoder: the pooled responses are then estimates of
            image features, as of a matched filter.
        voxel_dropout: probability in training that a voxel is left out of a trial; the published training draws 15,000
            of some 40,000 voxels with replacement, which leaves out about two of three.
    """

    def __init__(
        self,
        voxel_counts: Sequence[PositiveInt],
        num_clusters: PositiveInt,
        cluster_dim: PositiveInt,
        *,
        attention: Attention = "responses",
        start: Start = "random",
        voxel_dropout: ProperFraction = 0.0,
    ):
        super().__init__()
        self.attention, self.start, self.voxel_dropout = attention, start, voxel_dropout
        self.voxels = VoxelEmbeddings(voxel_counts, num_clusters, cluster_dim)
        self.queries = nn.Parameter(torch.randn(num_clusters, cluster_dim))

    def forward(self, voxels: Tensor, subject_index: int) -> Tensor:
        """Pool one subject's voxels into cluster tokens, one after the other. Shape: `(B, V)` -> `(B, C d)`.

        The token of a cluster without a voxel is zero.
        """
        embeddings = self.voxels.embeddings[subject_index]  # (V, d)
        members, mask = self.voxels.members(subject_index)  # (C, n)
        values = embeddings[members]  # (C, n, d)
        scores = (values * self.queries[:, None]).sum(-1) * values.shape[-1] ** -0.5  # (C, n)
        responses = voxels[:, members]  # (B, C, n)
        if self.training and self.voxel_dropout:
            mask = mask & (torch.rand(voxels.shape, device=voxels.device) >= self.voxel_dropout)[:, members]
        weights = _masked_softmax(responses * scores if self.attention == "responses" else scores, mask)
        return torch.einsum("bcn,cnd->bcd", weights * responses, values).flatten(1)

    def voxel_weights(self, subject_index: int) -> Tensor | None:
        """Return the weights `(C d, V)`; None where the attention depends on the responses."""
        if self.attention == "responses":
            return None
        clusters, embeddings = self.voxels.clusters(subject_index), self.voxels.embeddings[subject_index].detach()
        scores = (embeddings * self.queries.detach()[clusters]).sum(-1) * embeddings.shape[-1] ** -0.5  # (V,)
        one_hot = nn.functional.one_hot(clusters, self.voxels.num_clusters).bool()  # (V, C)
        weights = _masked_softmax(scores.expand(one_hot.shape[::-1]), one_hot.T)  # (C, V)
        return torch.einsum("cv,vd->cdv", weights, embeddings).flatten(0, 1)


def _masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax over the last dimension of what the mask keeps; zeros where it keeps nothing."""
    lowest = torch.finfo(torch.float32).min
    return logits.float().masked_fill(~mask, lowest).softmax(-1) * mask
