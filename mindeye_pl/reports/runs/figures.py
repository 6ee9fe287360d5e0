"""The images and figures of a report: reconstructions, what retrieval found, curves, regions, tokens.

Legend: n test images, S tokens, D token width, F = S D.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.gallery.source import Gallery
from mindeye_pl.metrics.retrieval import cosine_similarity, nearest, ranks_of_own
from mindeye_pl.metrics.statistics.score import SCORES, Score
from mindeye_pl.reports.render.bars import Bars
from mindeye_pl.reports.render.curves import Panel, Series
from mindeye_pl.reports.render.gallery import Found, GalleryRow, gallery_section
from mindeye_pl.reports.render.grid import grid_section
from mindeye_pl.reports.render.image_table import SEEN, Cell, ImageColumn, ImageRow
from mindeye_pl.reports.render.section import Section, charts_section
from mindeye_pl.reports.render.table import Results
from mindeye_pl.reports.render.tokens import token_map_section
from mindeye_pl.steps.evaluation.brain_scores import TITLES, metric_name, region_title
from mindeye_pl.steps.evaluation.reconstructions import LINES
from mindeye_pl.steps.evaluation.retrieval import MODEL, PREDICTIONS, REPETITIONS, read_scores
from mindeye_pl.steps.evaluation.scored_images import ScoredImages
from mindeye_pl.steps.gallery.retrieve import RECALL, read_found
from mindeye_pl.steps.inputs.targets import ImageTargets
from mindeye_pl.store.artifacts import Artifact
from mindeye_pl.store.own_files import read_json, read_tensors

#: Images that retrieval shows for each brain.
_FOUND = 5
#: Images of the token map; more make a map that nobody reads.
_MAPPED = 300
#: Columns of the reconstructions after the seen image, by the name of the tensor that holds their images.
RECONSTRUCTED = {
    "images": ImageColumn("Reconstructed", "drawn from brain activity"),
    "refined_images": ImageColumn("Refined", "the reconstruction, refined"),
    "blurry_images": ImageColumn("Blurry", "low-level branch, or linear map, alone, from brain activity"),
}
#: Column of the ceiling, between the seen images and the reconstructions.
FROM_TRUE_TOKENS = ImageColumn("From true tokens", "drawn from the image's own tokens: the decoder's limit", "ceiling")


def baseline_column(line: str, title: str = "") -> ImageColumn:
    """Return the column of a linear baseline's images, by its line of the table."""
    name, _, note = LINES[line]
    return ImageColumn(title or name.capitalize(), f"ridge regression {note}")


def descriptions(captions: Path | None, ids: np.ndarray) -> list[str]:
    """Return the first caption of each image from the data's file, empty where there is none; ids are `(n,)`."""
    if captions is None:
        return [""] * len(ids)
    every = json.loads(captions.read_bytes())
    return [(every[id_] or [""])[0] for id_ in ids.tolist()]


@dataclass(frozen=True)
class _GridRows(Sequence[ImageRow]):
    """The rows of the grid, created as they are read: images of 768 pixels are too many to hold."""

    ids: np.ndarray
    seen: Stimuli
    predicted: Mapping[str, Tensor]
    captions: Sequence[str]
    predicted_captions: Sequence[str]
    scores: Mapping[str, Sequence[float]]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        id_ = int(self.ids[index])
        cells = {SEEN.title: Cell(self.seen.read(np.array([id_]))[0])}
        predicted = {title: np.asarray(stored[index : index + 1])[0] for title, stored in self.predicted.items()}
        cells |= {title: Cell(image) for title, image in predicted.items()}
        scores = {name: each[index] for name, each in self.scores.items()}
        return ImageRow(f"stimulus {id_}", cells, self.captions[index], self.predicted_captions[index], scores)


def reconstructions_section(
    scored: ScoredImages,
    content: Mapping[str, Any],
    tables: Sequence[Results],
    stimuli: Stimuli,
    captions: Path | None,
    count: int,
    baselines: Mapping[str, Tensor],
    true_tokens: Tensor | None,
) -> Section | None:
    """Return the first test images by id, and their reconstructions, which can be sorted by the tables' scores.

    `baselines` are the images `(n, 3, H, W)` of the linear baselines by line, `true_tokens` those from true tokens.
    """
    predicted = {} if true_tokens is None else {FROM_TRUE_TOKENS: true_tokens}
    predicted |= {column: scored.tensors[key] for key, column in RECONSTRUCTED.items() if key in scored.tensors}
    predicted |= {baseline_column(line): images for line, images in baselines.items()}
    ids, scores = scored.stimulus_ids[:count], content["of_each_image"][MODEL]
    texts, by_title = scored.captions or [""] * len(ids), {column.title: images for column, images in predicted.items()}
    rows = _GridRows(ids, stimuli, by_title, descriptions(captions, ids), texts, scores)
    metrics = [column for results in tables for column in results.columns if column.score in scores]
    chosen = f"The first {len(ids)} of {len(scored.stimulus_ids)}" if len(ids) < len(scored.stimulus_ids) else "All"
    note = (
        f"{chosen} test images in the order of their ids, none selected. Scores are those of the reconstruction. "
        "Click an image to enlarge its row."
    )
    return grid_section("Seen and reconstructed", [SEEN, *predicted], rows, note, metrics=metrics)


