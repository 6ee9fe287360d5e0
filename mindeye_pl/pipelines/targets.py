"""Target tokens and VAE latents of the pictures that a run needs, embedded once and kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mindeye_pl.artifacts import fingerprint
from mindeye_pl.console import console
from mindeye_pl.data.fingerprint import fingerprint_file
from mindeye_pl.data.stimuli import Stimuli
from mindeye_pl.data.targets import TokenStore
from mindeye_pl.errors import UserError
from mindeye_pl.pipelines.data import SIMULATE, layout, makes_its_data
from mindeye_pl.pipelines.step import Run
from mindeye_pl.weights.locate import download_command, find_weights


def target_tokens(run: Run, stimulus_ids: np.ndarray) -> TokenStore:
    """The store that holds the tokens of these pictures; those that are missing are embedded now."""
    config = run.config.embedder
    return _filled(run, stimulus_ids, "embedder", (config.num_tokens, config.token_dim), _embedder)


def target_latents(run: Run, stimulus_ids: np.ndarray) -> TokenStore | None:
    """The store of the pictures' scaled VAE latents, rows `(C, h * w)`; None where there is no low-level branch."""
    if run.config.low_level is None:
        return None
    config = run.config.vae
    return _filled(run, stimulus_ids, "vae", (config.latent_channels, config.latent_size**2), _latents)


def _filled(
    run: Run,
    stimulus_ids: np.ndarray,
    group: str,
    shape: tuple[int, int],
    build: Callable[[Run, torch.device], Callable[[torch.Tensor], torch.Tensor]],
) -> TokenStore:
    config, stimuli = run.config[group], Stimuli(layout(run).stimuli)
    weights = find_group_weights(run, group)
    identity = {
        group: OmegaConf.to_container(config, resolve=True),
        "weights": fingerprint_file(weights) if weights else None,
        "pictures": run.spec(SIMULATE).fingerprint if makes_its_data(run) else fingerprint_file(stimuli.path),
    }
    folder = Path(run.config.paths.targets) / f"{config.name}-{fingerprint(identity)[:12]}"
    store = TokenStore.create_or_open(folder, len(stimuli), *shape, description=identity)
    if len(missing := store.missing(stimulus_ids)):
        console.print(f"embedding {len(missing)} pictures with {group}={config.name}")
        device = torch.device("cuda" if run.config.trainer.accelerator == "gpu" else "cpu")
        embed = build(run, device)

        def embed_pictures(pictures: np.ndarray) -> torch.Tensor:
            with torch.inference_mode():
                return embed(torch.from_numpy(pictures).float().to(device))

        store.fill(missing, embed_pictures, stimuli.read, batch_size=run.config.scale.embed_batch_size)
    return store


def find_group_weights(run: Run, group: str) -> Path | None:
    """The file of a foundation model's weights, if it needs one and it is on this machine."""
    config, folder = run.config[group], run.config.paths.weights
    if config.get("file"):
        return Path(config.file)
    if config.get("weights") is None:
        return None
    return find_weights(config.weights, Path(folder) if folder else None)


def _embedder(run: Run, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    config = run.config.embedder
    where = {} if config.get("weights") is None else {"pretrained_file": find_group_weights(run, "embedder")}
    embedder = _instantiated(config, **where).to(device)

    def embed(pictures: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            return embedder(pictures)

    return embed


def load_vae(run: Run) -> Any:
    """The VAE whose latents the low-level branch learns."""
    config = run.config.vae
    return _instantiated(config, **({} if config.get("weights") is None else {"path": find_group_weights(run, "vae")}))


def _latents(run: Run, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    vae = load_vae(run).to(device)
    # The mode, in float32: half precision overflows in the VAE's encoder.
    return lambda pictures: vae.encode(2 * pictures - 1).latent_dist.mode().flatten(2) * vae.config["scaling_factor"]


def _instantiated(config: DictConfig, **where: Path | None) -> Any:
    try:
        return instantiate(config.network, **where)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        mend = download_command(config.weights) if config.get("weights") is not None else None
        raise UserError(f"{config.name} could not be loaded", seen=error.__cause__, mend=mend) from error
