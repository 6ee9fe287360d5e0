"""CLIP-S and RefCLIP-S: values by hand, and the prompt."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.captions.clip_score import PROMPT, clip_score_per_image, ref_clip_score_per_image

#: Directions of sentences behind the prompt.
DIRECTIONS = {"east": (1.0, 0.0), "north": (0.0, 2.0), "north-east": (3.0, 3.0), "west": (-1.0, 0.0)}


def embed(sentences: Sequence[str]) -> Tensor:
    return torch.tensor([DIRECTIONS[sentence.removeprefix(PROMPT)] for sentence in sentences])


def test_scores_by_hand() -> None:
    images = torch.tensor([[2.0, 0.0]] * 4)
    predicted = ["east", "north", "north-east", "west"]
    of_image = clip_score_per_image(predicted, ["east"] * 4, image_embeddings=images, embedder=embed)
    root = 2**0.5
    assert of_image.tolist() == pytest.approx([2.5, 0, 2.5 / root, 0])
    references = [["east", "west"], ["north"], ["west", "north"], ["east"]]
    both = ref_clip_score_per_image(predicted, references, image_embeddings=images, embedder=embed)
    third = 2 * (2.5 / root) * (1 / root) / (3.5 / root)
    assert both.tolist() == pytest.approx([2 * 2.5 / 3.5, 0, third, 0])


def test_every_caption_follows_the_prompt() -> None:
    read: list[str] = []

    def record(sentences: Sequence[str]) -> Tensor:
        read.extend(sentences)
        return torch.ones(len(sentences), 2)

    how = {"image_embeddings": torch.ones(1, 2), "embedder": record}
    ref_clip_score_per_image(["east"], ["west"], **how, prompt="A drawing of ")  # type: ignore[arg-type]
    assert set(read) == {"A drawing of east", "A drawing of west"}


def test_towers_of_two_clips_are_refused() -> None:
    with pytest.raises(UserError, match="do not fit"):
        clip_score_per_image(["east"], ["east"], image_embeddings=torch.ones(1, 3), embedder=embed)
