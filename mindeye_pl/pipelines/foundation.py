"""The pictures that foundation models learn from, simulated scenes or the user's own, and the laptop's CLIP and VAE.

Legend: N pictures, B batch, S tokens, D token width, C latent channels.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule
from torch import Tensor

from mindeye_pl.artifacts import ArtifactSpec, write_text
from mindeye_pl.data.caption_words import CONTEXT_LENGTH, vocabulary, word_numbers
from mindeye_pl.data.picture_datamodule import PictureDataModule
from mindeye_pl.data.pictures import PictureFile, PictureFolder, Pictures
from mindeye_pl.data.simulated import paint_scenes
from mindeye_pl.data.targets import TokenStore
from mindeye_pl.errors import UserError
from mindeye_pl.nn.clip_embedder import CLIPImageEmbedder
from mindeye_pl.nn.foundation_sizes import build_clip, build_vae
from mindeye_pl.pipelines.step import Run, Step
from mindeye_pl.pipelines.strategies import determined_by_trainer
from mindeye_pl.pipelines.targets import filled_store
from mindeye_pl.pipelines.training import fit
from mindeye_pl.stages.foundation import CLIPTraining, VAETraining
from mindeye_pl.weights import laptop
from mindeye_pl.weights.own import save_own

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

PICTURES, CAPTIONS = "pictures.hdf5", "captions.json"

_AT_ONCE = 256


# pictures


def _scenes_spec(run: Run) -> ArtifactSpec:
    pictures = run.config.foundation.pictures
    return ArtifactSpec("scenes", f"{pictures.count}-seed{pictures.seed}", run.plain("foundation.pictures"))


def _build_scenes(run: Run, folder: Path) -> None:
    settings = run.config.foundation.pictures
    described: list[list[str]] = []
    shape = (settings.count, 3, settings.image_size, settings.image_size)
    with h5py.File(folder / PICTURES, "w") as file:
        images = file.create_dataset("images", shape, np.float16)
        for start, pictures, words in paint_scenes(settings.seed, settings.count, settings.image_size):
            images[start : start + len(pictures)] = pictures
            described += words
    write_text(folder / CAPTIONS, json.dumps(described))


SCENES = Step("scenes", _scenes_spec, lambda run: (), _build_scenes)


def trains_on_scenes(run: Run) -> bool:
    """Whether the pictures are simulated ones."""
    return run.config.foundation.pictures.source == "simulated"


def picture_steps(run: Run) -> tuple[Step, ...]:
    """The step that paints the pictures, where they are simulated."""
    return (SCENES,) if trains_on_scenes(run) else ()


def pictures_of(run: Run) -> Pictures:
    """The pictures to train on, and those held out.

    Raises:
        UserError: if the folder or the file is missing, or holds no more than those held out.
    """
    settings = run.config.foundation.pictures
    if trains_on_scenes(run):
        return PictureFile(run.make(SCENES).folder / PICTURES, settings.image_size)
    source = Path(settings.source)
    kind = PictureFile if source.suffix in (".hdf5", ".h5") else PictureFolder
    pictures: Pictures = kind(source, settings.image_size)
    if len(pictures) <= settings.num_validation:
        wanted = f"more than the {settings.num_validation} that are held out"
        mend = f"foundation.pictures.num_validation={len(pictures) // 10}, or more pictures"
        raise UserError(f"{source} holds too few pictures", seen=len(pictures), wanted=wanted, mend=mend)
    return pictures


def picture_inputs(run: Run) -> dict[str, str]:
    """The fingerprint of the pictures to train on."""
    return {"pictures": run.spec(SCENES).fingerprint if trains_on_scenes(run) else pictures_of(run).fingerprint()}


def held_out_ids(run: Run) -> np.ndarray:
    """The pictures that no training sees, `(n,)`: the last ones."""
    return np.arange(len(pictures_of(run)))[-run.config.foundation.pictures.num_validation :]


class Prepared:
    """A table of pictures as a model wants them."""

    def __init__(self, pictures: Pictures, prepare: Callable[[Tensor], Tensor] | None = None):
        self._pictures, self._prepare = pictures, prepare

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        read = self._pictures.read(ids)
        return read if self._prepare is None else self._prepare(torch.from_numpy(read).float()).numpy()


# CLIP and VAE


def foundation_spec(run: Run, name: str, inputs: Mapping[str, str] | None = None) -> ArtifactSpec:
    """What determines one of the models.

    Args:
        run: whose configuration it is.
        name: of its node of `foundation`.
        inputs: fingerprints of what it is made from, beside the pictures.

    Raises:
        UserError: if the configured foundation has no such model.
    """
    foundation = run.config.foundation
    if name not in foundation:
        seen = f"foundation={foundation.name}"
        mend = "foundation=laptop, or pipeline=pretrain_unclip"
        raise UserError(f"pretrain_{name} has no settings", seen=seen, wanted=f"a foundation with {name}", mend=mend)
    by = run.plain(f"foundation.{name}", "foundation.pictures", "seed", "trainer.precision")
    by |= determined_by_trainer(run.config)
    by[f"foundation.{name}"].pop("weights", None)  # their content is among the inputs
    if not trains_on_scenes(run):  # where pictures lie, and what scenes would be painted, changes nothing
        by["foundation.pictures"] = {key: foundation.pictures[key] for key in ("image_size", "num_validation")}
    label = f"{foundation.name}-seed{run.config.seed}"
    return ArtifactSpec(f"pretrain_{name}", label, by, picture_inputs(run) | dict(inputs or {}))


def fit_foundation(
    run: Run,
    step: Step,
    folder: Path,
    model: LightningModule,
    data: PictureDataModule,
    *,
    callbacks: Sequence[Callback] = (),
    save: Callable[[], None] | None = None,
) -> None:
    """Trains one of the models on its tables of pictures; see `fit`."""
    settings = run.config.foundation[step.name.removeprefix("pretrain_")]
    what = f"training the {run.config.foundation.name} {step.name.removeprefix('pretrain_')}"
    more: dict[str, Any] = {"more_callbacks": callbacks, "save": save}
    fit(run, step, folder, model, data, epochs=settings.epochs, what=what, **more)


def tables_of(run: Run, name: str, tables: dict[str, Any]) -> PictureDataModule:
    """Batches of the rows that the tables have of each picture."""
    settings, num_validation = run.config.foundation[name], run.config.foundation.pictures.num_validation
    return PictureDataModule(
        tables,
        len(pictures_of(run)),
        settings.batch_size,
        num_validation,
        seed=run.config.seed,
        steps_per_epoch=settings.get("steps_per_epoch"),
    )


def _build_clip(run: Run, folder: Path) -> None:
    if not trains_on_scenes(run):
        raise UserError("pretrain_clip needs captions", seen=run.config.foundation.pictures.source, wanted="simulated")
    torch.manual_seed(run.config.seed)
    settings = run.config.foundation.clip
    sizes = {
        **run.plain("foundation.clip.sizes")["foundation.clip.sizes"],
        "picture_size": run.config.foundation.pictures.image_size,
        "vocabulary_size": len(vocabulary()),
        "context_length": CONTEXT_LENGTH,
    }
    network = build_clip(**sizes)
    pictures = pictures_of(run)
    texts = json.loads((run.make(SCENES).folder / CAPTIONS).read_text())
    words = word_numbers([full for full, _ in texts]).numpy()  # (N, L)
    embedder = CLIPImageEmbedder(network.visual, input_range="corrected")
    network.requires_grad_(True).train()
    network.visual.output_tokens = False  # open_clip's own forward wants the pooled embedding alone
    tables = {"pictures": Prepared(pictures, embedder.preprocess), "words": words}
    model = CLIPTraining(network, max_lr=settings.max_lr, weight_decay=settings.weight_decay)
    fit_foundation(run, PRETRAIN_CLIP, folder, model, tables_of(run, "clip", tables))

    network.requires_grad_(False).eval()
    network.visual.output_tokens = True
    mean, std = _token_moments(embedder, pictures)
    weights = {**network.state_dict(), "standardise.mean": mean, "standardise.std": std}
    save_own(folder / laptop.CLIP, weights, sizes)


@torch.no_grad()
def _token_moments(embedder: CLIPImageEmbedder, pictures: Pictures) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each token's channels over some pictures, `(S, D)` each."""
    ids = np.arange(min(2048, len(pictures)))
    batches = [ids[i : i + _AT_ONCE] for i in range(0, len(ids), _AT_ONCE)]
    tokens = torch.cat([embedder(torch.from_numpy(pictures.read(batch)).float()) for batch in batches])
    return tokens.mean(0), tokens.std(0)


