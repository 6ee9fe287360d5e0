"""From voxels to images: a composite and an unCLIP run one after the other, a few test images at a time.

Legend: B images, R responses to each, V voxels, S tokens, D token width, H and W image size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.models.mindeye import BrainToTokens
from mindeye_pl.nn.diffusion.captioner import Captioner
from mindeye_pl.nn.diffusion.refiner import Refiner, blend
from mindeye_pl.nn.diffusion.seeds import stream_seed
from mindeye_pl.nn.diffusion.solvers import SOLVERS
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel, corrected_pixels
from mindeye_pl.nn.stylegan2.networks import ImageGenerator
from mindeye_pl.types import Fraction, NonNegativeFloat, OneOf, PositiveInt, PublishedOrCorrected

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

#: Streams of an image's seed below this are those that its unCLIP and its refiner draw from.
_CANDIDATES = 16


#: Latents of the blurry reconstruction that images start from.
DraftPosterior = Literal["mode", "sampled"]


@dataclass(frozen=True)
class Sampling:
    """How the unCLIP samples; a generator, which takes one step, looks at the seed alone.

    Attributes:
        solver: one of `nn.unclip_solvers.SOLVERS`.
        steps: of the solver.
        guidance: classifier-free; 1 for none.
        offset: amplitude of the offset noise in the start.
        seed: with the image's id it makes the seed of each image.
        strength: share of the steps that are taken from the blurry reconstruction, where there is one; 1 starts from
            noise alone, as MindEye2 does, and 0 leaves the blurry image as it is.
        draft_range: in which the VAE sees the blurry image, "published" | "corrected", see `UnCLIPModel.encode`.
        draft_posterior: which latents of it are taken: "mode", or "sampled", as MindEye1 does.
    """

    solver: Annotated[str, OneOf(SOLVERS)] = "dpm_multistep"
    steps: PositiveInt = 20
    guidance: NonNegativeFloat = 1.0
    offset: NonNegativeFloat = 0.0
    seed: int = 0
    strength: Fraction = 1.0
    draft_range: PublishedOrCorrected = "corrected"
    draft_posterior: DraftPosterior = "mode"


@dataclass(frozen=True)
class Refinement:
    """How the refiner is asked.

    Attributes:
        guidance: classifier-free.
        blend: share of the blurry image in the refined one; 0.25 in the published evaluation.
    """

    guidance: float = 5.0
    blend: float = 0.0


@dataclass
class BrainQuery:
    """Responses to some images.

    Attributes:
        stimulus_ids: `(B,)`, of the images.
        voxels: `(B, R, V)`.
        weights: `(B, R)` share of each response.
        tokens: `(B, S, D)` true target tokens, for the ceiling; None where they are unknown.
    """

    stimulus_ids: Tensor
    voxels: Tensor
    weights: Tensor
    tokens: Tensor | None = None

    def __len__(self) -> int:
        return len(self.stimulus_ids)

    def to(self, *args: Any, **kwargs: Any) -> "BrainQuery":
        """The query with every tensor moved as by `Tensor.to`."""
        parts = (self.stimulus_ids, self.voxels, self.weights, self.tokens)
        return BrainQuery(*(None if part is None else part.to(*args, **kwargs) for part in parts))  # type: ignore[arg-type]


class Reconstructor(LightningModule):
    """Prior tokens, images, and the images from true tokens, which are the ceiling.

    Every draw belongs to an image and follows from its seed, so that batches and devices change nothing.

    Args:
        composite: trained, in eval mode.
        prior_samples: of the diffusion prior, that are averaged; 1 as published.
        unclip: makes images of tokens, an unCLIP or a generator; None leaves them out.
        sampling: how; goes with `unclip`.
        candidates: images that are made for each one, of which the nearest to the brain's retrieval embedding is
            kept (MindEye1, spec section 8.6); 16 as published for MindEye1, 1 takes what comes.
        embedder: images to target tokens; more than one candidate needs it.
        vae: makes blurry images of the low-level branch's latents, where there is such a branch.
        captioner: makes words of tokens; None leaves them out.
        caption_length: word numbers of a caption.
        refiner: draws the image again, knowing its caption; None leaves it out.
        refinement: how.
    """

    def __init__(
        self,
        composite: BrainDecoder,
        *,
        prior_samples: int = 1,
        unclip: UnCLIPModel | ImageGenerator | None = None,
        sampling: Sampling | None = None,
        candidates: int = 1,
        embedder: nn.Module | None = None,
        vae: "AutoencoderKL | None" = None,
        captioner: Captioner | None = None,
        caption_length: int = 20,
        refiner: Refiner | None = None,
        refinement: Refinement | None = None,
    ):
        super().__init__()
        self.composite, self.prior_samples = composite, prior_samples
        self.unclip, self.sampling, self.vae = unclip, sampling, vae
        self.candidates, self.embedder = candidates, embedder
        self.captioner, self.caption_length = captioner, caption_length
        self.refiner, self.refinement = refiner, refinement or Refinement()

    def predict_step(self, query: BrainQuery, batch_index: int = 0) -> dict[str, Tensor]:
        """`stimulus_ids`, `retrieval`, `backbone_tokens`, `prior_tokens`, `images` and `images_from_true_tokens`.

        With a low-level branch also its `latents` and the `blurry_images` that they decode to, with a captioner the
        `caption_words` `(B, L)` of the prior tokens, with several candidates which `candidate` was kept and its
        `candidate_similarity` to the brain, `(B,)` each. Images are `(B, 3, H, W)` float32 in [0, 1]; the outputs of
        an image's responses are averaged before the prior, as published.
        """
        assert (self.unclip is None) == (self.sampling is None), "an unCLIP and how it samples go together"
        seed = 0 if self.sampling is None else self.sampling.seed
        seeds = [image_seed(seed, id_) for id_ in query.stimulus_ids.tolist()]
        outputs = self.composite.predict(query.voxels.flatten(0, 1))
        backbone, retrieval = (self._averaged(part, query) for part in (outputs.tokens, outputs.retrieval))
        made = {"stimulus_ids": query.stimulus_ids, "retrieval": retrieval, "backbone_tokens": backbone}
        if outputs.latents is not None and self.vae is not None:
            made["latents"] = latents = self._averaged(outputs.latents.float(), query)
            made["blurry_images"] = corrected_pixels(
                self.vae.decode(latents / self.vae.config["scaling_factor"]).sample
            )
        made |= self._best_candidate(made, seeds)
        if self.captioner is not None:
            made["caption_words"] = self.captioner(made["prior_tokens"], max_length=self.caption_length)
        if self.unclip is not None and self.sampling is not None:
            if query.tokens is not None:
                true = query.tokens.float()
                made["images_from_true_tokens"] = sample_images(self.unclip, true, self.sampling, seeds)
            if self.refiner is not None:
                made["refined_images"] = self._refined(made, seeds)
        return made

    def _best_candidate(self, made: dict[str, Tensor], seeds: Sequence[int]) -> dict[str, Tensor]:
        """`prior_tokens` and `images`; of several candidates, one after the other, those of the nearest.

        No more than two candidates are held at once, and the unCLIP makes as many images at once as without them.
        """
        best = self._candidate(made, seeds, 0)
        for index in range(1, 1 if self.unclip is None else self.candidates):
            other = self._candidate(made, seeds, index)
            nearer = other["candidate_similarity"] > best["candidate_similarity"]  # (B,)
            for name, rows in best.items():
                best[name] = torch.where(nearer.view(-1, *[1] * (rows.ndim - 1)), other[name], rows)
        return best

    def _candidate(self, made: dict[str, Tensor], seeds: Sequence[int], index: int) -> dict[str, Tensor]:
        """A draw of the prior and, where there is an unCLIP, its image; among several how near it is to the brain."""
        seeds = [candidate_seed(seed, index) for seed in seeds]
        drawn = {"prior_tokens": self._prior_tokens(made["backbone_tokens"], seeds)}
        if self.unclip is not None and self.sampling is not None:
            blurry = made.get("blurry_images")
            drawn["images"] = sample_images(self.unclip, drawn["prior_tokens"], self.sampling, seeds, blurry)
            if self.candidates > 1:
                drawn["candidate"] = torch.full_like(made["stimulus_ids"], index)
                drawn["candidate_similarity"] = self._similarity(drawn["images"], made["retrieval"])
        return drawn

    def _similarity(self, images: Tensor, retrieval: Tensor) -> Tensor:
        """Cosine `(B,)` of the target tokens of images and retrieval embeddings, all of an image's as one vector."""
        assert self.embedder is not None, "several candidates need an embedder"
        return F.cosine_similarity(self.embedder(images).float().flatten(1), retrieval.float().flatten(1))

    def _refined(self, made: dict[str, Tensor], seeds: Sequence[int]) -> Tensor:
        assert self.refiner is not None
        assert self.captioner is not None, "a refiner needs a captioner"
        assert self.captioner.text is not None, "and its words"
        captions = self.captioner.text(made["caption_words"])
        noise = self.refiner.noise(seeds)
        refined = self.refiner.refine(made["images"], captions, noise=noise, guidance=self.refinement.guidance)
        share = self.refinement.blend
        return blend(refined, made["blurry_images"], share) if share and "blurry_images" in made else refined

    @staticmethod
    def _averaged(outputs: Tensor, query: BrainQuery) -> Tensor:
        repeated = outputs.unflatten(0, query.weights.shape)  # (B, R, S, D)
        return torch.einsum("br,br...->b...", query.weights.to(repeated), repeated)

    def _prior_tokens(self, backbone: Tensor, seeds: Sequence[int]) -> Tensor:
        prior = self.composite.prior if isinstance(self.composite, BrainToTokens) else None
        if prior is None:
            return backbone
        sampled = prior.sample(backbone, noise=_draws(seeds, backbone), samples=self.prior_samples)
        return prior.renormalised(sampled)


