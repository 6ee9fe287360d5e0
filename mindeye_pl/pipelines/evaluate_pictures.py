"""Scores of the reconstructions, beside what is scored without a brain.

Legend: n test pictures, H and W picture size.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.artifacts import ArtifactSpec, write_text
from mindeye_pl.data.stimuli import Stimuli
from mindeye_pl.metrics.intervals import difference_over_pictures
from mindeye_pl.metrics.pictures import derangement, score_each, scores_of
from mindeye_pl.pipelines.data import is_simulated, layout
from mindeye_pl.pipelines.evaluate import MODEL, SCORES
from mindeye_pl.pipelines.foundation_models import identity, load_model
from mindeye_pl.pipelines.pretrain import datamodule
from mindeye_pl.pipelines.reconstruct import RECONSTRUCT, read_reconstructions
from mindeye_pl.pipelines.step import Run, Step

#: The lines of `scores.json` beside `MODEL`, by the names that the report knows.
MEAN_PICTURE, OTHER_PICTURE, SHUFFLED = "mean_picture", "other_picture", "shuffled"
BLURRY, REFINED, TRUE_TOKENS = "blurry", "refined", "true_tokens"
NULL_ROWS = (MEAN_PICTURE, OTHER_PICTURE, SHUFFLED)

_AT_ONCE = 64
_MOST_FOR_MEAN = 2000


def _spec(run: Run) -> ArtifactSpec:
    spec = run.spec(RECONSTRUCT)
    by = identity(run, "embedder") | run.plain("metrics.pixel_size", "metrics.bootstrap_resamples", "seed")
    by |= run.plain("data.split")
    return ArtifactSpec("evaluate_pictures", spec.label, by, {"reconstruct": spec.fingerprint})


def _build(run: Run, folder: Path) -> None:
    made = read_reconstructions(run.make(RECONSTRUCT))
    images = made["images"].float()  # (n, 3, H, W)
    seen = _resized(torch.from_numpy(Stimuli(layout(run).stimuli).read(made["stimulus_ids"].numpy())), images)
    lot = derangement(len(seen), run.config.seed)
    rows = {
        MODEL: images,
        MEAN_PICTURE: _mean_picture(run, images).expand_as(images),
        OTHER_PICTURE: seen[lot],
        SHUFFLED: images[lot],
        TRUE_TOKENS: made["images_from_true_tokens"].float(),
    }
    for name, key in ((BLURRY, "blurry_images"), (REFINED, "refined_images")):
        if key in made:
            rows[name] = _resized(made[key], images)
    embedder = load_model(run, "embedder")

    def features(pictures: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.cat([embedder.pooled(part) for part in pictures.split(_AT_ONCE)]).float()

    settings = run.config.metrics
    values = {
        name: score_each(pictures, seen, features=features, size=settings.pixel_size) for name, pictures in rows.items()
    }
    content = {
        "subject": run.config.data.subject,
        "num_sessions": run.config.data.num_sessions,
        "simulated": is_simulated(run),
        "embedder": run.config.embedder.name,
        "stimulus_ids": made["stimulus_ids"].tolist(),
        "rows": {
            name: [
                s.to_dict() for s in scores_of(each, num_resamples=settings.bootstrap_resamples, seed=run.config.seed)
            ]
            for name, each in values.items()
        },
        "above_null": _above_null(values),
        "of_each_picture": {
            name: {metric: each.round(6).tolist() for metric, each in row.items()} for name, row in values.items()
        },
    }
    write_text(folder / SCORES, json.dumps(content, indent=1))


def _above_null(values: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, list[float]]]:
    """Model minus each null row on the same pictures: mean, and the ends of its 95 % interval."""
    found: dict[str, dict[str, list[float]]] = {}
    for null in NULL_ROWS:
        found[null] = {}
        for metric, each in values[MODEL].items():
            difference = difference_over_pictures(each, values[null][metric])
            found[null][metric] = [difference.value, *difference.interval]
    return found


def _resized(pictures: Tensor, like: Tensor) -> Tensor:
    """Pictures in [0, 1] of the size of `like`, shrunk with antialiasing."""
    pictures = pictures.float()
    if pictures.shape[-2:] == like.shape[-2:]:
        return pictures
    return F.interpolate(pictures, size=like.shape[-2:], mode="bilinear", antialias=True).clamp(0, 1)


def _mean_picture(run: Run, like: Tensor) -> Tensor:
    """The mean of pictures that the subject saw in training, `(1, 3, H, W)`: what one can say without a brain."""
    data = datamodule(run, [run.config.data.subject], run.config.data.num_sessions, run.config.finetune.batch_size)
    ids = np.unique(data.train_trials[0].stimulus_ids)[:_MOST_FOR_MEAN]
    stimuli = Stimuli(layout(run).stimuli)
    total = torch.zeros(like.shape[1:], dtype=torch.float64)
    for part in np.array_split(ids, max(1, len(ids) // _AT_ONCE)):
        total += _resized(torch.from_numpy(stimuli.read(part)), like).double().sum(0)
    return (total / len(ids)).float()[None]


def _needs(run: Run) -> Sequence[Step]:
    return (RECONSTRUCT,)


EVALUATE_PICTURES = Step("evaluate_pictures", _spec, _needs, _build)
