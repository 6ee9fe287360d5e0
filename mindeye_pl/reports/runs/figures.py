"""The images and figures of a report: reconstructions, what retrieval found, curves, regions, tokens.

Legend: n test images, S tokens, D token width, F = S D.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.engine.run import Run
from mindeye_pl.metrics.retrieval import cosine_similarity, nearest, ranks_of_own
from mindeye_pl.metrics.statistics.score import SCORES, Score
from mindeye_pl.reports.render.bars import Bars
from mindeye_pl.reports.render.charts import charts_section
from mindeye_pl.reports.render.curves import Panel, Series
from mindeye_pl.reports.render.gallery import Found, GalleryRow, gallery_section
from mindeye_pl.reports.render.grid import GridRow, grid_section
from mindeye_pl.reports.render.results import Results
from mindeye_pl.reports.render.section import Section
from mindeye_pl.reports.render.tokens import token_map_section
from mindeye_pl.steps.evaluation.brain_scores import TITLES, metric_name
from mindeye_pl.steps.evaluation.retrieval import MODEL, PREDICTIONS, REPETITIONS, read_scores
from mindeye_pl.steps.evaluation.scored_images import ScoredImages
from mindeye_pl.steps.inputs.dataset import Dataset
from mindeye_pl.steps.inputs.targets import ImageTargets
from mindeye_pl.store.artifacts import Artifact

#: Images that retrieval shows for each brain.
_FOUND = 5
#: Images of the token map; more make a map that nobody reads.
_MAPPED = 300


def descriptions(captions: Path | None, ids: np.ndarray) -> list[str]:
    """Return the first caption of each image, empty where the data have no captions.

    Args:
        captions: the data's file, None where there is none.
        ids: `(n,)` stimulus ids.
    """
    if captions is None:
        return [""] * len(ids)
    every = json.loads(captions.read_text())
    return [every[id_][0] for id_ in ids.tolist()]


class _Rows:
    """The rows of the grid, made as they are read: images of 768 pixels are too many to hold."""

    def __init__(
        self,
        scored: ScoredImages,
        scores: Mapping[str, Sequence[float]],
        stimuli: Stimuli,
        captions: Path | None,
        count: int,
    ):
        self._scored, self._scores, self._stimuli, self._captions = scored, scores, stimuli, captions
        self.ids = scored.stimulus_ids[:count]
        keys = {
            "Reconstructed": "images",
            "Blurry": "blurry_images",
            "Refined": "refined_images",
            "From true tokens": "images_from_true_tokens",
        }
        self.keys = {title: key for title, key in keys.items() if key in scored.tensors}

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[GridRow]:
        made, predicted = self._scored.tensors, self._scored.captions
        texts = descriptions(self._captions, self.ids)
        for row, id_ in enumerate(self.ids.tolist()):
            images = {"Seen": self._stimuli.read(np.array([id_]))[0]}
            images |= {title: np.asarray(made[key][row : row + 1])[0] for title, key in self.keys.items()}
            yield GridRow(
                f"stimulus {id_}",
                images,
                texts[row],
                predicted[row] if predicted else "",
                {name: each[row] for name, each in self._scores.items()},
            )


def reconstructions_section(
    scored: ScoredImages,
    content: Mapping[str, Any],
    tables: Sequence[Results],
    dataset: Dataset,
    captions: Path | None,
    count: int,
) -> Section | None:
    """Return the first test images, always the same ones, and their reconstructions.

    Args:
        scored: the reconstructions.
        content: of their evaluation.
        tables: whose scores the images can be sorted by.
        dataset: whose images were seen.
        captions: file of the data's captions, None where there is none.
        count: of images.
    """
    rows = _Rows(scored, content["of_each_image"][MODEL], dataset.stimuli, captions, count)
    metrics = [column for results in tables for column in results.columns if column.score != "fid"]
    notes = ["From true tokens: drawn from the image's own tokens."] if "From true tokens" in rows.keys else []
    return grid_section(
        "Images",
        ["Seen", *rows.keys],
        rows,  # type: ignore[arg-type]
        " ".join(notes),
        metrics=metrics,
    )


@dataclass(frozen=True)
class Embeddings:
    """Retrieval embeddings of the test images.

    Attributes:
        ids: `(n,)` stimulus ids.
        brain: `(n, S, D)` retrieval embeddings.
        clip: `(n, S, D)` target tokens.
    """

    ids: np.ndarray
    brain: Tensor
    clip: Tensor

    @classmethod
    def read(cls, evaluation: Artifact, targets: ImageTargets) -> Self:
        """Return the embeddings of a finished evaluation."""
        stored = load_file(str(evaluation.folder / PREDICTIONS))
        ids = stored["stimulus_ids"].numpy()
        return cls(ids, stored["retrieval"], torch.from_numpy(targets.tokens(ids)[ids]))


def retrieval_section(embeddings: Embeddings, stimuli: Stimuli, captions: Path | None, count: int) -> Section | None:
    """Return for the first test images the images that the brain's retrieval embedding finds first."""
    ids = embeddings.ids
    similarity = cosine_similarity(query=embeddings.brain, gallery=embeddings.clip)  # (n, n)
    order, ranks = nearest(similarity, _FOUND).numpy(), ranks_of_own(similarity).tolist()
    shown = ids[:count]
    texts, rows = descriptions(captions, shown), []
    for row, id_ in enumerate(shown.tolist()):
        images = stimuli.read(ids[[row, *order[row]]])
        candidates = [
            Found(image, float(similarity[row, other]), bool(other == row), f"stimulus {ids[other]}")
            for image, other in zip(images[1:], order[row], strict=True)
        ]
        rank = next((at for at, candidate in enumerate(candidates, 1) if candidate.true), max(ranks[row], _FOUND + 1))
        rows.append(GalleryRow(f"stimulus {id_}", images[0], candidates, min(rank, len(ids)), len(ids), texts[row]))
    note = f"Each brain looks for its image among all {len(ids)} test images."
    return gallery_section(rows, note=note)


