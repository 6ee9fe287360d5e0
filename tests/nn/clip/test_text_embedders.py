"""The laptop's own CLIP as a judge of captions; the published towers are tested with their files."""

import re

import numpy as np
import torch

from mindeye_pl.data.simulated.scenes import COLOURS, captions, draw_scene
from mindeye_pl.data.simulated.vocabulary import tokenize_captions, tokenize_names
from mindeye_pl.metrics.captions.similarity import text_similarity_per_image
from mindeye_pl.nn.clip.text_embedders import OpenCLIPTextEmbedder
from mindeye_pl.weights.loaders.bundled import load_clip

CAPTIONS = [captions(draw_scene(np.random.default_rng(seed))) for seed in range(40)]
FULL = [full for full, _ in CAPTIONS]


def test_embeddings_are_those_of_the_network_whatever_the_batch() -> None:
    network, _ = load_clip()
    found = OpenCLIPTextEmbedder(network, tokenize_captions)(FULL)
    with torch.no_grad():
        torch.testing.assert_close(found, network.encode_text(tokenize_captions(FULL)), rtol=0, atol=1e-5)
    for batch_size in (1, 7):
        again = OpenCLIPTextEmbedder(network, tokenize_captions, batch_size=batch_size)(FULL)
        torch.testing.assert_close(again, found, rtol=0, atol=1e-5)


def test_the_laptop_judges_captions_of_scenes_by_their_objects() -> None:
    embedder = OpenCLIPTextEmbedder(load_clip()[0], tokenize_names)
    other_looks = [re.sub("|".join(COLOURS), "grey", text).replace("striped", "spotted") for text in FULL]
    other_objects = FULL[1:] + FULL[:1]
    first_alone = [re.sub(" and an? .*", ".", named) for _, named in CAPTIONS]
    assert text_similarity_per_image(other_looks, FULL, embedder=embedder).min() > 0.999
    partly = text_similarity_per_image(first_alone, FULL, embedder=embedder).mean()
    assert 0.9 > partly > text_similarity_per_image(other_objects, FULL, embedder=embedder).mean() + 0.3
