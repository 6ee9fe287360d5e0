"""Pretraining: one composite on many subjects."""

from pathlib import Path
from typing import Any

from mindeye_pl.artifacts import ArtifactSpec
from mindeye_pl.data.datamodule import NSDDataModule
from mindeye_pl.pipelines.captions import caption_steps, captions_identity, learns_captions, target_captions
from mindeye_pl.pipelines.data import data_steps, layout
from mindeye_pl.pipelines.foundation_models import has_part, identity, low_level_groups
from mindeye_pl.pipelines.models import build_model
from mindeye_pl.pipelines.splits import left_out_pictures, split_identity, training_inputs
from mindeye_pl.pipelines.step import Run, Step
from mindeye_pl.pipelines.strategies import determined_by_trainer
from mindeye_pl.pipelines.targets import target_latents, target_maps, target_tokens, target_views
from mindeye_pl.pipelines.training import fit

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
    by |= identity(run, "embedder", *low_level_groups(run.config)) | split_identity(run)
    return by | captions_identity(run) if learns_captions(run) else by


def training_steps(run: Run) -> tuple[Step, ...]:
    """The steps that make what any composite is trained on."""
    return (*data_steps(run), *(caption_steps(run) if learns_captions(run) else ()))


def datamodule(run: Run, subjects: list[int], num_sessions: int | str, batch_size: int) -> NSDDataModule:
    """The data of these subjects with all that a training learns of their pictures, made now where it is missing."""
    data = brain_data(run, subjects, num_sessions, batch_size)
    if run.config.low_level is not None:
        data.repetition_slots = run.config.low_level.get("repetition_slots", 0)
    data.tokens = target_tokens(run, data.stimulus_ids_needed())
    data.latents = target_latents(run, data.stimulus_ids_needed())
    data.maps = target_maps(run, data.stimulus_ids_needed())
    if learns_captions(run):
        data.captions = target_captions(run, data.stimulus_ids_needed())
    if has_part(run.config, "image_mapper"):
        data.views = target_views(run, data.stimulus_ids_needed())
    return data


def subject_data(run: Run, num_sessions: int | str | None = None) -> NSDDataModule:
    """Trials and test set of the run's subject in so many sessions, its own number where None; nothing is embedded."""
    sessions = run.config.data.num_sessions if num_sessions is None else num_sessions
    return brain_data(run, [run.config.data.subject], sessions, run.config.finetune.batch_size)


def brain_data(run: Run, subjects: list[int], num_sessions: int | str, batch_size: int) -> NSDDataModule:
    """The data of these subjects alone, without what a training learns of their pictures."""
    config = run.config
    return NSDDataModule(
        layout(run).root,
        subjects,
        cache_dir=config.paths.cache,
        num_sessions=num_sessions,  # type: ignore[arg-type]
        batch_size=batch_size,
        sampling=config.data.sampling,
        betas=config.data.betas,
        repetitions=config.data.repetitions,
        test_split=config.data.test_split,
        left_out=left_out_pictures(run),
        validation_fraction=config.data.validation_fraction,
        trials_per_session=config.data.trials_per_session,
        seed=config.seed,
        num_workers=config.data.num_workers,
    )


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
    what = f"pretraining on {data.num_train_trials:,} trials of subjects {names}"
    fit(run, PRETRAIN, folder, model, data, epochs=settings.epochs, what=what)


PRETRAIN = Step("pretrain", _spec, training_steps, _build)
