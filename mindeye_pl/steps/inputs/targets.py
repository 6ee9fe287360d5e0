"""Target tokens, VAE latents, maps and views of the images that a run needs, embedded once and kept."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from omegaconf import DictConfig
from torchvision.transforms.v2.functional import resize

from mindeye_pl.console import console
from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.engine.step import Run
from mindeye_pl.errors import UserError
from mindeye_pl.nn.clip.augmented_views import augmented_views
from mindeye_pl.steps.inputs.frozen_models import identity, load_model, low_level_groups
from mindeye_pl.steps.inputs.simulate import images_fingerprint, layout
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.store.fingerprint import fingerprint


class Readable(Protocol):
    """Images by number."""

    def __len__(self) -> int:
        """How many there are."""

    def read(self, ids: np.ndarray, /) -> np.ndarray:
        """Images `(n, 3, H, W)` in [0, 1] of `(n,)` ids."""


def target_tokens(run: Run, stimulus_ids: np.ndarray) -> TokenStore:
    """The store that holds the tokens of these images; those that are missing are embedded now."""
    config = run.config.embedder
    return _filled(run, stimulus_ids, "embedder", (config.num_tokens, config.token_dim), embed_tokens)


def target_latents(run: Run, stimulus_ids: np.ndarray) -> TokenStore | None:
    """The store of the images' scaled VAE latents, rows `(C, h * w)`; None where there is no low-level branch."""
    if run.config.low_level is None:
        return None
    config = run.config.vae
    return _filled(run, stimulus_ids, "vae", (config.latent_channels, config.latent_size**2), _latents)


def target_maps(run: Run, stimulus_ids: np.ndarray) -> TokenStore | None:
    """The store of the images' feature maps, those of augmented views behind the image's own; None where unused."""
    if "maps" not in low_level_groups(run.config):
        return None
    config = run.config.maps
    return _filled(run, stimulus_ids, "maps", ((1 + config.views) * config.places, config.width), _maps)


def target_views(run: Run, stimulus_ids: np.ndarray) -> TokenStore | None:
    """The store of embeddings of augmented views of the images, rows `(K, D)`; None where `embedder.views` is 0.

    Published training draws a new view at every access. Here K are drawn once, from the image itself, and kept, since
    the embedder costs more than all else in a step.

    Raises:
        UserError: for an embedder of more than one token.
    """
    config = run.config.embedder
    if not config.get("views"):
        return None
    if config.num_tokens != 1:
        raise UserError("embedder.views need an embedder of one token", got=config.num_tokens, fix="embedder.views=0")
    return _filled(run, stimulus_ids, "embedder", (config.views, config.token_dim), _views, kind="views")


