"""Sharing a trained model: as a folder that rebuilds it, as a hub repository, or both."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mindeye_pl.console import console
from mindeye_pl.engine.run import Run
from mindeye_pl.errors import UserError
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.sharing.folder import check_folder
from mindeye_pl.sharing.hub import check_repository, push_to_hub
from mindeye_pl.steps.brain.finetune import BETAS
from mindeye_pl.steps.brain.trained_model import Trained
from mindeye_pl.steps.inputs.dataset import is_simulated
from mindeye_pl.training.build import build_model, voxel_counts
from mindeye_pl.training.checkpoints import load_weights, read_weights

EXPORT = "export"


def check_export(settings: DictConfig) -> None:
    """Check the destination before anything long begins, without the network.

    Raises:
        UserError: without a destination, or for an unusable one.
    """
    if settings.folder is None and settings.repository is None:
        raise UserError("export needs a place", fix="export.folder=FOLDER, or export.repository=owner/name")
    if settings.folder is not None:
        check_folder(Path(settings.folder))
    if settings.repository is not None:
        check_repository(settings.repository)


def export_run(run: Run) -> None:
    """Export the fine-tuned model, or `evaluate.checkpoint`, by the node `export`.

    Raises:
        UserError: if the folder cannot be written, or the hub refuses.
    """
    settings, config = run.config.export, run.config
    path = run.open(Trained()).path
    weights = read_weights(path)
    model = build_model(config, voxel_counts(config, weights))
    load_weights(model, weights, path)
    with TemporaryDirectory() as temporary:
        folder = Path(settings.folder or temporary)
        export_composite(model.eval(), config, folder, betas=path.with_name(BETAS))
        if settings.parts:
            export_parts(model, folder)
        if settings.folder is not None:
            console.print(f"exported: {folder}")
        if settings.repository is not None:
            address = push_to_hub(folder, settings.repository, private=settings.private)
            console.print(f"pushed: {address}")


def export_composite(model: BrainDecoder, config: DictConfig, folder: str | Path, *, betas: Path | None = None) -> None:
    """Write a trained model with the facts of its training; `from_pretrained` reads it back.

    The folder is new or empty, or an earlier export, which is replaced. The fitted scaling of betas is copied if there
    is such a file.

    Raises:
        UserError: if the folder holds something else, or cannot be written.
    """
    model.facts = facts(config) | {"voxels": model.voxel_counts}
    model.save_pretrained(folder, more={BETAS: betas} if betas is not None and betas.is_file() else None)


def export_parts(model: BrainDecoder, folder: str | Path) -> None:
    """Write each part of a model alone, for example `folder/backbone`, in the form of `export_composite`."""
    for name, part in model.parts().items():
        part.facts = model.facts
        part.save_pretrained(Path(folder) / name)


def facts(config: DictConfig) -> dict[str, Any]:
    """Return the facts about the training for the model card."""
    data, simulated = config.data, is_simulated(config)
    known: dict[str, Any] = {"data": "simulated NSD" if simulated else "the Natural Scenes Dataset"}
    known |= {"simulated": simulated, "subject": data.subject, "scale": config.scale.name}
    if (checkpoint := config.evaluate.checkpoint) is not None:
        known["checkpoint"] = Path(checkpoint).name  # how it was trained is not known here
    else:
        sessions = data.num_sessions
        known |= {"sessions": sessions, "hours": sessions if sessions == "all" else sessions * data.hours_per_session}
        known |= {"start": config.finetune.start, "seed": config.seed}
    embedder: Mapping[str, Any] = config.embedder
    known["embedder"] = {name: embedder[name] for name in ("name", "num_tokens", "token_dim")}
    known["betas"] = data.betas
    known["fidelity"] = OmegaConf.to_container(config.fidelity, resolve=True)
    return known
