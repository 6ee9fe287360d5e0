"""The unCLIP, trained from scratch around the laptop's CLIP and VAE, or from SDXL base as published (spec section 7.2).

Legend: B batch, S tokens, D token width, C latent channels, h and w latent size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf

from mindeye_pl.data.image_sources import SizesAndCrops
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.models.foundation import UnCLIPTraining
from mindeye_pl.nn.diffusion.builders import build_unclip
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.schema.nodes.foundation import UnclipStart
from mindeye_pl.steps.foundation.clip import PRETRAIN_CLIP, clip_tokens
from mindeye_pl.steps.foundation.images import (
    fit_foundation,
    foundation_spec,
    image_inputs,
    image_steps,
    images_of,
    tables_of,
)
from mindeye_pl.steps.foundation.vae import PRETRAIN_VAE, moments_of, moments_shape, vae_moments
from mindeye_pl.steps.inputs.frozen_models import UNCLIP_START, identity, weight_files
from mindeye_pl.steps.inputs.targets import embed_tokens, filled_store
from mindeye_pl.store.artifacts import ArtifactSpec
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.store.fingerprint import fingerprint, fingerprint_file
from mindeye_pl.weights.loaders import bundled as laptop
from mindeye_pl.weights.loaders import sdxl_surgery
from mindeye_pl.weights.registry import save_published
from mindeye_pl.weights.sized_safetensors import save_own

#: An unCLIP, and what writes it to a file.
Written = tuple[UnCLIPModel, Callable[[Path], None]]

#: SDXL's VAE halves an image three times, its UNet twice more.
_SDXL_MULTIPLE = 32


@dataclass(frozen=True)
class Start:
    """What a training of the unCLIP begins with.

    Attributes:
        needs: the steps that come before it.
        inputs: fingerprints of what it is made from, by name, beside the images.
        tokens: of every image, rows `(S, D)`; made before the moments, so that one big model is held at a time.
        moments: of the VAE's posterior of every image, rows `(2 C, h * w)`.
        network: for S tokens of width D: the unCLIP that learns, and what writes it to a file afterwards.
    """

    needs: Callable[[Run], Sequence[Step]]
    inputs: Callable[[Run], dict[str, str]]
    tokens: Callable[[Run], TokenStore]
    moments: Callable[[Run], TokenStore]
    network: Callable[[Run, int, int], Written]


# from scratch


def _scratch_needs(run: Run) -> tuple[Step, ...]:
    return (*image_steps(run), PRETRAIN_CLIP, PRETRAIN_VAE)


def _scratch_inputs(run: Run) -> dict[str, str]:
    return {step.name: run.spec(step).fingerprint for step in (PRETRAIN_CLIP, PRETRAIN_VAE)}


def _scratch_network(run: Run, num_tokens: int, token_dim: int) -> Written:
    settings = run.config.foundation.unclip
    vae = laptop.load_vae(run.make(PRETRAIN_VAE).folder)
    sizes = {
        **run.plain("foundation.unclip.sizes")["foundation.unclip.sizes"],
        "token_dim": token_dim,
        "num_tokens": num_tokens,
        "packing": settings.packing,
        "token_positions": settings.token_positions,
    }
    torch.manual_seed(run.config.seed)
    network = build_unclip(sizes, vae, vae.config["sample_size"])

    def write(path: Path) -> None:
        kept = {key: value for key, value in network.state_dict().items() if not key.startswith("vae.")}
        save_own(path, kept, sizes)

    return network, write


# from SDXL base


def _sdxl_file(run: Run) -> Path:
    (path,) = weight_files(run, UNCLIP_START).values()
    assert path is not None, "missing files are reported before any step"
    return path


def _sdxl_inputs(run: Run) -> dict[str, str]:
    settings, side = run.config.foundation.unclip, run.config.foundation.images.image_size
    if settings.drop:
        raise UserError(
            "SDXL's unCLIP has no learned tokens to stand for a dropped condition",
            got=f"foundation.unclip.drop={settings.drop}",
            fix="foundation.unclip.drop=0",
        )
    if side % _SDXL_MULTIPLE:
        fix = f"foundation.images.image_size={max(side // _SDXL_MULTIPLE, 1) * _SDXL_MULTIPLE}"
        wanted = f"a multiple of {_SDXL_MULTIPLE}"
        raise UserError("SDXL cannot halve such images often enough", got=side, expected=wanted, fix=fix)
    embedder = identity(_in_its_range(run), "embedder")
    return {"embedder": fingerprint(embedder), "sdxl_base": fingerprint_file(_sdxl_file(run))}


def _in_its_range(run: Run) -> Run:
    """The run with the embedder's input range in which the unCLIP learns, whatever brains are decoded with."""
    if "input_range" not in run.config.embedder.network:
        return run
    network = {"input_range": run.config.foundation.unclip.input_range}
    return Run(OmegaConf.merge(run.config, {"embedder": {"network": network}}), run.overrides)  # type: ignore[arg-type]


