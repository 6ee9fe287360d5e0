"""Pretraining: one system on many subjects."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from mindeye_pl.distributed.strategies import determined_by_trainer
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Made, Step, Work
from mindeye_pl.steps.brain.trials import TRAINING_RUNTIME, TRAINING_TRIALS, add_targets, hours, trial_data
from mindeye_pl.steps.brain.voxel_clusters import CLUSTER_VOXELS, place_pretraining_voxels, pools_clusters
from mindeye_pl.steps.inputs.splits import Split, training_data
from mindeye_pl.steps.inputs.targets import Targets
from mindeye_pl.training.budget import Budget
from mindeye_pl.training.build import build_model
from mindeye_pl.training.fit import TRAINER_KEYS, fit
from mindeye_pl.training.settings import TrainingSettings, determined_by_callbacks

#: Settings that the weights of any trained system depend on.
TRAINING_KEYS = (*TRAINING_TRIALS, "model", "trainer.precision")


class Pretrain(Step):
    """Trains the system on every subject of `pretrain.subjects` together."""

    name = "pretrain"
    title = "Pretraining"
    keys = (*TRAINING_KEYS, "pretrain")
    runtime_keys = (*TRAINING_RUNTIME, *TRAINER_KEYS)
    by_all_ranks = True

    def label(self, config: DictConfig) -> str:
        """Return subjects and seed."""
        return "subj" + "".join(f"0{subject}" for subject in config.pretrain.subjects) + f"-seed{config.seed}"

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return trials, the images left out, and targets."""
        data = training_data(config, list(config.pretrain.subjects))
        found: dict[str, Input] = {"data": data, "split": Split(), "targets": Targets(low_level=True)}
        if pools_clusters(config):
            found["clusters"] = Made(CLUSTER_VOXELS)
        return found

    def derived(self, config: DictConfig) -> dict[str, Any]:
        """Return what the weights depend on of the trainer and the callbacks."""
        return determined_by_trainer(config) | determined_by_callbacks(config)

    def tags(self, config: DictConfig) -> list[str]:
        """Return subjects and hours."""
        subjects = [f"subj{subject:02d}" for subject in config.pretrain.subjects]
        return [*subjects, f"hours={hours(config.pretrain.num_sessions, config)}"]

    def check(self, config: DictConfig) -> None:
        """Check the budget."""
        Budget.of(config.pretrain, self.name)

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Train, and write the weights."""
        wanted = settings.pretrain
        budget = Budget.of(wanted, self.name)
        subjects = list(wanted.subjects)
        chosen: dict[str, Any] = {key: wanted[key] for key in ("num_sessions", "batch_size")}
        chosen["steps_per_epoch"] = budget.batches_per_epoch(settings.trainer.get("accumulate_grad_batches"))
        data = trial_data(inputs["data"], settings, inputs["split"], subjects=subjects, **chosen)
        data.repetition_slots = repetition_slots(settings.model)
        add_targets(data, inputs["targets"])
        model = build_model(settings, [data.voxel_counts[subject] for subject in subjects])
        if "clusters" in inputs:
            place_pretraining_voxels(model, inputs["clusters"])
        data.growth = model.batch_growth(wanted.epochs)
        named = f"subject{'s' if len(subjects) > 1 else ''} {', '.join(map(str, subjects))}"
        title = f"pretraining on {data.num_train_trials:,} trials of {named}"
        training = TrainingSettings.of(settings, work.name)
        fit(model, data, work.folder, training, budget=budget, title=title, log=work.log)


def repetition_slots(model: DictConfig) -> int:
    """Return how many repetitions of each image the low-level branch mixes; 0 for none."""
    low_level = model.get("low_level")
    return 0 if low_level is None else low_level.get("repetition_slots", 0)


PRETRAIN = Pretrain()
