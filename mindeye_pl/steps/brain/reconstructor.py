"""The trained composite with the models around it that make images and words of what it reads."""

from dataclasses import fields

from omegaconf import DictConfig

from mindeye_pl.engine.step import Run
from mindeye_pl.errors import UserError
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.models.reconstructor import Reconstructor, Refinement, Sampling
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.nn.stylegan2.networks import ImageGenerator
from mindeye_pl.steps.brain.finetune_generator import finetuned_generator, mappers_of, trains_generator
from mindeye_pl.steps.inputs.frozen_models import load_model


def reconstructor_of(
    run: Run, composite: BrainDecoder, *, seed: int | None = None, images: bool = True
) -> Reconstructor:
    """The composite with the configured models around it, in eval mode.

    Args:
        run: whose configuration it is.
        composite: trained.
        seed: of the images; None is the run's.
        images: False leaves unCLIP and captioner out.

    Raises:
        UserError: as `load_model`, and if unCLIP or captioner read tokens of another width than the embedder's.
    """
    config = run.config
    if images and trains_generator(config):
        composite = mappers_of(run, composite)
    vae = None if config.low_level is None else load_model(run, "vae")
    reconstructor = Reconstructor(composite, prior_samples=config.reconstruct.prior_samples, vae=vae)
    if images and (settings := config.unclip) is not None:
        unclip = image_maker(run)
        _check_width(run, "unclip", unclip.token_dim)
        sampling = sampling_of(settings, config.seed if seed is None else seed)
        reconstructor.unclip, reconstructor.sampling = unclip, sampling
        if (count := candidates(config)) > 1:
            reconstructor.candidates, reconstructor.embedder = count, load_model(run, "embedder")
    if images and config.captioner is not None:
        captioner = load_model(run, "captioner")
        _check_width(run, "captioner", captioner.converter.over_channels.in_features)
        reconstructor.captioner, reconstructor.caption_length = captioner, config.captioner.max_length
    if images and (settings := config.refine) is not None:
        if config.captioner is None or config.unclip is None:
            wanted = "an unCLIP and a captioner"
            raise UserError(f"refine={settings.name} lacks what it refines", got="one is none", expected=wanted)
        if settings.blend and config.low_level is None:
            raise UserError(
                "refine.blend mixes in the blurry reconstruction", got="low_level=none", fix="refine.blend=0"
            )
        reconstructor.refiner = load_model(run, "refine")
        reconstructor.refinement = Refinement(settings.guidance, settings.blend)
    return reconstructor.eval()


def image_maker(run: Run) -> UnCLIPModel | ImageGenerator:
    """What makes images of tokens: the configured model, or the generator that is fine-tuned to the subject."""
    return finetuned_generator(run) if trains_generator(run.config) else load_model(run, "unclip")


def sampling_of(settings: DictConfig, seed: int) -> Sampling:
    """How an unCLIP samples, by its group; a generator's has the seed alone.

    Raises:
        UserError: if the group asks for what a sampler does not know.
    """
    options = (field.name for field in fields(Sampling) if field.name != "seed")
    return Sampling(seed=seed, **{option: settings[option] for option in options if option in settings})


def candidates(config: DictConfig) -> int:
    """Return the number of images that are made for each one, of which the best is kept."""
    return config.reconstruct.candidates


def _check_width(run: Run, group: str, width: int) -> None:
    embedder = run.config.embedder
    if width != embedder.token_dim:
        raise UserError(
            f"{group}={run.config[group].name} reads other tokens than embedder={embedder.name} makes",
            got=f"tokens of width {embedder.token_dim}",
            expected=f"width {width}",
            fix=f"an embedder and {group} that belong together, as scale= chooses them, or {group}=none",
        )
