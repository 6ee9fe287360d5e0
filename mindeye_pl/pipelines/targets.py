"""Target tokens, VAE latents and clusters of the pictures that a run needs, embedded once and kept."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_warn
from torchvision.transforms.v2.functional import resize

from mindeye_pl.artifacts import fingerprint
from mindeye_pl.console import console
from mindeye_pl.data.splits import LeftOutCluster, kept_clusters, read_split
from mindeye_pl.data.stimuli import Stimuli
from mindeye_pl.data.targets import TokenStore
from mindeye_pl.data.trials import load_test_trials
from mindeye_pl.errors import UserError
from mindeye_pl.nn.augmented_views import augmented_views
from mindeye_pl.pipelines.data import layout, pictures_fingerprint
from mindeye_pl.pipelines.foundation_models import identity, load_model, low_level_groups
from mindeye_pl.pipelines.step import Run


class Readable(Protocol):
    """Pictures by number."""

    def __len__(self) -> int:
        """How many there are."""

    def read(self, ids: np.ndarray, /) -> np.ndarray:
        """Pictures `(n, 3, H, W)` in [0, 1] of `(n,)` ids."""


def target_tokens(run: Run, stimulus_ids: np.ndarray) -> TokenStore:
    """The store that holds the tokens of these pictures; those that are missing are embedded now."""
    config = run.config.embedder
    return _filled(run, stimulus_ids, "embedder", (config.num_tokens, config.token_dim), embed_tokens)


def target_latents(run: Run, stimulus_ids: np.ndarray) -> TokenStore | None:
    """The store of the pictures' scaled VAE latents, rows `(C, h * w)`; None where there is no low-level branch."""
    if run.config.low_level is None:
        return None
    config = run.config.vae
    return _filled(run, stimulus_ids, "vae", (config.latent_channels, config.latent_size**2), _latents)


def target_maps(run: Run, stimulus_ids: np.ndarray) -> TokenStore | None:
    """The store of the pictures' feature maps, those of augmented views behind the picture's own; None where unused."""
    if "maps" not in low_level_groups(run.config):
        return None
    config = run.config.maps
    return _filled(run, stimulus_ids, "maps", ((1 + config.views) * config.places, config.width), _maps)


def left_out_cluster(run: Run) -> LeftOutCluster | None:
    """The cluster that `data.split` leaves out of every training; None for the standard split.

    Clusters are those of CLIP's own pooled embedding of all pictures of the pictures file, so that they depend neither
    on the subject nor on the sessions. Of NSD's 73,000 pictures, ViT-bigG's pooled embeddings take 187 MB; its tokens,
    which CLIP's training does not compare, would take 62 GB.

    Raises:
        UserError: for an unknown split, or a cluster without a test picture of `data.subject`, before anything is
            trained.
    """
    name = read_split(run.config.data.split)
    if name is None:
        return None
    for checkpoint in ("finetune.checkpoint", "evaluate.checkpoint"):
        if run.plain(checkpoint)[checkpoint] is not None:
            rank_zero_warn(f"data.split={name}: whether {checkpoint} was trained without this cluster is not known")
    data, by = layout(run), _made_from(run, "embedder")
    folder = Path(run.config.paths.artifacts) / "clusters"  # there as long as what was trained without them
    file = f"{run.config.embedder.name}-k{name.k}-{fingerprint(by)[:12]}.json"
    count = len(Stimuli(data.stimuli))
    clusters = kept_clusters(folder / file, name.k, count, lambda: _pooled(run, count), description=by)
    left_out = LeftOutCluster(name, clusters)
    subject, split = run.config.data.subject, run.config.data.test_split
    if data.shard(subject, split).is_file():  # pretraining alone does without
        tested = load_test_trials(data, subject, split, Path(run.config.paths.cache)).stimulus_ids
        left_out.check_tested(tested, f"subject {subject}")
    return left_out


def _pooled(run: Run, count: int) -> np.ndarray:
    """CLIP's embedding of every picture, `(N, E)` float16, read through a memory map."""
    embedder = load_model(run, "embedder").to(run.device)

    def embed(pictures: torch.Tensor) -> torch.Tensor:
        with torch.autocast(pictures.device.type, torch.float16, enabled=pictures.is_cuda):
            return embedder.pooled(pictures)[:, None]  # (B, 1, E)

    with torch.inference_mode():
        width = embed(torch.zeros(1, 3, *embedder.image_size, device=run.device)).shape[-1]
    everything = np.arange(count)
    store = _filled(run, everything, "embedder", (1, width), lambda *_: embed, kind="pooled")
    return store[everything][:, 0]


