"""Settings and phases of adversarial training (Mind Reader, spec section 7)."""

from dataclasses import dataclass
from typing import Literal

from mindeye_pl.losses.gan import PATH_LENGTH_INTERVAL, R1_INTERVAL, r1_gamma
from mindeye_pl.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveFraction, PositiveInt

#: Main latent in training, and whether styles are mixed.
Latents = Literal["random", "zeros_mixed", "zeros"]

#: Phases of one iteration in their order; each is an optimiser step of its own.
GENERATOR, PATH_LENGTH, DISCRIMINATOR, R1 = "generator", "path_length", "discriminator", "r1"


@dataclass(frozen=True)
class AdversarialObjective:
    """Logistic GAN objective with contrastive losses of images and embeddings.

    Attributes:
        head_scale: weight of the match of the discriminator's heads with the embeddings (`itd`).
        clip_scale: weight of the match of generated images' CLIP embeddings with the embeddings (`itc`).
        image_scale: weight of their match with the embedding of the real image (`iic`).
        real_scale: weight of the match of the heads' outputs for real and generated images (`iid`).
        temperature: of all matches.
        lam: direction of all matches, see `losses.gan_contrastive.log_match`.
        perturbation: weight of the noise in the embeddings.
        latents: `random` samples the main latent, as Lafite does. `zeros_mixed` (Mind Reader, published) sets it to
            zero but mixes in styles of random latents; `zeros` (corrected) sets all to zero.
        mixing_probability: probability of mixing a batch's styles, where `latents` mixes.
        smallest_crop: minimal side of the random crop that CLIP gets, as a fraction of the image's side.
        r1_gamma: weight of R1; None for the heuristic of `losses.gan.r1_gamma`.
        r1_interval: iterations between two R1 penalties.
        path_length_weight: weight of the path length penalty.
        path_length_decay: weight of the new path length in the moving average.
        path_length_interval: iterations between two path length penalties; 0 omits them.
        learning_rate: of Adam, before the correction for lazy regularisation.
        average_half_life: half-life of the averaged generator in images; None takes StyleGAN2-ADA's, 312.5 times the
            batch size: 5,000 images at a batch of 16.
        average_rampup: maximal half-life as a fraction of the images so far; None for a pretrained start.
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
        """Return the phases of an iteration, counted from 0; regularisers are lazy (arXiv 1912.04958, appendix B)."""
        regularised = bool(self.path_length_interval) and iteration % self.path_length_interval == 0
        generator = (GENERATOR, PATH_LENGTH) if regularised else (GENERATOR,)
        return generator + ((DISCRIMINATOR, R1) if iteration % self.r1_interval == 0 else (DISCRIMINATOR,))

    def gamma(self, image_size: int, batch_size: int) -> float:
        """Return the weight of R1."""
        return r1_gamma(image_size, batch_size) if self.r1_gamma is None else self.r1_gamma

    def average_decay(self, batch_size: int, seen: int) -> float:
        """Return the weight of the previous averaged generator, after `seen` images with this iteration's."""
        half_life = batch_size * 10 / 32 * 1000 if self.average_half_life is None else self.average_half_life
        if self.average_rampup is not None:
            half_life = min(half_life, seen * self.average_rampup)
        return 0.5 ** (batch_size / max(half_life, 1e-8))
