"""Metrics that gather batches before they answer: classes of the same names as the functions.

The answer is that of the whole set, whatever the batches were, in whatever order they came. Metrics of single pairs
keep one number for each image; those that compare every image with every other keep the embeddings until `compute`.

Legend: B batch, N images since the last reset.
"""

from typing import Any

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mindeye_pl.metrics import effective_rank as ranks
from mindeye_pl.metrics import identification, pixels, retrieval
from mindeye_pl.metrics.identification import Direction
from mindeye_pl.metrics.pixels import PUBLISHED_SIZE, Form


class ImageMetric(Metric):
    """What the metrics here share.

    Attributes:
        higher_is_better: the direction of the metric.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    @property
    def chance(self) -> float | None:
        """What guessing would score, None where that is no one number."""
        return None

    @property
    def pool_size(self) -> int | None:
        """Candidates that the right answer is picked from, None where nothing is picked."""
        return None


class MeanOverImages(ImageMetric):
    """The mean of one number for each image; a subclass appends those of a batch to `values`."""

    values: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def of_each(self) -> Tensor:
        """One number for each image, in the order of the batches: `(N,)` float64."""
        return dim_zero_cat(self.values)

    def compute(self) -> Tensor:
        """Their mean, a float64 scalar."""
        return self.of_each().mean()


class PixCorr(MeanOverImages):
    """`pixels.pixcorr`.

    Args:
        size: as in the function.
        antialias: as in the function.
    """

    def __init__(self, size: int | None = PUBLISHED_SIZE, antialias: bool = False):
        super().__init__()
        self.size, self.antialias = size, antialias

    def update(self, reconstructions: Tensor, images: Tensor) -> None:
        """Takes in pairs, `(B, 3, H, W)` each."""
        each = pixels.pixcorr_of_each(reconstructions, images, size=self.size, antialias=self.antialias)
        self.values.append(each.detach())


class SSIM(MeanOverImages):
    """`pixels.ssim`.

    Args:
        size: as in the function.
        form: as in the function.
        antialias: as in the function.
    """

    def __init__(self, size: int | None = PUBLISHED_SIZE, form: Form = "published", antialias: bool = False):
        super().__init__()
        self.size, self.form, self.antialias = size, form, antialias

    def update(self, reconstructions: Tensor, images: Tensor) -> None:
        """Takes in pairs, `(B, 3, H, W)` each."""
        each = pixels.ssim_of_each(reconstructions, images, size=self.size, form=self.form, antialias=self.antialias)
        self.values.append(each.detach().to(self.device))  # scikit-image leaves them on the CPU


class CorrelationDistance(MeanOverImages):
    """`identification.correlation_distance`."""

    higher_is_better = False

    def update(self, first: Tensor, second: Tensor) -> None:
        """Takes in features of reconstructions and of their images, `(B, ...)` each."""
        self.values.append(identification.correlation_distance_of_each(first.detach(), second.detach()))


class PairedEmbeddings(ImageMetric):
    """A metric of all pairs together; the embeddings are kept in the precision in which they came."""

    query: list[Tensor]
    gallery: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("query", default=[], dist_reduce_fx="cat")
        self.add_state("gallery", default=[], dist_reduce_fx="cat")

    def update(self, query: Tensor, gallery: Tensor) -> None:
        """Takes in pairs, `(B, ...)` each, row i of the one belonging to row i of the other."""
        self.query.append(query.detach().flatten(1))
        self.gallery.append(gallery.detach().flatten(1))

    def pairs(self) -> dict[str, Any]:
        """Everything since the last reset, `(N, F)` by name."""
        return {"query": dim_zero_cat(self.query), "gallery": dim_zero_cat(self.gallery)}

    @property
    def num_images(self) -> int:
        """N, on this device."""
        # After a synchronisation the state is one tensor instead of a list.
        return len(self.query) if isinstance(self.query, Tensor) else sum(map(len, self.query))


class TwoWayIdentification(PairedEmbeddings):
    """`identification.two_way_identification`.

    Args:
        direction: as in the function.
    """

    chance = 0.5
    pool_size = 2

    def __init__(self, direction: Direction = "published"):
        super().__init__()
        self.direction: Direction = direction

    def compute(self) -> Tensor:
        """The share of comparisons won, a float64 scalar."""
        return identification.two_way_identification(**self.pairs(), direction=self.direction)


class NWayIdentification(PairedEmbeddings):
    """`identification.n_way_identification`.

    Args:
        n: candidates; None takes all images.
        top_k: as in the function.
        direction: as in the function.
    """

    def __init__(self, n: int | None = None, top_k: int = 1, direction: Direction = "published"):
        super().__init__()
        self.n, self.top_k = n, top_k
        self.direction: Direction = direction

    @property
    def pool_size(self) -> int | None:
        """N where n was not set, None before the first batch."""
        return self.n or self.num_images or None

    @property
    def chance(self) -> float | None:
        """The `top_k` of n."""
        return self.top_k / self.pool_size if self.pool_size else None

    def compute(self) -> Tensor:
        """The share identified, a float64 scalar."""
        n = self.n or self.num_images
        return identification.n_way_identification(**self.pairs(), n=n, top_k=self.top_k, direction=self.direction)


class RetrievalAccuracy(PairedEmbeddings):
    """`retrieval.retrieval_accuracy` among everything seen since the last reset.

    Args:
        top_k: how many of the most similar items count.
    """

    def __init__(self, top_k: int = 1):
        super().__init__()
        self.top_k = top_k

    @property
    def pool_size(self) -> int | None:
        """N, None before the first batch."""
        return self.num_images or None

    @property
    def chance(self) -> float | None:
        """The `top_k` of N."""
        return min(1.0, self.top_k / self.num_images) if self.num_images else None

    def compute(self) -> Tensor:
        """The accuracy, a scalar."""
        return retrieval.retrieval_accuracy(**self.pairs(), top_k=self.top_k)


class ImageRetrieval(RetrievalAccuracy):
    """`retrieval.image_retrieval`: brains look for their image."""

    def update(self, brain: Tensor, clip: Tensor) -> None:
        """Takes in retrieval embeddings and target tokens, `(B, ...)` each."""
        super().update(query=brain, gallery=clip)


class BrainRetrieval(RetrievalAccuracy):
    """`retrieval.brain_retrieval`: images look for their brain."""

    def update(self, brain: Tensor, clip: Tensor) -> None:
        """Takes in retrieval embeddings and target tokens, `(B, ...)` each."""
        super().update(query=clip, gallery=brain)


class EffectiveRank(ImageMetric):
    """`effective_rank.effective_rank`."""

    tokens: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("tokens", default=[], dist_reduce_fx="cat")

    def update(self, tokens: Tensor) -> None:
        """Takes in tokens, `(B, ...)`."""
        self.tokens.append(tokens.detach().flatten(1))

    def compute(self) -> Tensor:
        """The effective rank, a float64 scalar."""
        return ranks.effective_rank(dim_zero_cat(self.tokens))


class EffectiveRankRatio(PairedEmbeddings):
    """`effective_rank.effective_rank_ratio`."""

    def update(self, predicted: Tensor, true: Tensor) -> None:
        """Takes in predicted and true tokens, `(B, ...)` each."""
        super().update(query=predicted, gallery=true)

    def compute(self) -> Tensor:
        """The ratio, a float64 scalar."""
        pairs = self.pairs()
        return ranks.effective_rank_ratio(pairs["query"], pairs["gallery"])
