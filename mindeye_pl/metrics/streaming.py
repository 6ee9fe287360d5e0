"""Metrics that gather batches and ranks before they answer: classes of the same names as the functions.

Legend: B batch.
"""

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mindeye_pl.metrics import retrieval


class RetrievalAccuracy(Metric):
    """`retrieval_accuracy` among everything seen since the last reset.

    Args:
        top_k: how many of the most similar items count.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    query: list[Tensor]
    gallery: list[Tensor]

    def __init__(self, top_k: int = 1):
        super().__init__()
        self.top_k = top_k
        self.add_state("query", default=[], dist_reduce_fx="cat")
        self.add_state("gallery", default=[], dist_reduce_fx="cat")

    def update(self, query: Tensor, gallery: Tensor) -> None:
        """Takes in pairs, `(B, ...)` each, row i of the one belonging to row i of the other."""
        self.query.append(query.detach().flatten(1))
        self.gallery.append(gallery.detach().flatten(1))

    def compute(self) -> Tensor:
        """The accuracy, a scalar."""
        query, gallery = dim_zero_cat(self.query), dim_zero_cat(self.gallery)
        return retrieval.retrieval_accuracy(query=query, gallery=gallery, top_k=self.top_k)


class ImageRetrieval(RetrievalAccuracy):
    """`image_retrieval`: brains look for their picture."""

    def update(self, brain: Tensor, clip: Tensor) -> None:
        """Takes in retrieval embeddings and target tokens, `(B, ...)` each."""
        super().update(query=brain, gallery=clip)


class BrainRetrieval(RetrievalAccuracy):
    """`brain_retrieval`: pictures look for their brain."""

    def update(self, brain: Tensor, clip: Tensor) -> None:
        """Takes in retrieval embeddings and target tokens, `(B, ...)` each."""
        super().update(query=clip, gallery=brain)
