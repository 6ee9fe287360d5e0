"""Captions to embeddings.

Legend: N pictures, C captions of a picture at most, E width of an embedding.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mindeye_pl.data.caption_words import word_numbers
from mindeye_pl.nn.embeddings import clamp_then_normalise
from mindeye_pl.nn.text_embedders import OpenCLIPTextEmbedder
from mindeye_pl.pipelines.foundation_models import load_model
from mindeye_pl.pipelines.step import Run
from mindeye_pl.weights.laptop import load_clip


def load_laptop_text(folder: str | Path | None = None) -> OpenCLIPTextEmbedder:
    """The text tower of the laptop's CLIP."""
    return OpenCLIPTextEmbedder(load_clip(folder)[0], word_numbers)


def embed_captions(run: Run, captions: Sequence[Sequence[str]]) -> np.ndarray:
    """Clamped and normalised embeddings `(N, C, E)` float16, zeros where a picture has fewer than C captions."""
    config, embedder = run.config.text_embedder, load_model(run, "text_embedder").to(run.device)
    table = np.zeros((len(captions), max(map(len, captions)), config.width), np.float16)
    places = [(picture, place) for picture, of in enumerate(captions) for place in range(len(of))]
    embedded = clamp_then_normalise(embedder([captions[i][j] for i, j in places]).cpu(), limit=config.clamp)
    table[tuple(np.array(places).T)] = embedded.half().numpy()
    return table
