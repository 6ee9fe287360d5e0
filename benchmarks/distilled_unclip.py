"""Quality of the laptop's distilled unCLIP beside its teacher: from true tokens of held-out scenes, and from brains.

Every image starts from the same noise in every row. Differences are paired by image, with the teacher's 38 steps, the
first of `--brains`. Those are finished artifacts of the step `reconstruct`; few steps draw from the first one's
tokens and blurry reconstructions.

python benchmarks/distilled_unclip.py [--images 256] [--student FILE] [--stimuli HDF5 --brains NAME=FOLDER ...]
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from unclip_steps import SCORES, Scenes, Seen, compared

from mindeye_pl.nn.diffusion.seeds import image_seed
from mindeye_pl.nn.diffusion.solvers import Sampling
from mindeye_pl.reports.results.benchmarks import benchmark_summary
from mindeye_pl.reports.results.summary import write_summary
from mindeye_pl.reports.sweeps.settings import manifest_of
from mindeye_pl.steps.brain.reconstruct import SETTINGS, read_reconstructions
from mindeye_pl.weights.loaders import bundled

#: Samplers by the name of their row: the reference, the teacher's and the student's of few steps.
_REFERENCE = {"38 steps, guidance 4": Sampling(steps=38, guidance=4.0)}
_TEACHER = {
    "4 steps, guidance 4": Sampling(steps=4, guidance=4.0),
    "4 steps, guidance 2.5": Sampling(steps=4, guidance=2.5),
}
_STUDENT = {"4 steps, distilled": Sampling(solver="ddim", steps=4, guidance=1.0)}
_BATCH_SIZE = 50
#: Tensors of a reconstruction that the student draws from.
_DRAWN_FROM = ("stimulus_ids", "prior_tokens", "blurry_images")
Scores = dict[str, np.ndarray]


def from_true_tokens(count: int, student: Path) -> dict[str, Scores]:
    """Return the scores of each image `(N,)` by row and name."""
    scenes, rows = Scenes(count), dict[str, Scores]()
    for unclip, samplings in (
        (bundled.load_unclip(), _REFERENCE | _TEACHER),
        (bundled.load_unclip(path=student), _STUDENT),
    ):
        for name, sampling in samplings.items():
            rows[f"true tokens, {name}"] = scenes.drawn_by(unclip, sampling)
    return rows


def from_brains(stimuli: Path, folders: Mapping[str, Path], student: Path) -> dict[str, Scores]:
    """Return the scores of each image `(N,)` by row and name: of finished reconstructions, and of few steps.

    Few steps draw from the tokens, the blurry reconstructions, the seeds and at the strength of the first folder.
    """
    made = {name: read_reconstructions(folder) for name, folder in folders.items()}
    first, *others = made.values()
    ids = first["stimulus_ids"]
    assert all(torch.equal(ids, other["stimulus_ids"]) for other in others), "reconstructions of other images"
    with h5py.File(stimuli) as file:
        seen = Seen(torch.from_numpy(file["images"][ids.numpy()]).float())
    rows = {f"brains, {name}": seen.scores(one["images"].float()) for name, one in made.items()}
    how = json.loads((next(iter(folders.values())) / SETTINGS).read_bytes())
    for unclip, samplings in ((bundled.load_unclip(), _TEACHER), (bundled.load_unclip(path=student), _STUDENT)):
        for name, sampling in samplings.items():
            unclip.sampling = replace(sampling, strength=how["unclip"]["strength"])
            parts = zip(*(first[key].split(_BATCH_SIZE) for key in _DRAWN_FROM), strict=True)
            drawn = [
                unclip.draw(tokens.float(), [image_seed(how["seed"], id_) for id_ in batch.tolist()], blurry.float())
                for batch, tokens, blurry in parts
            ]
            rows[f"brains, {name}"] = seen.scores(torch.cat(drawn))
    return rows


def main() -> None:
    """Print the rows, and write them as a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--student", type=Path, default=bundled.SHIPPED / "unclip_4steps.safetensors")
    parser.add_argument("--stimuli", type=Path, help="images of the simulated data set, of the step simulate")
    parser.add_argument(
        "--brains", nargs="*", default=[], help="NAME=FOLDER of the step reconstruct, the reference first"
    )
    parser.add_argument("--output", type=Path, help="a summary for the tables of docs/performance.md")
    arguments = parser.parse_args()
    folders = {name: Path(folder) for name, _, folder in (one.rpartition("=") for one in arguments.brains)}
    found = [from_true_tokens(arguments.images, arguments.student.resolve())] if arguments.images else []
    found += [from_brains(arguments.stimuli, folders, arguments.student.resolve())] if folders else []
    rows, differences = dict[str, Any](), dict[str, Any]()
    for scored in found:
        first, *_ = scored
        for name, scores in scored.items():
            against = f"{name} − {first.partition(', ')[2]}"
            rows[name], differences[against] = compared(name, scores, scored[first])
    made = [one for folder in folders.values() for one in manifest_of(str(folder))["made_with"]]
    command = f"python benchmarks/distilled_unclip.py --images {arguments.images}"
    summary = benchmark_summary("distilled_unclip", command, SCORES, rows, differences=differences, made_with=made)
    write_summary(arguments.output, summary)


if __name__ == "__main__":
    main()
