"""Reconstruction: the test images, from voxels to pixels, each image kept as soon as it is made.

Legend: n test images, S tokens, D token width, H and W image size.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Callback, LightningModule, Trainer
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader

from mindeye_pl.console import console
from mindeye_pl.distributed.ranks import agree, is_main_process, rank, wait_for_all, world_size
from mindeye_pl.distributed.strategies import trainer_options
from mindeye_pl.engine.records import Record
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import RECONSTRUCTIONS as RECONSTRUCTIONS_TYPE
from mindeye_pl.engine.step import Input, Inputs, Work
from mindeye_pl.errors import UserError
from mindeye_pl.models.reconstructor import BrainQuery, Reconstructor
from mindeye_pl.steps.brain.image_record import log_reconstructions
from mindeye_pl.steps.brain.reconstructor import Drawing, build_reconstructor, check_drawing
from mindeye_pl.steps.brain.trained_model import ModelStep, Trained
from mindeye_pl.steps.brain.trials import TEST_RUNTIME, TEST_TRIALS, subject_trials
from mindeye_pl.steps.inputs.splits import Split, test_data
from mindeye_pl.stopping import ctrl_c
from mindeye_pl.store.artifacts import Artifact
from mindeye_pl.store.atomic import write_json, write_stacked, write_tensors
from mindeye_pl.training.fit import silence_lightning

#: Files: `stimulus_ids` and images by name, one sentence for each, and how they were made.
RECONSTRUCTIONS, CAPTIONS, SETTINGS = "reconstructions.safetensors", "captions.json", "settings.json"

_IMAGE = "image-{:06d}.safetensors"


class Reconstruct(ModelStep):
    """Reconstructs the test images of `data.subject`."""

    name = "reconstruct"
    title = "Reconstruction"
    keys = (*TEST_TRIALS, "reconstruct", "trainer.precision")
    runtime_keys = (*TEST_RUNTIME, "trainer", "unclip")
    artifact_type = RECONSTRUCTIONS_TYPE
    by_all_ranks = True

    def label(self, config: DictConfig) -> str:
        """Return the model's label and the unCLIP."""
        return f"{super().label(config)}-{config.unclip.name}"

    def check(self, config: DictConfig) -> None:
        """Check that there is an unCLIP, and that the models fit each other."""
        if config.get("unclip") is None:
            raise UserError("reconstruct needs an unCLIP", got="unclip=none", fix="unclip=laptop")
        super().check(config)
        check_drawing(config)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the test set, the trained model, and the image models."""
        return {"data": test_data(config), "split": Split(), "model": Trained(), "drawing": Drawing()}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Write images and intermediates of every test image into one file."""
        dataset, models = inputs["data"], inputs["drawing"]
        data = subject_trials(dataset, settings, inputs["split"])
        brains = data.test_set(settings.data.subject)
        ids, (voxels, weights) = brains.stimulus_ids, brains.queries()

        def reconstructor() -> Reconstructor:
            wanted = settings.reconstruct
            return build_reconstructor(
                inputs["model"].load(data.voxel_counts[settings.data.subject]),
                models,
                prior_samples=wanted.get("prior_samples", 1),
                candidates=wanted.candidates,
                seed=settings.seed,
            )

        make_images(
            ids, lambda rows: BrainQuery(ids[rows], voxels[rows], weights[rows]), reconstructor, work.folder, settings
        )
        if is_main_process():
            if models.captioner is not None:
                with safe_open(str(work.folder / RECONSTRUCTIONS), framework="pt") as file:
                    words = file.get_tensor("caption_words")
                write_json(work.folder / CAPTIONS, models.captioner.load().text(words))
            how = {"seed": settings.seed, "reconstruct": dict(settings.reconstruct), "unclip": models.unclip.identity}
            write_json(work.folder / SETTINGS, {"simulated": dataset.is_simulated, **how})

    def record(self, inputs: Inputs, artifact: Artifact, record: Record, num_images: int) -> None:
        """Log some images beside the seen ones."""
        made, captions = read_reconstructions(artifact.folder), read_captions(artifact.folder)
        log_reconstructions(made, captions, inputs["data"].stimuli, record, num_images)


