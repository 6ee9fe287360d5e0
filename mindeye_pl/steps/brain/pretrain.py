"""Pretraining: one composite on many subjects."""

from pathlib import Path
from typing import Any

from mindeye_pl.distributed.strategies import determined_by_trainer
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.steps.brain.trials import datamodule, training_steps
from mindeye_pl.steps.inputs.captions import captions_identity, learns_captions
from mindeye_pl.steps.inputs.frozen_models import identity, low_level_groups
from mindeye_pl.steps.inputs.splits import split_identity, training_inputs
from mindeye_pl.steps.inputs.training import training_settings
from mindeye_pl.store.artifacts import ArtifactSpec
from mindeye_pl.training.build import build_model
from mindeye_pl.training.fit import fit
from mindeye_pl.training.settings import determined_by_callbacks

#: Nodes of the configuration that the weights of any trained composite depend on.
TRAINING_KEYS = (
    "model",
    "seed",
    "trainer.precision",
    "data.betas",
    "data.sampling",
    "data.split",
    "data.validation_fraction",
)


def trained_by(run: Run, *keys: str) -> dict[str, Any]:
    """What a training depends on: `TRAINING_KEYS`, ranks, what branches and mappers learn, and `keys`."""
    by = run.plain(*TRAINING_KEYS, *keys) | determined_by_trainer(run.config)
    by |= determined_by_callbacks(run.config)
    by |= identity(run, "embedder", *low_level_groups(run.config)) | split_identity(run)
    return by | captions_identity(run) if learns_captions(run) else by


def _spec(run: Run) -> ArtifactSpec:
    subjects = list(run.config.pretrain.subjects)
    by = trained_by(run, "pretrain")
    label = "subj" + "".join(f"0{subject}" for subject in subjects) + f"-seed{run.config.seed}"
    return ArtifactSpec("pretrain", label, by, training_inputs(run, subjects))


def _build(run: Run, folder: Path) -> None:
    settings = run.config.pretrain
    subjects = list(settings.subjects)
    data = datamodule(run, subjects, settings.num_sessions, settings.batch_size)
    model = build_model(run.config, [data.voxel_counts[subject] for subject in subjects])
    data.growth = model.batch_growth(settings.epochs)
    names = ", ".join(map(str, subjects))
    title = f"pretraining on {data.num_train_trials:,} trials of subjects {names}"
    training, log = training_settings(run, PRETRAIN, folder), run.tracking.log_of(PRETRAIN)
    fit(model, data, folder, training, epochs=settings.epochs, title=title, log=log)


PRETRAIN = Step("pretrain", _spec, training_steps, _build)
