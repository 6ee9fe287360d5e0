"""The images of a sweep's report, from reconstructions that are written here.

Legend: H and W image size in pixels.
"""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.reports.sweeps.images import MAX_CELLS, images_section
from mindeye_pl.reports.sweeps.jobs import Job
from mindeye_pl.reports.sweeps.settings import HOURS, Cell
from mindeye_pl.schema.nodes.reports import RIDGE_UNCLIP
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS

NUM_IMAGES, SIZE = 5, 4
IDS = np.array([1, 3, 4])


@pytest.fixture
def stimuli(tmp_path: Path) -> Stimuli:
    with h5py.File(tmp_path / "stimuli.hdf5", "w") as file:
        file["images"] = images(0, NUM_IMAGES)
    return Stimuli(tmp_path / "stimuli.hdf5")


def images(seed: int, num: int = len(IDS)) -> np.ndarray:
    return np.random.default_rng(seed).random((num, 3, SIZE, SIZE)).astype(np.float16)


def cell(folder: Path, name: str, seed: int, true_tokens: np.ndarray | None = None) -> Cell:
    """Return a cell whose only job has reconstructed the three test images, and drawn their true tokens."""
    artifacts = {}
    for step, made in (("reconstruct", images(seed)), ("draw_true_tokens", true_tokens)):
        if made is not None:
            artifact = folder / name / step
            artifact.mkdir(parents=True)
            save_file({"stimulus_ids": IDS, "images": made}, artifact / "reconstructions.safetensors")
            artifacts[step] = str(artifact)
    return Cell({"model": name}, {"": Job(0, [], "finished", artifacts=artifacts)})


def heads(html: str) -> list[str]:
    return re.findall(r'<th scope="col" class="\w+">([^<]+)', html)


def test_seen_images_come_first_then_those_from_true_tokens(stimuli: Stimuli, tmp_path: Path) -> None:
    limits = images(9)
    cells = [cell(tmp_path, name, seed, limits) for seed, name in enumerate("ab", 1)]
    cells.append(Cell({"model": "failed"}, {"": Job(2, [], "failed")}))
    section = images_section(stimuli, None, cells, [])
    assert section is not None
    assert heads(section.html) == ["Seen", "From true tokens", "a", "b"]
    assert section.html.count("<tbody") == len(IDS)
    assert 'alt="b, stimulus 4"' in section.html
    assert len(section.images) == 4 * len(IDS)


@pytest.mark.parametrize("second", [None, images(10)])
def test_images_from_true_tokens_are_shown_only_if_all_settings_share_them(
    stimuli: Stimuli, tmp_path: Path, second: np.ndarray | None
) -> None:
    cells = [cell(tmp_path, "a", 1, images(9)), cell(tmp_path, "b", 2, second)]
    section = images_section(stimuli, None, cells, [])
    assert section is not None
    assert heads(section.html) == ["Seen", "a", "b"]


def test_linear_baselines_of_the_largest_amount_of_data_come_last(stimuli: Stimuli, tmp_path: Path) -> None:
    def ridge(hours: str) -> Cell:
        folder = tmp_path / f"ridge{hours}"
        folder.mkdir()
        save_file({"stimulus_ids": IDS, "images": images(int(hours))}, folder / "images.safetensors")
        job = Job(0, [], "finished", artifacts={RIDGE_UNCLIP: str(folder)})
        return Cell({HOURS: hours}, {"": job}, "ridge", {EVALUATE_RECONSTRUCTIONS.name: RIDGE_UNCLIP})

    models = [Cell({HOURS: hours}, cell(tmp_path, hours, int(hours) + 5).jobs) for hours in "12"]
    section = images_section(stimuli, None, models, [ridge("1"), ridge("2")])
    assert section is not None
    assert heads(section.html) == ["Seen", "1 h", "2 h", "2 h, ridge"]
    assert "ridge regression to tokens, drawn by the unCLIP" in section.html
    assert len(section.images) == 4 * len(IDS)


def test_further_settings_are_counted(stimuli: Stimuli, tmp_path: Path) -> None:
    cells = [cell(tmp_path, f"model{i}", i) for i in range(MAX_CELLS + 2)]
    section = images_section(stimuli, None, cells, [])
    assert section is not None
    assert len(heads(section.html)) == 1 + MAX_CELLS
    assert "2 more settings are in their own artifacts" in section.html
    assert images_section(stimuli, None, [], []) is None
