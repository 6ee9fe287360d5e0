"""Image of the README from a finished run: seen, from true tokens, reconstructed and blurry images in rows.

python -m mindeye_pl +experiment=finetune_subj01_1h
python benchmarks/readme_image.py outputs/runs/finetune_subj01_1h/LAST docs/images/reconstructions.png
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.utils import make_grid

from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.decoder import finished_run
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCT, read_reconstructions
from mindeye_pl.steps.inputs.simulate import layout

IMAGES = 12


def main(run_folder: Path, target: Path) -> None:
    """Save the first test images of a run."""
    run, _ = finished_run(run_folder)
    artifact = run.find(RECONSTRUCT)
    assert artifact is not None, "the run has no reconstructions"
    made = {name: rows[:IMAGES].float() for name, rows in read_reconstructions(artifact).items() if "images" in name}
    ids = read_reconstructions(artifact)["stimulus_ids"][:IMAGES].numpy()
    seen = torch.from_numpy(Stimuli(layout(run).stimuli).read(ids)).float()
    rows = [seen, made["images_from_true_tokens"], made["images"], made["blurry_images"]]
    grid = make_grid(torch.cat(rows), nrow=IMAGES, padding=2, pad_value=1.0)
    pixels = (grid.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(target, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
