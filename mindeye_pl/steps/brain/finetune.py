"""Fine-tuning: a pretrained system, or a fresh one, to one subject and some hours of data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mindeye_pl.console import console
from mindeye_pl.data.layout.betas import AsPublished, BetaNormalisation, ZScoreTrainSessions
from mindeye_pl.distributed.ranks import is_main_process
from mindeye_pl.distributed.strategies import determined_by_trainer, shards_weights, strategy_name
from mindeye_pl.engine.records import Record
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Made, Step, Work
from mindeye_pl.errors import UserError
from mindeye_pl.metrics.statistics.score import score_summary
from mindeye_pl.models.parts.alignment import FunctionalAlignment
from mindeye_pl.schema.nodes.run import LAST
from mindeye_pl.steps.brain.alignment.closed_form import CLOSED_FORM, load_alignment, shared_table
from mindeye_pl.steps.brain.alignment.episodes import EPISODES
from mindeye_pl.steps.brain.alignment.prior import NO_PRIOR
from mindeye_pl.steps.brain.alignment.shared_space import ImageFeatures, load_shared
from mindeye_pl.steps.brain.pretrain import PRETRAIN, TRAINING_KEYS, repetition_slots
from mindeye_pl.steps.brain.synthetic_trials import SYNTHESISE_TRIALS, read_synthetic
from mindeye_pl.steps.brain.trials import TRAINING_RUNTIME, add_targets, subject_tags, subject_trials, trials_label
from mindeye_pl.steps.brain.validation import check_validation_images, read_kept_scores, write_kept_scores
from mindeye_pl.steps.brain.voxel_clusters import PLACE_VOXELS, place_new_voxels, pools_clusters
from mindeye_pl.steps.inputs.checkpoint_file import CheckpointFile
from mindeye_pl.steps.inputs.splits import Split, test_data, training_data
from mindeye_pl.steps.inputs.targets import Targets
from mindeye_pl.store.artifacts import Artifact
from mindeye_pl.store.atomic import write_arrays, write_json
from mindeye_pl.store.own_files import read_arrays, read_json
from mindeye_pl.training.budget import Budget
from mindeye_pl.training.build import build_model, empty_model
from mindeye_pl.training.checkpoints import WEIGHTS, load_shared_weights, read_weights, save_weights
from mindeye_pl.training.fit import TRAINER_KEYS, fit
from mindeye_pl.training.settings import TrainingSettings, determined_by_callbacks
from mindeye_pl.training.trained_weights import choose_trained_weights, trained_counts

#: The scaling of betas beside the weights, where one was fitted.
BETAS = "betas.safetensors"

#: The number of parameters that learned, by part.
TRAINED_PARAMETERS = "trained_parameters.json"


class Finetune(Step):
    """Trains the system on one subject, `data.subject`."""

    name = "finetune"
    title = "Fine-tuning"
    keys = (*TRAINING_KEYS, "finetune", "data.subject", "data.num_sessions", "data.validate_on")
    runtime_keys = (*TRAINING_RUNTIME, *TRAINER_KEYS, "finetune.checkpoint")
    version = 2  # less than one session gets the steps of one
    keeps_config = True
    by_all_ranks = True

    def label(self, config: DictConfig) -> str:
        """Return subject, hours, start and seed."""
        return f"{trials_label(config)}-{config.finetune.start}-seed{config.seed}"

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return trials, the images left out, targets, and the pretrained model where one is used."""
        found: dict[str, Input] = {"data": self._data(config), "split": Split(), "targets": Targets(low_level=True)}
        if config.finetune.start == "pretrained":
            given = config.finetune.checkpoint
            found["pretrained"] = Made(PRETRAIN) if given is None else CheckpointFile("finetune.checkpoint")
        if config.finetune.episodes.per_subject:
            found["episodes"] = Made(EPISODES)
        if pools_clusters(config):
            found["places"] = Made(PLACE_VOXELS)
        elif config.finetune.alignment.start == "closed_form":
            found["alignment"] = Made(CLOSED_FORM)
        if config.finetune.synthetic_fraction:
            found["synthetic"] = Made(SYNTHESISE_TRIALS)
        return found

    def derived(self, config: DictConfig) -> dict[str, Any]:
        """Return what the weights depend on of the trainer and the callbacks, and the test split if it validates."""
        tested = {"data.test_split": config.data.test_split} if config.data.validate_on == "tested" else {}
        return determined_by_trainer(config) | determined_by_callbacks(config) | tested

    @staticmethod
    def _data(config: DictConfig) -> Input:
        if config.data.validate_on == "tested":
            return test_data(config)
        return training_data(config, [config.data.subject])

    def tags(self, config: DictConfig) -> list[str]:
        """Return subject, hours and start."""
        start = config.finetune.start if config.finetune.checkpoint is None else "checkpoint"
        return [*subject_tags(config), start]

    def check(self, config: DictConfig) -> None:
        """Check the budget, the alignment's start, that a rank holds the weights that are kept, and the adapters."""
        settings = config.finetune
        Budget.of(settings, self.name)
        check_alignment(config)
        sharded = shards_weights(strategy := config.trainer.get("strategy", "auto"))
        if settings.keep != LAST and sharded:
            fix = f"trainer.strategy=ddp, or finetune.keep={LAST}"
            raise UserError(
                f"finetune.keep={settings.keep} needs whole weights in a rank", got=strategy_name(strategy), fix=fix
            )
        if settings.adapters is None:
            return
        if settings.start != "pretrained":
            got, fix = f"finetune.start={settings.start}", "finetune.start=pretrained, or finetune.adapters=null"
            raise UserError("finetune.adapters need pretrained weights", got=got, fix=fix)
        if sharded:
            fix = "trainer.strategy=ddp"
            raise UserError("finetune.adapters need whole weights in a rank", got=strategy_name(strategy), fix=fix)
        choose_trained_weights(empty_model(config, [1]), settings.trainable, settings.adapters)

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Train, and write the weights, their scores on validation images, and the scaling of betas."""
        subject, wanted = settings.data.subject, settings.finetune
        chosen: dict[str, Any] = {"batch_size": wanted.batch_size, "validate_on": settings.data.validate_on}
        data = subject_trials(inputs["data"], settings, inputs["split"], **chosen)
        budget = Budget.of(wanted, self.name, data.sessions_in_use)
        data.steps_per_epoch = budget.batches_per_epoch(settings.trainer.get("accumulate_grad_batches"))
        data.repetition_slots = repetition_slots(settings.model)
        if "synthetic" in inputs:
            data.synthetic = read_synthetic(inputs["synthetic"], wanted.synthetic_fraction)
        add_targets(data, inputs["targets"])
        if wanted.keep != LAST:
            check_validation_images(len(data.validation_trials[0]), settings.data, wanted.keep)
        if wanted.keep != LAST and data.validate_on == "tested" and is_main_process():
            console.print("the epoch is selected on the test images")
        model = build_model(settings, [data.voxel_counts[subject]])
        data.growth = model.batch_growth(wanted.epochs)
        start, weights, path = "from scratch", None, Path()
        if wanted.start == "pretrained":
            given = inputs["pretrained"]
            path = given if wanted.checkpoint else given / WEIGHTS
            weights = read_weights(path)
            load_shared_weights(model, weights, path, inherit_bias=wanted.inherit_bias)
            start = "from the pretrained model"
        if "episodes" in inputs:
            load_shared(model, inputs["episodes"])
        closed_form = wanted.alignment.start == "closed_form"
        if "places" in inputs:
            place_new_voxels(model, inputs["places"], weights if closed_form else None, path)
        if "alignment" in inputs:
            load_alignment(model, inputs["alignment"])
        if closed_form:
            start += ", aligned in closed form,"
        if wanted.alignment.distillation:
            features = ImageFeatures(inputs["targets"], wanted.alignment.features)
            data.targets["shared"] = shared_table(inputs["alignment"], features, data.stimulus_ids_needed())
            alignment = model.parts()["alignment"]
            assert isinstance(alignment, FunctionalAlignment)
            alignment.distillation = wanted.alignment.distillation
        if wanted.alignment.decay_towards == "start":
            model.parts()["alignment"].decay_to_present_weights()
        choose_trained_weights(model, wanted.trainable, wanted.adapters)
        counts = trained_counts(model)
        if is_main_process():
            write_json(work.folder / TRAINED_PARAMETERS, counts)
            if wanted.adapters is not None or wanted.trainable != "all":
                parts = ", ".join(f"{name} {count:,}" for name, count in counts.items())
                console.print(f"{sum(counts.values()):,} parameters learn: {parts}")

        def save() -> None:
            model.merge_adapters()
            save_weights(model, work.folder / WEIGHTS)

        title = f"fine-tuning subject {subject} {start} on {data.num_train_trials:,} trials"
        training = TrainingSettings.of(settings, work.name)
        how: dict[str, Any] = {"keep": wanted.keep, "validation_score": wanted.validation_score}
        how["save"] = None if wanted.adapters is None else save
        kept = fit(model, data, work.folder, training, budget=budget, title=title, log=work.log, **how)
        if not is_main_process():
            return
        write_kept_scores(work.folder, kept)
        scaling = data.normalisation(subject)
        if isinstance(scaling, ZScoreTrainSessions):
            write_arrays(work.folder / BETAS, {"mean": scaling.mean, "std": scaling.std})

    def record(self, inputs: Inputs, artifact: Artifact, record: Record, num_images: int) -> None:
        """Log the number of parameters that learned, and the kept weights' scores on validation images."""
        counts = read_json(artifact.folder / TRAINED_PARAMETERS)
        scores = score_summary(score.to_dict() for score in read_kept_scores(artifact.folder))
        record.summarise({"trained_parameters": sum(counts.values())} | scores)