@dataclass(frozen=True)
class Embeddings:
    """Retrieval embeddings of brains and target tokens of images, `(n, S, D)` each, by `(n,)` stimulus ids."""

    ids: np.ndarray
    brain: Tensor
    clip: Tensor

    @classmethod
    def read(cls, evaluation: Artifact, targets: ImageTargets) -> Self:
        """Return the embeddings of a finished evaluation."""
        stored = read_tensors(evaluation.folder / PREDICTIONS)
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


def read_recall(retrieval: Artifact) -> dict[str, Any]:
    """Return the content of `recall.json`."""
    return read_json(retrieval.folder / RECALL)


def found_section(
    retrieval: Artifact, gallery: Gallery, stimuli: Stimuli, captions: Path | None, count: int
) -> Section | None:
    """Return for the first test images the images of the searched gallery that were found first."""
    content, files = read_recall(retrieval), read_found(retrieval)
    places, similarity = (files.get(name, files[f"coarse_{name}"]) for name in ("places", "similarity"))
    ids, truth = files["stimulus_ids"][:count], files.get("truth")
    words, rows = descriptions(captions, ids), []
    if not gallery.holds_images:
        return None
    for row, id_ in enumerate(ids.tolist()):
        own = -1 if truth is None else int(truth[row])
        listed = places[row].tolist()
        first = [place for place in listed[:_FOUND] if place >= 0]
        shown = gallery.read(np.unique(first))
        names = dict(zip(shown.places.tolist(), gallery.names(shown.places), strict=True))
        images = dict(zip(shown.places.tolist(), shown.content, strict=True))
        candidates = [
            Found(images[place], float(similarity[row, column]), place == own, names[place])
            for column, place in enumerate(first)
        ]
        rank = listed.index(own) + 1 if own >= 0 and own in listed else None
        seen, pool = stimuli.read(np.array([id_]))[0], content["pool_size"]
        searched = content["top_k"] if truth is not None else None
        rows.append(GalleryRow(f"stimulus {id_}", seen, candidates, rank, pool, words[row], searched))
    note = f"Each brain looks for its image among {content['pool_size']:,} images of the gallery."
    return gallery_section(rows, title="Found in the gallery", note=note)


def repetitions_section(evaluation: Artifact) -> Section | None:
    """Return retrieval from one, two and three responses to each image, as far as there are so many; None for one."""
    found = [{score.name: score for score in read_scores(evaluation, line)} for line in REPETITIONS]
    by_count = [scores for scores in found if scores]
    if len(by_count) < 2:
        return None
    counts, series = [float(count) for count in range(1, len(by_count) + 1)], []
    for name in ("image_retrieval", "brain_retrieval"):
        scores = [scores[name] for scores in by_count]
        low, high = zip(*(score.interval or (score.value, score.value) for score in scores), strict=True)
        series.append(Series(name.replace("_", " "), counts, [score.value for score in scores], low, high))
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
    """Return brain correlation of the reconstructions by region, by each encoder, and its noise ceiling."""
    scores = {plain["name"]: Score.from_dict(plain) for plain in content["rows"][MODEL]}
    ceilings, charts = content["brain_ceilings"], []
    for encoder in encoders:
        prefix = metric_name(encoder, "")
        regions = [name.removeprefix(prefix) for name in scores if name.startswith(prefix)]
        if not regions:
            continue
        own = [scores[metric_name(encoder, region)] for region in regions]
        labels = [region_title(region) for region in regions]
        title = f"Brain correlation across voxels, {TITLES[encoder]}"
        best = [ceilings["across_voxels"].get(region) for region in regions]
        charts.append(Bars(title, labels, [score.value for score in own], [score.interval for score in own], best))
        if normalised := ceilings["normalised"].get(encoder):
            title = f"Correlation across images over the noise ceiling, {TITLES[encoder]}"
            values = [normalised[MODEL][region] for region in regions]
            charts.append(Bars(title, labels, values, ceilings=[1.0] * len(regions)))
    source = ceilings["source"]
    return charts_section("Regions", charts, f"Ceiling across voxels: {source}." if source else "")


def tokens_section(embeddings: Embeddings, evaluation: Artifact) -> Section | None:
    """Return the map of predicted and true tokens."""
    names = [f"stimulus {id_}" for id_ in embeddings.ids[:_MAPPED]]
    rank = read_json(evaluation.folder / SCORES)["effective_rank"]
    both = (embeddings.brain, embeddings.clip)
    predicted, true = (rows[:_MAPPED].flatten(1).float().numpy() for rows in both)  # (n, F)
    most = f"The effective rank of {len(embeddings.ids)} images is at most {rank.pop('most')}."
    return token_map_section(predicted, true, names, effective_rank=rank, note=most)
