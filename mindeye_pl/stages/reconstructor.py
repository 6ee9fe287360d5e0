"""From voxels to pictures: a composite and an unCLIP run one after the other, a few test pictures at a time.

Legend: B pictures, R responses to each, V voxels, S tokens, D token width, H and W picture size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from torch import Tensor

from mindeye_pl.nn.captioner import Captioner
from mindeye_pl.nn.refiner import Refiner, blend
from mindeye_pl.nn.unclip import UnCLIPModel, corrected_pixels
from mindeye_pl.stages.brain_to_tokens import BrainToTokens
from mindeye_pl.stages.composite import Composite

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL


@dataclass(frozen=True)
class Sampling:
    """How the unCLIP samples.

    Attributes:
        solver: one of `nn.unclip_solvers.SOLVERS`.
        steps: of the solver.
        guidance: classifier-free; 1 for none.
        offset: amplitude of the offset noise in the start.
        seed: with the picture's id it makes the seed of each picture.
        strength: share of the steps that are taken from the blurry reconstruction, where there is one; 1 starts from
            noise alone, as MindEye2 does.
    """

    solver: str
    steps: int
    guidance: float
    offset: float
    seed: int
    strength: float = 1.0


@dataclass(frozen=True)
class Refinement:
    """How the refiner is asked.

    Attributes:
        guidance: classifier-free.
        blend: share of the blurry picture in the refined one; 0.25 in the published evaluation.
    """

    guidance: float = 5.0
    blend: float = 0.0


@dataclass
class BrainQuery:
    """Responses to some pictures.

    Attributes:
        stimulus_ids: `(B,)`, of the pictures.
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
    """Prior tokens, pictures, and the pictures from true tokens, which are the ceiling.

    Every draw belongs to a picture and follows from its seed, so that batches and devices change nothing.

    Args:
        composite: trained, in eval mode.
        prior_samples: of the diffusion prior, that are averaged; 1 as published.
        unclip: makes pictures of tokens; None leaves them out.
        sampling: how; goes with `unclip`.
        vae: makes blurry pictures of the low-level branch's latents, where there is such a branch.
        captioner: makes words of tokens; None leaves them out.
        caption_length: word numbers of a caption.
        refiner: draws the picture again, knowing its caption; None leaves it out.
        refinement: how.
    """

    def __init__(
        self,
        composite: Composite,
        *,
        prior_samples: int = 1,
        unclip: UnCLIPModel | None = None,
        sampling: Sampling | None = None,
        vae: "AutoencoderKL | None" = None,
        captioner: Captioner | None = None,
        caption_length: int = 20,
        refiner: Refiner | None = None,
        refinement: Refinement | None = None,
    ):
        super().__init__()
        self.composite, self.prior_samples = composite, prior_samples
        self.unclip, self.sampling, self.vae = unclip, sampling, vae
        self.captioner, self.caption_length = captioner, caption_length
        self.refiner, self.refinement = refiner, refinement or Refinement()

    def predict_step(self, query: BrainQuery, batch_index: int = 0) -> dict[str, Tensor]:
        """`stimulus_ids`, `retrieval`, `backbone_tokens`, `prior_tokens`, `images` and `images_from_true_tokens`.

        With a low-level branch also its `latents` and the `blurry_images` that they decode to, with a captioner the
        `caption_words` `(B, L)` of the prior tokens. Pictures are
        `(B, 3, H, W)` float32 in [0, 1]; the outputs of a picture's responses are averaged before the prior, as
        published.
        """
        assert (self.unclip is None) == (self.sampling is None), "an unCLIP and how it samples go together"
        seed = 0 if self.sampling is None else self.sampling.seed
        seeds = [picture_seed(seed, id_) for id_ in query.stimulus_ids.tolist()]
        outputs = self.composite.predict(query.voxels.flatten(0, 1))
        backbone, retrieval = (self._averaged(part, query) for part in (outputs.tokens, outputs.retrieval))
        prior = self._prior_tokens(backbone, seeds)
        made = {
            "stimulus_ids": query.stimulus_ids,
            "retrieval": retrieval,
            "backbone_tokens": backbone,
            "prior_tokens": prior,
        }
        if outputs.latents is not None and self.vae is not None:
            made["latents"] = latents = self._averaged(outputs.latents.float(), query)
            made["blurry_images"] = corrected_pixels(
                self.vae.decode(latents / self.vae.config["scaling_factor"]).sample
            )
        if self.captioner is not None:
            made["caption_words"] = self.captioner(prior, max_length=self.caption_length)
        if self.unclip is not None and self.sampling is not None:
            made["images"] = sample_pictures(self.unclip, prior, self.sampling, seeds, made.get("blurry_images"))
            if query.tokens is not None:
                true = query.tokens.float()
                made["images_from_true_tokens"] = sample_pictures(self.unclip, true, self.sampling, seeds)
            if self.refiner is not None:
                made["refined_images"] = self._refined(made, seeds)
        return made

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


def picture_seed(seed: int, stimulus_id: int) -> int:
    """The seed of a picture's draws."""
    return (seed * 1_000_003 + stimulus_id) % 2**31


def sample_pictures(
    unclip: UnCLIPModel, tokens: Tensor, sampling: Sampling, seeds: Sequence[int], blurry: Tensor | None = None
) -> Tensor:
    """Tokens to pictures.

    Args:
        unclip: draws them.
        tokens: `(B, S, D)`.
        sampling: how; its `seed` is not looked at.
        seeds: B of them, one for each picture.
        blurry: `(B, 3, h, w)` in [0, 1], from which `sampling.strength` below 1 starts.

    Returns:
        `(B, 3, H, W)` in [0, 1].
    """
    draft = None
    if blurry is not None and sampling.strength < 1:
        draft = unclip.encode(F.interpolate(blurry.float(), unclip.picture_size, mode="bilinear").clamp(0, 1))
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
    """Standard-normal draws `(B, S, D)` without end, each picture's from its own seed."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    while True:
        yield torch.stack([torch.randn(like.shape[1:], generator=generator) for generator in generators]).to(like)
