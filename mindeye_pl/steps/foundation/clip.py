"""The laptop's CLIP, trained on simulated scenes and their captions."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.data.image_sources import Pictures
from mindeye_pl.data.simulated.vocabulary import CONTEXT_LENGTH, vocabulary, word_numbers
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
    picture_steps,
    pictures_of,
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
        raise UserError("pretrain_clip needs captions", seen=run.config.foundation.pictures.source, wanted="simulated")
    torch.manual_seed(run.config.seed)
    settings = run.config.foundation.clip
    sizes = {
        **run.plain("foundation.clip.sizes")["foundation.clip.sizes"],
        "picture_size": run.config.foundation.pictures.image_size,
        "vocabulary_size": len(vocabulary()),
        "context_length": CONTEXT_LENGTH,
    }
    network = build_clip(**sizes)
    pictures = pictures_of(run)
    texts = json.loads((run.make(SCENES).folder / CAPTIONS).read_text())
    words = word_numbers([full for full, _ in texts]).numpy()  # (N, L)
    embedder = CLIPImageEmbedder(network.visual, input_range="corrected")
    network.requires_grad_(True).train()
    network.visual.output_tokens = False  # open_clip's own forward wants the pooled embedding alone
    tables = {"pictures": Prepared(pictures, embedder.preprocess), "words": words}
    model = CLIPTraining(network, max_lr=settings.max_lr, weight_decay=settings.weight_decay)
    fit_foundation(run, PRETRAIN_CLIP, folder, model, tables_of(run, "clip", tables))

    network.requires_grad_(False).eval()
    network.visual.output_tokens = True
    mean, std = _token_moments(embedder, pictures)
    weights = {**network.state_dict(), "standardise.mean": mean, "standardise.std": std}
    save_own(folder / laptop.CLIP, weights, sizes)


@torch.no_grad()
def _token_moments(embedder: CLIPImageEmbedder, pictures: Pictures) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each token's channels over some pictures, `(S, D)` each."""
    ids = np.arange(min(2048, len(pictures)))
    batches = [ids[i : i + _AT_ONCE] for i in range(0, len(ids), _AT_ONCE)]
    tokens = torch.cat([embedder(torch.from_numpy(pictures.read(batch)).float()) for batch in batches])
    return tokens.mean(0), tokens.std(0)


PRETRAIN_CLIP = Step("pretrain_clip", lambda run: foundation_spec(run, "clip"), picture_steps, _build_clip)


def clip_tokens(run: Run) -> TokenStore:
    """The tokens that the trained CLIP makes of every picture."""
    embedder = laptop.load_embedder(run.make(PRETRAIN_CLIP).folder)
    return _embedded(run, PRETRAIN_CLIP, (embedder.num_tokens, embedder.token_dim), embedder.to)