def make_images(
    ids: Tensor,
    query: Callable[[Tensor], Any],
    load: Callable[[], LightningModule],
    folder: Path,
    settings: Settings,
    announced: str = "reconstructing {} images",
) -> None:
    """Write `RECONSTRUCTIONS`, with the images that a killed build has left. Every rank calls it.

    Batches are the same after a kill, and a batch with a missing image is made again as a whole: half precision rounds
    otherwise in another batch.

    Args:
        ids: `(n,)` stimulus ids, ascending.
        query: rows `(B,)` to what the module reads of them, for a batch of `unclip.batch_size`.
        load: returns the module whose `predict_step` makes `stimulus_ids`, `images` and further tensors of a query.
        folder: of the build.
        settings: with `trainer` and `unclip`.
        announced: words before the work, with the number of images.
    """
    paths, whole = [folder / _IMAGE.format(id_) for id_ in ids.tolist()], folder / RECONSTRUCTIONS
    missing = torch.tensor(agree([not path.exists() and not whole.exists() for path in paths]))
    batches = torch.arange(len(ids)).split(min(settings.unclip.batch_size, -(-len(ids) // world_size())))
    if left := [rows for rows in batches if missing[rows].any()]:
        count = sum(map(len, left))
        done = len(ids) - count
        console.print(announced.format(count) + (f", {done} are done" if done else ""))
        _predict(load(), [query(rows) for rows in left], folder, settings)
        wait_for_all()
    if is_main_process():
        if not whole.exists():
            write_stacked(whole, paths)
        for path in paths:
            path.unlink(missing_ok=True)


def _predict(module: LightningModule, queries: list[Any], folder: Path, settings: Settings) -> None:
    """Make the images of all ranks, each rank its own batches, each image written into a file of its own."""
    silence_lightning()
    off = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing", "use_distributed_sampler")
    options = {"callbacks": [_ImageWriter(folder)], "default_root_dir": str(folder), **dict.fromkeys(off, False)}
    options |= {"fast_dev_run": False, "limit_predict_batches": None}  # every image, however short the training was
    options |= trainer_options(settings, sharded=False)
    trainer: Trainer = instantiate(settings.trainer, **options, _convert_="all")
    # Items are whole batches. A rank has none where there are fewer images than ranks.
    module.allow_zero_length_dataloader_with_multiple_devices = True
    shard = queries[rank() :: world_size()]
    loader: DataLoader[Any] = DataLoader(shard, batch_size=None)  # type: ignore[arg-type]
    with ctrl_c():
        trainer.predict(module, loader, return_predictions=False)


class _ImageWriter(Callback):
    """Writes each image with its intermediates into a file of its own, whole or not at all."""

    def __init__(self, folder: Path):
        self.folder = folder

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Write the batch's images."""
        for row, id_ in enumerate(outputs["stimulus_ids"].tolist()):
            path = self.folder / _IMAGE.format(id_)
            write_tensors(path, {name: _stored(rows[row]) for name, rows in outputs.items()})


def _stored(value: Tensor) -> Tensor:
    value = value.cpu().contiguous()
    return value.half() if value.is_floating_point() else value


def read_captions(folder: Path) -> list[str] | None:
    """Return the caption of each image in the order of `stimulus_ids`, None where none were made."""
    path = folder / CAPTIONS
    return json.loads(path.read_bytes()) if path.exists() else None


def read_reconstructions(folder: Path) -> dict[str, Tensor]:
    """Return `stimulus_ids` `(n,)`, `images` `(n, 3, H, W)` float16 in [0, 1], and the intermediates."""
    return load_file(str(folder / RECONSTRUCTIONS))


RECONSTRUCT = Reconstruct()
