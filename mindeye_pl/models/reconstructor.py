"""Voxels to images: a brain decoder and an image decoder run one after the other, a few test images at a time.

Legend: B images, R responses to each, V voxels, S tokens, D token width, H and W image size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.models.clock import Clock
from mindeye_pl.models.image_refiner import CaptionedImages, ImageRefiner
from mindeye_pl.models.neighbour_tokens import NeighbourTokens
from mindeye_pl.nn.brain.linear_blur import LinearBlur
from mindeye_pl.nn.diffusion.captioner import Captioner
from mindeye_pl.nn.diffusion.pixels import corrected_pixels
from mindeye_pl.nn.diffusion.seeds import image_seed, stream_seed
from mindeye_pl.nn.image_decoder import ImageDecoder

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

#: First stream of an image's seed for candidates; the image decoder and the refiner use lower streams.
_CANDIDATES = 16


@dataclass
class BrainQuery:
    """Responses to some images."""

    stimulus_ids: Tensor  # (B,)
    voxels: Tensor  # (B, R, V)
    weights: Tensor  # (B, R), of each response
    neighbours: Tensor | None = None  # (B, S, D), tokens of known images near the brain, where they are made before

    def __len__(self) -> int:
        return len(self.stimulus_ids)


class Reconstructor(LightningModule):
    """Prior tokens, and the images drawn from them.

    Every random draw belongs to one image and depends on its seed alone, not on the batch or the device. Image decoder,
    captioner and refiner are optional; None omits their outputs.

    Args:
        model: trained brain decoder, in eval mode.
        prior_samples: number of the prior's samples that are averaged; 1 as published.
        neighbour_weight: share of known images' tokens in those that are drawn, the rest is the prior's; 1 samples no
            prior.
        neighbours: makes the known images' tokens of a query that comes without.
        image_decoder: draws images from tokens.
        seed: with an image's stimulus id it gives the image's seed.
        candidates: images drawn per stimulus, of which the most similar to the brain's retrieval embedding is kept
            (MindEye1, spec section 8.6); 16 as published for MindEye1, 1 keeps the only one.
        embedder: images to target tokens; required for more than one candidate.
        vae: decodes the latents of the model's low-level part to blurry images.
        blur: makes blurry images of the voxels, in place of the low-level part.
        captioner: predicts captions from tokens.
        caption_length: token ids of a caption.
        refiner: refines images, given their captions; it needs a captioner.
    """

    def __init__(
        self,
        model: BrainDecoder,
        *,
        prior_samples: int = 1,
        neighbour_weight: float = 0.0,
        neighbours: NeighbourTokens | None = None,
        image_decoder: ImageDecoder | None = None,
        seed: int = 0,
        candidates: int = 1,
        embedder: nn.Module | None = None,
        vae: "AutoencoderKL | None" = None,
        blur: LinearBlur | None = None,
        captioner: Captioner | None = None,
        caption_length: int = 20,
        refiner: ImageRefiner | None = None,
    ):
        super().__init__()
        self.model, self.prior_samples, self.neighbour_weight = model, prior_samples, neighbour_weight
        self.neighbours = neighbours
        self.image_decoder, self.seed, self.vae, self.blur = image_decoder, seed, vae, blur
        self.candidates, self.embedder = candidates, embedder
        self.captioner, self.caption_length = captioner, caption_length
        self.refiner = refiner

    def predict_step(self, query: BrainQuery, batch_index: int = 0) -> dict[str, Tensor]:
        """Return the outputs of `reconstruct`."""
        return self.reconstruct(query, Clock(enabled=False))

    def reconstruct(self, query: BrainQuery, clock: Clock) -> dict[str, Tensor]:
        """Return `stimulus_ids`, `retrieval`, `backbone_tokens`, `prior_tokens`, which may be mixed, and `images`.

        A low-level part adds its `latents` and the `blurry_images` decoded from them, a linear map of the voxels
        `blurry_images` alone; a captioner adds `caption_words`
        `(B, L)` of the prior tokens; several candidates add the index of the kept `candidate` and its
        `candidate_similarity` to the brain, `(B,)` each; a refiner adds `refined_images`. Images are `(B, 3, H, W)`
        float32 in [0, 1]. The outputs of an image's responses are averaged before the prior, as published.
        """
        seeds = [image_seed(self.seed, id_) for id_ in query.stimulus_ids.tolist()]
        with clock("brain"):
            outputs = self.model.predict(query.voxels.flatten(0, 1))
            backbone, retrieval = (self._averaged(part, query) for part in (outputs.tokens, outputs.retrieval))
        made = {"stimulus_ids": query.stimulus_ids, "retrieval": retrieval, "backbone_tokens": backbone}
        if self.blur is not None:
            made["blurry_images"] = self.blur(self._averaged(query.voxels.flatten(0, 1), query))
        elif outputs.latents is not None and self.vae is not None:
            with clock("blurry image"):
                made["latents"] = latents = self._averaged(outputs.latents.float(), query)
                decoded = self.vae.decode(latents / self.vae.config["scaling_factor"]).sample
                made["blurry_images"] = corrected_pixels(decoded)
        near = query.neighbours
        if near is None and self.neighbour_weight:
            assert self.neighbours is not None, "neither the query nor the reconstructor has known images"
            near = self.neighbours(retrieval)
        made |= self._best_candidate(made, seeds, clock, near)
        if self.captioner is not None:
            with clock("caption"):
                made["caption_words"] = self.captioner(made["prior_tokens"], max_length=self.caption_length)
        if self.image_decoder is not None and self.refiner is not None:
            assert self.captioner is not None, "a refiner needs a captioner"
            assert self.captioner.text is not None, "and its words"
            captions = self.captioner.text(made["caption_words"])
            drawn = CaptionedImages(query.stimulus_ids, made["images"], captions, made.get("blurry_images"))
            with clock("refined image"):
                made["refined_images"] = self.refiner.refine(drawn)
        return made

    def _best_candidate(
        self, made: dict[str, Tensor], seeds: Sequence[int], clock: Clock, neighbours: Tensor | None
    ) -> dict[str, Tensor]:
        """Return `prior_tokens` and `images`, of several candidates those of the most similar.

        Candidates are drawn one after the other, so that at most two are in memory and the image decoder draws as many
        images at once as for one candidate.
        """
        best = self._candidate(made, seeds, 0, clock, neighbours)
        for index in range(1, 1 if self.image_decoder is None else self.candidates):
            other = self._candidate(made, seeds, index, clock, neighbours)
            nearer = other["candidate_similarity"] > best["candidate_similarity"]  # (B,)
            for name, rows in best.items():
                best[name] = torch.where(nearer.view(-1, *[1] * (rows.ndim - 1)), other[name], rows)
        return best

    def _candidate(
        self, made: dict[str, Tensor], seeds: Sequence[int], index: int, clock: Clock, neighbours: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return sampled tokens, the image drawn from them and, for several candidates, its similarity to the brain."""
        seeds = [candidate_seed(seed, index) for seed in seeds]
        with clock("prior"):
            tokens = self._tokens(made["backbone_tokens"], seeds, neighbours)
        drawn = {"prior_tokens": tokens}
        if self.image_decoder is not None:
            with clock("image"):
                drawn["images"] = self.image_decoder.draw(tokens, seeds, made.get("blurry_images"))
            if self.candidates > 1:
                drawn["candidate"] = torch.full_like(made["stimulus_ids"], index)
                drawn["candidate_similarity"] = self._similarity(drawn["images"], made["retrieval"])
        return drawn

    def _tokens(self, backbone: Tensor, seeds: Sequence[int], neighbours: Tensor | None) -> Tensor:
        """Return the tokens `(B, S, D)` that images are drawn from."""
        share, near = self.neighbour_weight, None if neighbours is None else neighbours.to(backbone)
        if share == 1 and near is not None:
            return near
        prior = self.model.sample_tokens(backbone, seeds, samples=self.prior_samples)
        return prior if near is None else (1 - share) * prior + share * near

    def _similarity(self, images: Tensor, retrieval: Tensor) -> Tensor:
        """Return the cosine similarity `(B,)` of the images' flattened target tokens and retrieval embeddings."""
        assert self.embedder is not None, "several candidates need an embedder"
        return F.cosine_similarity(self.embedder(images).float().flatten(1), retrieval.float().flatten(1))

    @staticmethod
    def _averaged(outputs: Tensor, query: BrainQuery) -> Tensor:
        repeated = outputs.unflatten(0, query.weights.shape)  # (B, R, ...)
        return torch.einsum("br,br...->b...", query.weights.to(repeated), repeated)


def candidate_seed(seed: int, candidate: int) -> int:
    """Return the seed of a candidate's draws; the first candidate has the image's own seed."""
    return seed if candidate == 0 else stream_seed(seed, _CANDIDATES + candidate)
