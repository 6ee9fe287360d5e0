"""Nodes of frozen models: embedders, unCLIP, VAE, captioner, refiner, feature networks, and their weight files."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from mindeye_pl.data.caption_screening import RULES
from mindeye_pl.models.gan.brain_conditioned import Mappers
from mindeye_pl.nn.clip.augmented_views import AUGMENTATIONS
from mindeye_pl.nn.diffusion.pixels import DRAFT_RANGES
from mindeye_pl.nn.diffusion.solvers import SOLVERS, DraftPosterior
from mindeye_pl.nn.stylegan2.conditions import Condition
from mindeye_pl.nn.stylegan2.discriminator import ProjectionReduction
from mindeye_pl.nn.stylegan2.networks import NetworkSizes
from mindeye_pl.schema.nodes.run import Start
from mindeye_pl.schema.settings import Component, Settings
from mindeye_pl.types import (
    Clamp,
    Fraction,
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    OneOf,
    PositiveFloat,
    PositiveFraction,
    PositiveInt,
)

Augmentation = Annotated[str, OneOf(AUGMENTATIONS)]


@dataclass(frozen=True, kw_only=True)
class WeightFile(Settings):
    """A released file and where it comes from.

    Attributes:
        repository: `owner/name` of the repository.
        repository_type: hub that holds it; `torch` for files of torch.hub.
        file: path inside the repository, or the whole path of a file of your own.
        what: use of the file.
        other_names: further paths of the same content.
        with_files: files that are needed beside it.
        fetch: command that downloads it, where `hf download` does not.
        licence: licence of the file.
        saw_coco: true if its training saw COCO's images, which NSD's are.
        bytes: size; null where nobody has published it.
        sha256: checksum; null where nobody has published it.
    """

    repository: str
    repository_type: Literal["model", "dataset", "torch"]
    file: str
    what: str | None = None
    other_names: list[str] | None = None
    with_files: list[str] | None = None
    fetch: str | None = None
    licence: str | None = None
    saw_coco: str | None = None
    bytes: PositiveInt | None = None
    sha256: str | None = None


#: The files of a model: one, or several by the argument of its builder that takes the file.
Weights = WeightFile | dict[str, WeightFile]


@dataclass(frozen=True, kw_only=True)
class FrozenModel(Settings):
    """A model that is loaded and not trained.

    Attributes:
        name: name in reports and fingerprints.
        network: builder of the model.
        weights: released files that it needs.
        files: files of `folder` that it needs.
        folder: folder of the files; null for those that the package ships.
        made_by: command that makes the files.
    """

    name: Name
    network: Component
    weights: Weights | None = None
    files: list[str] | None = None
    folder: str | None = None
    made_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Embedder(FrozenModel):
    """Images to target tokens.

    Attributes:
        num_tokens: tokens of an image.
        token_dim: width of a token.
        target_scale: scale of the targets of a prior that learns the tokens.
        renormalise: normalisation of a prior's samples.
        clamp: limit of each element, before the embedding is normalised; `.inf` normalises alone.
        views: augmented views kept of each image; 0 for none.
        augmentation: augmentation of the views.
    """

    num_tokens: PositiveInt
    token_dim: PositiveInt
    target_scale: Literal["one", "sqrt_width"] | None = None
    renormalise: Literal["none", "first_token"] | None = None
    clamp: Clamp | None = None
    views: NonNegativeInt | None = None
    augmentation: Augmentation | None = None


@dataclass(frozen=True, kw_only=True)
class Screening(Settings):
    """Choice of the captions that fit an image.

    Attributes:
        rule: `half_of_best` by CLIP against the image, or `all`.
        share: fraction of the best caption's probability, below which one is dropped.
    """

    rule: Annotated[str, OneOf(RULES)]
    share: PositiveFraction


@dataclass(frozen=True, kw_only=True)
class TextEmbedder(FrozenModel):
    """Captions to embeddings of the embedder's space.

    Attributes:
        width: width of an embedding.
        clamp: limit of each element, before the embedding is normalised.
        captions: file of screened captions; null for those of the step screen_captions.
        screening: choice of the captions that fit.
    """

    width: PositiveInt
    clamp: Clamp | None = None
    captions: str | None = None
    screening: Screening | None = None


@dataclass(frozen=True, kw_only=True)
class Vae(FrozenModel):
    """VAE whose latents a low-level branch learns.

    Attributes:
        latent_channels: channels of the latents.
        latent_size: side of the latents.
        image_size: images of another side are resized, in pixels.
    """

    latent_channels: PositiveInt
    latent_size: PositiveInt
    image_size: PositiveInt | None = None


@dataclass(frozen=True, kw_only=True)
class Maps(FrozenModel):
    """Feature maps that a low-level branch is compared with.

    Attributes:
        places: positions of a map.
        width: channels of a map.
        views: augmented views kept of each image.
        augmentation: augmentation of the views.
        image_size: images of another side are resized, in pixels.
    """

    places: PositiveInt
    width: PositiveInt
    views: NonNegativeInt
    augmentation: Augmentation | None = None
    image_size: PositiveInt | None = None


@dataclass(frozen=True, kw_only=True)
class Unclip(FrozenModel):
    """Tokens to images.

    Attributes:
        batch_size: images that are made at once.
        solver: sampler.
        steps: steps of the sampler.
        guidance: classifier-free guidance; 1 for none.
        offset: amplitude of the offset noise at the start.
        strength: fraction of the steps that start from the blurry reconstruction; 1 starts from noise.
        draft_range: range in which the VAE sees the blurry reconstruction.
        draft_posterior: latents of the blurry reconstruction.
        candidates: default of `reconstruct.candidates`.
    """

    batch_size: PositiveInt
    solver: Annotated[str, OneOf(SOLVERS)] | None = None
    steps: PositiveInt | None = None
    guidance: NonNegativeFloat | None = None
    offset: NonNegativeFloat | None = None
    strength: Fraction | None = None
    draft_range: Annotated[str, OneOf(DRAFT_RANGES)] | None = None
    draft_posterior: DraftPosterior | None = None
    candidates: PositiveInt | None = None


@dataclass(frozen=True, kw_only=True)
class Captioner(FrozenModel):
    """Tokens to words.

    Attributes:
        max_length: words of a caption at most, the marks of start and end included.
    """

    max_length: PositiveInt


@dataclass(frozen=True, kw_only=True)
class Refine(FrozenModel):
    """A reconstruction and its caption to a better image.

    Attributes:
        guidance: classifier-free guidance.
        blend: fraction of the blurry reconstruction that is mixed in.
    """

    guidance: NonNegativeFloat
    blend: Fraction


@dataclass(frozen=True, kw_only=True)
class FeatureNetwork(FrozenModel):
    """A network that a protocol may name.

    Attributes:
        layers: names of its layers.
    """

    layers: list[Name] | None = None


@dataclass(frozen=True, kw_only=True)
class Generator(Settings):
    """Mind Reader's generator, fine-tuned to a subject.

    Attributes:
        name: name in reports.
        start: weights of `unclip=lafite`, or random ones.
        sizes: sizes of a generator that starts from scratch.
        projection_reduction: match of the discriminator with embeddings.
        condition: embeddings that the generator sees.
        mappers: the mappers stay as they are, or learn with the generator.
        mapper_learning_rate: learning rate of mappers that learn.
        objective: adversarial objective.
        epochs: epochs of training.
        steps_per_epoch: steps of each.
        batch_size: images of a step.
    """

    name: Name
    start: Start
    sizes: NetworkSizes
    projection_reduction: ProjectionReduction
    condition: Condition
    mappers: Mappers
    mapper_learning_rate: PositiveFloat
    objective: Component
    epochs: PositiveInt
    steps_per_epoch: PositiveInt
    batch_size: PositiveInt


@dataclass(frozen=True, kw_only=True)
class IndexGroup(Settings):
    """Vector index of a large gallery.

    Attributes:
        name: name in reports.
        folder: finished index to search, in place of the build_index step.
        build: how an index is built.
        search: how it is searched.
        engine: vector index that is built with the two.
    """

    name: Name
    folder: str | None
    build: Component
    search: Component | dict[str, Any]
    engine: Component
