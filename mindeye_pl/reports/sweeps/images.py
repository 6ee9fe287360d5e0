"""The first test images as every cell of a sweep reconstructs them, side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open

from mindeye_pl.reports.render.grid import GridRow, grid_section
from mindeye_pl.reports.render.section import Section
from mindeye_pl.reports.runs.figures import descriptions
from mindeye_pl.reports.sweeps.settings import Cell
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCT, RECONSTRUCTIONS
from mindeye_pl.steps.inputs.dataset import Dataset

#: More columns make images that nobody can compare.
MOST_CELLS = 8
SHOWN = 16


def sweep_images(dataset: Dataset, captions: Path | None, cells: Sequence[Cell]) -> Section | None:
    """None where no job has made images.

    Args:
        dataset: of the jobs, for the seen images.
        captions: file of the data's captions, None where there is none.
        cells: of the sweep; of each its first seed is shown.
    """
    files = {cell.name: file for cell in cells if (file := _file(cell)) is not None}
    chosen = dict(list(files.items())[:MOST_CELLS])
    if not chosen:
        return None
    rows: dict[int, dict[str, np.ndarray]] = {}
    for title, file in chosen.items():
        with safe_open(file, framework="numpy") as stored:
            ids = stored.get_tensor("stimulus_ids")[:SHOWN]
            images = stored.get_slice("images")[: len(ids)]
        for id_, image in zip(ids.tolist(), images, strict=True):
            rows.setdefault(id_, {})[title] = image
    shown = np.array(list(rows)[:SHOWN])
    seen, words = dataset.stimuli.read(shown), descriptions(captions, shown)
    lines = [
        GridRow(f"stimulus {id_}", {"Seen": image, **rows[id_]}, caption)
        for id_, image, caption in zip(shown.tolist(), seen, words, strict=True)
    ]
    left_out = (
        f" {len(files) - len(chosen)} more settings are in their own artifacts." if len(files) > len(chosen) else ""
    )
    return grid_section("Images", ["Seen", *chosen], lines, f"Of each setting its first seed.{left_out}")


def _file(cell: Cell) -> Path | None:
    for job in cell.jobs.values():
        if job.status == "finished" and RECONSTRUCT.name in job.artifacts:
            return Path(job.artifacts[RECONSTRUCT.name]) / RECONSTRUCTIONS
    return None
