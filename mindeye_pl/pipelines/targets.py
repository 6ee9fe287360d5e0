"""Target tokens of the pictures that a run needs, embedded once and kept."""

from pathlib import Path

import numpy as np
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

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
    embedder_config = OmegaConf.to_container(run.config.embedder, resolve=True)
    stimuli = Stimuli(layout(run).stimuli)
    pictures = run.spec(SIMULATE).fingerprint if makes_its_data(run) else fingerprint_file(stimuli.path)
    weights = find_embedder_weights(run)
    identity = {
        "embedder": embedder_config,
        "weights": fingerprint_file(weights) if weights else None,
        "pictures": pictures,
    }
    folder = Path(run.config.paths.targets) / f"{run.config.embedder.name}-{fingerprint(identity)[:12]}"
    store = TokenStore.create_or_open(
        folder, len(stimuli), run.config.embedder.num_tokens, run.config.embedder.token_dim, description=identity
    )
    if len(missing := store.missing(stimulus_ids)):
        console.print(f"embedding {len(missing)} pictures with {run.config.embedder.name}")
        device = torch.device("cuda" if run.config.trainer.accelerator == "gpu" else "cpu")
        embedder = _embedder(run).to(device)

        def embed(pictures: np.ndarray) -> torch.Tensor:
            with torch.inference_mode(), torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
                return embedder(torch.from_numpy(pictures).float().to(device))

        store.fill(missing, embed, stimuli.read, batch_size=run.config.scale.embed_batch_size)
    return store


def find_embedder_weights(run: Run) -> Path | None:
    """The file of the embedder's released weights, if it has such and it is on this machine."""
    weights, folder = run.config.embedder.get("weights"), run.config.paths.weights
    if weights is None:
        return None
    return find_weights(weights, Path(folder) if folder else None)


def _embedder(run: Run) -> torch.nn.Module:
    config = run.config.embedder
    if config.get("weights") is None:
        return instantiate(config.network)
    try:
        return instantiate(config.network, pretrained_file=find_embedder_weights(run))
    except InstantiationException as error:
        raise UserError(
            f"embedder={config.name} could not be loaded", seen=error.__cause__, mend=download_command(config.weights)
        ) from error
