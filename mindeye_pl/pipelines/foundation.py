"""The laptop's foundation models, trained on simulated scenes or on the user's own pictures: CLIP, VAE, unCLIP.

Legend: N pictures, B batch, S tokens, D token width, C latent channels.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from mindeye_pl.artifacts import ArtifactSpec, fingerprint, write_text
from mindeye_pl.console import console
from mindeye_pl.data.caption_words import CONTEXT_LENGTH, vocabulary, word_numbers
from mindeye_pl.data.fingerprint import fingerprint_file
from mindeye_pl.data.picture_datamodule import PictureDataModule
from mindeye_pl.data.pictures import PictureFolder
from mindeye_pl.data.simulated import paint_scenes
from mindeye_pl.data.stimuli import Stimuli
from mindeye_pl.data.targets import TokenStore
from mindeye_pl.errors import UserError
from mindeye_pl.nn.clip_embedder import CLIPImageEmbedder
from mindeye_pl.nn.foundation_sizes import build_clip, build_unclip, build_vae
from mindeye_pl.pipelines.step import Run, Step
from mindeye_pl.pipelines.training import fit
from mindeye_pl.stages.foundation import CLIPTraining, Foundation, UnCLIPTraining, VAETraining
from mindeye_pl.weights import laptop
from mindeye_pl.weights.own import save_own

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


def pictures_of(run: Run) -> Stimuli | PictureFolder:
    """The pictures to train on, and those held out.

    Raises:
        UserError: if the folder or the file is missing.
    """
    settings = run.config.foundation.pictures
    if trains_on_scenes(run):
        return Stimuli(run.make(SCENES).folder / PICTURES)
    source = Path(settings.source)
    return Stimuli(source) if source.suffix in (".hdf5", ".h5") else PictureFolder(source, settings.image_size)


def picture_inputs(run: Run) -> dict[str, str]:
    """The fingerprint of the pictures to train on."""
    if trains_on_scenes(run):
        return {"pictures": run.spec(SCENES).fingerprint}
    pictures = pictures_of(run)
    if isinstance(pictures, Stimuli):
        return {"pictures": fingerprint_file(pictures.path)}
    return {"pictures": fingerprint({"files": [str(p) for p in pictures.paths], "count": len(pictures)})}


def held_out_ids(run: Run) -> np.ndarray:
    """The pictures that no training sees, `(n,)`: the last ones."""
    return np.arange(len(pictures_of(run)))[-run.config.foundation.pictures.num_validation :]


class _Prepared:
    """A table of pictures as a model wants them."""

    def __init__(self, pictures: Stimuli | PictureFolder, prepare: Callable[[Tensor], Tensor] | None = None):
        self._pictures, self._prepare = pictures, prepare

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        read = self._pictures.read(ids)
        return read if self._prepare is None else self._prepare(torch.from_numpy(read).float()).numpy()


# the three models


def _spec_of(name: str) -> Callable[[Run], ArtifactSpec]:
    def spec(run: Run) -> ArtifactSpec:
        by = run.plain(f"foundation.{name}", "foundation.pictures", "seed", "trainer.precision")
        inputs = picture_inputs(run)
        if name == "unclip":
            inputs |= {step.name: run.spec(step).fingerprint for step in (PRETRAIN_CLIP, PRETRAIN_VAE)}
        return ArtifactSpec(f"pretrain_{name}", f"{run.config.foundation.name}-seed{run.config.seed}", by, inputs)

    return spec


def fit_foundation(
    run: Run, step: Step, folder: Path, model: Foundation, data: PictureDataModule, callbacks: Sequence = ()
) -> None:
    """Trains one of the models on its tables of pictures."""
    settings = run.config.foundation[step.name.removeprefix("pretrain_")]
    tags = [
        f"scale={run.config.scale.name}",
        f"seed={run.config.seed}",
        *(["simulated"] if trains_on_scenes(run) else []),
    ]
    what = f"training the {run.config.foundation.name} {step.name.removeprefix('pretrain_')}"
    fit(run, step, folder, model, data, epochs=settings.epochs, what=what, tags=tags, more_callbacks=callbacks)


def tables_of(run: Run, name: str, tables: dict[str, Any]) -> PictureDataModule:
    """Batches of the rows that the tables have of each picture."""
    count = len(pictures_of(run))
    batch_size = run.config.foundation[name].batch_size
    return PictureDataModule(
        tables, count, batch_size, run.config.foundation.pictures.num_validation, seed=run.config.seed
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
    tables = {"pictures": _Prepared(pictures, embedder.preprocess), "words": words}
    model = CLIPTraining(network, max_lr=settings.max_lr, weight_decay=settings.weight_decay)
    fit_foundation(run, PRETRAIN_CLIP, folder, model, tables_of(run, "clip", tables))

    network.requires_grad_(False).eval()
    network.visual.output_tokens = True
    mean, std = _token_moments(embedder, pictures)
    weights = {**network.state_dict(), "standardise.mean": mean, "standardise.std": std}
    save_own(folder / laptop.CLIP, weights, sizes)


@torch.no_grad()
def _token_moments(embedder: CLIPImageEmbedder, pictures: Stimuli | PictureFolder) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each token's channels over some pictures, `(S, D)` each."""
    ids = np.arange(min(2048, len(pictures)))
    batches = [ids[i : i + _AT_ONCE] for i in range(0, len(ids), _AT_ONCE)]
    tokens = torch.cat([embedder(torch.from_numpy(pictures.read(batch)).float()) for batch in batches])
    return tokens.mean(0), tokens.std(0)