def pooled_embeddings(run: Run, count: int) -> np.ndarray:
    """CLIP's own embedding of the first `count` images, `(count, E)` float16, read through a memory map.

    Neither clamped nor normalised.
    """
    embedder = load_model(run, "embedder").to(run.device)

    def embed(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(images.device.type, torch.float16, enabled=images.is_cuda):
            return embedder.pooled(images)[:, None]  # (B, 1, E)

    with torch.inference_mode():
        width = embed(torch.zeros(1, 3, *embedder.image_size, device=run.device)).shape[-1]
    everything = np.arange(count)
    store = _filled(run, everything, "embedder", (1, width), lambda *_: embed, kind="pooled")
    return store[everything][:, 0]


def made_from(run: Run, group: str) -> dict[str, Any]:
    """What determines whatever a group's model makes of the images."""
    return identity(run, group) | {"images": images_fingerprint(run)}


def _filled(
    run: Run,
    stimulus_ids: np.ndarray,
    group: str,
    shape: tuple[int, int],
    build: Callable[[Run, torch.device], Callable[[torch.Tensor], torch.Tensor]],
    kind: str | None = None,
) -> TokenStore:
    config, stimuli = run.config[group], Stimuli(layout(run).stimuli)
    by = made_from(run, group) | ({"kind": kind} if kind else {})
    what = f"with {group}={config.name}"
    return filled_store(run, config.name, stimuli, stimulus_ids, shape, partial(build, run), by=by, what=what)


def filled_store(
    run: Run,
    name: str,
    images: Readable,
    ids: np.ndarray,
    shape: tuple[int, int],
    build: Callable[[torch.device], Callable[[torch.Tensor], torch.Tensor]],
    *,
    by: dict[str, Any],
    what: str,
) -> TokenStore:
    """The store of what a frozen model makes of images; rows that are missing are made now.

    Args:
        run: see `filled_rows`, as for name, ids, shape and by.
        name: see there.
        images: all of them.
        ids: see there.
        shape: see there.
        build: from a device to the model as a function of images; called only if a row is missing.
        by: see there.
        what: makes them, for the words that the user reads.

    Raises:
        UserError: see `TokenStore`.
    """

    def build_rows(device: torch.device) -> Callable[[np.ndarray], torch.Tensor]:
        embed = build(device)
        return lambda batch: embed(torch.from_numpy(images.read(batch)).float().to(device))

    return filled_rows(run, name, len(images), ids, shape, build_rows, by=by, what=f"images {what}")


def filled_rows(
    run: Run,
    name: str,
    count: int,
    ids: np.ndarray,
    shape: tuple[int, int],
    build: Callable[[torch.device], Callable[[np.ndarray], torch.Tensor]],
    *,
    by: dict[str, Any],
    what: str,
) -> TokenStore:
    """The store of what a frozen model makes of numbered things; rows that are missing are made now.

    Args:
        run: whose device, batch size and folder of stores it uses.
        name: begins the folder's name.
        count: how many things there are.
        ids: `(n,)` of those whose rows are wanted.
        shape: of one row.
        build: from a device to a function that makes the rows `(b, *shape)` of ascending ids `(b,)`; called only if a
            row is missing, and let go afterwards.
        by: plain data that determines the rows.
        what: things they are and what makes the rows, for the words that the user reads.

    Raises:
        UserError: see `TokenStore`.
    """
    folder = Path(run.config.paths.targets) / f"{name}-{fingerprint(by)[:12]}"
    store = TokenStore.create_or_open(folder, count, *shape, description=by)
    missing = store.missing(ids)
    if len(missing):
        console.print(f"embedding {len(missing):,} {what}")
        rows = torch.inference_mode()(build(run.device))
        store.fill(missing, rows, lambda batch: batch, batch_size=run.config.scale.embed_batch_size)
    run.tracking.uses_store(folder, by, fingerprint(by), filled=len(missing) > 0)
    return store


def embed_tokens(run: Run, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """The configured embedder, from images `(B, 3, H, W)` in [0, 1] to tokens `(B, S, D)`, in half precision on GPUs.

    Raises:
        UserError: as `load_model`, and if it makes other tokens than the configuration says.
    """
    config, embedder = run.config.embedder, load_model(run, "embedder").to(device)
    if (embedder.num_tokens, embedder.token_dim) != (config.num_tokens, config.token_dim):
        raise UserError(
            f"embedder={config.name} makes other tokens than its configuration says",
            got=f"{embedder.num_tokens} tokens of width {embedder.token_dim}",
            expected=f"{config.num_tokens} of width {config.token_dim}",
            fix=f"embedder.num_tokens={embedder.num_tokens} embedder.token_dim={embedder.token_dim}",
        )

    def embed(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            return embedder(images)

    return embed


def _latents(run: Run, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    vae, config = load_model(run, "vae").to(device), run.config.vae

    def encode(images: torch.Tensor) -> torch.Tensor:
        # The mode, in float32: half precision overflows in the VAE's encoder.
        latents = vae.encode(2 * _resized(images, config) - 1).latent_dist.mode()
        return latents.flatten(2) * vae.config["scaling_factor"]

    return encode


def _resized(images: torch.Tensor, config: DictConfig) -> torch.Tensor:
    """Images `(B, 3, H, W)` at the size that a group asks for, as they are where it asks for none."""
    side = config.get("image_size")
    if side is None or tuple(images.shape[-2:]) == (side, side):
        return images
    return resize(images, [side, side], antialias=True)


def _maps(run: Run, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    network, config = load_model(run, "maps").to(device), run.config.maps
    draw = partial(augmented_views, count=config.views, augmentation=config.get("augmentation", "mindeye2"))

    def embed(images: torch.Tensor) -> torch.Tensor:
        images = _resized(images, config)
        all_views = draw(images.cpu()).to(device)  # (B, views, 3, H, W)
        shown = torch.cat([images[:, None], all_views], dim=1)
        return network(shown.flatten(0, 1)).unflatten(0, shown.shape[:2]).flatten(1, 2)  # (B, (1 + views) * M, 512)

    return embed


def _views(run: Run, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    config, embed = run.config.embedder, embed_tokens(run, device)

    def embed_views(images: torch.Tensor) -> torch.Tensor:
        views = augmented_views(images.cpu(), config.views, augmentation=config.augmentation).to(device)
        return embed(views.flatten(0, 1)).unflatten(0, views.shape[:2])[:, :, 0]  # (B, K, D)

    return embed_views
