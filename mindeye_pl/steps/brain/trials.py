"""Trials of a run: the data module with what a training learns of their images."""

from mindeye_pl.data.datamodule import NSDDataModule
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.steps.inputs.captions import caption_steps, learns_captions, target_captions
from mindeye_pl.steps.inputs.frozen_models import has_part
from mindeye_pl.steps.inputs.simulate import data_steps, layout
from mindeye_pl.steps.inputs.splits import left_out_images
from mindeye_pl.steps.inputs.targets import target_latents, target_maps, target_tokens, target_views


def training_steps(run: Run) -> tuple[Step, ...]:
    """The steps that make what any composite is trained on."""
    return (*data_steps(run), *(caption_steps(run) if learns_captions(run) else ()))


def datamodule(run: Run, subjects: list[int], num_sessions: int | str, batch_size: int) -> NSDDataModule:
    """The data of these subjects with all that a training learns of their images, made now where it is missing."""
    data = brain_data(run, subjects, num_sessions, batch_size)
    if (low_level := run.config.get("low_level")) is not None:
        data.repetition_slots = low_level.get("repetition_slots", 0)
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
    """The data of these subjects alone, without what a training learns of their images."""
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
        left_out=left_out_images(run),
        validation_fraction=config.data.validation_fraction,
        trials_per_session=config.data.trials_per_session,
        seed=config.seed,
        num_workers=config.data.num_workers,
    )