PRETRAIN_CLIP = Step("pretrain_clip", _spec_of("clip"), picture_steps, _build_clip)


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
    fit_foundation(run, PRETRAIN_VAE, folder, model, tables_of(run, "vae", {"pictures": _Prepared(pictures)}))

    network.eval()
    with torch.no_grad():
        held_out = torch.from_numpy(pictures.read(held_out_ids(run))).float()
        latents = torch.cat([network.encode(2 * part - 1).latent_dist.mode() for part in held_out.split(64)])
    sizes["scaling_factor"] = round(1 / float(latents.std()), 5)
    save_own(folder / laptop.VAE, network.state_dict(), sizes)


PRETRAIN_VAE = Step("pretrain_vae", _spec_of("vae"), picture_steps, _build_vae)


def _build_unclip(run: Run, folder: Path) -> None:
    from pytorch_lightning.callbacks import EMAWeightAveraging

    settings = run.config.foundation.unclip
    _, embedder = laptop.load_clip(run.make(PRETRAIN_CLIP).folder)
    vae = laptop.load_vae(run.make(PRETRAIN_VAE).folder)
    torch.manual_seed(run.config.seed)
    sizes = {
        **run.plain("foundation.unclip.sizes")["foundation.unclip.sizes"],
        "token_dim": embedder.token_dim,
        "num_tokens": embedder.num_tokens,
        "packing": settings.packing,
        "token_positions": settings.token_positions,
    }
    network = build_unclip(sizes, vae, vae.config["sample_size"])
    pictures = pictures_of(run)

    def moments(batch: np.ndarray) -> Tensor:
        with torch.no_grad():
            return vae.encode(2 * torch.from_numpy(batch).float() - 1).latent_dist.parameters.flatten(2)

    def tokens(batch: np.ndarray) -> Tensor:
        with torch.no_grad():
            return embedder(torch.from_numpy(batch).float())

    tables = {
        "moments": embedded(run, PRETRAIN_VAE, pictures, moments),
        "tokens": embedded(run, PRETRAIN_CLIP, pictures, tokens),
    }
    model = UnCLIPTraining(
        network,
        offset=settings.offset,
        drop=settings.drop,
        max_lr=settings.max_lr,
        checkpointing=settings.checkpointing,
    )
    average = EMAWeightAveraging(decay=settings.ema_decay)
    fit_foundation(run, PRETRAIN_UNCLIP, folder, model, tables_of(run, "unclip", tables), [average])
    kept = {key: value for key, value in network.state_dict().items() if not key.startswith("vae.")}
    save_own(folder / laptop.UNCLIP, kept, sizes)


def embedded(
    run: Run, step: Step, pictures: Stimuli | PictureFolder, embed: Callable[[np.ndarray], Tensor]
) -> TokenStore:
    """What a frozen model makes of every picture, once, on disk."""
    by = {step.name: run.spec(step).fingerprint, **picture_inputs(run)}
    folder = Path(run.config.paths.targets) / f"{step.name}-{fingerprint(by)[:12]}"
    rows, width = embed(pictures.read(np.arange(1))).shape[1:]
    store = TokenStore.create_or_open(folder, len(pictures), rows, width, description=by)
    ids = np.arange(len(pictures))
    if len(store.missing(ids)):
        console.print(f"embedding {len(pictures):,} pictures for {step.name}")
        store.fill(ids, embed, pictures.read, batch_size=_AT_ONCE)
    return store


PRETRAIN_UNCLIP = Step(
    "pretrain_unclip",
    _spec_of("unclip"),
    lambda run: (*picture_steps(run), PRETRAIN_CLIP, PRETRAIN_VAE),
    _build_unclip,
)
