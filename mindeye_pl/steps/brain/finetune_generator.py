"""The generator fine-tuned on what the mappers of one subject read from its brain (Mind Reader, spec section 7).

Legend: n trials, V voxels, C captions of an image at most, E width of an embedding, P side of an image.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from mindeye_pl.data.datamodule import NSDDataModule
from mindeye_pl.data.image_datamodule import ImageDataModule
from mindeye_pl.data.image_sources import ImageFile, Table
from mindeye_pl.distributed.strategies import determined_by_trainer
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.models.gan.brain_conditioned import BrainConditioned
from mindeye_pl.nn.stylegan2.conditions import with_second_condition
from mindeye_pl.nn.stylegan2.networks import ImageGenerator, build_discriminator, build_generator
from mindeye_pl.steps.brain.trained_model import checkpoint_identity, checkpoint_steps, trained_model
from mindeye_pl.steps.brain.trials import datamodule, training_steps
from mindeye_pl.steps.foundation.generator import GRID, objective_of, save_networks
from mindeye_pl.steps.foundation.images import Prepared
from mindeye_pl.steps.inputs.captions import captions_identity, learns_captions
from mindeye_pl.steps.inputs.frozen_models import has_part, identity, load_model, weight_files
from mindeye_pl.steps.inputs.simulate import layout
from mindeye_pl.steps.inputs.splits import training_inputs
from mindeye_pl.store.artifacts import ArtifactSpec
from mindeye_pl.training.callbacks.image_grid import GeneratedGrid
from mindeye_pl.training.checkpoints import WEIGHTS, load_weights, read_weights, save_weights
from mindeye_pl.training.fit import fit
from mindeye_pl.weights.loaders import bundled as laptop
from mindeye_pl.weights.sized_safetensors import read_own

_SCRATCH = "generator.start=scratch, or pipeline=pretrain_generator with this embedder"


def trains_generator(config: DictConfig) -> bool:
    """Whether images are made by a generator that is fine-tuned to the subject.

    Raises:
        UserError: if the group `unclip` names none.
    """
    if OmegaConf.select(config, "generator") is None or config.unclip is None:
        return False
    if laptop.GENERATOR not in config.unclip.get("files", ()):
        raise UserError(
            f"generator={config.generator.name} is no part of unclip={config.unclip.name}", fix="unclip=lafite"
        )
    return True


def _needs(run: Run) -> Sequence[Step]:
    return (*training_steps(run), *checkpoint_steps(run))


def _pretrained(run: Run) -> bool:
    return run.config.generator.start == "pretrained"


def _check(run: Run) -> None:
    """Refuses what there is not before anything long begins.

    Raises:
        UserError: naming the option.
    """
    settings = run.config.generator
    if settings.condition != "image" and not has_part(run.config, "caption_mapper"):
        wanted = "a caption mapper"
        raise UserError(
            "the generator lacks a condition", got=settings.condition, expected=wanted, fix="generator.condition=image"
        )
    objective_of(run, "generator")


def _spec(run: Run) -> ArtifactSpec:
    config = run.config
    _check(run)
    keys = ("subject", "num_sessions", "betas", "split", "validation_fraction")
    by = run.plain("generator", "seed", "trainer.precision", *(f"data.{key}" for key in keys))
    by |= determined_by_trainer(config) | identity(run, "embedder")
    if learns_captions(run):
        by |= captions_identity(run)
    if _pretrained(run):
        by |= identity(run, "unclip")
        for key in ("sizes", "projection_reduction"):
            by["generator"].pop(key)  # the file has its own
    label, own_by, own_inputs = checkpoint_identity(run)
    inputs = training_inputs(run, [config.data.subject]) | own_inputs
    return ArtifactSpec("finetune_generator", f"{label}-{config.generator.condition}", by | own_by, inputs)


class _ByTrial:
    """A table of images, read by trial.

    Args:
        table: by stimulus id.
        stimulus_ids: `(n,)` of the trials.
    """

    def __init__(self, table: Table, stimulus_ids: np.ndarray):
        self._table, self._stimulus_ids = table, stimulus_ids

    def __getitem__(self, trials: np.ndarray) -> np.ndarray:
        return self._table[self._stimulus_ids[trials]]


def _trials(run: Run, brains: NSDDataModule, image_size: int) -> ImageDataModule:
    """Training trials and, behind them, the validation trials, as batches of tables."""
    settings = run.config.generator
    brains.setup()
    trained, held_out = brains.train_trials[0].stimulus_ids, brains.validation_trials[0].stimulus_ids
    ids = np.concatenate([trained, held_out])
    images = Prepared(ImageFile(layout(run).stimuli, image_size))  # squares of the generator's size
    by_image = {"images": images, "image": brains.tokens, "captions": brains.captions}
    tables: dict[str, Table] = {
        "voxels": brains.betas_in_use(),  # (n, V)
        **{name: _ByTrial(table, ids) for name, table in by_image.items() if table is not None},
    }
    return ImageDataModule(
        tables,
        len(ids),
        settings.batch_size,
        len(held_out),
        seed=run.config.seed,
        steps_per_epoch=settings.steps_per_epoch,
    )


def _starting_networks(run: Run) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Sizes of the networks, and the weights that they begin with: none from scratch.

    A network of one condition begins as one of two, which start equal, where both are asked for (spec section 5.4).
    """
    settings, width = run.config.generator, run.config.embedder.token_dim
    if not _pretrained(run):
        widths = {"image_dim": width, "caption_dim": width}
        asked = {"condition": settings.condition, "projection_reduction": settings.projection_reduction}
        return {**{str(key): value for key, value in settings.sizes.items()}, **asked, **widths}, {}
    (path,) = weight_files(run, "unclip").values()
    assert path is not None, "missing files are reported before any step"
    weights, sizes = read_own(path)
    if width != sizes["image_dim"]:
        wanted = f"width {width}, as embedder={run.config.embedder.name} makes"
        raise UserError(
            f"{path} was trained on other embeddings", got=f"width {sizes['image_dim']}", expected=wanted, fix=_SCRATCH
        )
    if settings.condition == "both" and sizes["condition"] != "both":
        weights = with_second_condition(weights)
    return sizes | {"condition": settings.condition}, weights


