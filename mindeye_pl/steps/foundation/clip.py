"""The laptop's CLIP, trained on simulated scenes and their captions."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.data.image_sources import Images
from mindeye_pl.data.simulated.vocabulary import CONTEXT_LENGTH, tokenize_captions, vocabulary
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.models.foundation import CLIPTraining
from mindeye_pl.nn.clip.clip_embedder import CLIPImageEmbedder
from mindeye_pl.nn.diffusion.builders import build_clip
from mindeye_pl.steps.foundation.images import (
    CAPTIONS,
    SCENES,
    Prepared,
    _embedded,
    fit_foundation,
    foundation_spec,
    image_steps,
    images_of,
    tables_of,
    trains_on_scenes,
)
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.weights.loaders import bundled as laptop
from mindeye_pl.weights.sized_safetensors import save_own

#: Images embedded at once.
_AT_ONCE = 256


def _build_clip(run: Run, folder: Path) -> None:
    if not trains_on_scenes(run):
        raise UserError("pretrain_clip needs captions", got=run.config.foundation.images.source, expected="simulated")
    torch.manual_seed(run.config.seed)
    settings = run.config.foundation.clip
    sizes = {
        **run.plain("foundation.clip.sizes")["foundation.clip.sizes"],
        "image_size": run.config.foundation.images.image_size,
        "vocabulary_size": len(vocabulary()),
        "context_length": CONTEXT_LENGTH,
    }
    network = build_clip(**sizes)
    images = images_of(run)
    texts = json.loads((run.make(SCENES).folder / CAPTIONS).read_text())
    words = tokenize_captions([full for full, _ in texts]).numpy()  # (N, L)
    embedder = CLIPImageEmbedder(network.visual, input_range="corrected")
    network.requires_grad_(True).train()
    network.visual.output_tokens = False  # open_clip's own forward wants the pooled embedding alone
    tables = {"images": Prepared(images, embedder.preprocess), "words": words}
    model = CLIPTraining(network, max_lr=settings.max_lr, weight_decay=settings.weight_decay)
    fit_foundation(run, PRETRAIN_CLIP, folder, model, tables_of(run, "clip", tables))

    network.requires_grad_(False).eval()
    network.visual.output_tokens = True
    mean, std = _token_moments(embedder, images)
    weights = {**network.state_dict(), "standardise.mean": mean, "standardise.std": std}
    save_own(folder / laptop.CLIP, weights, sizes)


@torch.no_grad()
def _token_moments(embedder: CLIPImageEmbedder, images: Images) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each token's channels over some images, `(S, D)` each."""
    ids = np.arange(min(2048, len(images)))
    batches = [ids[i : i + _AT_ONCE] for i in range(0, len(ids), _AT_ONCE)]
    tokens = torch.cat([embedder(torch.from_numpy(images.read(batch)).float()) for batch in batches])
    return tokens.mean(0), tokens.std(0)


PRETRAIN_CLIP = Step("pretrain_clip", lambda run: foundation_spec(run, "clip"), image_steps, _build_clip)


def clip_tokens(run: Run) -> TokenStore:
    """The tokens that the trained CLIP makes of every image."""
    embedder = laptop.load_embedder(run.make(PRETRAIN_CLIP).folder)
    return _embedded(run, PRETRAIN_CLIP, (embedder.num_tokens, embedder.token_dim), embedder.to)
