"""The first test images as every cell of a sweep reconstructs them, side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open

from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.reports.render.grid import GridRow, grid_section
from mindeye_pl.reports.render.section import Section
from mindeye_pl.reports.runs.figures import descriptions
from mindeye_pl.reports.sweeps.settings import Cell
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCT
from mindeye_pl.steps.brain.reconstruction_files import RECONSTRUCTIONS

#: More columns make images that nobody can compare.
MAX_CELLS = 8
MAX_IMAGES = 16


def sweep_images(stimuli: Stimuli, captions: Path | None, cells: Sequence[Cell]) -> Section | None:
    """Return the seen images and the reconstructions of each cell's first seed; None if no job has made images."""
    files = {cell.name: file for cell in cells if (file := _file(cell)) is not None}
    chosen = dict(list(files.items())[:MAX_CELLS])
    if not chosen:
        return None
    rows: dict[int, dict[str, np.ndarray]] = {}
    for title, file in chosen.items():
        with safe_open(file, framework="numpy") as stored:
            ids = stored.get_tensor("stimulus_ids")[:MAX_IMAGES]
            images = stored.get_slice("images")[: len(ids)]
        for id_, image in zip(ids.tolist(), images, strict=True):
            rows.setdefault(id_, {})[title] = image
    shown = np.array(list(rows)[:MAX_IMAGES])
    seen, texts = stimuli.read(shown), descriptions(captions, shown)
    lines = [
        GridRow(f"stimulus {id_}", {"Seen": image, **rows[id_]}, caption)
        for id_, image, caption in zip(shown.tolist(), seen, texts, strict=True)
    ]
    num_more = len(files) - len(chosen)
    left_out = f" {num_more} more settings are in their own artifacts." if num_more else ""
    return grid_section("Images", ["Seen", *chosen], lines, f"Of each setting its first seed.{left_out}")


def _file(cell: Cell) -> Path | None:
    for job in cell.jobs.values():
        if job.status == "finished" and RECONSTRUCT.name in job.artifacts:
            return Path(job.artifacts[RECONSTRUCT.name]) / RECONSTRUCTIONS
    return None
