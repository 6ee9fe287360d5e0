"""Fraction of simulated images whose main object is reconstructed in its colour and position.

In a square window around the object, twice as wide as it, the reconstruction is correlated with the seen image after
subtracting each channel's mean in the window. The rest is the contrast of figure and ground: reconstructions of the
ground only, or of another image, have a correlation of about 0. The object counts as seen above 0.5.

python -m mindeye_pl +experiment=finetune_subj01_1h
python benchmarks/objects_seen.py outputs/runs/finetune_subj01_1h/LAST
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.data.simulated.world import stimulus_scene
from mindeye_pl.decoder import finished_run
from mindeye_pl.metrics.images import derangement
from mindeye_pl.metrics.statistics.intervals import bootstrap_interval
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCT, read_reconstructions
from mindeye_pl.steps.inputs.simulate import is_simulated, layout

#: Minimum correlation of a reconstructed object.
_MIN_CORRELATION = 0.5


def local_correlations(images: Tensor, seen: Tensor, stimulus_ids: list[int], seed: int) -> np.ndarray:
    """Return the correlation around each main object, `(n,)`.

    Args:
        images: `(n, 3, H, W)` reconstructions.
        seen: `(n, 3, H, W)` seen images.
        stimulus_ids: n ids.
        seed: of the simulated world.
    """
    found = []
    for image, original, id_ in zip(images.numpy(), seen.numpy(), stimulus_ids, strict=True):
        main, size = stimulus_scene(seed, id_).objects[0], image.shape[-1]
        axis = (np.arange(size) + 0.5) * (2 / size) - 1
        columns, rows = (np.flatnonzero(np.abs(axis - centre) < 2 * main.radius) for centre in main.centre)
        window = np.ix_(range(3), rows, columns)
        one, other = (x[window].reshape(3, -1) for x in (image, original))
        one, other = (x - x.mean(1, keepdims=True) for x in (one, other))
        found.append((one * other).sum() / max(np.linalg.norm(one) * np.linalg.norm(other), 1e-6))
    return np.array(found)


def main(run_folder: Path) -> None:
    """Print one line per kind of image, with its 95 % interval over images."""
    run, _ = finished_run(run_folder)
    artifact = run.find(RECONSTRUCT)
    assert artifact is not None, "the run has no reconstructions"
    assert is_simulated(run), "objects are known only in a simulated world"
    made = read_reconstructions(artifact)
    ids = made["stimulus_ids"].tolist()
    rows = {name: made[name].float() for name in made if "images" in name}
    rows["images, shuffled"] = rows["images"][derangement(len(ids), 0)]
    seen = torch.from_numpy(Stimuli(layout(run).stimuli).read(np.array(ids))).float()
    for name, images in rows.items():
        each = local_correlations(images, seen, ids, run.config.simulation.seed)
        low, high = bootstrap_interval(each)
        print(
            f"{name:26s} local correlation {each.mean():5.2f} ({low:.2f} to {high:.2f}), "
            f"main object seen in {100 * (each > _MIN_CORRELATION).mean():3.0f} % of {len(ids)}, simulated"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
