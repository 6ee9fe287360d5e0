"""The laptop's captioner, trained on the tokens of simulated scenes and their captions."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.artifacts import ArtifactSpec
from mindeye_pl.data.caption_words import CONTEXT_LENGTH, MARKS, vocabulary, word_numbers
from mindeye_pl.errors import UserError
from mindeye_pl.nn.foundation_sizes import build_captioner
from mindeye_pl.pipelines.foundation import (
    CAPTIONS,
    PRETRAIN_CLIP,
    SCENES,
    embedded,
    fit_foundation,
    picture_inputs,
    pictures_of,
    tables_of,
    trains_on_scenes,
)
from mindeye_pl.pipelines.step import Run, Step
from mindeye_pl.stages.foundation import CaptionTraining
from mindeye_pl.weights import laptop
from mindeye_pl.weights.own import save_own


def _spec(run: Run) -> ArtifactSpec:
    by = run.plain("foundation.captioner", "foundation.pictures", "seed", "trainer.precision")
    inputs = picture_inputs(run) | run.inputs(PRETRAIN_CAPTIONER)
    return ArtifactSpec("pretrain_captioner", f"{run.config.foundation.name}-seed{run.config.seed}", by, inputs)


def _build(run: Run, folder: Path) -> None:
    if not trains_on_scenes(run):
        raise UserError(
            "pretrain_captioner needs captions", seen=run.config.foundation.pictures.source, wanted="simulated"
        )
    settings = run.config.foundation.captioner
    embedder = laptop.load_embedder(run.make(PRETRAIN_CLIP).folder)
    torch.manual_seed(run.config.seed)
    sizes = {
        **run.plain("foundation.captioner.sizes")["foundation.captioner.sizes"],
        "num_tokens": embedder.num_tokens,
        "token_dim": embedder.token_dim,
        "context_length": CONTEXT_LENGTH,
        "vocabulary": list(vocabulary()),
        "marks": list(MARKS),
    }
    network = build_captioner(**sizes).requires_grad_(True).train()

    def tokens(batch: np.ndarray) -> Tensor:
        with torch.no_grad():
            return embedder(torch.from_numpy(batch).float())

    texts = json.loads((run.make(SCENES).folder / CAPTIONS).read_text())
    tables = {
        "tokens": embedded(run, PRETRAIN_CLIP, pictures_of(run), tokens),
        "words": word_numbers([full for full, _ in texts]).numpy(),  # (N, L)
    }
    model = CaptionTraining(
        network, token_noise=settings.token_noise, max_lr=settings.max_lr, weight_decay=settings.weight_decay
    )
    fit_foundation(run, PRETRAIN_CAPTIONER, folder, model, tables_of(run, "captioner", tables))
    save_own(folder / laptop.CAPTIONER, network.state_dict(), sizes)


PRETRAIN_CAPTIONER = Step("pretrain_captioner", _spec, lambda run: (SCENES, PRETRAIN_CLIP), _build)
