"""Training of the voxel transformer, on episodes of the other subjects."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from mindeye_pl.data.image_datamodule import ImageDataModule
from mindeye_pl.distributed.strategies import determined_by_trainer
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Made, Step, Work
from mindeye_pl.errors import UserError
from mindeye_pl.models.in_context import InContextTraining
from mindeye_pl.nn.in_context.transformer import VoxelTransformer
from mindeye_pl.steps.brain.in_context.known_subjects import KNOWN_TRIALS, TRIALS_RUNTIME, read_known
from mindeye_pl.steps.brain.in_context.prior import FIT_VOXEL_PRIOR, FittedPrior, known_label
from mindeye_pl.training.budget import Budget
from mindeye_pl.training.fit import TRAINER_KEYS, fit
from mindeye_pl.training.settings import TrainingSettings, determined_by_callbacks
from mindeye_pl.weights.files import read_own, save_own

NETWORK = "transformer.safetensors"
#: Arguments of `VoxelTransformer` among the settings; the others are of its training.
_SIZES = ("width", "heads", "depth", "latents")
#: Arguments of `InContextTraining` among the settings.
_TRAINING = ("voxels", "queries", "max_lr", "weight_decay", "temperature")


class PretrainVoxelTransformer(Step):
    """Trains the network of `in_context.decoder=transformer`."""

    name = "pretrain_voxel_transformer"
    title = "Transformer over voxels"
    keys = (*KNOWN_TRIALS, "in_context.context", "in_context.transformer", "trainer.precision")
    runtime_keys = (*TRIALS_RUNTIME, *TRAINER_KEYS)
    by_all_ranks = True

    def label(self, config: DictConfig) -> str:
        """Return the subjects."""
        return known_label(config)

    def check(self, config: DictConfig) -> None:
        """Check that the heads divide the width, and that there are support sets to learn from."""
        node = config.in_context.transformer
        if node.width % node.heads:
            what = "in_context.transformer.heads do not divide the width"
            raise UserError(what, got=f"{node.heads} heads", expected=f"a divisor of {node.width}")
        if not max(config.in_context.context):
            what, fix = "in_context.decoder=transformer has no support set to learn from", "in_context.context=[20,200]"
            raise UserError(what, got=f"in_context.context={list(config.in_context.context)}", fix=fix)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return what the prior is fitted to, and the prior."""
        return {**FIT_VOXEL_PRIOR.inputs(config), "prior": Made(FIT_VOXEL_PRIOR)}

    def derived(self, config: DictConfig) -> dict[str, Any]:
        """Return what the weights depend on of the trainer and the callbacks."""
        return determined_by_trainer(config) | determined_by_callbacks(config)

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Train on support sets between the smallest and the largest of `in_context.context`."""
        own, fitted = settings.in_context.transformer, FittedPrior.read(inputs["prior"])
        known = read_known(inputs["data"], settings, inputs["split"])
        subjects = [one.subject(fitted.features, inputs["targets"]) for one in known.values()]
        images = min(len(one.features) for one in subjects)
        sizes = [min(size, images - 2) for size in settings.in_context.context if size]
        torch.manual_seed(settings.seed)
        network = build_transformer(len(fitted.prior.mean), own)
        model = InContextTraining(
            network,
            subjects,
            fitted.prior,
            fitted.features.scale,
            pseudo_count=fitted.pseudo_count,
            support=(min(sizes), max(sizes)),
            **{name: own[name] for name in _TRAINING},
        )
        episodes = own.epochs * own.steps_per_epoch * own.batch_size
        seeds = np.arange(episodes, dtype=np.int64)[:, None]
        data = ImageDataModule(
            {"episode": seeds}, episodes, own.batch_size, 0, seed=settings.seed, steps_per_epoch=own.steps_per_epoch
        )
        save = partial(_save, network, OmegaConf.to_container(own), work.folder / NETWORK)
        training, title = TrainingSettings.of(settings, work.name), "training the voxel transformer"
        fit(model, data, work.folder, training, budget=Budget(own.epochs), title=title, log=work.log, save=save)


PRETRAIN_VOXEL_TRANSFORMER = PretrainVoxelTransformer()


def build_transformer(num_features: int, node: Mapping[Any, Any]) -> VoxelTransformer:
    """Return the network of the settings `in_context.transformer`, with fresh weights."""
    return VoxelTransformer(num_features, **{name: node[name] for name in _SIZES})


def _save(network: VoxelTransformer, node: Any, path: Path) -> None:
    sizes = {"num_features": network.start.in_features, **{name: node[name] for name in _SIZES}}
    save_own(path, network.state_dict(), sizes)


def load_transformer(folder: Path) -> VoxelTransformer:
    """Return the trained network of a finished step, in eval mode."""
    weights, sizes = read_own(folder / NETWORK)
    network = VoxelTransformer(sizes.pop("num_features"), **sizes)
    network.load_state_dict(weights)
    return network.eval()
