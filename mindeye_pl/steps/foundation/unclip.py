"""The unCLIP, trained around the laptop's CLIP and VAE, or from SDXL base as published (spec section 7.2).

Legend: S tokens, D token width, C latent channels, h and w latent size.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from mindeye_pl.data.image_sources import SizesAndCrops, Table
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Made, Work
from mindeye_pl.errors import UserError
from mindeye_pl.models.foundation import UnCLIPTraining
from mindeye_pl.nn.diffusion.builders import build_unclip
from mindeye_pl.nn.diffusion.regressed_tokens import RegressedTokens
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.schema.nodes.models import UnclipStart
from mindeye_pl.steps.foundation.images import embed_all, embed_tokens
from mindeye_pl.steps.foundation.laptop import (
    PRETRAIN_CLIP,
    PRETRAIN_VAE,
    clip_tokens,
    moments_of,
    moments_shape,
    vae_moments,
)
from mindeye_pl.steps.foundation.training import TRAINING_KEYS, TRAINING_RUNTIME, FoundationTraining, sizes_of
from mindeye_pl.steps.inputs.checkpoint_file import CheckpointFile
from mindeye_pl.steps.inputs.embeddings import Embeddings
from mindeye_pl.steps.inputs.frozen_models import Frozen
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.store.fingerprint import fingerprint_file
from mindeye_pl.weights.files import read_own, save_own
from mindeye_pl.weights.loaders import bundled, sdxl_surgery
from mindeye_pl.weights.registry import save_published

#: The node that names SDXL's file.
_NODE = "foundation.unclip"
#: The option that names the file of an earlier training.
_CHECKPOINT = f"{_NODE}.checkpoint"
#: Names of weights that the VAE's own file has.
_VAE = "vae."

#: SDXL's VAE halves an image three times, its UNet twice more.
_SDXL_MULTIPLE = 32
#: Images whose tokens have the principal components of `foundation.unclip.regressed`.
_NUM_COMPONENT_IMAGES = 8192


class Start:
    """Models that a training of the unCLIP begins with: random weights around the trained CLIP and VAE."""

    def inputs(self, config: DictConfig) -> dict[str, Input]:
        """Return the trained CLIP and VAE."""
        return {"clip": Made(PRETRAIN_CLIP), "vae": Made(PRETRAIN_VAE)}

    def tokens(self, inputs: Inputs) -> TokenStore:
        """Return the store of tokens of all images, rows `(S, D)`.

        It is made before the moments, so that one large model is in memory at a time.
        """
        return clip_tokens(inputs["clip"], inputs["images"], inputs["embeddings"])

    def moments(self, inputs: Inputs) -> TokenStore:
        """Return the store of the VAE's posterior of all images, rows `(2 C, h * w)`."""
        return vae_moments(inputs["vae"], inputs["images"], inputs["embeddings"])

    def network(
        self, inputs: Inputs, settings: Settings, num_tokens: int, token_dim: int
    ) -> tuple[UnCLIPModel, Callable[[Path], None]]:
        """Return the unCLIP that learns, of the configured sizes, and the function that writes it without the VAE."""
        vae, own = bundled.load_vae(inputs["vae"]), settings.foundation.unclip
        sizes = {**sizes_of(own), "token_dim": token_dim, "num_tokens": num_tokens}
        sizes |= {key: own[key] for key in ("packing", "token_positions")}
        torch.manual_seed(settings.seed)
        network = build_unclip(sizes, vae, vae.config["sample_size"])

        def write(path: Path) -> None:
            save_own(path, without_vae(network), sizes)

        return network, write

    def check(self, config: DictConfig) -> None:
        """Check settings that not every start takes."""


class TrainedUnCLIP(Start):
    """An unCLIP that an earlier training around the same CLIP and VAE wrote."""

    def inputs(self, config: DictConfig) -> dict[str, Input]:
        """Return the trained CLIP and VAE, and the file."""
        return {**super().inputs(config), "unclip": CheckpointFile(_CHECKPOINT)}

    def network(
        self, inputs: Inputs, settings: Settings, num_tokens: int, token_dim: int
    ) -> tuple[UnCLIPModel, Callable[[Path], None]]:
        """Return the unCLIP with the file's weights; a `UserError` names a file of other sizes."""
        weights, sizes = read_own(inputs["unclip"])
        network, write = super().network(inputs, settings, num_tokens, token_dim)
        expected = network.state_dict()
        got = {key: tuple(value.shape) for key, value in weights.items()}
        if got != {key: tuple(value.shape) for key, value in expected.items() if not key.startswith(_VAE)}:
            fix = f"foundation.unclip.sizes, packing and token_positions as in the file: {sizes}"
            raise UserError(f"{_CHECKPOINT} has other sizes than foundation.unclip", got=inputs["unclip"], fix=fix)
        network.load_state_dict(expected | weights)
        return network, write

    def check(self, config: DictConfig) -> None:
        """Check that a file is named."""
        if config.foundation.unclip.get("checkpoint") is None:
            expected, fix = "unclip.safetensors of an earlier training", f"{_CHECKPOINT}=FILE"
            raise UserError(f"{_NODE}.start=trained needs a file", got="null", expected=expected, fix=fix)


