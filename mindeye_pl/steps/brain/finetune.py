"""Fine-tuning: a pretrained composite, or a fresh one, to one subject and some hours of data."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from safetensors.numpy import load_file, save_file

from mindeye_pl.data.nsd.betas import AsPublished, BetaNormalisation, ZScoreTrainSessions
from mindeye_pl.distributed.strategies import shards_weights, strategy_name
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.schema.nodes.run import LAST
from mindeye_pl.steps.brain.pretrain import PRETRAIN, trained_by
from mindeye_pl.steps.brain.trials import datamodule, training_steps
from mindeye_pl.steps.inputs.splits import training_inputs
from mindeye_pl.store.artifacts import ArtifactSpec
from mindeye_pl.store.atomic import write_text
from mindeye_pl.training.build import build_model
from mindeye_pl.training.checkpoints import WEIGHTS, checkpoint_fingerprint, load_shared_weights, read_weights
from mindeye_pl.training.fit import fit

#: Beside the weights: the settings that the model is rebuilt from, and the scaling of betas where one was fitted.
CONFIG, BETAS = "config.yaml", "betas.safetensors"


def _needs(run: Run) -> Sequence[Step]:
    pretrained = run.config.finetune.start == "pretrained" and run.config.finetune.checkpoint is None
    return [*training_steps(run), *([PRETRAIN] if pretrained else [])]


def _check_keep(config: DictConfig) -> None:
    """Refuse to keep weights that no rank holds."""
    if (keep := config.finetune.keep) != LAST and shards_weights(strategy := config.trainer.get("strategy", "auto")):
        fix = f"trainer.strategy=ddp, or finetune.keep={LAST}"
        raise UserError(f"finetune.keep={keep} needs whole weights in a rank", got=strategy_name(strategy), fix=fix)


def _spec(run: Run) -> ArtifactSpec:
    config = run.config
    _check_keep(config)
    by = trained_by(run, "finetune", "data.subject", "data.num_sessions")
    if config.finetune.keep == LAST:
        del by["finetune"]["keep"]  # goes unsaid, so that models of before there was a choice are found
    inputs = training_inputs(run, [config.data.subject])
    if PRETRAIN in _needs(run):
        inputs["pretrain"] = run.spec(PRETRAIN).fingerprint
    elif config.finetune.checkpoint is not None:
        inputs["checkpoint"] = checkpoint_fingerprint("finetune.checkpoint", Path(config.finetune.checkpoint))
    sessions = config.data.num_sessions
    hours = "all" if sessions == "all" else f"{sessions}h"
    label = f"subj0{config.data.subject}-{hours}-{config.finetune.start}-seed{config.seed}"
    return ArtifactSpec("finetune", label, by, inputs)


def _build(run: Run, folder: Path) -> None:
    config = run.config
    subject, settings = config.data.subject, config.finetune
    data = datamodule(run, [subject], config.data.num_sessions, settings.batch_size)
    if settings.keep != LAST and not len(data.validation_trials[0]):
        seen, fix = f"data.validation_fraction={config.data.validation_fraction}", f"more, or finetune.keep={LAST}"
        raise UserError(f"finetune.keep={settings.keep} has no validation image to go by", got=seen, fix=fix)
    model = build_model(config, [data.voxel_counts[subject]])
    data.growth = model.batch_growth(settings.epochs)
    start = "from scratch"
    if settings.start == "pretrained":
        path = Path(settings.checkpoint) if settings.checkpoint else run.make(PRETRAIN).folder / WEIGHTS
        load_shared_weights(model, read_weights(path), path, inherit_bias=settings.inherit_bias)
        start = "from the pretrained model"
    model.freeze_all_but(settings.trainable)
    what = f"fine-tuning subject {subject} {start} on {data.num_train_trials:,} trials"
    fit(run, FINETUNE, folder, model, data, epochs=settings.epochs, what=what, keep=settings.keep)
    write_text(folder / CONFIG, OmegaConf.to_yaml(config, resolve=True))
    if isinstance(scaling := data.normalisation(subject), ZScoreTrainSessions):
        save_file({"mean": scaling.mean, "std": scaling.std}, folder / BETAS)


def read_normalisation(folder: Path) -> BetaNormalisation:
    """The scaling of betas that the model in a finished fine-tuning's folder was trained with."""
    if not (folder / BETAS).exists():
        return AsPublished()
    found = load_file(folder / BETAS)
    return ZScoreTrainSessions(found["mean"], found["std"])


FINETUNE = Step("finetune", _spec, _needs, _build)