def image_seed(seed: int, stimulus_id: int) -> int:
    """The seed of an image's draws."""
    return (seed * 1_000_003 + stimulus_id) % 2**31


def candidate_seed(seed: int, candidate: int) -> int:
    """The seed of a candidate's draws: the image's own for the first."""
    return seed if candidate == 0 else stream_seed(seed, _CANDIDATES + candidate)


def sample_images(
    unclip: UnCLIPModel | ImageGenerator,
    tokens: Tensor,
    sampling: Sampling,
    seeds: Sequence[int],
    blurry: Tensor | None = None,
) -> Tensor:
    """Tokens to images.

    Args:
        unclip: draws them.
        tokens: `(B, S, D)`.
        sampling: how; its `seed` is not looked at.
        seeds: B of them, one for each image.
        blurry: `(B, 3, h, w)` in [0, 1], from which `sampling.strength` below 1 starts; 0 returns it, of size (H, W).

    Returns:
        `(B, 3, H, W)` in [0, 1].
    """
    if isinstance(unclip, ImageGenerator):
        return unclip.draw(tokens, seeds)
    draft = None
    if blurry is not None and sampling.strength < 1:
        blurry = F.interpolate(blurry.float(), unclip.image_size, mode="bilinear").clamp(0, 1)
        if sampling.strength == 0:
            return blurry
        noise = unclip.posterior_noise(seeds) if sampling.draft_posterior == "sampled" else None
        draft = unclip.encode(blurry, draft_range=sampling.draft_range, noise=noise)
    latents = unclip.sample(
        tokens,
        noise=unclip.start(seeds, offset=sampling.offset),
        uncond_tokens=unclip.uncond_tokens(seeds, tokens.shape[1]),
        steps=sampling.steps,
        guidance=sampling.guidance,
        solver=sampling.solver,
        draft=draft,
        strength=sampling.strength,
    )
    return unclip.decode(latents)


def _draws(seeds: Sequence[int], like: Tensor) -> Iterator[Tensor]:
    """Standard-normal draws `(B, S, D)` without end, each image's from its own seed."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    while True:
        yield torch.stack([torch.randn(like.shape[1:], generator=generator) for generator in generators]).to(like)
