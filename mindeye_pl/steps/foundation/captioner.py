"""The laptop's captioner, trained on the tokens of simulated scenes and their captions."""

import json
from pathlib import Path

import torch

from mindeye_pl.data.simulated.vocabulary import CONTEXT_LENGTH, MARKS, tokenize_captions, vocabulary
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.models.foundation import CaptionTraining
from mindeye_pl.nn.diffusion.builders import build_captioner
from mindeye_pl.steps.foundation.clip import PRETRAIN_CLIP, clip_tokens
from mindeye_pl.steps.foundation.images import (
    CAPTIONS,
    SCENES,
    fit_foundation,
    foundation_spec,
    tables_of,
    trains_on_scenes,
)
from mindeye_pl.store.artifacts import ArtifactSpec
from mindeye_pl.weights.loaders import bundled as laptop
from mindeye_pl.weights.sized_safetensors import save_own


def _spec(run: Run) -> ArtifactSpec:
    return foundation_spec(run, "captioner", run.inputs(PRETRAIN_CAPTIONER))


def _build(run: Run, folder: Path) -> None:
    if not trains_on_scenes(run):
        raise UserError(
            "pretrain_captioner needs captions", got=run.config.foundation.images.source, expected="simulated"
        )
    settings = run.config.foundation.captioner
    tokens = clip_tokens(run)
    torch.manual_seed(run.config.seed)
    sizes = {
        **run.plain("foundation.captioner.sizes")["foundation.captioner.sizes"],
        "num_tokens": tokens.shape[1],
        "token_dim": tokens.shape[2],
        "context_length": CONTEXT_LENGTH,
        "vocabulary": list(vocabulary()),
        "marks": list(MARKS),
    }
    network = build_captioner(**sizes).requires_grad_(True).train()
    texts = json.loads((run.make(SCENES).folder / CAPTIONS).read_text())
    tables = {
        "tokens": tokens,
        "words": tokenize_captions([full for full, _ in texts]).numpy(),  # (N, L)
    }
    model = CaptionTraining(
        network, token_noise=settings.token_noise, max_lr=settings.max_lr, weight_decay=settings.weight_decay
    )
    fit_foundation(run, PRETRAIN_CAPTIONER, folder, model, tables_of(run, "captioner", tables))
    save_own(folder / laptop.CAPTIONER, network.state_dict(), sizes)


PRETRAIN_CAPTIONER = Step("pretrain_captioner", _spec, lambda run: (SCENES, PRETRAIN_CLIP), _build)