FINETUNE = Finetune()


def check_alignment(config: DictConfig) -> None:
    """Raise a UserError for a start or a decay of the alignment that the rest of the settings cannot have."""
    settings, wanted = config.finetune, config.finetune.alignment
    if wanted.start == "closed_form" and settings.start != "pretrained":
        what, got = "finetune.alignment.start=closed_form needs pretrained weights", f"finetune.start={settings.start}"
        raise UserError(what, got=got, fix="finetune.start=pretrained")
    needs_subjects = settings.episodes.per_subject or (wanted.start == "closed_form" and not pools_clusters(config))
    if needs_subjects and settings.checkpoint is not None:
        what = "finetune.alignment.start=closed_form needs the pretraining subjects' own alignments"
        raise UserError(what, got="finetune.checkpoint", fix="finetune.start=pretrained, without a checkpoint")
    for key in ("prior", "distillation"):
        if wanted[key] in (NO_PRIOR, 0):
            continue
        if wanted.start != "closed_form":
            what, got = f"finetune.alignment.{key} needs a closed form", f"finetune.alignment.start={wanted.start}"
            raise UserError(what, got=got, fix="finetune.alignment.start=closed_form")
        if pools_clusters(config):
            what, fix = f"finetune.alignment.{key} needs a linear alignment", "alignment=ridge backbone=mixer"
            raise UserError(what, got=config.model.alignment.network._target_, fix=fix)
    if wanted.prior != NO_PRIOR and settings.episodes.per_subject and len(config.pretrain.subjects) < 2:
        what, got = "episodes of a single subject have no prior", f"pretrain.subjects={config.pretrain.subjects}"
        raise UserError(what, got=got, fix=f"finetune.alignment.prior={NO_PRIOR}, or more pretrain.subjects")
    if settings.episodes.per_subject and wanted.start != "closed_form":
        what = "finetune.episodes trains for alignments in closed form"
        raise UserError(what, got=f"finetune.alignment.start={wanted.start}", fix="adaptation=[episodes]")
    if (wanted.start, wanted.decay_towards) == ("random", "zero"):
        return
    if config.model.get("alignment") is None:
        what, fix = "finetune.alignment needs a functional alignment", "model=mindeye2 alignment=ridge"
        raise UserError(what, got=config.model._target_, fix=fix)
    if wanted.decay_towards == "start" and shards_weights(strategy := config.trainer.get("strategy", "auto")):
        what = "finetune.alignment.decay_towards=start needs whole weights in a rank"
        raise UserError(what, got=strategy_name(strategy), fix="trainer.strategy=ddp")


def read_normalisation(folder: Path) -> BetaNormalisation:
    """Return the scaling of betas that the model in a finished fine-tuning's folder was trained with."""
    if not (folder / BETAS).exists():
        return AsPublished()
    found = read_arrays(folder / BETAS)
    return ZScoreTrainSessions(found["mean"], found["std"])
