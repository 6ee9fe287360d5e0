"""Image of the README from finished runs: a grid of test images, one row for each way to obtain them.

Rows, from the top: the seen image; the unCLIP's image from its true tokens; the reconstructions of each run, in the
order of the runs; of the first run, ridge regression (tokens drawn from the decoded latents) and the blurry
reconstruction of the low-level branch.

python -m mindeye_pl +experiment=finetune_subj01_1h
python -m mindeye_pl +experiment=finetune_subj01_all
python benchmarks/readme_image.py outputs/runs/finetune_subj01_1h/LAST outputs/runs/finetune_subj01_all/LAST
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from mindeye_pl.decoder import finished_run
from mindeye_pl.engine.run import Run
from mindeye_pl.steps.baselines.images import RIDGE_BLUR_UNCLIP_STEP, read_images
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCT, read_reconstructions
from mindeye_pl.steps.evaluation.true_tokens import DRAW_TRUE_TOKENS
from mindeye_pl.steps.inputs.dataset import Images

IMAGES = 12


def reconstructions(run: Run) -> dict[str, Tensor]:
    """Return what the step `reconstruct` of a finished run has made."""
    artifact = run.find(RECONSTRUCT)
    assert artifact is not None, "the run has no reconstructions"
    return read_reconstructions(artifact.folder)


def rows_of(run_folders: list[Path]) -> list[Tensor]:
    """Return one tensor of images `(12, 3, H, W)` for each row of the grid."""
    runs = [finished_run(folder)[0] for folder in run_folders]
    made = [reconstructions(run) for run in runs]
    first, ridge = made[0], runs[0].find(RIDGE_BLUR_UNCLIP_STEP)
    assert ridge is not None, "the run has no images of ridge regression"
    ceiling = runs[0].find(DRAW_TRUE_TOKENS)
    assert ceiling is not None, "the run has no images from true tokens"
    true_tokens = read_reconstructions(ceiling.folder)["images"]
    seen = torch.from_numpy(runs[0].open(Images()).stimuli.read(first["stimulus_ids"][:IMAGES].numpy()))
    rows = [seen, true_tokens, *(one["images"] for one in made)]
    rows += [read_images(ridge.folder), first["blurry_images"]]
    return [row[:IMAGES].float() for row in rows]


def main() -> None:
    """Save the first test images of all runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--target", type=Path, default=Path("docs/images/reconstructions.png"))
    arguments = parser.parse_args()
    grid = make_grid(torch.cat(rows_of(arguments.runs)), nrow=IMAGES, padding=2, pad_value=1.0)
    pixels = (grid.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(arguments.target, optimize=True)


if __name__ == "__main__":
    main()
