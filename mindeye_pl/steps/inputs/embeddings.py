"""The cache of what frozen models make of numbered things: each row is made once and kept on disk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.distributed.ranks import main_process_first
from mindeye_pl.engine.run import Observer
from mindeye_pl.engine.step import Input, Inputs, RunObserver
from mindeye_pl.steps.inputs.frozen_models import frozen_device
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.store.fingerprint import fingerprint


class Readable(Protocol):
    """Images by number."""

    def __len__(self) -> int: ...

    def read(self, ids: np.ndarray, /) -> np.ndarray:
        """Return images `(n, 3, H, W)` in [0, 1] of `(n,)` ids."""


@dataclass(frozen=True)
class EmbeddingCache:
    """Folders of rows, one for each thing that determines them.

    Rows are made on the device, `batch_size` at once; the observer is told of every folder that is used.
    """

    folder: Path
    device: torch.device
    batch_size: int
    observer: Observer = field(default_factory=Observer)

    def of_images(
        self,
        name: str,
        images: Readable,
        ids: np.ndarray,
        shape: tuple[int, int],
        build: Callable[[torch.device], Callable[[Tensor], Tensor]],
        *,
        by: Mapping[str, Any],
        title: str,
    ) -> TokenStore:
        """Return the store of rows of images, as `of_ids`, with a `build` of functions of images `(b, 3, H, W)`."""

        def build_rows(device: torch.device) -> Callable[[np.ndarray], Tensor]:
            embed = build(device)
            return lambda batch: embed(torch.from_numpy(images.read(batch)).float().to(device))

        return self.of_ids(name, len(images), ids, shape, build_rows, by=by, title=f"images {title}")

    def of_ids(
        self,
        name: str,
        count: int,
        ids: np.ndarray,
        shape: tuple[int, int],
        build: Callable[[torch.device], Callable[[np.ndarray], Tensor]],
        *,
        by: Mapping[str, Any],
        title: str,
    ) -> TokenStore:
        """Return the store of rows of numbered things; missing rows are made now.

        Args:
            name: begins the folder's name.
            count: how many things there are.
            ids: `(n,)` of those whose rows are wanted.
            shape: of one row.
            build: from a device to a function that makes the rows `(b, *shape)` of ascending ids `(b,)`; called only
                if a row is missing, and released afterwards.
            by: plain data that determines the rows.
            title: names things and model to the user.

        Raises:
            UserError: as `TokenStore`.
        """
        print_ = fingerprint(by)
        folder = self.folder / f"{name}-{print_[:12]}"
        with main_process_first():  # it embeds, and the other ranks find the rows
            store = TokenStore.create_or_open(folder, count, *shape, description=dict(by))
            missing = store.missing(ids)
            if len(missing):
                console.print(f"embedding {len(missing):,} {title}")
                rows = torch.inference_mode()(build(self.device))
                store.fill(missing, rows, lambda batch: batch, batch_size=self.batch_size)
        self.observer.uses_embeddings(folder, by, print_, filled=len(missing) > 0)
        return store


@dataclass(frozen=True)
class Embeddings(Input):
    """The run's cache of embeddings, which changes nothing in what is made with it; opened, an `EmbeddingCache`."""

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the run's observer."""
        return {"observer": RunObserver()}

    def open(self, config: DictConfig, parts: Inputs) -> EmbeddingCache:
        """Return the cache."""
        folder, batch_size = Path(config.paths.targets), config.scale.embed_batch_size
        return EmbeddingCache(folder, frozen_device(config), batch_size, parts["observer"])
