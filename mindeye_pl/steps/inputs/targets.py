"""Targets of a training: tokens, latents, maps, views and captions of images, by stimulus id.

Legend: n images, S tokens, D token width, C captions of an image at most.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.engine.step import Input, Inputs
from mindeye_pl.nn.clip.embeddings import mean_caption
from mindeye_pl.steps.inputs.captions import Captions, KeptCaptions, caption_rows, learns_captions
from mindeye_pl.steps.inputs.dataset import Dataset, Images
from mindeye_pl.steps.inputs.embeddings import EmbeddingCache, Embeddings
from mindeye_pl.steps.inputs.frozen_models import Frozen, FrozenModel, has_part, low_level_groups
from mindeye_pl.steps.inputs.image_embeddings import latent_rows, map_rows, token_rows, view_rows
from mindeye_pl.store.embeddings import TokenStore


@dataclass(frozen=True)
class ImageTargets:
    """Targets of a dataset's images; rows that are missing are made when they are asked for.

    Attributes:
        vae: of the low-level branch, None without one.
        maps: feature network of the same branch.
        captions: None where the model learns none; embedded by `text_embedder`.
        has_views: whether an image mapper learns augmented views.
    """

    dataset: Dataset
    embeddings: EmbeddingCache
    embedder: FrozenModel
    vae: FrozenModel | None = None
    maps: FrozenModel | None = None
    captions: Captions | None = None
    text_embedder: FrozenModel | None = None
    has_views: bool = False

    def tokens(self, ids: np.ndarray, *, side: int | None = None) -> TokenStore:
        """Return the store of target tokens, rows `(S, D)`, of images brought to `side` pixels where that is given."""
        return token_rows(self.embedder, self.dataset, self.embeddings, ids, side=side)

    def caption_embeddings(self, ids: np.ndarray) -> TokenStore:
        """Return the store of caption embeddings, rows `(C, D)`."""
        assert self.captions is not None, "the model learns no captions"
        assert self.text_embedder is not None
        return caption_rows(self.captions, ids, self.text_embedder, self.embeddings)

    def stores(self, ids: np.ndarray) -> dict[str, TokenStore]:
        """Return the stores of everything that a training learns of images `(n,)`, by name of the target."""
        args = (self.dataset, self.embeddings, ids)
        stores = {
            "tokens": self.tokens(ids),
            "latents": None if self.vae is None else latent_rows(self.vae, *args),
            "maps": None if self.maps is None else map_rows(self.maps, *args),
            "captions": None if self.captions is None else self.caption_embeddings(ids),
            "views": view_rows(self.embedder, *args) if self.has_views else None,
        }
        return {name: store for name, store in stores.items() if store is not None}

    def true_tokens(self, ids: np.ndarray) -> Tensor:
        """Return what a perfect reading of the brains would give, `(n, S, D)` float16.

        These are the target tokens and, behind them, the mean caption embedding where the model learns captions.
        """
        tokens = torch.from_numpy(self.tokens(ids)[ids])
        if self.captions is None:
            return tokens
        captions = mean_caption(torch.from_numpy(self.caption_embeddings(ids)[ids]))  # (n, D)
        return torch.cat([tokens, captions[:, None].to(tokens)], 1)


@dataclass(frozen=True)
class Targets(Input):
    """The targets of a run's images; opened, `ImageTargets`."""

    low_level: bool = False  # whether the targets of the low-level branch are among them

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the images, the models and the captions."""
        parts: dict[str, Input] = {"images": Images(), "embedder": Frozen("embedder"), "embeddings": Embeddings()}
        if self.low_level:
            parts |= {group: Frozen(group) for group in low_level_groups(config)}
        if learns_captions(config):
            parts |= {"text_embedder": Frozen("text_embedder"), "captions": KeptCaptions()}
        return parts

    def open(self, config: DictConfig, parts: Inputs) -> ImageTargets:
        """Return the targets."""
        optional = {name: parts.get(name) for name in ("vae", "maps", "captions", "text_embedder")}
        has_views = has_part(config, "image_mapper")
        return ImageTargets(parts["images"], parts["embeddings"], parts["embedder"], has_views=has_views, **optional)
