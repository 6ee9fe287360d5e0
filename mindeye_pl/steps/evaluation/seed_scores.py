"""SEED of every line: captions of all images by the run's captioner, the objects that they name, and a distance.

Legend: n test images, m images of a set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig

from mindeye_pl.metrics.captions.similarity import CachedEmbedder, TextEmbedder, text_similarity_per_image
from mindeye_pl.metrics.images import Scored, TableMetric
from mindeye_pl.metrics.named_objects import named_objects
from mindeye_pl.metrics.seed import object_f1_per_image, seed_per_image
from mindeye_pl.steps.evaluation.image_scores import Lines
from mindeye_pl.steps.evaluation.image_sets import SEEN, ImageSets
from mindeye_pl.steps.evaluation.optional import Lacking
from mindeye_pl.steps.inputs.frozen_models import FrozenModel
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.own_files import read_json, read_or_make

CAP_SIM, OBJECT_F1, SEED = "cap_sim", "object_f1", "seed"
_BATCH_SIZE = 32


def seed_metrics(protocol: DictConfig) -> list[TableMetric]:
    """Return the columns of SEED, Object F1 and Cap-Sim; empty where the protocol asks for none."""
    if protocol.seed is None:
        return []
    title = protocol.networks[protocol.seed.distance].title
    return [
        TableMetric(
            SEED,
            "SEED, objects of captions",
            f"Do both show the same? Mean of Object F1, Cap-Sim and 1 - {title}; published with a detector's objects.",
        ),
        TableMetric(OBJECT_F1, "Object F1, of captions", "Do captions of both images name the same objects?"),
        TableMetric(CAP_SIM, "Cap-Sim", "How alike are the captions of both images, as sentences?"),
    ]


@dataclass(frozen=True)
class ImageCaptioner:
    """Captions of images, by the target embedder and the captioner of its tokens.

    Attributes:
        embedder: the target embedder.
        captioner: reads its tokens.
    """

    embedder: FrozenModel
    captioner: FrozenModel

    @cached_property
    def _models(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        return self.embedder.load().to(self.embedder.device), self.captioner.load().to(self.captioner.device)

    @torch.inference_mode()
    def captions(self, sets: ImageSets, name: str) -> list[str]:
        """Return the captions of a set, m sentences."""
        embedder, captioner = self._models
        found: list[str] = []
        for images in sets.batches(name, _BATCH_SIZE):
            tokens = embedder(images.to(self.embedder.device)).float()
            words = captioner(tokens.to(self.captioner.device), max_length=self.captioner.settings.max_length)
            found += captioner.text(words)  # type: ignore[operator]
        return found


def score_seed(
    sets: ImageSets,
    captioner: ImageCaptioner,
    text: TextEmbedder,
    categories: Sequence[str],
    distances: Mapping[str, Scored],
    folder: Path,
) -> Lines:
    """Return SEED, Object F1 and Cap-Sim of every line.

    Args:
        sets: the images.
        captioner: of images.
        text: embedder of the captions.
        categories: names of objects.
        distances: `(n,)` correlation distances by line; a line without one has no SEED.
        folder: of the captions that are made.
    """
    embedder = CachedEmbedder(text)

    def captions(name: str) -> list[str]:
        path = folder / f"captions-{name}.json"

        def make() -> None:
            write_json(path, captioner.captions(sets, name))

        return read_or_make(path, partial(read_json, kind=list[str]), make)

    seen, scores = captions(SEEN), {}
    for name, line in sets.lines.items():
        of_set = captions(line.set)
        made = [of_set[row] for row in line.order.tolist()]
        found = object_f1_per_image(named_objects(made, categories), named_objects(seen, categories))
        similar = text_similarity_per_image(made, seen, embedder=embedder)
        scores[name] = {OBJECT_F1: Scored.independent(found), CAP_SIM: Scored.independent(similar)}
        if name in distances:
            distance = torch.from_numpy(np.array(distances[name].each))
            scores[name][SEED] = Scored.independent(seed_per_image(found, similar, distance))
    return scores


def seed_needs(captioner: FrozenModel | None, text: TextEmbedder | Lacking) -> str | None:
    """Return what SEED lacks, None if nothing."""
    if captioner is None:
        return "needs a captioner: captioner=git, and its weights"
    return text.needs if isinstance(text, Lacking) else None
