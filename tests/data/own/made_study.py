"""Studies with a planted signal, written as a laboratory has them: GLMsingle's hdf5, BIDS events, a mask and images.

    python -m tests.data.own.made_study FOLDER --images 150 --repetitions 2 --noise 1.0

writes one of a simulated brain.

Legend: N images, T trials, V voxels of the mask, P side of an image in pixels.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from mindeye_pl.data.simulated.betas import TrialNoise
from mindeye_pl.data.simulated.brain import SimulatedBrain
from mindeye_pl.data.simulated.scene_source import DRAWN
from mindeye_pl.data.simulated.world import paint_scenes, perceive, stimulus_scene

nibabel = pytest.importorskip("nibabel")

#: Voxels of 2 mm.
AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])

#: An index that puts a vector on each axis of a volume.
_AXES = (np.s_[:, None, None], np.s_[None, :, None], np.s_[None, None, :])

#: Images `(N, 3, P, P)` floats to responses `(N, V)` without noise.
Brain = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Session:
    """Image of each trial, `(T,)` indices, in runs of equal length."""

    trials: np.ndarray
    num_runs: int = 1


def repeated_design(rng: np.random.Generator, num_images: int, repetitions: int, sessions: int = 1) -> list[Session]:
    """Return sessions that show each image some times in random order."""
    trials = np.concatenate([rng.permutation(num_images) for _ in range(repetitions)])
    return [Session(part, num_runs=2) for part in np.array_split(trials, sessions)]


def random_images(rng: np.random.Generator, num_images: int, side: int = 32) -> np.ndarray:
    """Return images of 4 x 4 random squares, `(N, 3, P, P)` float32 in [0, 1]."""
    squares = rng.random((num_images, 3, 4, 4), np.float32)
    return squares.repeat(side // 4, 2).repeat(side // 4, 3)


def linear_brain(rng: np.random.Generator, num_voxels: int) -> Brain:
    """Return a brain whose voxels are random sums of 4 x 4 squares of the image, of unit variance."""
    weights = rng.normal(size=(48, num_voxels))

    def respond(images: np.ndarray) -> np.ndarray:
        squares = images.reshape(len(images), 3, 4, images.shape[2] // 4, 4, -1).mean((3, 5)).reshape(len(images), -1)
        responses = squares @ weights
        return (responses - responses.mean(0)) / responses.std(0)

    return respond


def scenes(num_images: int, side: int, seed: int = 0) -> np.ndarray:
    """Return drawn scenes of the simulated world, `(N, 3, P, P)` floats in [0, 1]."""
    return np.concatenate([images for _, images, _ in paint_scenes(seed, num_images, side)])


def simulated_brain(
    num_voxels: int, *, noise_level: float, noise_spread: float = 0.6, subject: int = 1, seed: int = 0
) -> tuple[Brain, TrialNoise]:
    """Return the voxels of the simulated world for `scenes` of the same seed, and the noise of their trials."""

    def percepts(first: int, count: int):
        return perceive([stimulus_scene(seed, first + i, DRAWN) for i in range(count)], seed, figure_gain=2.0)

    rng = np.random.default_rng((seed, subject))
    reference = percepts(100_000, 128)
    brain = SimulatedBrain.sample(rng, num_voxels, reference, noise_level=noise_level, noise_spread=noise_spread)
    shared = brain.responses(reference)
    noise = TrialNoise.sample(rng, brain.noise, shared, correlated=0.25, drift=0.2)
    mean, std = shared.mean(0), shared.std(0)

    def respond(images: np.ndarray) -> np.ndarray:
        return (brain.responses(percepts(0, len(images))) - mean) / std * noise.signal_scale

    return respond, noise


def write_images(folder: Path, images: np.ndarray) -> None:
    """Write `stimuli/NUMBER.png`."""
    (folder / "stimuli").mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        pixels = (image.transpose(1, 2, 0).astype(np.float32) * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / "stimuli" / f"{number:04}.png")


def write_subject(
    folder: Path,
    label: str,
    sessions: Sequence[Session],
    betas: Sequence[np.ndarray],
    *,
    rng: np.random.Generator,
    volume: tuple[int, int, int] = (8, 7, 6),
    bad_fraction: float = 0.0,
) -> np.ndarray:
    """Write betas `(T, V)` of each session, events of each run and a mask; return the bad voxels, `(V,)` bool.

    A third of the bad voxels each is NaN in some trials, constant, and dead (0). Voxels outside of the mask are NaN.
    """
    num_voxels = betas[0].shape[1]
    inside = np.zeros(volume, bool)
    from_centre = sum(
        ((np.arange(size) - (size - 1) / 2) / size)[axis] ** 2 for size, axis in zip(volume, _AXES, strict=True)
    )
    inside.ravel()[np.argsort(from_centre.ravel(), kind="stable")[:num_voxels]] = True
    nibabel.save(nibabel.Nifti1Image(inside.astype(np.uint8), AFFINE), folder / f"sub-{label}_mask.nii.gz")
    bad = rng.permutation(num_voxels)[: round(bad_fraction * num_voxels)]
    broken, constant, dead = np.array_split(bad, 3)
    for number, (session, values) in enumerate(zip(sessions, betas, strict=True), start=1):
        name, stored = f"sub-{label}_ses-{number:02}", values.astype(np.float32)
        stored[:, constant], stored[:, dead] = 3.5, 0
        stored[:: max(2, len(stored) // 3), broken] = np.nan
        array = np.full((*volume, len(stored)), np.nan, np.float32)
        array[inside] = stored.T
        with h5py.File(folder / f"{name}_betas.hdf5", "w") as file:
            file["betasmd"], file["R2"] = array, np.zeros(volume, np.float32)
        for run, trials in enumerate(np.array_split(session.trials, session.num_runs), start=1):
            write_events(folder / f"{name}_task-images_run-{run:02}_events.tsv", trials)
    is_bad = np.zeros(num_voxels, bool)
    is_bad[bad] = True
    return is_bad


def write_events(path: Path, trials: np.ndarray) -> None:
    """Write an events table with an image every four seconds and a blank trial before every tenth."""
    lines, onset = ["onset\tduration\ttrial_type\tstim_file"], 8.0
    for position, image in enumerate(trials):
        if position % 10 == 9:
            lines.append(f"{onset:.1f}\t3.0\tblank\tn/a")
            onset += 4
        lines.append(f"{onset:.1f}\t3.0\timage\t{image:04}.png")
        onset += 4
    path.write_text("\n".join(lines) + "\n")


def write_study(
    folder: Path,
    *,
    num_images: int = 24,
    repetitions: int = 2,
    sessions: int = 1,
    subjects: Sequence[str] = ("01",),
    num_voxels: int = 60,
    noise: float = 0.3,
    bad_fraction: float = 0.0,
    seed: int = 0,
) -> None:
    """Write a small study of random squares and linear voxels; `noise` is the noise over the signal of one trial."""
    rng = np.random.default_rng(seed)
    images = random_images(rng, num_images)
    write_images(folder, images)
    for label in subjects:
        design, clean = repeated_design(rng, num_images, repetitions, sessions), linear_brain(rng, num_voxels)(images)
        betas = [
            clean[one.trials] + noise * rng.normal(size=(len(one.trials), num_voxels)) + number
            for number, one in enumerate(design)
        ]
        write_subject(folder, label, design, betas, rng=rng, bad_fraction=bad_fraction)


def write_scanner_study(
    folder: Path, *, num_images: int, repetitions: int, num_voxels: int, noise_level: float, seed: int = 0
) -> np.ndarray:
    """Write a session of a simulated brain at 2 mm with 4 % bad voxels; return the true ncsnr `(V,)`, NaN for these."""
    rng = np.random.default_rng(seed)
    images = scenes(num_images, 128, seed)
    write_images(folder, images)
    brain, noise = simulated_brain(num_voxels, noise_level=noise_level, seed=seed)
    design = repeated_design(rng, num_images, repetitions)
    clean = brain(images)
    betas = [noise.session(rng, clean[session.trials]) for session in design]
    bad = write_subject(folder, "01", design, betas, rng=rng, volume=(30, 24, 20), bad_fraction=0.04)
    return np.where(bad, np.nan, 1 / noise.ratio)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--noise", type=float, default=1.0)
    chosen = parser.parse_args()
    how = {"num_images": chosen.images, "repetitions": chosen.repetitions, "noise_level": chosen.noise}
    write_scanner_study(chosen.folder, num_voxels=2000, **how)