def _build(run: Run, folder: Path) -> None:
    config, settings = run.config, run.config.generator
    subject = config.data.subject
    brains = datamodule(run, [subject], config.data.num_sessions, config.finetune.batch_size)
    torch.manual_seed(config.seed)
    sizes, weights = _starting_networks(run)
    networks = build_generator(sizes), build_discriminator(sizes)
    for network, part in zip(networks, ("generator", "discriminator"), strict=True):
        if weights:
            network.load_state_dict(laptop.own_part(weights, part))
    model = BrainConditioned(
        *networks,
        load_model(run, "embedder"),
        objective_of(run, "generator"),
        trained_model(run, brains.voxel_counts[subject]),
        mappers=settings.mappers,
        mapper_learning_rate=settings.mapper_learning_rate,
    )

    def save() -> None:
        save_networks(folder / laptop.GENERATOR, model, sizes)
        if model.mappers_learn:
            save_weights(model.composite, folder / WEIGHTS)

    data = _trials(run, brains, sizes["image_size"])
    what = f"fine-tuning the generator to subject {subject}, conditioned on {settings.condition}"
    grid = [GeneratedGrid(folder / GRID, run.tracking.image_log_of(FINETUNE_GENERATOR))]
    fit(run, FINETUNE_GENERATOR, folder, model, data, epochs=settings.epochs, what=what, more_callbacks=grid, save=save)


FINETUNE_GENERATOR = Step("finetune_generator", _spec, _needs, _build)


def finetuned_generator(run: Run) -> ImageGenerator:
    """The generator of the subject.

    Raises:
        UserError: if it is not finished.
    """
    return laptop.load_generator(_finished(run), latents=run.config.unclip.network.latents)


def mappers_of(run: Run, composite: BrainDecoder) -> BrainDecoder:
    """The composite, with the mappers that learned beside the generator where they did."""
    if (path := _finished(run) / WEIGHTS).exists():
        load_weights(composite, read_weights(path), path)
    return composite


def _finished(run: Run) -> Path:
    if (artifact := run.find(FINETUNE_GENERATOR)) is None:
        raise UserError("the run has no finished generator", fix="start the same command again")
    return artifact.folder