PRETRAIN_CLIP = Step("pretrain_clip", lambda run: foundation_spec(run, "clip"), picture_steps, _build_clip)


def clip_tokens(run: Run) -> TokenStore:
    """The tokens that the trained CLIP makes of every picture."""
    embedder = laptop.load_embedder(run.make(PRETRAIN_CLIP).folder)
    return _embedded(run, PRETRAIN_CLIP, (embedder.num_tokens, embedder.token_dim), embedder.to)


def _build_vae(run: Run, folder: Path) -> None:
    torch.manual_seed(run.config.seed)
    settings = run.config.foundation.vae
    sizes = {
        **run.plain("foundation.vae.sizes")["foundation.vae.sizes"],
        "picture_size": run.config.foundation.pictures.image_size,
    }
    network = build_vae(**sizes)
    pictures = pictures_of(run)
    model = VAETraining(network, max_lr=settings.max_lr, kl_scale=settings.kl_scale)
    fit_foundation(run, PRETRAIN_VAE, folder, model, tables_of(run, "vae", {"pictures": Prepared(pictures)}))

    network.eval()
    with torch.no_grad():
        held_out = torch.from_numpy(pictures.read(held_out_ids(run))).float()
        latents = torch.cat([network.encode(2 * part - 1).latent_dist.mode() for part in held_out.split(64)])
    sizes["scaling_factor"] = round(1 / float(latents.std()), 5)
    save_own(folder / laptop.VAE, network.state_dict(), sizes)


