"""The images of a sweep's report: what was seen, and what each setting reconstructed of it.

Legend: n images, H and W image size in pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.engine.step import Step
from mindeye_pl.reports.render.grid import grid_section
from mindeye_pl.reports.render.image_table import SEEN, ImageColumn, ImageRow
from mindeye_pl.reports.render.image_table import Cell as ImageCell
from mindeye_pl.reports.render.section import Section
from mindeye_pl.reports.runs.figures import FROM_TRUE_TOKENS, baseline_column, descriptions
from mindeye_pl.reports.sweeps.baselines import of_same_data
from mindeye_pl.reports.sweeps.settings import Cell
from mindeye_pl.steps.baselines.images import IMAGES
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCT, RECONSTRUCTIONS
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS
from mindeye_pl.steps.evaluation.true_tokens import DRAW_TRUE_TOKENS
from mindeye_pl.store.own_files import opened_tensors

#: Columns and rows of the table of images.
MAX_CELLS, MAX_IMAGES = 8, 16


def images_section(
    stimuli: Stimuli, captions: Path | None, cells: Sequence[Cell], baselines: Sequence[Cell]
) -> Section | None:
    """Return the seen images and the reconstructions of each cell's first seed; None if no job has made images.

    Images from true tokens stand between them if all cells have the same ones. Behind them are the linear baselines
    of the last cell's data, for instance of the largest amount.
    """
    files = {cell.name: file for cell in cells if (file := _images_made_by(RECONSTRUCT, cell)) is not None}
    chosen = dict(list(files.items())[:MAX_CELLS])
    if not chosen:
        return None
    made = {title: _read(file, "images") for title, file in chosen.items()}
    ids = list(dict.fromkeys(id_ for images in made.values() for id_ in images))[:MAX_IMAGES]
    columns = [SEEN, *map(ImageColumn, made)]
    true_tokens = [_images_made_by(DRAW_TRUE_TOKENS, cell) for cell in cells if cell.name in chosen]
    if limits := _common([{} if file is None else _read(file, "images") for file in true_tokens]):
        columns.insert(1, FROM_TRUE_TOKENS)
        made[FROM_TRUE_TOKENS.title] = limits
    linear = {one.name: (one, file) for one in of_same_data(cells[-1], baselines) if (file := _images_of(one))}
    columns += [baseline_column(one.rows[EVALUATE_RECONSTRUCTIONS.name], name) for name, (one, _) in linear.items()]
    made |= {name: _read(file, "images") for name, (_, file) in linear.items()}
    seen, texts = stimuli.read(np.array(ids)), descriptions(captions, np.array(ids))
    rows = [
        ImageRow(
            f"stimulus {id_}",
            {SEEN.title: ImageCell(image)}
            | {title: ImageCell(images[id_]) for title, images in made.items() if id_ in images},
            caption,
        )
        for id_, image, caption in zip(ids, seen, texts, strict=True)
    ]
    num_more = len(files) - len(chosen)
    left_out = f" {num_more} more settings are in their own artifacts." if num_more else ""
    chosen_how = "The first test images in the order of their ids, none selected"
    note = f"{chosen_how}, drawn from brain activity under each setting with its first seed.{left_out}"
    return grid_section("Seen and reconstructed", columns, rows, note)


def _images_made_by(step: Step, cell: Cell) -> Path | None:
    """Return the file of images that the step made in the cell's first finished job, None where it made none."""
    for job in cell.jobs.values():
        if job.status == "finished" and step.name in job.artifacts:
            return Path(job.artifacts[step.name]) / RECONSTRUCTIONS
    return None


def _images_of(baseline: Cell) -> Path | None:
    """Return the file of a baseline's images, None where it has none."""
    step = baseline.rows.get(EVALUATE_RECONSTRUCTIONS.name, "")
    folders = (job.artifacts[step] for job in baseline.jobs.values() if step in job.artifacts)
    return next((Path(folder) / IMAGES for folder in folders), None)


def _read(file: Path, key: str) -> dict[int, np.ndarray]:
    """Return the first images `(3, H, W)` of a tensor by stimulus id; empty if the file lacks it."""
    with opened_tensors(file, "numpy") as stored:
        if key not in stored.keys():  # noqa: SIM118  # not a dictionary
            return {}
        ids = stored.get_tensor("stimulus_ids")[:MAX_IMAGES].tolist()
        return dict(zip(ids, stored.get_slice(key)[: len(ids)], strict=True))


def _common(cells: Sequence[dict[int, np.ndarray]]) -> dict[int, np.ndarray]:
    """Return the images of all cells, empty if any cell lacks them or has others of the same stimulus."""
    merged: dict[int, np.ndarray] = {}
    for images in cells:
        if not images or any(id_ in merged and not np.array_equal(merged[id_], images[id_]) for id_ in images):
            return {}
        merged |= images
    return merged
