"""Reconstruction while a subject lies in the scanner: the betas of one trial in, tokens, images and retrieval out.

Legend: V voxels, m of a gallery or a baseline, n trials so far.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.models.clock import Clock, Latency

if TYPE_CHECKING:
    from mindeye_pl.decoder import Decoder, Reconstruction, Retrieved

Betas = Tensor | np.ndarray

#: Name of the whole trial in the table of latencies.
TRIAL = "trial"


class RunningZScore:
    """Z-scores of trials by the mean and standard deviation of all trials so far, the present one included.

    After the last trial of a session its z-score is that of the whole session, as betas are prepared off line. Sums
    are updated by Welford's method in float64 (Knuth, The Art of Computer Programming 2, section 4.2.2).

    Args:
        num_voxels: V.
    """

    def __init__(self, num_voxels: int):
        self.count = 0
        self.mean = np.zeros(num_voxels)
        self._squares = np.zeros(num_voxels)  # (V,) sum of squared deviations from the mean

    @property
    def std(self) -> np.ndarray:
        """`(V,)` population standard deviation; zeros before the second trial."""
        return np.sqrt(self._squares / max(self.count, 1))

    def update(self, betas: np.ndarray) -> None:
        """Count trials `(V,)` or `(m, V)`."""
        for row in np.atleast_2d(betas).astype(np.float64):
            self.count += 1
            deviation = row - self.mean
            self.mean += deviation / self.count
            self._squares += deviation * (row - self.mean)

    def __call__(self, betas: np.ndarray) -> np.ndarray:
        """Count one trial `(V,)` and return its z-scores, float32; zeros for voxels that are constant so far."""
        self.update(betas)
        std = self.std
        centred = betas.astype(np.float64) - self.mean
        return np.divide(centred, std, out=np.zeros_like(centred), where=std > 0).astype(np.float32)


@dataclass(frozen=True)
class StreamedTrial:
    """Output for one trial.

    Attributes:
        index: number of the trial in the stream, from 0.
        reconstruction: tokens and images, with n = 1.
        retrieved: the gallery's nearest images; None without a gallery.
    """

    index: int
    reconstruction: "Reconstruction"
    retrieved: "Retrieved | None" = None


class Stream:
    """A decoder that is called with one trial after the other.

    Args:
        decoder: the trained decoder.
        normalise: `running` z-scores the betas by the trials so far; `none` takes them as they are, z-scored already.
        baseline: `(m, V)` betas of earlier trials of this session, with which the running z-score begins.
        warm_up: trials, those of the baseline included, that are needed before an output: fewer have no stable
            standard deviation. Without effect for `normalise="none"`.
        gallery: images `(m, 3, H, W)` or target tokens `(m, S, D)` for retrieval.
        top_k: images retrieved of it.

    Raises:
        UserError: for a baseline or a gallery of another shape.
    """

    def __init__(
        self,
        decoder: "Decoder",
        *,
        normalise: Literal["running", "none"] = "running",
        baseline: Betas | None = None,
        warm_up: int = 20,
        gallery: Betas | None = None,
        top_k: int = 5,
    ):
        if normalise not in ("running", "none"):
            raise UserError("no such normalisation", got=normalise, expected="running or none")
        self.decoder, self.warm_up, self.top_k = decoder, warm_up, top_k
        self.zscore = RunningZScore(decoder.num_voxels) if normalise == "running" else None
        if baseline is not None and self.zscore is not None:
            self.zscore.update(decoder.check_betas(baseline).reshape(-1, decoder.num_voxels))
        self.gallery = None if gallery is None else gallery_tokens(gallery, decoder.embed)
        self.clock, self._index = Clock(), 0

    def __call__(self, betas: Betas) -> StreamedTrial | None:
        """Reconstruct one trial.

        The image of a trial depends on its betas and its index, as `Decoder.reconstruct` draws it.

        Args:
            betas: `(V,)`.

        Returns:
            The output; None for a trial of the warm-up.

        Raises:
            UserError: for betas of another shape, of other voxels, or that are not finite. The trial is not counted.
        """
        started = time.perf_counter()
        if betas.ndim != 1:
            raise UserError(
                "a trial has another shape", got=tuple(betas.shape), expected=f"({self.decoder.num_voxels},)"
            )
        with self.clock("z-score"):
            (row,) = self.decoder.check_betas(torch.as_tensor(betas)[None])
            row = self.zscore(row) if self.zscore is not None else row
        index, self._index = self._index, self._index + 1
        if self.zscore is not None and self.zscore.count < max(self.warm_up, 2):
            return None
        made = self.decoder.reconstruct(row[None], first_index=index, clock=self.clock)
        retrieved = None
        if self.gallery is not None:
            with self.clock("retrieval"):
                retrieved = made.retrieve(self.gallery, top_k=self.top_k)
        self.clock.add(TRIAL, time.perf_counter() - started)
        return StreamedTrial(index, made, retrieved)

    def latencies(self, *, skip: int = 1) -> dict[str, Latency]:
        """Return the time of each part, without its first `skip` times, at which kernels are chosen and compiled."""
        return self.clock.latencies(skip=skip)

    def table(self, *, skip: int = 1) -> str:
        """Return the latencies as text: part, median and 99th percentile in milliseconds, times."""
        rows = [
            f"{name:12s} {one.median_ms:10.1f} {one.p99_ms:10.1f} {one.count:6d}"
            for name, one in self.latencies(skip=skip).items()
        ]
        return "\n".join([f"{'part':12s} {'median ms':>10s} {'p99 ms':>10s} {'times':>6s}", *rows])


def gallery_tokens(gallery: Tensor | np.ndarray, embed: Callable[[Tensor], Tensor] | None) -> Tensor:
    """Return the tokens `(m, S, D)` of a gallery of images `(m, 3, H, W)`; another array is returned as it is.

    Raises:
        UserError: for images without an embedder.
    """
    gallery = torch.as_tensor(gallery).float()
    if gallery.ndim == 4 and gallery.shape[1] == 3 and len(gallery):
        if embed is None:
            raise UserError("this decoder has no embedder", got="a gallery of images", expected="target tokens")
        return embed(gallery)
    return gallery
