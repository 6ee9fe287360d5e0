"""Values of voxels drawn back on the brain: noise ceiling, encoding accuracy, weights and importance for decoding.

Legend: n test images, R responses to each, V voxels, h hidden width, b images of a batch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.brain_maps.brain_map import BrainMap
from mindeye_pl.console import console
from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.data.layout.betas import read_betas
from mindeye_pl.data.layout.brain_mask import BrainMask, write_nifti
from mindeye_pl.data.layout.regions import read_ncsnr, read_regions
from mindeye_pl.data.layout.test_set import TestSet, average_repetitions
from mindeye_pl.engine.records import Record
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import SCORES as SCORES_TYPE
from mindeye_pl.engine.step import Input, Inputs, Made, Work
from mindeye_pl.metrics.brain_correlation import voxel_correlation_per_voxel
from mindeye_pl.metrics.noise_ceiling import effective_repetitions, noise_ceiling
from mindeye_pl.steps.brain.trained_model import ModelStep, Trained
from mindeye_pl.steps.brain.trials import TEST_RUNTIME, TEST_TRIALS, subject_trials
from mindeye_pl.steps.evaluation.encoder import FIT_ENCODER, load_encoder
from mindeye_pl.steps.evaluation.test_set_log import TestSetLog
from mindeye_pl.steps.inputs.brain_positions import Surfaces, VoxelPositions
from mindeye_pl.steps.inputs.dataset import NCSNR, REGION_MASKS, DataFile, Dataset
from mindeye_pl.steps.inputs.encoder_features import encoder_features
from mindeye_pl.steps.inputs.frozen_models import Frozen, FrozenModel
from mindeye_pl.steps.inputs.splits import Split, test_data
from mindeye_pl.store.artifacts import Artifact
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.own_files import read_json

MAPS = "maps.json"
#: Volume of region numbers, and the end of the names of figures of slices and of surfaces.
REGIONS, SLICES, ON_SURFACES = "regions.nii.gz", "slices.png", "surfaces.png"

_BATCH_SIZE = 64
#: Trials that are read at once.
_TRIALS_PER_BLOCK = 750


class DrawBrainMaps(ModelStep):
    """Writes one volume and its figures for each map of `data.subject`."""

    name = "brain_maps"
    title = "Brain maps"
    keys = (*TEST_TRIALS, "data.regions")
    runtime_keys = TEST_RUNTIME
    artifact_type = SCORES_TYPE

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return what says where the voxels lie, first so that it is missed first, the test set and both models."""
        return {
            "positions": VoxelPositions(config.data.subject),
            "surfaces": Surfaces(),
            "data": test_data(config),
            "split": Split(),
            "model": Trained(),
            "ridge": Made(FIT_ENCODER),
            "embedder": Frozen("embedder"),
            "region_masks": DataFile(REGION_MASKS),
            "ncsnr": DataFile(NCSNR),
            "test_set": TestSetLog(),
        }

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Compute the maps, and write them as volumes, on surfaces and as figures."""
        from mindeye_pl.brain_maps.surfaces import check_same_space

        subject, dataset, positions = settings.data.subject, inputs["data"], inputs["positions"]
        hemispheres = inputs["surfaces"]
        check_same_space(positions, hemispheres)
        data = subject_trials(dataset, settings, inputs["split"])
        brains = data.test_set(subject)
        evaluations = inputs["test_set"].count(work)
        console.print(f"  evaluation {evaluations} of this test set")
        regions, absent = {}, {}
        if inputs["region_masks"] is None:
            absent["Outlines of regions"] = f"needs {dataset.layout.region_masks} (docs/data.md)"
        else:
            regions = read_regions(dataset.layout, subject, settings.data.regions)
        if (ncsnr := read_ncsnr(dataset.layout, subject)) is None:
            absent["Noise ceiling"] = f"needs {dataset.layout.ncsnr} (docs/data.md)"
        weights = inputs["model"].load(data.voxel_counts[subject]).voxel_weights()
        if weights is None:
            absent["Weights and importance"] = "the model has no linear map from single voxels"
        maps = [
            *([] if ncsnr is None else [_ceiling_map(ncsnr, brains)]),
            _encoding_map(dataset, brains, inputs["ridge"], inputs["embedder"]),
            *([] if weights is None else importance_maps(weights, _deviation(data, subject))),
        ]
        absent |= {map_.title: "no voxel has a value" for map_ in maps if map_.is_empty}
        maps = [map_ for map_ in maps if not map_.is_empty]
        note = "simulated" if dataset.is_simulated else ""
        for map_ in maps:
            _write(work.folder, map_, positions, regions, hemispheres, note)
        content = {
            "subject": subject,
            "simulated": dataset.is_simulated,
            "num_test_images": len(brains.stimulus_ids),
            "surfaces": [one.side for one in hemispheres],
            "regions": _write_regions(work.folder, positions, regions, note),
            "maps": [map_.describe() for map_ in maps],
            "absent": absent,
        }
        write_json(work.folder / MAPS, content)

    def record(self, inputs: Inputs, artifact: Artifact, record: Record, num_images: int) -> None:
        """Log the median of each map, and the figures."""
        from PIL import Image

        content = read_maps(artifact)
        record.summarise({f"brain_maps/{one['name']}_median": one["median"] for one in content["maps"]})
        for end in (SLICES, ON_SURFACES):
            paths = [artifact.folder / figure_name(one["name"], end) for one in content["maps"]]
            shown = [np.asarray(Image.open(path).convert("RGB")) for path in paths if path.is_file()]
            if shown:
                record.log_images(f"brain_maps_{Path(end).stem}", shown, [one["title"] for one in content["maps"]])


BRAIN_MAPS = DrawBrainMaps()


def figure_name(name: str, end: str) -> str:
    """As in `encoding_accuracy_slices.png`."""
    return f"{name}_{end}"


def read_maps(artifact: Artifact) -> dict[str, Any]:
    """Return what the artifact holds, as `maps.json` says it."""
    content: dict[str, Any] = read_json(artifact.folder / MAPS)
    return content


def importance_maps(weights: Tensor, deviation: np.ndarray) -> list[BrainMap]:
    """Return the maps of the functional alignment.

    Args:
        weights: `(h, V)` of the linear map from voxels to the shared space.
        deviation: `(V,)` standard deviation of each voxel over the training trials.
    """
    norm = weights.detach().double().norm(dim=0).cpu().numpy()  # (V,)
    importance = norm * deviation
    return [
        BrainMap(
            "alignment_weight",
            "Weight of the functional alignment",
            "norm of the voxel's weights",
            "Length of the vector by which one unit of the voxel moves the shared space.",
            norm.astype(np.float32),
        ),
        BrainMap(
            "decoding_importance",
            "Importance for decoding",
            "norm of the weights x standard deviation",
            "Length by which one standard deviation of the voxel over the training trials moves the shared space. "
            "Voxels that share their signal share their importance, and a voxel that cancels noise counts too.",
            importance.astype(np.float32),
        ),
    ]


def _ceiling_map(ncsnr: np.ndarray, brains: TestSet) -> BrainMap:
    ceiling = noise_ceiling(ncsnr, effective_repetitions(brains.voxels, brains.weights)).numpy()
    return BrainMap(
        "noise_ceiling",
        "Noise ceiling",
        "correlation across test images",
        "Highest expected encoding accuracy of any model, from ncsnr and the number of averaged responses.",
        ceiling.astype(np.float32),
    )


def _encoding_map(dataset: Dataset, brains: TestSet, ridge: Path, embedder: FrozenModel) -> BrainMap:
    measured = average_repetitions(brains.voxels, brains.weights)  # (n, V)
    encoder, features, ids = load_encoder(ridge), encoder_features(embedder), brains.stimulus_ids.numpy()
    parts = [ids[start : start + _BATCH_SIZE] for start in range(0, len(ids), _BATCH_SIZE)]
    images = (torch.from_numpy(dataset.stimuli.read(part)).float() for part in parts)
    predicted = [
        encoder.predict(features(batch).numpy(), stimulus_ids=part) for batch, part in zip(images, parts, strict=True)
    ]
    accuracy = voxel_correlation_per_voxel(torch.from_numpy(np.concatenate(predicted)), measured).numpy()
    return BrainMap(
        "encoding_accuracy",
        "Encoding accuracy",
        "correlation across test images",
        "Agreement of the ridge encoder's prediction from the seen image with the measured response. "
        "The encoder is fitted on the training trials.",
        accuracy.astype(np.float32),
    )


def _deviation(data: TrialDataModule, subject: int) -> np.ndarray:
    """Return the standard deviation `(V,)` of the betas that the model reads, over the training trials in use."""
    (trials,), normalise = data.train_trials, data.normalisation(subject)
    total, squares = np.zeros((2, data.voxel_counts[subject]))
    for rows in np.array_split(trials.beta_rows, max(1, len(trials) // _TRIALS_PER_BLOCK)):
        betas = normalise(read_betas(data.layout, subject, rows)).astype(np.float64)
        total += betas.sum(0)
        squares += np.square(betas).sum(0)
    mean = total / len(trials)
    return np.sqrt(np.maximum(squares / len(trials) - mean**2, 0))


def _write(
    folder: Path,
    map_: BrainMap,
    positions: BrainMask,
    regions: Mapping[str, np.ndarray],
    hemispheres: Sequence[Any],
    note: str,
) -> None:
    """Write the volume of a map, its values on the surfaces, and the figures."""
    from mindeye_pl.brain_maps.figure import write_png
    from mindeye_pl.brain_maps.slices import draw_slices
    from mindeye_pl.brain_maps.surfaces import SHORT, draw_surfaces, on_surface, write_gifti

    description = ", ".join(filter(None, (note, map_.title, map_.unit)))
    write_nifti(folder / f"{map_.name}.nii.gz", positions.image(map_.values, description))
    write_png(draw_slices(positions, map_, regions, note=note), folder / figure_name(map_.name, SLICES))
    for one in hemispheres:
        path = folder / f"{map_.name}.{SHORT[one.side]}.shape.gii"
        write_gifti(path, on_surface(positions, map_.values, one), one.side, description)
    if hemispheres:
        figure = draw_surfaces(positions, map_, regions, hemispheres, note=note)
        write_png(figure, folder / figure_name(map_.name, ON_SURFACES))


def _write_regions(folder: Path, positions: BrainMask, regions: Mapping[str, np.ndarray], note: str) -> dict[str, int]:
    """Write the volume of region numbers, 0 outside, and return the numbers by name; nothing without regions."""
    from mindeye_pl.brain_maps.figure import outlined

    numbers = {name: number for number, name in enumerate(outlined(regions), start=1)}
    if numbers:
        labels = np.zeros(positions.num_voxels, np.int8)
        for name, number in numbers.items():
            labels[regions[name]] = number
        description = ", ".join(filter(None, (note, *(f"{number} {name}" for name, number in numbers.items()))))
        write_nifti(folder / REGIONS, positions.image(labels, description, fill=0))
    return numbers