def _sdxl_tokens(run: Run) -> TokenStore:
    run, images = _in_its_range(run), images_of(run)
    config, ids = run.config.embedder, np.arange(len(images))
    by = identity(run, "embedder") | image_inputs(run)
    shape, what = (config.num_tokens, config.token_dim), f"with embedder={config.name}"
    return filled_store(run, config.name, images, ids, shape, partial(embed_tokens, run), by=by, what=what)


def _sdxl_moments(run: Run) -> TokenStore:
    images, path = images_of(run), _sdxl_file(run)
    by = {"sdxl_base": fingerprint_file(path), **image_inputs(run)}
    vae = sdxl_surgery.load_vae(path, image_size=run.config.foundation.images.image_size)
    shape, build = moments_shape(vae), partial(moments_of, vae)
    what = "with SDXL's VAE"
    return filled_store(run, "sdxl_vae", images, np.arange(len(images)), shape, build, by=by, what=what)


def _sdxl_network(run: Run, num_tokens: int, token_dim: int) -> Written:
    sizes, side = run.config.foundation.unclip.sizes, run.config.foundation.images.image_size
    torch.manual_seed(run.config.seed)
    network = sdxl_surgery.load_unclip_start(_sdxl_file(run), token_dim=token_dim, image_size=side, **sizes)
    return network, partial(save_published, "unclip", network)


STARTS: dict[UnclipStart, Start] = {
    "scratch": Start(_scratch_needs, _scratch_inputs, clip_tokens, vae_moments, _scratch_network),
    "sdxl_base": Start(image_steps, _sdxl_inputs, _sdxl_tokens, _sdxl_moments, _sdxl_network),
}


# either way


def _start(run: Run) -> Start:
    return STARTS[run.config.foundation.unclip.start]


def _spec(run: Run) -> ArtifactSpec:
    return foundation_spec(run, "unclip", _start(run).inputs(run))


def _build(run: Run, folder: Path) -> None:
    from pytorch_lightning.callbacks import EMAWeightAveraging

    settings, start = run.config.foundation.unclip, _start(run)
    tokens = start.tokens(run)
    tables = {
        "tokens": tokens,
        "moments": start.moments(run),
        "size_and_crop": SizesAndCrops(images_of(run)),
    }
    network, write = start.network(run, *tokens.shape[1:])
    model = UnCLIPTraining(
        network,
        offset=settings.offset,
        drop=settings.drop,
        max_lr=settings.max_lr,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup_steps,
        checkpointing=settings.checkpointing,
    )
    average = [EMAWeightAveraging(decay=settings.ema_decay)] if settings.ema_decay else []
    data, save = tables_of(run, "unclip", tables), partial(write, folder / laptop.UNCLIP)
    fit_foundation(run, PRETRAIN_UNCLIP, folder, model, data, callbacks=average, save=save)


PRETRAIN_UNCLIP = Step("pretrain_unclip", _spec, lambda run: _start(run).needs(run), _build)
