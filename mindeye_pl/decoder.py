"""From betas to images: a trained model with everything that it needs.

Legend: n images, R responses to each, V voxels, S tokens, D token width, m of a gallery, H and W image size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.engine.run import Run
from mindeye_pl.errors import UserError
from mindeye_pl.foreign_config import read_foreign_config
from mindeye_pl.metrics.retrieval import cosine_similarity
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.models.clock import Clock
from mindeye_pl.models.reconstructor import BrainQuery, Reconstructor
from mindeye_pl.sharing.folder import is_shared
from mindeye_pl.sharing.hub import fetch_folder
from mindeye_pl.steps.brain.finetune import FINETUNE, read_normalisation
from mindeye_pl.steps.brain.known_images import KnownImages
from mindeye_pl.steps.brain.reconstructor import Drawing, ImageModels, build_reconstructor
from mindeye_pl.store.atomic import replacing
from mindeye_pl.streaming import Stream, gallery_tokens
from mindeye_pl.training.build import build_model, voxel_counts
from mindeye_pl.training.checkpoints import WEIGHTS, load_weights, read_weights
from mindeye_pl.types import Averaging
from mindeye_pl.weights.deepspeed import is_deepspeed
from mindeye_pl.weights.registry import load_published_system


@dataclass(frozen=True)
class Retrieved:
    """The images of a gallery that are nearest to each response, the nearest first."""

    indices: Tensor  # (n, k) int64, indices in the gallery
    similarities: Tensor  # (n, k) cosine similarities


@dataclass(frozen=True)
class Reconstruction:
    """Reconstructions, tokens and captions from brain responses.

    Attributes:
        tokens: `(n, S, D)` prior tokens.
        retrieval: `(n, S, D)` retrieval embedding.
        images: `(n, 3, H, W)` in [0, 1]; None where the decoder has no unCLIP.
        blurry_images: the same of the low-level branch; None where there is none.
        refined_images: `(n, 3, H', W')` refined; None without a refiner.
        captions: n sentences; None where the decoder has no captioner.
        embed: images to target tokens, for a gallery of images.
    """

    tokens: Tensor
    retrieval: Tensor
    images: Tensor | None = None
    blurry_images: Tensor | None = None
    refined_images: Tensor | None = None
    captions: list[str] | None = None
    embed: Callable[[Tensor], Tensor] | None = None

    def retrieve(self, gallery: Tensor | np.ndarray, *, top_k: int = 5) -> Retrieved:
        """Return the images of a gallery that are nearest to each response.

        Args:
            gallery: images `(m, 3, H, W)` in [0, 1], or their target tokens `(m, S, D)`.
            top_k: places to return, at most m.

        Raises:
            UserError: for a gallery of another shape, or of images where the decoder has no embedder.
        """
        gallery = gallery_tokens(gallery, self.embed)
        if gallery.shape[1:] != self.retrieval.shape[1:] or not len(gallery):
            wanted = f"images (m, 3, H, W) or tokens (m, {', '.join(map(str, self.retrieval.shape[1:]))})"
            raise UserError("the gallery has another shape", got=tuple(gallery.shape), expected=wanted)
        similarity = cosine_similarity(query=self.retrieval, gallery=gallery)  # (n, m)
        similarities, indices = similarity.topk(min(top_k, len(gallery)), dim=1)
        return Retrieved(indices, similarities)

    def save(self, folder: str | Path) -> list[Path]:
        """Write the images as PNG files and return their paths.

        Raises:
            UserError: if the decoder has no unCLIP.
        """
        from torchvision.transforms.v2.functional import to_pil_image

        if self.images is None:
            raise UserError("there are no images to save", got="a decoder without unCLIP", fix="unclip=laptop")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{index:05d}.png" for index in range(len(self.images))]
        for path, image in zip(paths, self.images, strict=True):
            with replacing(path) as temporary:
                to_pil_image(image).save(temporary, format="PNG")
        return paths


@dataclass(frozen=True)
class Decoder:
    """A trained model of one subject with the models that make images of its tokens.

    Attributes:
        model: the trained model, in eval mode.
        reconstructor: the model with its image models.
        normalise: normalisation of the betas that the model was trained on.
        embed: images to target tokens, for galleries.
        averaging: of repetitions: the model's outputs for them, or their voxels before the model.
    """

    model: BrainDecoder
    reconstructor: Reconstructor
    normalise: Callable[[np.ndarray], np.ndarray] | None = None
    embed: Callable[[Tensor], Tensor] | None = None
    averaging: Averaging = "outputs"

    @property
    def num_voxels(self) -> int:
        """V of the subject that it was trained for."""
        return self.model.voxel_counts[0]

    @torch.inference_mode()
    def reconstruct(
        self, betas: Tensor | np.ndarray, *, batch_size: int = 16, first_index: int = 0, clock: Clock | None = None
    ) -> Reconstruction:
        """Reconstruct images; the same betas at the same index give the same image, whatever the batch size.

        Args:
            betas: `(n, V)`, one response to each image, or `(n, R, V)`, whose R outputs (or voxels, by `averaging`) are
                averaged as published; z-scored per scan session, as NSD's files are.
            batch_size: images made at once.
            first_index: index of the first row, where these betas continue others.
            clock: measures the parts.

        Raises:
            UserError: for betas of another shape, of other voxels, or that are not finite.
        """
        queries = self._normalised(betas)  # (n, R, V)
        if self.averaging == "voxels":
            queries = queries.mean(1, keepdim=True)  # (n, 1, V)
        parts = []
        for ids in torch.arange(len(queries)).split(batch_size):
            weights = torch.full((len(ids), queries.shape[1]), 1 / queries.shape[1])
            query = BrainQuery(ids + first_index, queries[ids], weights)
            query = self.model.transfer_batch_to_device(query, self.model.device, 0)
            made = self.reconstructor.reconstruct(query, clock or Clock(enabled=False))
            parts.append({name: rows.float().cpu() for name, rows in made.items()})
        made = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        images = {name: made.get(name) for name in ("images", "blurry_images", "refined_images")}
        captions = self._captions(made.get("caption_words"))
        return Reconstruction(made["prior_tokens"], made["retrieval"], **images, captions=captions, embed=self.embed)

    def _captions(self, words: Tensor | None) -> list[str] | None:
        captioner = self.reconstructor.captioner
        if words is None or captioner is None or captioner.text is None:
            return None
        return captioner.text(words.long())

    def stream(self, **options: Any) -> Stream:
        """Return a stream, which is called with the betas of one trial after the other; options as of `Stream`."""
        return Stream(self, **options)

    def check_betas(self, betas: Tensor | np.ndarray) -> np.ndarray:
        """Return a copy of the betas, float32; a `UserError` for another shape, other voxels, or not finite ones."""
        array = np.array(betas.detach().cpu() if isinstance(betas, Tensor) else betas, dtype=np.float32)
        if array.ndim not in (2, 3) or not array.size or array.shape[-1] != self.num_voxels:
            wanted = f"(n, {self.num_voxels}) or (n, repetitions, {self.num_voxels})"
            fix = f"betas[None], for one image of {self.num_voxels} voxels" if array.ndim == 1 else None
            raise UserError("the betas have another shape", got=array.shape, expected=wanted, fix=fix)
        finite = np.isfinite(array).reshape(len(array), -1).all(1)
        if not finite.all():
            row = int(np.argmin(finite))
            raise UserError("a beta is not finite", got=f"row {row}", expected="numbers", fix="leave that trial out")
        return array

    def _normalised(self, betas: Tensor | np.ndarray) -> Tensor:
        array = self.check_betas(betas)
        flat = array.reshape(-1, self.num_voxels)
        normalised = torch.from_numpy(self.normalise(flat) if self.normalise else flat)
        return normalised.view(len(array), -1, self.num_voxels)


def load(source: str | Path, *, images: bool = True, seed: int = 0, modules: Sequence[str] = ()) -> Decoder:
    """Load a decoder from a finished run, a fine-tuned artifact or a checkpoint.

    Args:
        source: the folder of a run (`outputs/runs/...`) or of an artifact (`outputs/artifacts/finetune/...`); or, for
            tokens without images, the folder of an export, `owner/name` of a hub repository, or a published checkpoint
            of MindEye2 (a file, or DeepSpeed's folder) or of MindEye1.
        images: False leaves the unCLIP out: tokens and retrieval alone, in less time and memory.
        seed: of the images.
        modules: names of your own modules that a run's configuration names. It may come from somebody else, and only
            parts of this package are called without being listed.

    Raises:
        UserError: if there is no finished model, a foundation model's file is missing, or the configuration names
            something that is not allowed.
    """
    path = Path(source)
    if path.is_file() or is_deepspeed(path):
        model: BrainDecoder = load_published_system(path)
        return Decoder(model, Reconstructor(model).eval(), averaging=model.published_averaging)
    if is_shared(path) or not path.exists():
        folder = fetch_folder(source)
        model = BrainDecoder.from_pretrained(folder)
        return Decoder(model, Reconstructor(model).eval(), normalise=read_normalisation(folder))
    run, folder = finished_run(path, modules)
    weights, config = read_weights(folder / WEIGHTS), run.config
    model = build_model(config, voxel_counts(config, weights))
    load_weights(model, weights, folder / WEIGHTS)
    drawing = Drawing()
    inputs = [
        part for name, part in drawing.parts(config).items() if images or name in ("embedder", "vae", "linear_blur")
    ]
    if missing := [line for part in inputs for line in part.missing(config)]:
        raise UserError(f"{path} lacks " + "; ".join(missing))
    models: ImageModels = run.open(drawing)
    if not images or config.get("unclip") is None:
        models = replace(models, unclip=None, generator=None, captioner=None, refiner=None)
    assert models.embedder is not None
    embedder = models.embedder.load()
    wanted = config.reconstruct
    samples, candidates = wanted.get("prior_samples", 1), wanted.candidates
    weight = wanted.neighbours.weight
    reconstructor = build_reconstructor(
        model.eval(), models, prior_samples=samples, candidates=candidates, seed=seed, neighbour_weight=weight
    )
    if weight:
        reconstructor.neighbours = run.open(KnownImages())

    @torch.inference_mode()
    def embed(gallery: Tensor) -> Tensor:
        return torch.cat([embedder(part) for part in gallery.split(64)])

    normalise, averaging = read_normalisation(folder), config.data.averaging
    return Decoder(model, reconstructor, normalise=normalise, embed=embed, averaging=averaging)


def finished_run(path: Path, modules: Sequence[str] = ()) -> tuple[Run, Path]:
    """Return the run of a folder, and the folder of its fine-tuned weights; its configuration may name `modules`."""
    if (path / WEIGHTS).is_file() and (path / FINETUNE.CONFIG).is_file():
        return Run(read_foreign_config(path / FINETUNE.CONFIG, modules)), path
    hydra = path / ".hydra" / "config.yaml"
    if not hydra.is_file():
        wanted = f"a run's folder, an artifact with {WEIGHTS} and {FINETUNE.CONFIG}, or a checkpoint"
        raise UserError("there is nothing to load", got=path, expected=wanted)
    run = Run(read_foreign_config(hydra, modules))
    if (artifact := run.find(FINETUNE)) is None:
        raise UserError("the run has no finished fine-tuning", got=path, fix="start the same command again")
    return run, artifact.folder
