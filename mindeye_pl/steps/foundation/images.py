"""The pictures that foundation models learn from, simulated scenes or the user's own, and the laptop's CLIP and VAE.

Legend: N pictures, B batch, S tokens, D token width, C latent channels.
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

from mindeye_pl.data.image_sources import PictureFile, PictureFolder, Pictures
from mindeye_pl.data.picture_datamodule import PictureDataModule
from mindeye_pl.data.simulated.world import paint_scenes
from mindeye_pl.distributed.strategies import determined_by_trainer
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.steps.inputs.targets import filled_store
from mindeye_pl.store.artifacts import ArtifactSpec
from mindeye_pl.store.atomic import write_text
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.training.fit import fit

if TYPE_CHECKING:
    pass

PICTURES, CAPTIONS = "pictures.hdf5", "captions.json"

_AT_ONCE = 256


# pictures


def _scenes_spec(run: Run) -> ArtifactSpec:
    pictures = run.config.foundation.pictures
    return ArtifactSpec("scenes", f"{pictures.count}-seed{pictures.seed}", run.plain("foundation.pictures"))


def _build_scenes(run: Run, folder: Path) -> None:
    settings = run.config.foundation.pictures
    described: list[list[str]] = []
    shape = (settings.count, 3, settings.image_size, settings.image_size)
    with h5py.File(folder / PICTURES, "w") as file:
        images = file.create_dataset("images", shape, np.float16)
        for start, pictures, words in paint_scenes(settings.seed, settings.count, settings.image_size):
            images[start : start + len(pictures)] = pictures
            described += words
    write_text(folder / CAPTIONS, json.dumps(described))


SCENES = Step("scenes", _scenes_spec, lambda run: (), _build_scenes)


def trains_on_scenes(run: Run) -> bool:
    """Whether the pictures are simulated ones."""
    return run.config.foundation.pictures.source == "simulated"


def picture_steps(run: Run) -> tuple[Step, ...]:
    """The step that paints the pictures, where they are simulated."""
    return (SCENES,) if trains_on_scenes(run) else ()


def pictures_of(run: Run) -> Pictures:
    """The pictures to train on, and those held out.

    Raises:
        UserError: if the folder or the file is missing, or holds no more than those held out.
    """
    settings = run.config.foundation.pictures
    if trains_on_scenes(run):
        return PictureFile(run.make(SCENES).folder / PICTURES, settings.image_size)
    source = Path(settings.source)
    kind = PictureFile if source.suffix in (".hdf5", ".h5") else PictureFolder
    pictures: Pictures = kind(source, settings.image_size)
    if len(pictures) <= settings.num_validation:
        wanted = f"more than the {settings.num_validation} that are held out"
        mend = f"foundation.pictures.num_validation={len(pictures) // 10}, or more pictures"
        raise UserError(f"{source} holds too few pictures", seen=len(pictures), wanted=wanted, mend=mend)
    return pictures


def picture_inputs(run: Run) -> dict[str, str]:
    """The fingerprint of the pictures to train on."""
    return {"pictures": run.spec(SCENES).fingerprint if trains_on_scenes(run) else pictures_of(run).fingerprint()}


def held_out_ids(run: Run) -> np.ndarray:
    """The pictures that no training sees, `(n,)`: the last ones."""
    return np.arange(len(pictures_of(run)))[-run.config.foundation.pictures.num_validation :]


class Prepared:
    """A table of pictures as a model wants them."""

    def __init__(self, pictures: Pictures, prepare: Callable[[Tensor], Tensor] | None = None):
        self._pictures, self._prepare = pictures, prepare

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        read = self._pictures.read(ids)
        return read if self._prepare is None else self._prepare(torch.from_numpy(read).float()).numpy()


# CLIP and VAE


def foundation_spec(run: Run, name: str, inputs: Mapping[str, str] | None = None) -> ArtifactSpec:
    """What determines one of the models.

    Args:
        run: whose configuration it is.
        name: of its node of `foundation`.
        inputs: fingerprints of what it is made from, beside the pictures.

    Raises:
        UserError: if the configured foundation has no such model.
    """
    foundation = run.config.foundation
    if name not in foundation:
        seen = f"foundation={foundation.name}"
        mend = "foundation=laptop, or pipeline=pretrain_unclip"
        raise UserError(f"pretrain_{name} has no settings", seen=seen, wanted=f"a foundation with {name}", mend=mend)
    by = run.plain(f"foundation.{name}", "foundation.pictures", "seed", "trainer.precision")
    by |= determined_by_trainer(run.config)
    by[f"foundation.{name}"].pop("weights", None)  # their content is among the inputs
    if not trains_on_scenes(run):  # where pictures lie, and what scenes would be painted, changes nothing
        by["foundation.pictures"] = {key: foundation.pictures[key] for key in ("image_size", "num_validation")}
    label = f"{foundation.name}-seed{run.config.seed}"
    return ArtifactSpec(f"pretrain_{name}", label, by, picture_inputs(run) | dict(inputs or {}))


def fit_foundation(
    run: Run,
    step: Step,
    folder: Path,
    model: LightningModule,
    data: PictureDataModule,
    *,
    callbacks: Sequence[Callback] = (),
    save: Callable[[], None] | None = None,
) -> None:
    """Trains one of the models on its tables of pictures; see `fit`."""
    settings = run.config.foundation[step.name.removeprefix("pretrain_")]
    what = f"training the {run.config.foundation.name} {step.name.removeprefix('pretrain_')}"
    more: dict[str, Any] = {"more_callbacks": callbacks, "save": save}
    fit(run, step, folder, model, data, epochs=settings.epochs, what=what, **more)


def tables_of(run: Run, name: str, tables: dict[str, Any]) -> PictureDataModule:
    """Batches of the rows that the tables have of each picture."""
    settings, num_validation = run.config.foundation[name], run.config.foundation.pictures.num_validation
    return PictureDataModule(
        tables,
        len(pictures_of(run)),
        settings.batch_size,
        num_validation,
        seed=run.config.seed,
        steps_per_epoch=settings.get("steps_per_epoch"),
    )


def _embedded(
    run: Run, step: Step, shape: tuple[int, int], build: Callable[[torch.device], Callable[[Tensor], Tensor]]
) -> TokenStore:
    """What the model of a step makes of every picture, once, on disk."""
    pictures, by = pictures_of(run), {step.name: run.spec(step).fingerprint, **picture_inputs(run)}
    ids, what = np.arange(len(pictures)), f"for {step.name}"
    return filled_store(run, step.name, pictures, ids, shape, build, by=by, what=what)
