"""Embeddings of images by frozen models: tokens, pooled embeddings, views, VAE latents, feature maps.

Legend: B batch, n images, S tokens, D token width, E width of a pooled embedding, K augmented views.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from mindeye_pl.errors import UserError
from mindeye_pl.nn.clip.augmented_views import augmented_views
from mindeye_pl.steps.inputs.dataset import Dataset
from mindeye_pl.steps.inputs.embeddings import EmbeddingCache
from mindeye_pl.steps.inputs.frozen_models import FrozenModel
from mindeye_pl.store.embeddings import TokenStore

#: Images to rows of embeddings.
Embed = Callable[[Tensor], Tensor]


def embedding_rows(
    model: FrozenModel,
    dataset: Dataset,
    cache: EmbeddingCache,
    ids: np.ndarray,
    shape: tuple[int, int],
    build: Callable[[FrozenModel, torch.device], Embed],
    kind: str | None = None,
) -> TokenStore:
    """Return the store of what a model makes of the dataset's images; missing rows of ids `(n,)` are made now.

    Args:
        model: frozen.
        dataset: NSD.
        cache: of embeddings.
        ids: stimulus ids.
        shape: of a row.
        build: loads the model as a function of images `(B, 3, H, W)`.
        kind: of rows, where a model makes several kinds.
    """
    by = {model.group: model.identity, "images": dataset.images_fingerprint} | ({"kind": kind} if kind else {})
    title = f"with {model.group}={model.name}"
    return cache.of_images(model.name, dataset.stimuli, ids, shape, partial(build, model), by=by, title=title)


def token_rows(
    embedder: FrozenModel, dataset: Dataset, cache: EmbeddingCache, ids: np.ndarray, *, side: int | None = None
) -> TokenStore:
    """Return the store of target tokens, rows `(S, D)`; of images that were brought to another side where one is given.

    The published evaluation of retrieval embeds images that were saved at 256 pixels (MindEye2, spec section 1.1).
    """
    shape = (embedder.settings.num_tokens, embedder.settings.token_dim)
    if side is None or dataset.stimuli.shape[2:] == (side, side):
        return embedding_rows(embedder, dataset, cache, ids, shape, token_embedder)
    build = partial(_resized_first, side=side)
    return embedding_rows(embedder, dataset, cache, ids, shape, build, kind=f"tokens of {side} pixels")


def _resized_first(embedder: FrozenModel, device: torch.device, *, side: int) -> Embed:
    embed = token_embedder(embedder, device)
    return lambda images: embed(resize(images, [side, side], antialias=False))  # as torchvision 0.16 did


def view_rows(embedder: FrozenModel, dataset: Dataset, cache: EmbeddingCache, ids: np.ndarray) -> TokenStore | None:
    """Return the store of embeddings of augmented views, rows `(K, D)`; None where `embedder.views` is 0.

    Published training draws a new view at every access. Here K views are drawn once and kept, since the embedder costs
    more than all else in a step. An embedder of more than one token is refused.
    """
    settings = embedder.settings
    if not settings.get("views"):
        return None
    if settings.num_tokens != 1:
        raise UserError("embedder.views need an embedder of one token", got=settings.num_tokens, fix="embedder.views=0")
    return embedding_rows(embedder, dataset, cache, ids, (settings.views, settings.token_dim), _views, kind="views")


def latent_rows(vae: FrozenModel, dataset: Dataset, cache: EmbeddingCache, ids: np.ndarray) -> TokenStore:
    """Return the store of scaled VAE latents, rows `(C, h * w)`."""
    shape = (vae.settings.latent_channels, vae.settings.latent_size**2)
    return embedding_rows(vae, dataset, cache, ids, shape, _latents)


def map_rows(maps: FrozenModel, dataset: Dataset, cache: EmbeddingCache, ids: np.ndarray) -> TokenStore:
    """Return the store of feature maps, those of augmented views behind the image's own."""
    settings = maps.settings
    shape = ((1 + settings.views) * settings.places, settings.width)
    return embedding_rows(maps, dataset, cache, ids, shape, _maps)


def pooled_embeddings(embedder: FrozenModel, dataset: Dataset, cache: EmbeddingCache, count: int) -> np.ndarray:
    """Return CLIP's own embedding of the first `count` images, `(count, E)` float16, neither clamped nor normalised."""
    model = embedder.load().to(cache.device)

    def embed(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.float16, enabled=images.is_cuda):
            return model.pooled(images)[:, None]  # (B, 1, E)

    with torch.inference_mode():
        width = embed(torch.zeros(1, 3, *model.image_size, device=cache.device)).shape[-1]
    ids = np.arange(count)
    store = embedding_rows(embedder, dataset, cache, ids, (1, width), lambda *_: embed, kind="pooled")
    return store[ids][:, 0]


def token_embedder(embedder: FrozenModel, device: torch.device) -> Embed:
    """Return the embedder as a function of images `(B, 3, H, W)` in [0, 1] to tokens `(B, S, D)`.

    It works in half precision on GPUs. Tokens of another shape than the configuration says are refused.
    """
    settings, model = embedder.settings, embedder.load().to(device)
    if (model.num_tokens, model.token_dim) != (settings.num_tokens, settings.token_dim):
        raise UserError(
            f"embedder={settings.name} makes other tokens than its configuration says",
            got=f"{model.num_tokens} tokens of width {model.token_dim}",
            expected=f"{settings.num_tokens} of width {settings.token_dim}",
            fix=f"embedder.num_tokens={model.num_tokens} embedder.token_dim={model.token_dim}",
        )

    def embed(images: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            return model(images)

    return embed


def _latents(vae: FrozenModel, device: torch.device) -> Embed:
    model, settings = vae.load().to(device), vae.settings

    def encode(images: Tensor) -> Tensor:
        # The mode, in float32: half precision overflows in the VAE's encoder.
        latents = model.encode(2 * _resized(images, settings) - 1).latent_dist.mode()
        return latents.flatten(2) * model.config["scaling_factor"]

    return encode


def _resized(images: Tensor, settings: DictConfig) -> Tensor:
    """Return images `(B, 3, H, W)` at the size that a group asks for; unchanged where it asks for none."""
    side = settings.get("image_size")
    if side is None or tuple(images.shape[-2:]) == (side, side):
        return images
    return resize(images, [side, side], antialias=True)


def _maps(maps: FrozenModel, device: torch.device) -> Embed:
    network, settings = maps.load().to(device), maps.settings
    draw = partial(augmented_views, count=settings.views, augmentation=settings.get("augmentation", "mindeye2"))

    def embed(images: Tensor) -> Tensor:
        images = _resized(images, settings)
        views = draw(images.cpu()).to(device)  # (B, views, 3, H, W)
        shown = torch.cat([images[:, None], views], dim=1)
        return network(shown.flatten(0, 1)).unflatten(0, shown.shape[:2]).flatten(1, 2)  # (B, (1 + views) * M, 512)

    return embed


def _views(embedder: FrozenModel, device: torch.device) -> Embed:
    settings, embed = embedder.settings, token_embedder(embedder, device)

    def embed_views(images: Tensor) -> Tensor:
        views = augmented_views(images.cpu(), settings.views, augmentation=settings.augmentation).to(device)
        return embed(views.flatten(0, 1)).unflatten(0, views.shape[:2])[:, :, 0]  # (B, K, D)

    return embed_views
