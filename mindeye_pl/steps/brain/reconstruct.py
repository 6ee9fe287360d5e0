"""Reconstruction: the test images, from voxels to pixels, each image kept as soon as it is made.

Legend: n test images, S tokens, D token width, H and W image size.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mindeye_pl.console import console
from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.distributed.ranks import agree, is_main_process, on_main_process, rank, wait_for_all, world_size
from mindeye_pl.distributed.strategies import trainer_options
from mindeye_pl.engine.records import Record
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import RECONSTRUCTIONS as RECONSTRUCTIONS_TYPE
from mindeye_pl.engine.step import Input, Inputs, Work
from mindeye_pl.errors import UserError
from mindeye_pl.models.image_refiner import CaptionedImages
from mindeye_pl.models.neighbour_tokens import NeighbourTokens
from mindeye_pl.models.reconstructor import BrainQuery, Reconstructor
from mindeye_pl.nn.diffusion.captioner import Captioner
from mindeye_pl.steps.brain.bottleneck import Evaluated, EvaluationStep
from mindeye_pl.steps.brain.image_record import log_reconstructions
from mindeye_pl.steps.brain.known_images import KnownImages
from mindeye_pl.steps.brain.predictions import predict_retrieval
from mindeye_pl.steps.brain.reconstructor import Drawing, build_reconstructor, check_drawing
from mindeye_pl.steps.brain.trials import TEST_RUNTIME, TEST_TRIALS, subject_trials
from mindeye_pl.steps.inputs.splits import Split, test_data
from mindeye_pl.stopping import ctrl_c
from mindeye_pl.store.artifacts import Artifact
from mindeye_pl.store.atomic import write_json, write_stacked, write_tensors
from mindeye_pl.store.own_files import holds_tensors, opened_tensors, read_json, read_or_make, read_tensors, run_again
from mindeye_pl.training.fit import silence_lightning

#: Files: `stimulus_ids` and images by name, one sentence for each, the images refined, and how they were made.
RECONSTRUCTIONS, CAPTIONS, REFINED = "reconstructions.safetensors", "captions.json", "refined.safetensors"
SETTINGS = "settings.json"
#: Tokens of known images near each test image's brain, where images are drawn from them.
NEIGHBOURS = "neighbours.safetensors"

_REFINED_FROM = ("stimulus_ids", "images", "blurry_images")


class Reconstruct(EvaluationStep):
    """Reconstructs the test images of `data.subject`."""

    name = "reconstruct"
    title = "Reconstruction"
    keys = (*TEST_TRIALS, "reconstruct", "trainer.precision")
    runtime_keys = (*TEST_RUNTIME, "trainer", "unclip")
    artifact_type = RECONSTRUCTIONS_TYPE
    version = 2  # refined images are in a file of their own
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
        known = {"known": KnownImages()} if config.reconstruct.neighbours.weight else {}
        return {"data": test_data(config), "split": Split(), "model": Evaluated(), "drawing": Drawing(), **known}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Draw and caption every test image; then, without these models in memory, refine the images."""
        dataset, models = inputs["data"], inputs["drawing"]
        data = subject_trials(dataset, settings, inputs["split"])
        brains = data.test_set(settings.data.subject)
        ids, (voxels, weights) = brains.stimulus_ids, brains.queries()
        before_refiner = replace(models, refiner=None)
        neighbours = _neighbours(settings, inputs, data, work) if "known" in inputs else None  # (n, S, D)

        def reconstructor() -> Reconstructor:
            wanted = settings.reconstruct
            return build_reconstructor(
                inputs["model"].load(data.voxel_counts[settings.data.subject]),
                before_refiner,
                prior_samples=wanted.get("prior_samples", 1),
                candidates=wanted.candidates,
                neighbour_weight=wanted.neighbours.weight,
                seed=settings.seed,
            )

        drawn = work.folder / RECONSTRUCTIONS

        def responses(rows: Tensor) -> BrainQuery:
            near = None if neighbours is None else neighbours[rows]
            return BrainQuery(ids[rows], voxels[rows], weights[rows], near)

        make_images(ids, responses, reconstructor, drawn, settings)
        if models.captioner is not None:
            captions = _captions(before_refiner.loaded_captioner, drawn)
            if is_main_process():
                write_json(work.folder / CAPTIONS, captions)
        if models.refiner is not None:
            make_images(
                ids,
                lambda rows: _captioned(drawn, captions, rows),
                lambda: models.load_refiner(settings.seed),
                work.folder / REFINED,
                settings,
                announced="refining {} images",
            )
        if is_main_process():
            wanted = OmegaConf.to_container(settings.reconstruct)
            how = {"seed": settings.seed, "reconstruct": wanted, "unclip": models.unclip.identity}
            write_json(work.folder / SETTINGS, {"simulated": dataset.is_simulated, **how})

    def record(self, inputs: Inputs, artifact: Artifact, record: Record, num_images: int) -> None:
        """Log some images beside the seen ones."""
        made, captions = read_reconstructions(artifact.folder), read_captions(artifact.folder)
        log_reconstructions(made, captions, inputs["data"].stimuli, record, num_images)


