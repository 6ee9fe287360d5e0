"""The generator trained on images with captions, in the role that Lafite has for Mind Reader (spec section 5.4).

Legend: N images, C captions of an image at most, E width of an embedding.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.models.gan.objective import AdversarialObjective
from mindeye_pl.models.gan.training import AdversarialTraining
from mindeye_pl.nn.stylegan2.networks import build_discriminator, build_generator
from mindeye_pl.steps.foundation.images import (
    CAPTIONS,
    SCENES,
    Prepared,
    fit_foundation,
    foundation_spec,
    image_inputs,
    image_steps,
    images_of,
    tables_of,
    trains_on_scenes,
)
from mindeye_pl.steps.inputs.captions import embedded_captions, screening_rule
from mindeye_pl.steps.inputs.frozen_models import identity, load_model
from mindeye_pl.steps.inputs.targets import embed_tokens, filled_store
from mindeye_pl.store.artifacts import ArtifactSpec
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.store.fingerprint import fingerprint, fingerprint_file
from mindeye_pl.training.callbacks.image_grid import GeneratedGrid
from mindeye_pl.weights.loaders import bundled as laptop
from mindeye_pl.weights.sized_safetensors import save_own

#: The last grid of held-out images and what is made of their captions.
GRID = "generated.png"


def _captions_file(run: Run) -> Path | None:
    """The captions of images of the user's own; None where scenes are painted.

    Raises:
        UserError: if there are none.
    """
    if trains_on_scenes(run):
        return None
    given = run.config.foundation.generator.captions
    if given is None or not Path(given).is_file():
        fix, wanted = "foundation.generator.captions=FILE", "a json list over images of lists of sentences"
        raise UserError("pretrain_generator needs captions", got=given, expected=wanted, fix=fix)
    return Path(given)


def _captions(run: Run) -> list[list[str]]:
    """The captions of every image.

    Raises:
        UserError: if the images have none, or not as many.
    """
    if (path := _captions_file(run)) is None:
        return json.loads((run.make(SCENES).folder / CAPTIONS).read_text())
    captions = json.loads(path.read_text())
    if (count := len(images_of(run))) != len(captions):
        raise UserError(f"{path} is of other images", got=f"{len(captions)} entries", expected=f"{count}")
    return captions


def _spec(run: Run) -> ArtifactSpec:
    of = identity(run, "embedder", "text_embedder")
    inputs = {name: fingerprint(settings) for name, settings in of.items()}
    if (path := _captions_file(run)) is not None:
        inputs["captions"] = fingerprint_file(path)
    spec = foundation_spec(run, "generator", inputs)
    objective_of(run, "foundation.generator")  # refuses before anything is painted
    spec.determined_by["foundation.generator"].pop("captions", None)  # their content is among the inputs
    return spec


def objective_of(run: Run, node: str) -> AdversarialObjective:
    """The objective of a generator's node of the configuration.

    Raises:
        UserError: if it asks for what there is not.
    """
    plain = run.plain(f"{node}.objective")[f"{node}.objective"]
    return AdversarialObjective(**{key: value for key, value in plain.items() if key != "_target_"})


def network_sizes(run: Run, settings: Any) -> dict[str, Any]:
    """The arguments that build generator and discriminator."""
    width = run.config.embedder.token_dim
    return {
        **{str(key): value for key, value in settings.sizes.items()},
        "image_size": run.config.foundation.images.image_size,
        "condition": settings.condition,
        "image_dim": width,
        "caption_dim": width,
        "projection_reduction": settings.projection_reduction,
    }


def image_embeddings(run: Run) -> TokenStore:
    """The image embedding of every image, rows `(1, E)`."""
    config, images = run.config.embedder, images_of(run)
    by = identity(run, "embedder") | image_inputs(run)
    shape, what = (config.num_tokens, config.token_dim), f"with embedder={config.name}"
    ids = np.arange(len(images))
    return filled_store(run, config.name, images, ids, shape, partial(embed_tokens, run), by=by, what=what)


def caption_embeddings(run: Run, ids: np.ndarray) -> np.ndarray:
    """The embeddings of some images' captions, `(N, C, E)` float16, zeros where there are fewer or one is dropped.

    They are screened as those that a mapper learns, but by the clamped embeddings, which are what the generator sees.
    """
    all_captions, embedder = _captions(run), load_model(run, "text_embedder").to(run.device)
    captions = [all_captions[id_] for id_ in ids]
    rows = embedded_captions(run, embedder, captions, max(map(len, all_captions))).half().numpy()
    share, images = run.config.text_embedder.screening.share, image_embeddings(run)[ids][:, 0]
    rows[~screening_rule(run)(images, rows, logit_scale=embedder.logit_scale, share=share)] = 0
    return rows


def save_networks(path: Path, model: AdversarialTraining, sizes: dict[str, Any]) -> None:
    """The averaged generator and the discriminator as one file, in half precision."""
    parts = {"generator": model.averaged, "discriminator": model.discriminator}
    weights = {f"{part}.{key}": value for part, network in parts.items() for key, value in network.state_dict().items()}
    save_own(path, weights, sizes, half=True)


def _build(run: Run, folder: Path) -> None:
    settings = run.config.foundation.generator
    images = images_of(run)
    tables = {
        "images": Prepared(images),
        "image": image_embeddings(run),
        "captions": caption_embeddings(run, np.arange(len(images))),  # (N, C, E)
    }
    torch.manual_seed(run.config.seed)
    sizes = network_sizes(run, settings)
    model = AdversarialTraining(
        build_generator(sizes),
        build_discriminator(sizes),
        load_model(run, "embedder"),
        objective_of(run, "foundation.generator"),
    )
    data, save = tables_of(run, "generator", tables), partial(save_networks, folder / laptop.GENERATOR, model, sizes)
    grid = [GeneratedGrid(folder / GRID, run.tracking.image_log_of(PRETRAIN_GENERATOR))]
    fit_foundation(run, PRETRAIN_GENERATOR, folder, model, data, callbacks=grid, save=save)


PRETRAIN_GENERATOR = Step("pretrain_generator", _spec, image_steps, _build, on_all_ranks=True)
