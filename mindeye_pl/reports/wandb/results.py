"""What came of a step, as numbers, tables and images of its W&B run.

Legend: n test images, H and W image size.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from mindeye_pl.store.artifacts import Artifact
from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.metrics.captions.scores import PREDICTED_REFERENCE
from mindeye_pl.steps.inputs.simulate import layout
from mindeye_pl.steps.evaluation.retrieval import CEILING, EVALUATE, MODEL, RIDGE, SHUFFLED
from mindeye_pl.metrics.statistics.score import SCORES
from mindeye_pl.steps.foundation.evaluate import EVALUATE_FOUNDATION
from mindeye_pl.steps.foundation.evaluate_generator import (
    EVALUATE_GENERATOR,
    GENERATOR,
    RANDOM_LATENTS,
    TRAINING_IMAGES,
)
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCT, read_captions, read_reconstructions
from mindeye_pl.reports.runs.rows import LINES
from mindeye_pl.steps.gallery.retrieve import COARSE, OWN_VECTOR, RECALL, RERANKED, RETRIEVE
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.reports.render.thumbnails import as_pixels
from mindeye_pl.tracking.wandb_run import TrackedRun

#: Columns of every table of scores: one row for each line and metric.
COLUMNS = ("line", "kind", "metric", "value", "low", "high", "chance", "pool_size", "num_images", "higher_is_better")

#: Kinds of the lines of retrieval and captions; those of images are the report's.
_KINDS = {SHUFFLED: "null", RIDGE: "baseline", CEILING: "ceiling"}

#: Images of a row, in order, by what the step calls them.
_COLUMNS = {"images": "reconstruction", "blurry_images": "blurry", "refined_images": "refined"}
#: Pixels to a side that images are shrunk to.
_WIDTH = 256

Plain = Mapping[str, Any]


def log_results(run: Run, step: Step, artifact: Artifact, tracked: TrackedRun) -> None:
    """Logs what a finished step found, and what it cost."""
    manifest = artifact.manifest
    size = sum(path.stat().st_size for path in artifact.folder.rglob("*") if path.is_file())
    tracked.summarise({"cost/seconds": manifest["seconds"], "cost/megabytes": round(size / 1e6, 3)})
    tracked.summarise({f"facts/{name}": value for name, value in manifest.get("facts", {}).items()})
    if step is EVALUATE:
        _log_retrieval(artifact, tracked)
    elif step is EVALUATE_RECONSTRUCTIONS:
        _log_image_scores(artifact, tracked)
    elif step is RECONSTRUCT:
        _log_reconstructions(run, artifact, tracked)
    elif step is EVALUATE_FOUNDATION:
        _log_foundation(artifact, tracked)
    elif step is EVALUATE_GENERATOR:
        _log_generator(artifact, tracked)
    elif step is RETRIEVE:
        _log_recall(artifact, tracked)


def summary_of(scores: Iterable[Plain], prefix: str = "") -> dict[str, float]:
    """Scores as numbers of a run: `score/NAME`, with `_low`, `_high`, `_chance`, `_pool` and `_images` beside it."""
    summary: dict[str, float] = {}
    for score in scores:
        low, high = score["interval"] or (None, None)
        parts = {"": score["value"], "_low": low, "_high": high, "_chance": score["chance"]}
        parts |= {"_pool": score["pool_size"], "_images": score["num_images"]}
        name = f"score/{prefix}{score['name']}"
        summary |= {f"{name}{part}": value for part, value in parts.items() if value is not None}
    return summary


def table_rows(lines: Mapping[str, Iterable[Plain]], kinds: Mapping[str, str]) -> list[list[Any]]:
    """Lines of scores as rows of a table with `COLUMNS`."""
    rows = []
    for line, scores in lines.items():
        for score in scores:
            low, high = score["interval"] or (None, None)
            more = [score[key] for key in ("chance", "pool_size", "num_images", "higher_is_better")]
            rows.append([line, kinds.get(line, "model"), score["name"], score["value"], low, high, *more])
    return rows


def _log_retrieval(artifact: Artifact, tracked: TrackedRun) -> None:
    content = json.loads((artifact.folder / SCORES).read_text())
    rank = {f"effective_rank/{name}": value for name, value in content["effective_rank"].items()}
    tracked.summarise(summary_of(content["rows"][MODEL]) | rank)
    tracked.log_table("retrieval", COLUMNS, table_rows(content["rows"], _KINDS))


def _log_recall(artifact: Artifact, tracked: TrackedRun) -> None:
    rows = json.loads((artifact.folder / RECALL).read_text())["rows"]
    tracked.summarise(summary_of(rows.get(RERANKED, rows.get(COARSE, ()))))
    tracked.log_table("gallery_recall", COLUMNS, table_rows(rows, {SHUFFLED: "null", OWN_VECTOR: "ceiling"}))


def _log_image_scores(artifact: Artifact, tracked: TrackedRun) -> None:
    content = json.loads((artifact.folder / SCORES).read_text())
    captions = content["captions"]
    across_voxels = content["brain_ceilings"]["across_voxels"]
    ceilings = {f"ceiling/brain_{region}": value for region, value in across_voxels.items()}
    tracked.summarise(
        summary_of(content["rows"][MODEL]) | summary_of(captions.get(PREDICTED_REFERENCE, ()), "caption_") | ceilings
    )
    kinds = {line: kind for line, (_, kind, _) in LINES.items()}
    tracked.log_table("reconstruction_scores", COLUMNS, table_rows(content["rows"], kinds))
    if captions:
        tracked.log_table("caption_scores", COLUMNS, table_rows(captions, _KINDS))
    differences = [[null, metric, *ends] for null, row in content["above_null"].items() for metric, ends in row.items()]
    tracked.log_table("above_null", ("null line", "metric", "difference", "low", "high"), differences)


def _log_foundation(artifact: Artifact, tracked: TrackedRun) -> None:
    content = json.loads((artifact.folder / SCORES).read_text())
    found = [(model, name, value) for model, scores in content.items() for name, value in scores.items()]
    tracked.summarise({f"score/{_slug(model)}/{_slug(name)}": value for model, name, value in found})
    tracked.log_table("foundation", ("model", "score", "value"), found)


def _log_generator(artifact: Artifact, tracked: TrackedRun) -> None:
    rows = json.loads((artifact.folder / SCORES).read_text())["rows"]
    tracked.summarise(summary_of(rows[GENERATOR]))
    kinds = {line: "null" for line in rows if line not in (GENERATOR, RANDOM_LATENTS)} | {TRAINING_IMAGES: "ceiling"}
    tracked.log_table("generator", COLUMNS, table_rows(rows, kinds))


def _slug(words: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", words).strip("_")


def _log_reconstructions(run: Run, artifact: Artifact, tracked: TrackedRun) -> None:
    """Some images as strips of what was seen and what was made, and the same as a table."""
    made, words = read_reconstructions(artifact), read_captions(artifact)
    ids = made["stimulus_ids"].numpy()
    count = min(run.config.logger.wandb.num_images, len(ids))
    if count < 1:
        return
    chosen = np.linspace(0, len(ids) - 1, count).round().astype(int)  # all over the test set
    shown = {"seen": Stimuli(layout(run).stimuli).read(ids[chosen])}
    shown |= {title: made[key][torch.from_numpy(chosen)].numpy() for key, title in _COLUMNS.items() if key in made}
    said = [words[place] if words else "" for place in chosen]
    rows = [[_pixels(images[row]) for images in shown.values()] for row in range(count)]
    titles = " / ".join(shown)
    captions = [
        f"stimulus {ids[place]}: {titles}" + (f"; {text}" if text else "")
        for place, text in zip(chosen, said, strict=True)
    ]
    tracked.log_images("reconstructions", [_strip(row) for row in rows], captions)
    cells = [[int(ids[place]), *row, text] for place, row, text in zip(chosen, rows, said, strict=True)]
    tracked.log_table("reconstruction_table", ("stimulus", *shown, "caption"), cells)


def _pixels(image: np.ndarray) -> np.ndarray:
    """`(3, H, W)` in [0, 1] as `(H, W, 3)` uint8 of at most `_WIDTH` pixels to a side."""
    from PIL import Image

    shrunk = Image.fromarray(as_pixels(image))
    shrunk.thumbnail((_WIDTH, _WIDTH), Image.Resampling.LANCZOS)
    return np.asarray(shrunk)


def _strip(images: list[np.ndarray]) -> np.ndarray:
    """Images `(H, W, 3)` side by side, brought to the height of the largest, with a white line between them."""
    from PIL import Image

    height = max(len(image) for image in images)
    parts: list[np.ndarray] = []
    for image in images:
        width = round(image.shape[1] * height / image.shape[0])
        if parts:
            parts.append(np.full((height, 2, 3), 255, np.uint8))
        parts.append(np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)))
    return np.concatenate(parts, axis=1)
