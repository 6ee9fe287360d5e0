"""The models that turn a trained system's tokens into images and captions."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property

from omegaconf import DictConfig

from mindeye_pl.engine.step import Input, Inputs, Made
from mindeye_pl.errors import UserError
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.models.image_refiner import ImageRefiner, Refinement
from mindeye_pl.models.reconstructor import Reconstructor
from mindeye_pl.nn.diffusion.captioner import Captioner
from mindeye_pl.nn.diffusion.solvers import Sampling
from mindeye_pl.nn.image_decoder import ImageDecoder
from mindeye_pl.steps.brain.finetune_generator import FINETUNE_GENERATOR, FinetunedGenerator, trains_generator
from mindeye_pl.steps.brain.linear_blur import FIT_LINEAR_BLUR, FittedBlur
from mindeye_pl.steps.inputs.frozen_models import Frozen, FrozenModel


@dataclass(frozen=True)
class ImageModels:
    """The models around a trained system, not loaded yet.

    Attributes:
        vae: makes blurry images of the low-level branch's latents.
        blur: linear map of the voxels to blurry images, in place of the low-level branch.
        unclip: makes images of tokens.
        generator: fine-tuned to the subject, in place of the unCLIP's own weights.
        embedder: makes target tokens; several candidates are compared by it.
        captioner: makes captions of tokens.
        refiner: draws an image again, knowing its caption.
    """

    vae: FrozenModel | None = None
    blur: FittedBlur | None = None
    unclip: FrozenModel | None = None
    generator: FinetunedGenerator | None = None
    embedder: FrozenModel | None = None
    captioner: FrozenModel | None = None
    refiner: FrozenModel | None = None

    def load_unclip(self) -> ImageDecoder:
        """Return the image decoder."""
        assert self.unclip is not None, "the configuration has no unCLIP"
        if self.generator is not None:
            return self.generator.load(latents=self.unclip.settings.network.latents)
        decoder: ImageDecoder = self.unclip.load()
        return decoder

    @cached_property
    def loaded_captioner(self) -> Captioner:
        """Captioner, loaded once."""
        assert self.captioner is not None, "the configuration has no captioner"
        captioner: Captioner = self.captioner.load()
        return captioner

    def load_refiner(self, seed: int) -> ImageRefiner:
        """Return the refiner with its settings, in eval mode."""
        assert self.refiner is not None, "the configuration has no refiner"
        settings = self.refiner.settings
        options = (field.name for field in fields(Refinement))
        refinement = Refinement(**{option: settings[option] for option in options})
        return ImageRefiner(self.refiner.load(), refinement, seed=seed).eval()


@dataclass(frozen=True)
class Drawing(Input):
    """The configured image models; opened, `ImageModels`."""

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the models that the configuration names."""
        parts: dict[str, Input] = {"embedder": Frozen("embedder")}
        if config.reconstruct.linear_blur.size is not None:
            parts["linear_blur"] = Made(FIT_LINEAR_BLUR)
        elif config.get("low_level") is not None:
            parts["vae"] = Frozen("vae")
        if config.get("unclip") is not None:
            parts["unclip"] = unclip_input(config)
        if config.get("unclip") is not None and trains_generator(config):
            parts["generator"] = Made(FINETUNE_GENERATOR)
        parts |= {group: Frozen(group) for group in ("captioner", "refine") if config.get(group) is not None}
        return parts

    def open(self, config: DictConfig, parts: Inputs) -> ImageModels:
        """Return the models, not loaded yet."""
        found = {name: parts.get(name) for name in ("embedder", "vae", "unclip", "captioner")}
        if "linear_blur" in parts:
            wanted = config.reconstruct.linear_blur
            found["blur"] = FittedBlur(parts["linear_blur"], wanted.contrast, wanted.strength)
        generator = FinetunedGenerator(parts["generator"]) if "generator" in parts else None
        return ImageModels(**found, refiner=parts.get("refine"), generator=generator)


def unclip_input(config: DictConfig) -> Frozen:
    """Return the unCLIP as an input; its files are optional where its generator starts from scratch."""
    generator = config.get("generator")
    scratch = generator is not None and generator.start == "scratch"
    # The batch size changes nothing, and `candidates` is the default of `reconstruct.candidates`.
    return Frozen("unclip", optional=scratch, without=("batch_size", "candidates"))


def build_reconstructor(
    model: BrainDecoder,
    models: ImageModels,
    *,
    prior_samples: int,
    candidates: int,
    seed: int,
    neighbour_weight: float = 0.0,
) -> Reconstructor:
    """Return the trained system with the image models around it, as `Reconstructor`, in eval mode.

    Raises:
        UserError: if a file is damaged, or unCLIP or captioner read tokens of another width than the embedder's.
    """
    if models.generator is not None:
        model = models.generator.with_its_mappers(model)
    vae = None if models.vae is None else models.vae.load()
    reconstructor = Reconstructor(model, prior_samples=prior_samples, neighbour_weight=neighbour_weight, vae=vae)
    if models.unclip is not None:
        image_decoder = models.load_unclip()
        _check_width(models, models.unclip, image_decoder.token_dim)
        image_decoder.sampling = sampling_of(models.unclip.settings)
        reconstructor.image_decoder, reconstructor.seed = image_decoder, seed
        if candidates > 1:
            assert models.embedder is not None, "several candidates need an embedder"
            reconstructor.candidates, reconstructor.embedder = candidates, models.embedder.load()
    if (blur := models.blur) is not None:
        decoder = reconstructor.image_decoder
        reconstructor.blur = blur.load(None if decoder is None else decoder.image_size)
        if decoder is not None:
            decoder.sampling = replace(decoder.sampling, strength=blur.strength)
    if models.captioner is not None:
        captioner = models.loaded_captioner
        _check_width(models, models.captioner, captioner.converter.over_channels.in_features)
        reconstructor.captioner, reconstructor.caption_length = captioner, models.captioner.settings.max_length
    if models.refiner is not None:
        reconstructor.refiner = models.load_refiner(seed)
    return reconstructor.eval()


def check_drawing(config: DictConfig) -> None:
    """Check that there is what a refiner needs."""
    if (refine := config.get("refine")) is None:
        return
    if config.get("captioner") is None or config.get("unclip") is None:
        what = f"refine={refine.name} needs an unCLIP and a captioner"
        raise UserError(what, got="one is none", expected="both", fix="refine=none")
    if refine.blend and config.get("low_level") is None and config.reconstruct.linear_blur.size is None:
        raise UserError("refine.blend mixes in the blurry reconstruction", got="low_level=none", fix="refine.blend=0")


def sampling_of(settings: DictConfig) -> Sampling:
    """Return the sampler's settings in the group of an image decoder; a generator's group has none."""
    options = (field.name for field in fields(Sampling))
    return Sampling(**{option: settings[option] for option in options if option in settings})


def _check_width(models: ImageModels, reader: FrozenModel, width: int) -> None:
    embedder = models.embedder
    if embedder is not None and width != embedder.settings.token_dim:
        raise UserError(
            f"{reader.group}={reader.name} reads other tokens than embedder={embedder.name} makes",
            got=f"tokens of width {embedder.settings.token_dim}",
            expected=f"width {width}",
            fix=f"an embedder and {reader.group} that belong together, as scale= chooses them, or {reader.group}=none",
        )
