"""The images that foundation models learn from, simulated scenes or the user's own, and the laptop's CLIP and VAE.

Legend: N images, B batch, S tokens, D token width, C latent channels.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule
from torch import Tensor

from mindeye_pl.data.image_datamodule import ImageDataModule
from mindeye_pl.data.image_sources import ImageFile, ImageFolder, Images
from mindeye_pl.data.simulated.world import paint_scenes
from mindeye_pl.distributed.strategies import determined_by_trainer
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.steps.inputs.targets import filled_store
from mindeye_pl.steps.inputs.training import training_settings
from mindeye_pl.store.artifacts import ArtifactSpec
from mindeye_pl.store.atomic import write_text
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.training.fit import fit
from mindeye_pl.training.settings import determined_by_callbacks

if TYPE_CHECKING:
    pass

IMAGES, CAPTIONS = "images.hdf5", "captions.json"

_AT_ONCE = 256


# images


def _scenes_spec(run: Run) -> ArtifactSpec:
    images = run.config.foundation.images
    return ArtifactSpec("scenes", f"{images.count}-seed{images.seed}", run.plain("foundation.images"))


def _build_scenes(run: Run, folder: Path) -> None:
    settings = run.config.foundation.images
    described: list[list[str]] = []
    shape = (settings.count, 3, settings.image_size, settings.image_size)
    with h5py.File(folder / IMAGES, "w") as file:
        stored = file.create_dataset("images", shape, np.float16)
        for start, images, words in paint_scenes(settings.seed, settings.count, settings.image_size):
            stored[start : start + len(images)] = images
            described += words
    write_text(folder / CAPTIONS, json.dumps(described))


SCENES = Step("scenes", _scenes_spec, lambda run: (), _build_scenes)


def trains_on_scenes(run: Run) -> bool:
    """Whether the images are simulated ones."""
    return run.config.foundation.images.source == "simulated"


def image_steps(run: Run) -> tuple[Step, ...]:
    """The step that paints the images, where they are simulated."""
    return (SCENES,) if trains_on_scenes(run) else ()


def images_of(run: Run) -> Images:
    """The images to train on, and those held out.

    Raises:
        UserError: if the folder or the file is missing, or holds no more than those held out.
    """
    settings = run.config.foundation.images
    if trains_on_scenes(run):
        return ImageFile(run.make(SCENES).folder / IMAGES, settings.image_size)
    source = Path(settings.source)
    kind = ImageFile if source.suffix in (".hdf5", ".h5") else ImageFolder
    images: Images = kind(source, settings.image_size)
    if len(images) <= settings.num_validation:
        wanted = f"more than the {settings.num_validation} that are held out"
        fix = f"foundation.images.num_validation={len(images) // 10}, or more images"
        raise UserError(f"{source} holds too few images", got=len(images), expected=wanted, fix=fix)
    return images


def image_inputs(run: Run) -> dict[str, str]:
    """The fingerprint of the images to train on."""
    return {"images": run.spec(SCENES).fingerprint if trains_on_scenes(run) else images_of(run).fingerprint()}


def held_out_ids(run: Run) -> np.ndarray:
    """The images that no training sees, `(n,)`: the last ones."""
    return np.arange(len(images_of(run)))[-run.config.foundation.images.num_validation :]


class Prepared:
    """A table of images as a model wants them."""

    def __init__(self, images: Images, prepare: Callable[[Tensor], Tensor] | None = None):
        self._images, self._prepare = images, prepare

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        read = self._images.read(ids)
        return read if self._prepare is None else self._prepare(torch.from_numpy(read).float()).numpy()


# CLIP and VAE


def foundation_spec(run: Run, name: str, inputs: Mapping[str, str] | None = None) -> ArtifactSpec:
    """What determines one of the models.

    Args:
        run: whose configuration it is.
        name: of its node of `foundation`.
        inputs: fingerprints of what it is made from, beside the images.

    Raises:
        UserError: if the configured foundation has no such model.
    """
    foundation = run.config.foundation
    if name not in foundation:
        seen = f"foundation={foundation.name}"
        fix = "foundation=laptop, or pipeline=pretrain_unclip"
        raise UserError(f"pretrain_{name} has no settings", got=seen, expected=f"a foundation with {name}", fix=fix)
    by = run.plain(f"foundation.{name}", "foundation.images", "seed", "trainer.precision")
    by |= determined_by_trainer(run.config) | determined_by_callbacks(run.config)
    by[f"foundation.{name}"].pop("weights", None)  # their content is among the inputs
    if not trains_on_scenes(run):  # where images lie, and what scenes would be painted, changes nothing
        by["foundation.images"] = {key: foundation.images[key] for key in ("image_size", "num_validation")}
    label = f"{foundation.name}-seed{run.config.seed}"
    return ArtifactSpec(f"pretrain_{name}", label, by, image_inputs(run) | dict(inputs or {}))


def fit_foundation(
    run: Run,
    step: Step,
    folder: Path,
    model: LightningModule,
    data: ImageDataModule,
    *,
    callbacks: Sequence[Callback] = (),
    save: Callable[[], None] | None = None,
) -> None:
    """Trains one of the models on its tables of images; see `fit`."""
    settings = run.config.foundation[step.name.removeprefix("pretrain_")]
    title = f"training the {run.config.foundation.name} {step.name.removeprefix('pretrain_')}"
    training, log = training_settings(run, step, folder), run.tracking.log_of(step)
    fit(model, data, folder, training, epochs=settings.epochs, title=title, callbacks=callbacks, log=log, save=save)


def tables_of(run: Run, name: str, tables: dict[str, Any]) -> ImageDataModule:
    """Batches of the rows that the tables have of each image."""
    settings, num_validation = run.config.foundation[name], run.config.foundation.images.num_validation
    return ImageDataModule(
        tables,
        len(images_of(run)),
        settings.batch_size,
        num_validation,
        seed=run.config.seed,
        steps_per_epoch=settings.get("steps_per_epoch"),
    )


def _embedded(
    run: Run, step: Step, shape: tuple[int, int], build: Callable[[torch.device], Callable[[Tensor], Tensor]]
) -> TokenStore:
    """What the model of a step makes of every image, once, on disk."""
    images, by = images_of(run), {step.name: run.spec(step).fingerprint, **image_inputs(run)}
    ids, what = np.arange(len(images)), f"for {step.name}"
    return filled_store(run, step.name, images, ids, shape, build, by=by, what=what)