PRETRAIN_VAE = Step("pretrain_vae", lambda run: foundation_spec(run, "vae"), picture_steps, _build_vae)


def vae_moments(run: Run) -> TokenStore:
    """The posterior that the trained VAE has of every picture, rows `(2 C, h * w)`."""
    vae = laptop.load_vae(run.make(PRETRAIN_VAE).folder)
    return _embedded(run, PRETRAIN_VAE, moments_shape(vae), partial(moments_of, vae))


def moments_shape(vae: "AutoencoderKL") -> tuple[int, int]:
    """Of one row of moments: (2 C, h * w), for squares of the VAE's own size."""
    side = vae.config["sample_size"] // 2 ** (len(vae.config["block_out_channels"]) - 1)
    return 2 * vae.config["latent_channels"], side**2


def moments_of(vae: "AutoencoderKL", device: torch.device) -> Callable[[Tensor], Tensor]:
    """From pictures `(B, 3, H, W)` in [0, 1] to the moments of their posterior, in float32: half overflows."""
    vae.to(device)  # type: ignore[arg-type]  # the library's decorator hides its arguments
    return lambda pictures: vae.encode(2 * pictures - 1).latent_dist.parameters.flatten(2)


def _embedded(
    run: Run, step: Step, shape: tuple[int, int], build: Callable[[torch.device], Callable[[Tensor], Tensor]]
) -> TokenStore:
    """What the model of a step makes of every picture, once, on disk."""
    pictures, by = pictures_of(run), {step.name: run.spec(step).fingerprint, **picture_inputs(run)}
    ids, what = np.arange(len(pictures)), f"for {step.name}"
    return filled_store(run, step.name, pictures, ids, shape, build, by=by, what=what)