def _neighbours(settings: Settings, inputs: Inputs, data: TrialDataModule, work: Work) -> Tensor:
    """Return the tokens `(n, S, D)` of known images near each test image's brain, all read at once."""
    path, subject = work.folder / NEIGHBOURS, settings.data.subject

    def make() -> None:
        known: NeighbourTokens = inputs["known"]
        console.print(f"weighting the tokens of {len(known.ids):,} known images")
        brains = data.test_set(subject)
        retrieval = predict_retrieval(inputs["model"].load(data.voxel_counts[subject]), brains, brains.weights)
        write_tensors(path, {"tokens": known(retrieval).half()})

    return on_main_process(read_or_make, path, read_tensors, make)["tokens"].float()


def make_images(
    ids: Tensor,
    query: Callable[[Tensor], Any],
    load: Callable[[], LightningModule],
    path: Path,
    settings: Settings,
    announced: str = "reconstructing {} images",
) -> None:
    """Write a file of images, with those that a killed build has left. Every rank calls it.

    Batches are the same after a kill, and a batch with a missing or damaged image is made again as a whole: half
    precision rounds otherwise in another batch.

    Args:
        ids: `(n,)` stimulus ids, ascending.
        query: rows `(B,)` to what the module reads of them, for a batch of `unclip.batch_size`; called in its turn.
        load: returns the module whose `predict_step` makes `stimulus_ids`, `images` and further tensors of a query.
        path: of the file; every image is in one of its own beside it until all are made.
        settings: with `trainer` and `unclip`.
        announced: words before the work, with the number of images.
    """
    paths = [_image_path(path, id_) for id_ in ids.tolist()]
    done = agree(holds_tensors(path))
    missing = torch.tensor(agree([not done and not holds_tensors(one) for one in paths]))
    batches = torch.arange(len(ids)).split(min(settings.unclip.batch_size, -(-len(ids) // world_size())))
    if left := [rows for rows in batches if missing[rows].any()]:
        count = sum(map(len, left))
        rest = len(ids) - count
        console.print(announced.format(count) + (f", {rest} are done" if rest else ""))
        _predict(load(), _Queries(left[rank() :: world_size()], query), path, settings)
        gc.collect()  # the trainer and the module refer to each other
        wait_for_all()
    if is_main_process():
        if not done:
            write_stacked(path, paths)
        for one in paths:
            one.unlink(missing_ok=True)
    wait_for_all()  # the file is there for every rank


def _image_path(path: Path, stimulus_id: int) -> Path:
    return path.with_name(f"{path.stem}-{stimulus_id:06d}{path.suffix}")


@dataclass(frozen=True)
class _Queries(Dataset[Any]):
    """Whole batches of one rank, read one after the other."""

    batches: Sequence[Tensor]
    query: Callable[[Tensor], Any]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        return self.query(self.batches[index])


def _captions(captioner: Captioner, drawn: Path) -> list[str]:
    assert captioner.text is not None, "the captioner has no words"
    with opened_tensors(drawn, fix=run_again(drawn)) as file:
        return captioner.text(file.get_tensor("caption_words"))


def _captioned(drawn: Path, captions: Sequence[str], rows: Tensor) -> CaptionedImages:
    """Return some of the drawn images with their captions; `rows` follow one another."""
    first, last = int(rows[0]), int(rows[-1]) + 1
    with opened_tensors(drawn, fix=run_again(drawn)) as file:
        read = {key: file.get_slice(key)[first:last] for key in file.keys() if key in _REFINED_FROM}  # noqa: SIM118
    return CaptionedImages(
        read["stimulus_ids"], read["images"].float(), list(captions[first:last]), read.get("blurry_images")
    )


def _predict(module: LightningModule, queries: _Queries, path: Path, settings: Settings) -> None:
    """Make the images of all ranks, each rank its own batches, each image written into a file of its own."""
    silence_lightning()
    off = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing", "use_distributed_sampler")
    options = {"callbacks": [_ImageWriter(path)], "default_root_dir": str(path.parent), **dict.fromkeys(off, False)}
    options |= {"fast_dev_run": False, "limit_predict_batches": None}  # every image, however short the training was
    options |= trainer_options(settings, sharded=False)
    trainer: Trainer = instantiate(settings.trainer, **options, _convert_="all")
    # A rank has no batch where there are fewer images than ranks.
    module.allow_zero_length_dataloader_with_multiple_devices = True
    with ctrl_c():
        trainer.predict(module, DataLoader(queries, batch_size=None), return_predictions=False)


class _ImageWriter(Callback):
    """Writes each image with its intermediates into a file of its own, whole or not at all."""

    def __init__(self, path: Path):
        self.path = path

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Write the batch's images."""
        for row, id_ in enumerate(outputs["stimulus_ids"].tolist()):
            write_tensors(_image_path(self.path, id_), {name: _stored(rows[row]) for name, rows in outputs.items()})


def _stored(value: Tensor) -> Tensor:
    value = value.cpu().contiguous()
    return value.half() if value.is_floating_point() else value


def read_captions(folder: Path) -> list[str] | None:
    """Return the caption of each image in the order of `stimulus_ids`, None where none were made."""
    path = folder / CAPTIONS
    return read_json(path, list[str]) if path.exists() else None


def read_reconstructions(folder: Path) -> dict[str, Tensor]:
    """Return `stimulus_ids` `(n,)`, `images` `(n, 3, H, W)` float16 in [0, 1], and the intermediates."""
    refined = folder / REFINED
    return read_tensors(folder / RECONSTRUCTIONS) | (read_tensors(refined) if refined.exists() else {})


RECONSTRUCT = Reconstruct()