def _made_from(run: Run, group: str) -> dict[str, Any]:
    """What determines whatever a group's model makes of the pictures."""
    return identity(run, group) | {"pictures": pictures_fingerprint(run)}


def _filled(
    run: Run,
    stimulus_ids: np.ndarray,
    group: str,
    shape: tuple[int, int],
    build: Callable[[Run, torch.device], Callable[[torch.Tensor], torch.Tensor]],
    kind: str | None = None,
) -> TokenStore:
    config, stimuli = run.config[group], Stimuli(layout(run).stimuli)
    by = _made_from(run, group) | ({"kind": kind} if kind else {})
    what = f"with {group}={config.name}"
    return filled_store(run, config.name, stimuli, stimulus_ids, shape, partial(build, run), by=by, what=what)


def filled_store(
    run: Run,
    name: str,
    pictures: Readable,
    ids: np.ndarray,
    shape: tuple[int, int],
    build: Callable[[torch.device], Callable[[torch.Tensor], torch.Tensor]],
    *,
    by: dict[str, Any],
    what: str,
) -> TokenStore:
    """The store of what a frozen model makes of pictures; rows that are missing are made now.

    Args:
        run: whose device, batch size and folder of stores it uses.
        name: begins the folder's name.
        pictures: all of them.
        ids: `(n,)` of those whose rows are wanted.
        shape: of one row.
        build: from a device to the model as a function; called only if a row is missing, and let go afterwards.
        by: plain data that determines the rows.
        what: makes them, for the words that the user reads.

    Raises:
        UserError: see `TokenStore`.
    """
    folder = Path(run.config.paths.targets) / f"{name}-{fingerprint(by)[:12]}"
    store = TokenStore.create_or_open(folder, len(pictures), *shape, description=by)
    missing = store.missing(ids)
    if len(missing):
        console.print(f"embedding {len(missing):,} pictures {what}")
        device = run.device
        embed = build(device)

        def embed_pictures(pictures: np.ndarray) -> torch.Tensor:
            with torch.inference_mode():
                return embed(torch.from_numpy(pictures).float().to(device))

        store.fill(missing, embed_pictures, pictures.read, batch_size=run.config.scale.embed_batch_size)
    run.tracking.uses_store(folder, by, fingerprint(by), filled=len(missing) > 0)
    return store


def embed_tokens(run: Run, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """The configured embedder, from pictures `(B, 3, H, W)` in [0, 1] to tokens `(B, S, D)`, in half precision on GPUs.

    Raises:
        UserError: as `load_model`, and if it makes other tokens than the configuration says.
    """
    config, embedder = run.config.embedder, load_model(run, "embedder").to(device)
    if (embedder.num_tokens, embedder.token_dim) != (config.num_tokens, config.token_dim):
        raise UserError(
            f"embedder={config.name} makes other tokens than its configuration says",
            seen=f"{embedder.num_tokens} tokens of width {embedder.token_dim}",
            wanted=f"{config.num_tokens} of width {config.token_dim}",
            mend=f"embedder.num_tokens={embedder.num_tokens} embedder.token_dim={embedder.token_dim}",
        )

    def embed(pictures: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            return embedder(pictures)

    return embed


def _latents(run: Run, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    vae, config = load_model(run, "vae").to(device), run.config.vae

    def encode(pictures: torch.Tensor) -> torch.Tensor:
        # The mode, in float32: half precision overflows in the VAE's encoder.
        latents = vae.encode(2 * _resized(pictures, config) - 1).latent_dist.mode()
        return latents.flatten(2) * vae.config["scaling_factor"]

    return encode


def _resized(pictures: torch.Tensor, config: DictConfig) -> torch.Tensor:
    """Pictures `(B, 3, H, W)` at the size that a group asks for, as they are where it asks for none."""
    side = config.get("picture_size")
    if side is None or tuple(pictures.shape[-2:]) == (side, side):
        return pictures
    return resize(pictures, [side, side], antialias=True)


def _maps(run: Run, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    network, config = load_model(run, "maps").to(device), run.config.maps
    draw = partial(augmented_views, count=config.views, augmentation=config.get("augmentation", "mindeye2"))

    def embed(pictures: torch.Tensor) -> torch.Tensor:
        pictures = _resized(pictures, config)
        all_views = draw(pictures.cpu()).to(device)  # (B, views, 3, H, W)
        shown = torch.cat([pictures[:, None], all_views], dim=1)
        return network(shown.flatten(0, 1)).unflatten(0, shown.shape[:2]).flatten(1, 2)  # (B, (1 + views) * M, 512)

    return embed
