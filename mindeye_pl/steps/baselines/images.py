"""Images of the baselines: predicted latents decoded, and predicted tokens drawn by the unCLIP.

Legend: n test images, k validation images, S tokens, D token width, C latent channels, h and w latent size.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from mindeye_pl.console import console
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Made, Step, Work
from mindeye_pl.nn.diffusion.pixels import corrected_pixels
from mindeye_pl.nn.diffusion.seeds import image_seed
from mindeye_pl.nn.image_decoder import ImageDecoder
from mindeye_pl.schema.nodes.reports import IN_CONTEXT_UNCLIP, RIDGE_BLUR_UNCLIP, RIDGE_LATENTS, RIDGE_UNCLIP
from mindeye_pl.steps.baselines.judge import MAX_DRAWN, Judge
from mindeye_pl.steps.baselines.ridge import (
    CHOICES,
    RIDGE_TOKENS,
    RidgePrediction,
    RidgeStep,
    describe_choices,
    fit_trials,
    ridge_trials,
)
from mindeye_pl.steps.brain.in_context.decode import DECODE_IN_CONTEXT, part_name, predicted_tokens
from mindeye_pl.steps.brain.in_context.prior import FIT_VOXEL_PRIOR, FittedPrior
from mindeye_pl.steps.brain.reconstructor import sampling_of, unclip_input
from mindeye_pl.steps.inputs.frozen_models import Frozen, FrozenModel
from mindeye_pl.steps.inputs.image_embeddings import latent_rows
from mindeye_pl.store.atomic import write_json, write_tensors
from mindeye_pl.store.own_files import read_tensors

#: File of `stimulus_ids` `(n,)` and `images` `(n, 3, H, W)` float16 in [0, 1].
IMAGES = "images.safetensors"

#: Seed of all draws: baselines are shared by trainings of any seed.
_SEED = 0
_DECODED_AT_ONCE = 32


class RidgeLatentsStep(RidgeStep):
    """Predicts the VAE latents of the test images and decodes them: a low-level branch alone."""

    name = RIDGE_LATENTS
    title = "Ridge regression to latents"

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return what the tokens' regression reads, and the VAE."""
        return {**super().inputs(config), "vae": Frozen("vae")}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Fit, choose the rescaling by decoded validation images, decode the test images."""
        targets, vae = inputs["targets"], inputs["vae"]
        side = vae.settings.latent_size

        def latents(ids: np.ndarray) -> np.ndarray:
            rows = latent_rows(vae, targets.dataset, targets.embeddings, ids)[ids]  # (N, C, h * w)
            return rows.reshape(len(rows), -1, side, side)

        data = ridge_trials(inputs, settings)
        found = fit_trials(data, latents, settings.metrics.ridge_alphas, targets.embeddings.device)
        decoder = vae.load().eval().to(vae.device)
        judge = Judge.of_images(targets.dataset.stimuli, found.validation_ids[:MAX_DRAWN], targets.embedder)
        found.choices.update(
            found.choose_rescaling(lambda some: judge.score(decode_latents(decoder, some, vae.device)), MAX_DRAWN)
        )
        console.print(f"  ridge to latents: {describe_choices(found.choices)}")
        found.write(work.folder)
        _write_images(work.folder, found.stimulus_ids, decode_latents(decoder, found.rescaled, vae.device))


class RidgeUnclipStep(Step):
    """Draws the test images from the predicted tokens by the unCLIP.

    Args:
        from_blur: starts from the decoded latents of `RidgeLatentsStep`, as `unclip.strength` says.
    """

    runtime_keys = ("unclip",)
    artifact_type = RidgeStep.artifact_type

    def __init__(self, name: str, title: str, *, from_blur: bool):
        self.name, self.title, self.from_blur = name, title, from_blur  # type: ignore[misc]

    def label(self, config: DictConfig) -> str:
        """Return the regression's label and the unCLIP."""
        return f"{RIDGE_TOKENS.label(config)}-{config.unclip.name}"

    def tags(self, config: DictConfig) -> list[str]:
        """Return subject and hours."""
        return RIDGE_TOKENS.tags(config)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the regressions and the unCLIP; the strength matters only where images start from a blur."""
        without = unclip_input(config).without + (() if self.from_blur else ("strength",))
        found: dict[str, Input] = {
            "tokens": Made(RIDGE_TOKENS),
            "targets": RIDGE_TOKENS.inputs(config)["targets"],
            "unclip": Frozen("unclip", without=without),
        }
        if self.from_blur:
            found |= {"latents": Made(RIDGE_LATENTS_STEP), "vae": Frozen("vae")}
        return found

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Choose the rescaling of the tokens by drawn validation images, draw the test images."""
        targets, unclip = inputs["targets"], inputs["unclip"]
        tokens = RidgePrediction.read(inputs["tokens"])
        seen_ids = tokens.validation_ids[:MAX_DRAWN]
        blurs = self._blurs(inputs, seen_ids)
        decoder: ImageDecoder = unclip.load().eval().to(unclip.device)
        decoder.sampling = sampling_of(unclip.settings)
        judge = Judge.of_images(targets.dataset.stimuli, seen_ids, targets.embedder)

        def draw(some: Tensor, ids: Tensor, blur: Tensor | None) -> Tensor:
            return draw_tokens(decoder, some, ids, blur, settings.unclip.batch_size, unclip.device)

        chosen = tokens.choose_rescaling(lambda some: judge.score(draw(some, seen_ids, blurs[0])), MAX_DRAWN)
        tokens.choices.update(chosen)
        console.print(f"  {self.title.lower()}: {describe_choices(tokens.choices)}")
        write_json(work.folder / CHOICES, tokens.choices)
        ids = tokens.stimulus_ids
        _write_images(work.folder, ids, draw(tokens.rescaled, ids, blurs[1]))

    def _blurs(self, inputs: Inputs, ids: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the decoded latents of the validation images and of the test images; None without a blur."""
        if not self.from_blur:
            return None, None
        vae: FrozenModel = inputs["vae"]
        latents = RidgePrediction.read(inputs["latents"])
        assert torch.equal(latents.validation_ids[: len(ids)], ids), "both regressions have the same trials"
        held_out = latents.spread.rescale(latents.validation[: len(ids)], latents.choices["rescaling"])
        blurry = decode_latents(vae.load().eval().to(vae.device), held_out, vae.device)
        return blurry, read_images(inputs["latents"])


class DrawInContext(Step):
    """Draws the test images from the tokens that the largest support set predicts, by the unCLIP."""

    name = IN_CONTEXT_UNCLIP
    title = "Tokens from a support set, drawn"
    keys = ("in_context.decoder", "in_context.context")
    runtime_keys = ("unclip",)
    artifact_type = RidgeStep.artifact_type

    def label(self, config: DictConfig) -> str:
        """Return the label of the predictions and the unCLIP."""
        return f"{DECODE_IN_CONTEXT.label(config)}-{config.unclip.name}"

    def tags(self, config: DictConfig) -> list[str]:
        """Return subject and hours."""
        return DECODE_IN_CONTEXT.tags(config)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the predictions, the features, and the unCLIP, which starts from noise."""
        without = (*unclip_input(config).without, "strength")
        made = {"predictions": Made(DECODE_IN_CONTEXT), "prior": Made(FIT_VOXEL_PRIOR)}
        return {**made, "embedder": Frozen("embedder"), "unclip": Frozen("unclip", without=without)}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Draw."""
        unclip, own, embedder = inputs["unclip"], settings.in_context, inputs["embedder"].settings
        part = read_tensors(inputs["predictions"] / part_name(max(own.context), 0))
        tokens = predicted_tokens(FittedPrior.read(inputs["prior"]), part[own.decoder])
        tokens = tokens.unflatten(1, (embedder.num_tokens, embedder.token_dim))
        decoder: ImageDecoder = unclip.load().eval().to(unclip.device)
        decoder.sampling = sampling_of(unclip.settings)
        ids = part["stimulus_ids"]
        images = draw_tokens(decoder, tokens, ids, None, settings.unclip.batch_size, unclip.device)
        write_json(work.folder / CHOICES, {"description": f"{own.decoder}, {max(own.context)} support images"})
        _write_images(work.folder, ids, images)


RIDGE_LATENTS_STEP = RidgeLatentsStep()
RIDGE_UNCLIP_STEP = RidgeUnclipStep(RIDGE_UNCLIP, "Ridge tokens drawn", from_blur=False)
RIDGE_BLUR_UNCLIP_STEP = RidgeUnclipStep(RIDGE_BLUR_UNCLIP, "Ridge tokens drawn from the ridge blur", from_blur=True)
DRAW_IN_CONTEXT = DrawInContext()

BASELINES: tuple[Step, ...] = (RIDGE_LATENTS_STEP, RIDGE_UNCLIP_STEP, RIDGE_BLUR_UNCLIP_STEP)


def baseline_steps(config: DictConfig) -> list[Step]:
    """Return the image baselines of `protocol.baselines` that the configured models allow, their files being here."""
    vae, unclip = (config.get(group) is not None and not Frozen(group).missing(config) for group in ("vae", "unclip"))
    starts = unclip and config.unclip.get("strength", 1.0) < 1  # else it cannot start from an image, or does not
    possible = {RIDGE_LATENTS: vae, RIDGE_UNCLIP: unclip, RIDGE_BLUR_UNCLIP: vae and starts, IN_CONTEXT_UNCLIP: unclip}
    every = (*BASELINES, DRAW_IN_CONTEXT)
    return [step for step in every if step.name in config.protocol.baselines and possible[step.name]]


@torch.inference_mode()
def decode_latents(vae: nn.Module, latents: Tensor, device: torch.device) -> Tensor:
    """Return images `(n, 3, H, W)` float32 in [0, 1] on the CPU, of scaled latents `(n, C, h, w)`."""
    parts = []
    for some in latents.float().split(_DECODED_AT_ONCE):
        decoded = vae.decode(some.to(device) / vae.config["scaling_factor"]).sample  # type: ignore[operator, index]
        parts.append(corrected_pixels(decoded).cpu())
    return torch.cat(parts)


@torch.inference_mode()
def draw_tokens(
    decoder: ImageDecoder, tokens: Tensor, ids: Tensor, blurs: Tensor | None, batch_size: int, device: torch.device
) -> Tensor:
    """Return images `(n, 3, H, W)` float32 in [0, 1] on the CPU, of tokens `(n, S, D)` of stimulus ids `(n,)`."""
    parts = []
    for start in range(0, len(tokens), batch_size):
        rows = slice(start, start + batch_size)
        seeds = [image_seed(_SEED, id_) for id_ in ids[rows].tolist()]
        init = None if blurs is None else blurs[rows].float().to(device)
        parts.append(decoder.draw(tokens[rows].float().to(device), seeds, init).float().cpu())
    return torch.cat(parts)


def read_images(folder: Path) -> Tensor:
    """Return the images `(n, 3, H, W)` float16 in [0, 1] of a finished baseline, by ascending stimulus id."""
    return read_tensors(folder / IMAGES)["images"]


def _write_images(folder: Path, ids: Tensor, images: Tensor) -> None:
    write_tensors(folder / IMAGES, {"stimulus_ids": ids, "images": images.half().contiguous()})