def repetitions_section(evaluation: Artifact) -> Section | None:
    """Return retrieval from one, two and three responses to each image."""
    names = {"image_retrieval": "image retrieval", "brain_retrieval": "brain retrieval"}
    by_count = [{score.name: score for score in read_scores(evaluation, line)} for line in REPETITIONS]
    series = []
    for name, title in names.items():
        scores = [scores[name] for scores in by_count]
        ends = [score.interval or (score.value, score.value) for score in scores]
        series.append(
            Series(
                title,
                [1.0, 2.0, 3.0],
                [score.value for score in scores],
                low=[low for low, _ in ends],
                high=[high for _, high in ends],
            )
        )
    score: Score = by_count[0]["image_retrieval"]
    panel = Panel(
        f"Retrieval among {score.pool_size} by responses averaged",
        tuple(series),
        x_label="responses to each image",
        references={"chance": score.chance or 0.0},
        is_percent=True,
    )
    return charts_section("Repetitions", [panel], "Bands: 95 % intervals over images.")


def regions_section(content: Mapping[str, Any], encoders: Sequence[str]) -> Section | None:
    """Return brain correlation of the reconstructions by region, below what a perfect prediction would score.

    Args:
        content: of the evaluation of reconstructions.
        encoders: of the protocol.
    """
    scores = {plain["name"]: Score.from_dict(plain) for plain in content["rows"][MODEL]}
    ceilings, charts = content["brain_ceilings"], []
    for encoder in encoders:
        regions = [region for region in nsd.ROIS if metric_name(encoder, region) in scores]
        if not regions:
            continue
        of_region = [scores[metric_name(encoder, region)] for region in regions]
        labels = ["visual cortex" if region == "nsd_general" else region.replace("_vis", "") for region in regions]
        charts.append(
            Bars(
                f"Brain correlation across voxels, {TITLES[encoder]}",
                labels,
                [score.value for score in of_region],
                [score.interval for score in of_region],
                [ceilings["across_voxels"].get(region) for region in regions],
            )
        )
        if normalised := ceilings["normalised"].get(encoder):
            charts.append(
                Bars(
                    f"Correlation across images over the noise ceiling, {TITLES[encoder]}",
                    labels,
                    [normalised[MODEL][region] for region in regions],
                    ceilings=[1.0 for _ in regions],
                )
            )
    source = ceilings["source"]
    return charts_section("Regions", charts, f"Ceiling across voxels: {source}." if source else "") if charts else None


def tokens_section(embeddings: Embeddings, evaluation: Artifact) -> Section | None:
    """Return predicted and true tokens in the plane in which true ones differ most."""
    ids = embeddings.ids
    names = [f"stimulus {id_}" for id_ in ids[:_MAPPED]]
    rank = json.loads((evaluation.folder / SCORES).read_text())["effective_rank"]
    both = (embeddings.brain, embeddings.clip)
    predicted, true = (rows[:_MAPPED].flatten(1).float().numpy() for rows in both)  # (n, F)
    most = f"The effective rank of {len(ids)} images is at most {rank.pop('most')}."
    return token_map_section(predicted, true, names, effective_rank=rank, note=most)


def report_folder(run: Run) -> Path:
    """Return the folder of a run's page, figures and tables.

    A run of its own has one for each subject and amount of data that the command line names; a job of a sweep lies
    below its experiment.
    """
    folder, data = Path(run.config.paths.reports), run.config.data
    if run.job is not None:
        return folder / run.experiment / "jobs" / str(run.job)
    hours = "all" if data.num_sessions == "all" else f"{data.num_sessions}h"
    named = {"data.subject": f"subj{data.subject:02d}", "data.num_sessions": hours}
    asked = [name for key, name in named.items() if any(item.startswith(f"{key}=") for item in run.overrides)]
    return folder / "_".join([run.experiment, *asked])
