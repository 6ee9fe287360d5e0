"""The configured unCLIP, distilled to a few steps without guidance; no brain is needed.

Legend: N images, S tokens, D token width, C latent channels, h and w latent size.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from mindeye_pl.data.image_sources import Images, Table
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Work
from mindeye_pl.errors import UserError
from mindeye_pl.models.distillation import Drafts, Teacher, UnCLIPDistillation
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.steps.foundation.images import embed_all, embed_tokens
from mindeye_pl.steps.foundation.laptop import moments_of
from mindeye_pl.steps.foundation.training import TRAINING_KEYS, TRAINING_RUNTIME, FoundationTraining
from mindeye_pl.steps.foundation.unclip import first_rows, regressed_as, without_vae
from mindeye_pl.steps.inputs.checkpoint_file import CheckpointFile
from mindeye_pl.steps.inputs.embeddings import EmbeddingCache, Embeddings
from mindeye_pl.steps.inputs.frozen_models import Frozen, FrozenModel
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.weights.files import read_own, save_own
from mindeye_pl.weights.loaders import bundled
from mindeye_pl.weights.registry import save_published

_MODEL = "unclip_student"
_NODE = f"foundation.{_MODEL}"
#: The option that names the file of an earlier distillation.
_CHECKPOINT = f"{_NODE}.checkpoint"
#: Settings of the group `unclip` that the teacher does not read: those of its sampler but for the guidance.
_SAMPLER = ("solver", "steps", "strength", "draft_range", "draft_posterior", "batch_size", "candidates")


class DistilUnCLIP(FoundationTraining):
    """Trains a student of the group `unclip` on the tokens of the group `embedder`."""

    name = "distil_unclip"
    title = "unCLIP of a few steps"
    keys = (*TRAINING_KEYS, _NODE)
    runtime_keys = (*TRAINING_RUNTIME, _CHECKPOINT)  # the file's content is among the inputs

    @property
    def model(self) -> str:
        """Name of the student's node in `foundation`."""
        return _MODEL

    def check(self, config: DictConfig) -> None:
        """Check that there are settings, and that the teacher is an unCLIP whose format can be written."""
        super().check(config)
        network = OmegaConf.select(config, "unclip.network") or {}
        if not (bundled.UNCLIP in _files(config) or network.get("kind") == "unclip"):
            got, expected = f"unclip={OmegaConf.select(config, 'unclip.name')}", "unclip=laptop or unclip=sdxl"
            raise UserError(f"{self.name} has no unCLIP to distil", got=got, expected=expected, fix=expected)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the images, the embedder in the input range in which unCLIPs learn, and the teacher."""
        embedder = Frozen("embedder", replaced=(("input_range", "corrected"),))
        models: dict[str, Input] = {"embedder": embedder, "unclip": Frozen("unclip", without=_SAMPLER)}
        if OmegaConf.select(config, _CHECKPOINT) is not None:
            models["student"] = CheckpointFile(_CHECKPOINT)
        return {**super().inputs(config), **models, "embeddings": Embeddings()}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Train, and write the student in the teacher's format."""
        from pytorch_lightning.callbacks import EMAWeightAveraging

        own, images, frozen = settings.foundation[_MODEL], inputs["images"], inputs["unclip"]
        tokens = embed_tokens(inputs["embedder"], images, inputs["embeddings"])
        tables: dict[str, Table] = {"tokens": tokens}
        started = frozen if own.checkpoint is None else replace(frozen, _arguments={"path": inputs["student"]})
        network, teacher = started.load(), frozen.load()
        _check_width(network, tokens, frozen)
        torch.manual_seed(settings.seed)  # principal components begin at random
        drafts = None
        if own.get("drafts") is not None:
            tables["moments"] = moments = _moments(network, frozen, images, inputs["embeddings"])
            regressed = own.drafts.regressed
            drafts = Drafts(own.drafts.share, own.drafts.strength, regressed_as(regressed, _latents(moments, network)))
        model = UnCLIPDistillation(
            network,
            Teacher(teacher, guidance=frozen.settings.guidance, steps=own.teacher_steps),
            steps=own.steps,
            offset=frozen.settings.offset,
            drafts=drafts,
            regressed=regressed_as(own.regressed, first_rows(tokens)) if own.get("regressed") else None,
            **{name: own[name] for name in ("max_lr", "weight_decay", "warmup_steps", "checkpointing")},
        )
        average = [EMAWeightAveraging(decay=own.ema_decay)] if own.ema_decay else []
        save = partial(_writer(network, frozen, own.checkpoint), work.folder / bundled.UNCLIP)
        self.fit(model, tables, len(images), settings, work, callbacks=average, save=save)


DISTIL_UNCLIP = DistilUnCLIP()


def _files(config: DictConfig) -> list[str]:
    return list(OmegaConf.select(config, "unclip.files") or ())


def _check_width(network: UnCLIPModel, tokens: TokenStore, frozen: FrozenModel) -> None:
    if network.token_dim != tokens.shape[-1]:
        expected = f"an embedder whose tokens are {network.token_dim} wide"
        raise UserError(f"unclip={frozen.name} reads other tokens", got=tokens.shape[-1], expected=expected)


def _moments(network: UnCLIPModel, frozen: FrozenModel, images: Images, cache: EmbeddingCache) -> TokenStore:
    """Return the store of the posterior of all images, rows `(2 C, h * w)`, by the unCLIP's VAE."""
    channels, height, width = network.latent_shape
    if network.image_size != (images.image_size, images.image_size):
        got, expected = images.image_size, network.image_size[0]
        raise UserError(
            f"drafts need images of the size of unclip={frozen.name}",
            got=got,
            expected=expected,
            fix=f"foundation.images.image_size={expected}, or {_NODE}.drafts=null",
        )
    shape, by, title = (2 * channels, height * width), {"unclip": frozen.identity["files"]}, "with the unCLIP's VAE"
    return embed_all("unclip_vae", images, cache, shape, partial(moments_of, network.vae), by=by, title=title)


def _latents(moments: TokenStore, network: UnCLIPModel) -> Tensor:
    """Return scaled latents `(N, C, h * w)` of the first images."""
    return first_rows(moments).chunk(2, dim=1)[0] * network.vae.config["scaling_factor"]


def _writer(network: UnCLIPModel, frozen: FrozenModel, checkpoint: str | None) -> Callable[[Path], None]:
    """Return the function that writes the student in the format of the file that it began with."""
    own = frozen.files.get(bundled.UNCLIP)
    if own is None:
        return partial(save_published, "unclip", network)
    _, sizes = read_own(own if checkpoint is None else Path(checkpoint))
    return lambda path: save_own(path, without_vae(network), sizes)
