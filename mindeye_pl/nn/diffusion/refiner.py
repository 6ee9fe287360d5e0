"""Refinement: SDXL image-to-image from a reconstruction and its caption (MindEye2, spec section 9).

Legend: B images, C latent channels, h and w latent size, H and W image size, T = 2048 width of the text.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindeye_pl.nn.diffusion.fourier import fourier_features
from mindeye_pl.nn.diffusion.pixels import corrected_pixels
from mindeye_pl.nn.diffusion.sdxl_text import SDXLText
from mindeye_pl.nn.diffusion.seeds import stream_draws
from mindeye_pl.nn.diffusion.solvers import euler_published, integrate

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

#: The first 13 of 25 steps are skipped: sampling begins at timestep 479, where sigma is 1.509.
STEPS, BEGIN = 25, 13


class Refiner(nn.Module):
    """SDXL as an image-to-image model that refines a reconstruction, given its caption.

    Args:
        unet: of the unCLIP's architecture, with text instead of tokens and the pooled text before the size vector.
        vae: SDXL's.
        text: SDXL's two text towers.
        image_size: (H, W) of its images in pixels.
    """

    def __init__(
        self,
        unet: "UNet2DConditionModel",
        vae: "AutoencoderKL",
        text: SDXLText,
        image_size: tuple[int, int] = (768, 768),
    ):
        super().__init__()
        self.unet, self.vae, self.text, self.image_size = unet, vae, text, image_size
        self.requires_grad_(False).eval()

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        shrink = 2 ** (len(self.vae.config["block_out_channels"]) - 1)
        return self.vae.config["latent_channels"], self.image_size[0] // shrink, self.image_size[1] // shrink

    def reset_buffers(self) -> None:
        """Compute the buffers that are not stored with the weights."""
        for tower in (self.text.clip_l, self.text.bigg):
            tower.attn_mask = tower.build_causal_mask()

    def noise(self, seeds: Sequence[int]) -> Tensor:
        """Return standard-normal draws `(2, B, C, h, w)` for posterior and start, by the seed of each image."""
        return stream_draws(seeds, (2, *self.latent_shape), stream=2).transpose(0, 1)  # unused by the unCLIP

    def condition(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the captions' hidden states `(B, 77, T)` and vector `(B, E)`: pooled text, size, crop, target size."""
        hidden, pooled = self.text(captions)
        width = (self.unet.config["projection_class_embeddings_input_dim"] - self.text.pooled_dim) // 6
        numbers = [*self.image_size, 0, 0, 1024, 1024]
        sizes = fourier_features(numbers, width).view(1, -1).to(pooled)
        return hidden, torch.cat([pooled, sizes.expand(len(pooled), -1)], dim=1)

    @torch.no_grad()
    def refine(
        self,
        images: Tensor,
        captions: Sequence[str],
        *,
        noise: Tensor,
        guidance: float = 5.0,
        negative_prompt: str = "",
        input_size: int | None = None,
    ) -> Tensor:
        """Refine reconstructions `(B, 3, any, any)` in [0, 1] to images `(B, 3, H, W)` of `image_size`.

        Args:
            images: the reconstructions.
            captions: of the reconstructions.
            noise: result of the method `noise`.
            guidance: classifier-free, against the negative prompt.
            negative_prompt: condition that the guidance leads away from.
            input_size: side in pixels to which the images are resized before they are enlarged to `image_size`, without
                antialiasing; 256 as published, None for their own size.
        """
        if images.device.type == "cpu":
            self.float()  # convolutions in half precision have no fast kernels there
        posterior, start = noise.to(images.device).float()
        resized = images.float() if input_size is None else _resized(images.float(), (input_size, input_size))
        resized = _resized(resized, self.image_size)
        device = images.device.type
        with torch.autocast(device, enabled=False):  # half precision overflows in the VAE
            encoded = self.vae.encode(2 * resized - 1).latent_dist
            latents = (encoded.mean + encoded.std * posterior) * self.vae.config["scaling_factor"]
        scheduler = euler_published(STEPS)
        latents = latents + scheduler.sigmas[BEGIN].to(latents) * start
        hidden, vector = (
            torch.cat([without.expand_as(given), given])
            for without, given in zip(self.condition([negative_prompt]), self.condition(captions), strict=True)
        )

        stored = self.unet.dtype  # released files are in half precision
        hidden, vector = hidden.to(stored), vector.to(stored)

        def predict(scaled: Tensor, times: Tensor) -> Tensor:
            return self.unet(scaled.to(stored), times, encoder_hidden_states=hidden, class_labels=vector).sample

        latents = integrate(scheduler, latents, predict, guidance=guidance, begin=BEGIN)
        with torch.autocast(device, enabled=False):
            return corrected_pixels(self.vae.decode(latents.float() / self.vae.config["scaling_factor"]).sample)


def blend(refined: Tensor, blurry: Tensor, weight: float) -> Tensor:
    """Return the weighted mean of refined and blurry images; the published evaluation gives the blurry one 0.25.

    Shape: `(B, 3, H, W)`, `(B, 3, any, any)` -> `(B, 3, H, W)`.
    """
    return (1 - weight) * refined + weight * _resized(blurry.float(), refined.shape[-2:])


def _resized(images: Tensor, size: Sequence[int]) -> Tensor:
    """Return images `(B, 3, any, any)` at a size (H, W) in pixels, bilinear and without antialiasing."""
    return F.interpolate(images, tuple(size), mode="bilinear", align_corners=False)