class SDXLBase(Start):
    """SDXL base, its conditioning replaced by tokens of the configured embedder."""

    def inputs(self, config: DictConfig) -> dict[str, Input]:
        """Return SDXL's file, and the embedder in the input range in which the unCLIP learns."""
        input_range = ("input_range", config.foundation.unclip.input_range)
        return {"embedder": Frozen("embedder", replaced=(input_range,)), "sdxl_base": Frozen(_NODE)}

    def tokens(self, inputs: Inputs) -> TokenStore:
        """Return the embedder's tokens."""
        return embed_tokens(inputs["embedder"], inputs["images"], inputs["embeddings"])

    def moments(self, inputs: Inputs) -> TokenStore:
        """Return the moments of SDXL's VAE."""
        path, images = _sdxl_file(inputs), inputs["images"]
        vae = sdxl_surgery.load_vae(path, image_size=images.image_size)
        build, by = partial(moments_of, vae), {"sdxl_base": fingerprint_file(path)}
        shape, title = moments_shape(vae), "with SDXL's VAE"
        return embed_all("sdxl_vae", images, inputs["embeddings"], shape, build, by=by, title=title)

    def network(
        self, inputs: Inputs, settings: Settings, num_tokens: int, token_dim: int
    ) -> tuple[UnCLIPModel, Callable[[Path], None]]:
        """Return SDXL's UNet for tokens; its file has the published format."""
        side, sizes = inputs["images"].image_size, sizes_of(settings.foundation.unclip)
        torch.manual_seed(settings.seed)
        network = sdxl_surgery.load_unclip_start(_sdxl_file(inputs), token_dim=token_dim, image_size=side, **sizes)
        return network, partial(save_published, "unclip", network)

    def check(self, config: DictConfig) -> None:
        """Check the condition's dropout and the side of the images."""
        drop, side = config.foundation.unclip.drop, config.foundation.images.image_size
        if drop:
            raise UserError(
                "SDXL's unCLIP has no learned tokens to stand for a dropped condition",
                got=f"foundation.unclip.drop={drop}",
                fix="foundation.unclip.drop=0",
            )
        if side % _SDXL_MULTIPLE:
            fix = f"foundation.images.image_size={max(side // _SDXL_MULTIPLE, 1) * _SDXL_MULTIPLE}"
            expected = f"a multiple of {_SDXL_MULTIPLE}"
            raise UserError("SDXL cannot halve such images often enough", got=side, expected=expected, fix=fix)


def _sdxl_file(inputs: Inputs) -> Path:
    path: Path
    (path,) = inputs["sdxl_base"].files.values()
    return path


STARTS: Mapping[UnclipStart, Start] = {"scratch": Start(), "trained": TrainedUnCLIP(), "sdxl_base": SDXLBase()}


class PretrainUnCLIP(FoundationTraining):
    """Trains the unCLIP."""

    name = "pretrain_unclip"
    title = "unCLIP"
    keys = (*TRAINING_KEYS, _NODE)
    runtime_keys = (*TRAINING_RUNTIME, f"{_NODE}.weights", _CHECKPOINT)  # the files' content is among the inputs

    def check(self, config: DictConfig) -> None:
        """Check that there are settings and that they fit the start."""
        super().check(config)
        regressed = config.foundation.unclip.get("regressed")
        if regressed and regressed.noise[0] > regressed.noise[1]:
            got, fix = list(regressed.noise), f"{_NODE}.regressed.noise={sorted(regressed.noise)}".replace(" ", "")
            raise UserError("noise of regressed tokens wants its least value first", got=got, fix=fix)
        STARTS[config.foundation.unclip.start].check(config)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the images and the models of the start."""
        start = STARTS.get(OmegaConf.select(config, f"{_NODE}.start"))
        models = {} if start is None else start.inputs(config)
        return {**super().inputs(config), **models, "embeddings": Embeddings()}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Train, and write the averaged weights."""
        from pytorch_lightning.callbacks import EMAWeightAveraging

        own, images = settings.foundation.unclip, inputs["images"]
        start = STARTS[own.start]
        tokens = start.tokens(inputs)
        moments = start.moments(inputs)
        tables: dict[str, Table] = {"tokens": tokens, "moments": moments, "size_and_crop": SizesAndCrops(images)}
        network, write = start.network(inputs, settings, *tokens.shape[1:])
        options = ("offset", "drop", "max_lr", "weight_decay", "warmup_steps", "checkpointing")
        regressed = regressed_as(own.regressed, first_rows(tokens)) if own.get("regressed") else None
        model = UnCLIPTraining(network, regressed=regressed, **{option: own[option] for option in options})
        average = [EMAWeightAveraging(decay=own.ema_decay)] if own.ema_decay else []
        save = partial(write, work.folder / bundled.UNCLIP)
        self.fit(model, tables, len(images), settings, work, callbacks=average, save=save)


PRETRAIN_UNCLIP = PretrainUnCLIP()


def regressed_as(node: DictConfig, rows: Tensor) -> RegressedTokens:
    """Return the replacement of tokens that a node `regressed` asks for; `rows` `(N, S, D)` have its components."""
    return RegressedTokens(rows, share=node.share, noise=tuple(node.noise), components=node.components)


def first_rows(store: TokenStore) -> Tensor:
    """Return the rows `(N, S, D)` that determine the components of replaced ones."""
    return torch.from_numpy(store[np.arange(min(_NUM_COMPONENT_IMAGES, len(store)))])


def without_vae(network: UnCLIPModel) -> dict[str, Tensor]:
    """Return an unCLIP's weights but for the VAE's, which have their own file."""
    return {key: value for key, value in network.state_dict().items() if not key.startswith(_VAE)}
