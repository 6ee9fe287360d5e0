"""Nodes of the training of foundation models."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from mindeye_pl.nn.clip.clip_embedder import INPUT_RANGES
from mindeye_pl.nn.diffusion.builders import UnclipSizes, VaeSizes, build_captioner, build_clip
from mindeye_pl.nn.diffusion.solvers import SOLVERS
from mindeye_pl.nn.stylegan2.conditions import Condition
from mindeye_pl.nn.stylegan2.discriminator import ProjectionReduction
from mindeye_pl.nn.stylegan2.networks import NetworkSizes
from mindeye_pl.schema.nodes.models import WeightFile
from mindeye_pl.schema.settings import Component, Settings
from mindeye_pl.types import (
    ArgumentsOf,
    Fraction,
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    OneOf,
    PositiveFloat,
    PositiveInt,
    ProperFraction,
    Seed,
)

#: Starting weights of the unCLIP's training.
UnclipStart = Literal["scratch", "sdxl_base"]


@dataclass(frozen=True, kw_only=True)
class FoundationImages(Settings):
    """Images to train on.

    Attributes:
        source: `simulated`, a folder of images, or an hdf5 file with `images`.
        image_size: side in pixels.
        num_validation: last images, held out.
        count: number of simulated scenes.
        seed: seed of the simulated scenes.
    """

    source: str | None
    image_size: PositiveInt
    num_validation: PositiveInt
    count: PositiveInt | None = None
    seed: Seed | None = None


@dataclass(frozen=True, kw_only=True)
class Training(Settings):
    """Training of one foundation model.

    Attributes:
        epochs: epochs of training; 0 keeps the start.
        batch_size: images of a step.
        steps_per_epoch: steps of an epoch; null for each image once.
    """

    epochs: NonNegativeInt
    batch_size: PositiveInt
    steps_per_epoch: PositiveInt | None = None


@dataclass(frozen=True, kw_only=True)
class ClipTraining(Training):
    """Training of the small CLIP.

    Attributes:
        sizes: sizes of the network.
        max_lr: highest learning rate.
        weight_decay: weight decay.
    """

    sizes: Annotated[dict[str, Any], ArgumentsOf(build_clip)]
    max_lr: PositiveFloat
    weight_decay: NonNegativeFloat


@dataclass(frozen=True, kw_only=True)
class VaeTraining(Training):
    """Training of the VAE.

    Attributes:
        sizes: sizes of the network.
        max_lr: highest learning rate.
        kl_scale: weight of the KL divergence.
    """

    sizes: VaeSizes
    max_lr: PositiveFloat
    kl_scale: NonNegativeFloat


@dataclass(frozen=True, kw_only=True)
class UnclipTraining(Training):
    """Training of the unCLIP.

    Attributes:
        sizes: sizes of the network.
        start: random weights, or SDXL base.
        weights: file of SDXL base.
        input_range: range of the images that the embedder sees.
        packing: side of the square of latents that makes one position of the UNet.
        token_positions: adds learned positions to the tokens.
        max_lr: highest learning rate.
        weight_decay: weight decay.
        warmup_steps: steps to the highest learning rate, which then stays; null for one cycle.
        offset: amplitude of the offset noise.
        drop: fraction of the images without condition.
        ema_decay: decay of the weights' moving average; null for the last weights.
        checkpointing: gradient checkpointing.
    """

    sizes: UnclipSizes
    start: UnclipStart
    weights: WeightFile | None = None
    input_range: Annotated[str, OneOf(INPUT_RANGES)] | None = None
    packing: PositiveInt | None = None
    token_positions: bool | None = None
    max_lr: PositiveFloat
    weight_decay: NonNegativeFloat
    warmup_steps: PositiveInt | None = None
    offset: NonNegativeFloat
    drop: Fraction
    ema_decay: ProperFraction | None = None
    checkpointing: bool


@dataclass(frozen=True, kw_only=True)
class CaptionerTraining(Training):
    """Training of the captioner.

    Attributes:
        sizes: sizes of the network.
        max_lr: highest learning rate.
        weight_decay: weight decay.
        token_noise: deviation of the noise that is added to the tokens.
    """

    sizes: Annotated[dict[str, Any], ArgumentsOf(build_captioner)]
    max_lr: PositiveFloat
    weight_decay: NonNegativeFloat
    token_noise: NonNegativeFloat


@dataclass(frozen=True, kw_only=True)
class GeneratorTraining(Training):
    """Training of Mind Reader's generator and its discriminator.

    Attributes:
        sizes: sizes of the network.
        captions: captions of images of your own: a json list over them of lists of sentences.
        condition: embeddings that the generator sees.
        projection_reduction: match of the discriminator with embeddings.
        objective: adversarial objective.
    """

    sizes: NetworkSizes
    captions: str | None = None
    condition: Condition
    projection_reduction: ProjectionReduction
    objective: Component


@dataclass(frozen=True, kw_only=True)
class ScoredSampling(Settings):
    """Sampling of the images that the model card scores.

    Attributes:
        solver: sampler.
        steps: steps of the sampler.
        guidance: classifier-free guidance; 1 for none.
        offset: amplitude of the offset noise at the start.
    """

    solver: Annotated[str, OneOf(SOLVERS)]
    steps: PositiveInt
    guidance: NonNegativeFloat
    offset: NonNegativeFloat


@dataclass(frozen=True, kw_only=True)
class Foundation(Settings):
    """Foundation models that are trained here.

    Attributes:
        name: name in reports.
        folder: folder of the trained files that are used; null for those that the package ships.
        images: images to train on.
        clip: small CLIP.
        vae: VAE.
        unclip: unCLIP.
        captioner: captioner.
        generator: Mind Reader's generator and discriminator.
        sampling: sampling of the images that the model card scores.
    """

    name: Name
    folder: str | None
    images: FoundationImages
    clip: ClipTraining | None = None
    vae: VaeTraining | None = None
    unclip: UnclipTraining | None = None
    captioner: CaptionerTraining | None = None
    generator: GeneratorTraining | None = None
    sampling: ScoredSampling | None = None
