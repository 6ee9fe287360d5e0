"""The numbers and phases of adversarial training (Mind Reader, spec section 7)."""

from dataclasses import dataclass
from typing import Literal

from mindeye_pl.losses.gan import PATH_LENGTH_INTERVAL, R1_INTERVAL, r1_gamma
from mindeye_pl.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveFraction, PositiveInt

#: What the main latent is in training, and whether styles are mixed.
Latents = Literal["random", "zeros_mixed", "zeros"]

#: The parts of one iteration in their order; each is an optimiser step of its own.
GENERATOR, PATH_LENGTH, DISCRIMINATOR, R1 = "generator", "path_length", "discriminator", "r1"


@dataclass(frozen=True)
class AdversarialObjective:
    """A logistic game in which both networks also say which embedding belongs to an image.

    Attributes:
        head_scale: weight of the match of the discriminator's heads with the embeddings (`itd`).
        clip_scale: weight of the match of made images, seen by CLIP, with the embeddings (`itc`).
        image_scale: weight of their match with the embedding of the seen image (`iic`).
        real_scale: weight of the match of the heads' words for real and made images (`iid`).
        temperature: of all matches.
        lam: direction of all matches, see `losses.gan_contrastive.log_match`.
        perturbation: share of noise in the embeddings.
        latents: `random` draws the main latent, as Lafite does. `zeros_mixed` (Mind Reader, published) leaves it zero
            and yet mixes styles of random latents in; `zeros` (corrected) leaves it zero everywhere.
        mixing_probability: of mixing the styles of a batch, where `latents` mixes.
        smallest_crop: share of the side that the random square has at least in which CLIP sees a made image.
        r1_gamma: weight of R1; None for the heuristic of `losses.gan.r1_gamma`.
        r1_interval: iterations from one R1 to the next.
        path_length_weight: of the path length penalty.
        path_length_decay: share of the average length that is renewed.
        path_length_interval: iterations from one to the next; 0 leaves it out.
        learning_rate: of Adam, before what lazy regularisation makes of it.
        average_half_life: images after which a weight counts half in the averaged generator; None for ten batches
            of 32nd parts of a thousand, as StyleGAN2-ADA takes: 5,000 at a batch of 16.
        average_rampup: share of the images so far that the half-life may be; None for a start that is good already.
    """

    head_scale: NonNegativeFloat = 10.0
    clip_scale: NonNegativeFloat = 10.0
    image_scale: NonNegativeFloat = 0.0
    real_scale: NonNegativeFloat = 0.0
    temperature: PositiveFloat = 0.5
    lam: float = 0.0
    perturbation: Fraction = 0.1
    latents: Latents = "zeros_mixed"
    mixing_probability: Fraction = 0.9
    smallest_crop: PositiveFraction = 0.5
    r1_gamma: NonNegativeFloat | None = None
    r1_interval: PositiveInt = R1_INTERVAL
    path_length_weight: NonNegativeFloat = 2.0
    path_length_decay: PositiveFraction = 0.01
    path_length_interval: NonNegativeInt = PATH_LENGTH_INTERVAL
    learning_rate: PositiveFloat = 0.0025
    average_half_life: PositiveFloat | None = None
    average_rampup: PositiveFloat | None = None

    def phases(self, iteration: int) -> tuple[str, ...]:
        """What an iteration, counted from 0, is made of; regularisers are lazy (arXiv 1912.04958, appendix B)."""
        regularised = bool(self.path_length_interval) and iteration % self.path_length_interval == 0
        generator = (GENERATOR, PATH_LENGTH) if regularised else (GENERATOR,)
        return generator + ((DISCRIMINATOR, R1) if iteration % self.r1_interval == 0 else (DISCRIMINATOR,))

    def gamma(self, image_size: int, batch_size: int) -> float:
        """Weight of R1."""
        return r1_gamma(image_size, batch_size) if self.r1_gamma is None else self.r1_gamma

    def average_decay(self, batch_size: int, seen: int) -> float:
        """Share of the averaged generator that one iteration leaves.

        Args:
            batch_size: images of an iteration.
            seen: images so far, those of this iteration too.
        """
        half_life = batch_size * 10 / 32 * 1000 if self.average_half_life is None else self.average_half_life
        if self.average_rampup is not None:
            half_life = min(half_life, seen * self.average_rampup)
        return 0.5 ** (batch_size / max(half_life, 1e-8))
