"""Feature networks as judges of images: never one that the model was trained to please."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mindeye_pl.errors import UserError
from mindeye_pl.steps.evaluation.optional import Lacking
from mindeye_pl.steps.evaluation.protocol_columns import EMBEDDER
from mindeye_pl.steps.inputs.frozen_models import FrozenModel
from mindeye_pl.weights.loaders import bundled


def check_judges(config: DictConfig) -> None:
    """Refuse a feature network whose weights are those of the target embedder, where the protocol refuses it.

    The network `embedder` of a protocol is the target embedder by name, and its columns say so.
    """
    if config.protocol.target_as_judge == "published":
        return
    target = weight_files(config.embedder)
    for name, scored in config.protocol.networks.items():
        if scored.network != EMBEDDER and target & weight_files(config.features[scored.network]):
            raise UserError(
                f"protocol.networks.{name} is the training target, and cannot judge the images",
                got=f"features.{scored.network} and embedder={config.embedder.name}, of one file",
                expected="a network of another training",
                fix=f"~protocol.networks.{name} and take it out of the protocol's questions, or another protocol",
            )


def weight_files(node: DictConfig) -> set[tuple[str, str]]:
    """Return the files of a model's weights, with the folder or repository of each; empty for random weights."""
    plain: Any = OmegaConf.to_container(node, resolve=True)
    if "files" in plain:
        return {(str(Path(plain["folder"] or bundled.SHIPPED)), name) for name in plain["files"]}
    weights = plain.get("weights") or {}
    entries = [weights] if "file" in weights else weights.values()
    return {(entry["repository"], entry["file"]) for entry in entries}


def training_of_judges(protocol: DictConfig, networks: Mapping[str, FrozenModel | Lacking]) -> dict[str, str]:
    """Return what the networks of others were trained on and whether they saw COCO, by title in tables."""
    found = {}
    for scored in protocol.networks.values():
        network = networks.get(scored.network)
        if isinstance(network, FrozenModel) and "saw_coco" in (network.settings.get("weights") or {}):
            found[scored.title] = str(network.settings.weights.saw_coco)
    return found
