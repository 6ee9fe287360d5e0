"""Reconstruction: the test images, from voxels to pixels, each image kept as soon as it is made.

Legend: n test images, S tokens, D token width, H and W image size.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from pytorch_lightning import Callback, LightningModule, Trainer
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from mindeye_pl.console import console
from mindeye_pl.distributed.ranks import follows, place, started_here, together
from mindeye_pl.distributed.strategies import trainer_options
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.models.reconstructor import BrainQuery, Reconstructor
from mindeye_pl.steps.brain.finetune_generator import FINETUNE_GENERATOR, trains_generator
from mindeye_pl.steps.brain.reconstruction_files import CAPTIONS, RECONSTRUCTIONS, SETTINGS
from mindeye_pl.steps.brain.reconstructor import candidates, reconstructor_of, sampling_of
from mindeye_pl.steps.brain.trained_model import checkpoint_identity, checkpoint_steps, trained_model
from mindeye_pl.steps.brain.trials import subject_data
from mindeye_pl.steps.inputs.captions import captions_identity, learns_captions, true_tokens
from mindeye_pl.steps.inputs.frozen_models import identity, load_model
from mindeye_pl.steps.inputs.simulate import data_inputs, data_steps, is_simulated
from mindeye_pl.store.artifacts import Artifact, ArtifactSpec
from mindeye_pl.store.atomic import write_text
from mindeye_pl.training.fit import silence_lightning

_IMAGE = "image-{:06d}.safetensors"


def _needs(run: Run) -> Sequence[Step]:
    generator = (FINETUNE_GENERATOR,) if trains_generator(run.config) else ()
    return (*data_steps(run), *checkpoint_steps(run), *generator)


def _spec(run: Run) -> ArtifactSpec:
    config = run.config
    if config.unclip is None:
        raise UserError("reconstruct needs an unCLIP", got="unclip=none", fix="unclip=laptop")
    sampling_of(config.unclip, config.seed)  # refuses what it does not know before anything is made
    optional = {"captioner": config.captioner, "refine": config.refine, "vae": config.low_level}
    by = identity(run, "embedder", "unclip", *(group for group, chosen in optional.items() if chosen is not None))
    for key in ("batch_size", "candidates"):  # the one changes nothing, the other is the default of what comes below
        by["unclip"].pop(key, None)
    by |= run.plain("seed", "reconstruct", "trainer.precision", "data.subject", "data.num_sessions", "data.betas")
    if candidates(config) == 1:  # as it was before there were several
        by["reconstruct"].pop("candidates", None)
    by |= run.plain("data.repetitions", "data.split", "data.test_split", "data.validation_fraction")
    if learns_captions(run):
        by |= captions_identity(run)  # of the ceiling
    label, own_by, own_inputs = checkpoint_identity(run)
    inputs = data_inputs(run, [config.data.subject], ("train", config.data.test_split)) | own_inputs
    if trains_generator(config):
        inputs["finetune_generator"] = run.spec(FINETUNE_GENERATOR).fingerprint
    return ArtifactSpec("reconstruct", f"{label}-{config.unclip.name}", by | own_by, inputs)


def _build(run: Run, folder: Path) -> None:
    config = run.config
    data = subject_data(run)
    brains = data.test_set(config.data.subject)
    ids = brains.stimulus_ids
    clip = true_tokens(run, ids.numpy())  # (n, S, D)
    left = [i for i, id_ in enumerate(ids.tolist()) if not (folder / _IMAGE.format(id_)).exists()]
    if left or follows():
        done = len(ids) - len(left)
        console.print(f"reconstructing {len(left)} images" + (f", {done} are done" if done else ""))
        with together(run, RECONSTRUCT, folder, left=left) as agreed:
            share = -(-len(agreed["left"]) // place()[1])
            queries = [
                BrainQuery(ids[part], brains.voxels[part], brains.weights[part], clip[part])
                for part in torch.tensor(agreed["left"]).split(min(config.unclip.batch_size, share))
            ]
            composite = trained_model(run, data.voxel_counts[config.data.subject])
            _predict(run, folder, reconstructor_of(run, composite), queries)
    _merge(folder, ids.tolist())
    if config.captioner is not None:
        words = load_file(str(folder / RECONSTRUCTIONS))["caption_words"]
        write_text(folder / CAPTIONS, json.dumps(load_model(run, "captioner").text(words), indent=1))
    plain = {"simulated": is_simulated(run), **run.plain("seed", "reconstruct"), **identity(run, "unclip")}
    write_text(folder / SETTINGS, json.dumps(plain, indent=1))


def _predict(run: Run, folder: Path, reconstructor: Reconstructor, queries: list[BrainQuery]) -> None:
    silence_lightning()
    rank, world_size = place()
    trainer: Trainer = instantiate(
        run.config.trainer,
        callbacks=[_ImageWriter(folder)],
        logger=False,
        default_root_dir=str(folder),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        _convert_="all",
        **trainer_options(run.config, started_here=started_here(), sharded=False),
    )
    # Items are whole batches. Each rank takes its own, or none where there are fewer images than ranks.
    reconstructor.allow_zero_length_dataloader_with_multiple_devices = True
    shard = queries[rank::world_size]
    loader: DataLoader[BrainQuery] = DataLoader(shard, batch_size=None)  # type: ignore[arg-type]
    trainer.predict(reconstructor, loader, return_predictions=False)


class _ImageWriter(Callback):
    """Writes each image with its intermediates into a file of its own, whole or not at all."""

    def __init__(self, folder: Path):
        self.folder = folder

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: BrainQuery,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes the batch's images."""
        for index, id_ in enumerate(outputs["stimulus_ids"].tolist()):
            path = self.folder / _IMAGE.format(id_)
            beside = path.with_name(f".{path.name}")
            save_file({name: _stored(rows[index]) for name, rows in outputs.items()}, str(beside))
            beside.replace(path)


def _stored(value: Tensor) -> Tensor:
    value = value.cpu().contiguous()
    return value.half() if value.is_floating_point() else value


def _merge(folder: Path, ids: list[int]) -> None:
    """One file of all images, ids ascending, in place of the many."""
    paths = [folder / _IMAGE.format(id_) for id_ in ids]
    images = [load_file(str(path)) for path in paths]
    save_file({name: torch.stack([p[name] for p in images]) for name in images[0]}, str(folder / RECONSTRUCTIONS))
    for path in paths:
        path.unlink()


def read_captions(artifact: Artifact) -> list[str] | None:
    """The caption of each image in the order of `stimulus_ids`, None where none were made."""
    path = artifact.folder / CAPTIONS
    return json.loads(path.read_text()) if path.exists() else None


def read_reconstructions(artifact: Artifact) -> dict[str, Tensor]:
    """`stimulus_ids` `(n,)`, `images` `(n, 3, H, W)` float16 in [0, 1], and the intermediates."""
    return load_file(str(artifact.folder / RECONSTRUCTIONS))


RECONSTRUCT = Step("reconstruct", _spec, _needs, _build)
