"""The generator trained on images with captions, in the role that Lafite has for Mind Reader (spec section 5.4).

Legend: N images, n images asked for, C captions of an image at most, E embedding width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from mindeye_pl.data.image_sources import Table
from mindeye_pl.data.layout.stimuli import read_captions
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Made, Work
from mindeye_pl.errors import UserError
from mindeye_pl.models.gan.objective import AdversarialObjective
from mindeye_pl.models.gan.training import AdversarialTraining
from mindeye_pl.nn.stylegan2.networks import build_discriminator, build_generator
from mindeye_pl.steps.foundation.images import (
    SCENES,
    Prepared,
    TrainingImages,
    embed_tokens,
    scene_captions,
    trains_on_scenes,
)
from mindeye_pl.steps.foundation.training import TRAINING_KEYS, TRAINING_RUNTIME, FoundationTraining
from mindeye_pl.steps.inputs.captions import check_text_embedder, embedded_captions, screening_rule
from mindeye_pl.steps.inputs.embeddings import Embeddings
from mindeye_pl.steps.inputs.frozen_models import Frozen, FrozenModel
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.store.fingerprint import fingerprint_file
from mindeye_pl.training.callbacks.image_grid import GeneratedGrid
from mindeye_pl.weights.files import save_own
from mindeye_pl.weights.loaders import bundled

#: The last grid of held-out images and the images generated from their captions.
GRID = "generated.png"


@dataclass(frozen=True)
class TrainingCaptions(Input):
    """The captions of the images to train on; opened, N lists of sentences."""

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the scenes that have the captions; the images where both are the user's."""
        return {"scenes": Made(SCENES)} if trains_on_scenes(config) else {"images": TrainingImages()}

    def fingerprint(self, config: DictConfig) -> str | None:
        """Return the fingerprint of the user's file."""
        return None if trains_on_scenes(config) else fingerprint_file(_captions_file(config))

    def open(self, config: DictConfig, parts: Inputs) -> list[list[str]]:
        """Return the captions; those of another number of images are refused."""
        if "scenes" in parts:
            return scene_captions(parts["scenes"])
        return read_captions(_captions_file(config), len(parts["images"]))


def _captions_file(config: DictConfig) -> Path:
    given = config.foundation.generator.captions
    if given is None or not Path(given).is_file():
        fix, expected = "foundation.generator.captions=FILE", "a json list over images of lists of sentences"
        raise UserError("pretrain_generator needs captions", got=given, expected=expected, fix=fix)
    return Path(given)


class PretrainGenerator(FoundationTraining):
    """Trains generator and discriminator."""

    name = "pretrain_generator"
    title = "Generator from captions"
    keys = (*TRAINING_KEYS, "foundation.generator")
    runtime_keys = (*TRAINING_RUNTIME, "foundation.generator.captions")  # their content is among the inputs

    def check(self, config: DictConfig) -> None:
        """Check that there are settings, a text embedder and an objective."""
        super().check(config)
        check_text_embedder(config)
        screening_rule(config.text_embedder)
        generator_objective(config.foundation.generator.objective)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return images, captions and the models that embed them."""
        return {**super().inputs(config), **embedding_inputs()}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Train, and write both networks."""
        own, images, embedder = settings.foundation.generator, inputs["images"], inputs["embedder"]
        rows = embed_tokens(embedder, images, inputs["embeddings"])  # (N, 1, E)
        ids = np.arange(len(images))
        captions = caption_embeddings(inputs["captions"], ids, rows, inputs["text_embedder"])  # (N, C, E)
        tables: dict[str, Table] = {"images": Prepared(images), "image": rows, "captions": captions}
        torch.manual_seed(settings.seed)
        sizes = network_sizes(own, image_size=images.image_size, width=embedder.settings.token_dim)
        networks = build_generator(sizes), build_discriminator(sizes)
        model = AdversarialTraining(*networks, embedder.load(), generator_objective(own.objective))
        save = partial(save_networks, work.folder / bundled.GENERATOR, model, sizes)
        grid = [GeneratedGrid(work.folder / GRID, work.log.log_image if work.log.enabled else None)]
        self.fit(model, tables, len(images), settings, work, callbacks=grid, save=save)


PRETRAIN_GENERATOR = PretrainGenerator()


def embedding_inputs() -> dict[str, Input]:
    """Return the captions and the models that embed captions and images."""
    models = {group: Frozen(group) for group in ("embedder", "text_embedder")}
    return {"captions": TrainingCaptions(), **models, "embeddings": Embeddings()}


def generator_objective(node: DictConfig) -> AdversarialObjective:
    """Return the objective of a generator, from its node; an unknown choice is refused."""
    return AdversarialObjective(**{str(key): value for key, value in node.items() if key != "_target_"})


def network_sizes(node: DictConfig, *, image_size: int, width: int) -> dict[str, Any]:
    """Return the arguments that build generator and discriminator, from the generator's node; `width` is E."""
    return {
        **{str(key): value for key, value in node.sizes.items()},
        "image_size": image_size,
        "condition": node.condition,
        "image_dim": width,
        "caption_dim": width,
        "projection_reduction": node.projection_reduction,
    }


def caption_embeddings(
    captions: Sequence[Sequence[str]], ids: np.ndarray, image_rows: TokenStore, text_embedder: FrozenModel
) -> np.ndarray:
    """Return the embeddings of some images' captions, `(n, C, E)` float16, zeros where an image has fewer.

    They are screened as those that a mapper learns, but by the clamped embeddings, which are what the generator sees.

    Args:
        captions: of all N images.
        ids: `(n,)` of the images.
        image_rows: embeddings of all images, rows `(1, E)`.
        text_embedder: of the same CLIP.
    """
    settings, embedder = text_embedder.settings, text_embedder.load().to(text_embedder.device)
    embedded = embedded_captions(embedder, [captions[id_] for id_ in ids], max(map(len, captions)), settings)
    rows, images = embedded.half().numpy(), image_rows[ids][:, 0]
    stays = screening_rule(settings)(
        images, rows, logit_scale=embedder.logit_scale, share=settings.screening.share
    )  # (n, C)
    rows[~stays] = 0
    return rows


def save_networks(path: Path, model: AdversarialTraining, sizes: dict[str, Any]) -> None:
    """Write the averaged generator and the discriminator as one file, in half precision."""
    parts = {"generator": model.averaged, "discriminator": model.discriminator}
    weights = {f"{part}.{key}": value for part, network in parts.items() for key, value in network.state_dict().items()}
    save_own(path, weights, sizes, half=True)
