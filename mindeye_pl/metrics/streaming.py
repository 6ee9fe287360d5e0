"""Streaming metrics: torchmetrics classes with the names of the functions, updated batch by batch.

The result is that of the whole set, independent of batch size and order. Metrics of single pairs keep one number per
image; those that compare every image with every other keep the embeddings until `compute`.

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
    """Base class of the streaming metrics.

    Attributes:
        higher_is_better: direction of the metric.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    @property
    def chance(self) -> float | None:
        """Score of a random guess, None if it is no single number."""
        return None

    @property
    def pool_size(self) -> int | None:
        """Number of candidates, None if there are no candidates."""
        return None


class MeanOverImages(ImageMetric):
    """Mean of one number per image; a subclass appends the numbers of a batch to `values`."""

    values: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def per_image(self) -> Tensor:
        """Return one number per image in update order, `(N,)` float64."""
        return dim_zero_cat(self.values)

    def compute(self) -> Tensor:
        """Return the mean over images, a float64 scalar."""
        return self.per_image().mean()


class PixCorr(MeanOverImages):
    """Streaming `pixels.pixcorr`.

    Args:
        size: side in pixels to which images are resized; None leaves them as they are.
        antialias: resize with antialiasing.
    """

    def __init__(self, size: int | None = PUBLISHED_SIZE, antialias: bool = False):
        super().__init__()
        self.size, self.antialias = size, antialias

    def update(self, reconstructions: Tensor, images: Tensor) -> None:
        """Add pairs, `(B, 3, H, W)` each."""
        each = pixels.pixcorr_per_image(reconstructions, images, size=self.size, antialias=self.antialias)
        self.values.append(each.detach())


class SSIM(MeanOverImages):
    """Streaming `pixels.ssim`.

    Args:
        size: side in pixels to which images are resized; None leaves them as they are.
        form: "published" or "torchmetrics".
        antialias: resize with antialiasing.
    """

    def __init__(self, size: int | None = PUBLISHED_SIZE, form: Form = "published", antialias: bool = False):
        super().__init__()
        self.size, self.form, self.antialias = size, form, antialias

    def update(self, reconstructions: Tensor, images: Tensor) -> None:
        """Add pairs, `(B, 3, H, W)` each."""
        each = pixels.ssim_per_image(reconstructions, images, size=self.size, form=self.form, antialias=self.antialias)
        self.values.append(each.detach().to(self.device))  # scikit-image returns them on the CPU


class CorrelationDistance(MeanOverImages):
    """Streaming `identification.correlation_distance`."""

    higher_is_better = False

    def update(self, first: Tensor, second: Tensor) -> None:
        """Add features of reconstructions and of their images, `(B, ...)` each."""
        self.values.append(identification.correlation_distance_per_image(first.detach(), second.detach()))


class PairedEmbeddings(ImageMetric):
    """Base class of metrics over all pairs; embeddings are kept in their original precision."""

    query: list[Tensor]
    gallery: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("query", default=[], dist_reduce_fx="cat")
        self.add_state("gallery", default=[], dist_reduce_fx="cat")

    def update(self, query: Tensor, gallery: Tensor) -> None:
        """Add pairs, `(B, ...)` each, row i of one matching row i of the other."""
        self.query.append(query.detach().flatten(1))
        self.gallery.append(gallery.detach().flatten(1))

    def pairs(self) -> dict[str, Any]:
        """Return all embeddings since the last reset, `(N, F)` by name."""
        return {"query": dim_zero_cat(self.query), "gallery": dim_zero_cat(self.gallery)}

    @property
    def num_images(self) -> int:
        """Number of images on this device, N."""
        # After a synchronisation the state is a single tensor.
        return len(self.query) if isinstance(self.query, Tensor) else sum(map(len, self.query))


class TwoWayIdentification(PairedEmbeddings):
    """Streaming `identification.two_way_identification`.

    Args:
        direction: "published" or "paper".
    """

    chance = 0.5
    pool_size = 2

    def __init__(self, direction: Direction = "published"):
        super().__init__()
        self.direction: Direction = direction

    def compute(self) -> Tensor:
        """Return the fraction of comparisons won, a float64 scalar."""
        return identification.two_way_identification(**self.pairs(), direction=self.direction)


class NWayIdentification(PairedEmbeddings):
    """Streaming `identification.n_way_identification`.

    Args:
        n: number of candidates; None for all images.
        top_k: number of most similar candidates that count as found.
        direction: "published" or "paper".
    """

    def __init__(self, n: int | None = None, top_k: int = 1, direction: Direction = "published"):
        super().__init__()
        self.n, self.top_k = n, top_k
        self.direction: Direction = direction

    @property
    def pool_size(self) -> int | None:
        """Number of candidates; N if n is None, None before the first batch."""
        return self.n or self.num_images or None

    @property
    def chance(self) -> float | None:
        """Score of a random guess, top_k / n."""
        return self.top_k / self.pool_size if self.pool_size else None

    def compute(self) -> Tensor:
        """Return the fraction identified, a float64 scalar."""
        n = self.n or self.num_images
        return identification.n_way_identification(**self.pairs(), n=n, top_k=self.top_k, direction=self.direction)


class RetrievalAccuracy(PairedEmbeddings):
    """Streaming `retrieval.retrieval_accuracy` among all pairs since the last reset.

    Args:
        top_k: number of most similar items that count as found.
    """

    def __init__(self, top_k: int = 1):
        super().__init__()
        self.top_k = top_k

    @property
    def pool_size(self) -> int | None:
        """Number of candidates, N; None before the first batch."""
        return self.num_images or None

    @property
    def chance(self) -> float | None:
        """Score of a random guess, top_k / N."""
        return min(1.0, self.top_k / self.num_images) if self.num_images else None

    def compute(self) -> Tensor:
        """Return the accuracy, a scalar."""
        return retrieval.retrieval_accuracy(**self.pairs(), top_k=self.top_k)


class ImageRetrieval(RetrievalAccuracy):
    """Streaming `retrieval.image_retrieval`: queries are brains."""

    def update(self, brain: Tensor, clip: Tensor) -> None:
        """Add retrieval embeddings and target tokens, `(B, ...)` each."""
        super().update(query=brain, gallery=clip)


class BrainRetrieval(RetrievalAccuracy):
    """Streaming `retrieval.brain_retrieval`: queries are images."""

    def update(self, brain: Tensor, clip: Tensor) -> None:
        """Add retrieval embeddings and target tokens, `(B, ...)` each."""
        super().update(query=clip, gallery=brain)


class EffectiveRank(ImageMetric):
    """Streaming `effective_rank.effective_rank`."""

    tokens: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("tokens", default=[], dist_reduce_fx="cat")

    def update(self, tokens: Tensor) -> None:
        """Add tokens, `(B, ...)`."""
        self.tokens.append(tokens.detach().flatten(1))

    def compute(self) -> Tensor:
        """Return the effective rank, a float64 scalar."""
        return ranks.effective_rank(dim_zero_cat(self.tokens))


class EffectiveRankRatio(PairedEmbeddings):
    """Streaming `effective_rank.effective_rank_ratio`."""

    def update(self, predicted: Tensor, true: Tensor) -> None:
        """Add predicted and true tokens, `(B, ...)` each."""
        super().update(query=predicted, gallery=true)

    def compute(self) -> Tensor:
        """Return the ratio, a float64 scalar."""
        pairs = self.pairs()
        return ranks.effective_rank_ratio(pairs["query"], pairs["gallery"])
