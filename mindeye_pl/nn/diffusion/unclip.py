"""The unCLIP: image tokens to the latents of an image, and latents to pixels (MindEye2, spec section 7).

Versatile Diffusion's image flow is also one (MindEye1, spec section 8), with tokens of width 768 and no size vector.

Legend: B batch, S tokens, D token width, C latent channels, h and w latent size, H and W image size, E length of the
size vector.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindeye_pl.nn.diffusion.fourier import fourier_features, grid_positions
from mindeye_pl.nn.diffusion.pixels import DRAFT_RANGES, PIXELS, corrected_pixels
from mindeye_pl.nn.diffusion.seeds import stream_draws
from mindeye_pl.nn.diffusion.solvers import SOLVERS, TRAIN_TIMESTEPS, integrate, training_sigmas
from mindeye_pl.nn.image_decoder import ImageDecoder
from mindeye_pl.types import PositiveInt, PublishedOrCorrected

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel


class UnCLIPModel(ImageDecoder):
    """A latent diffusion model conditioned on CLIP's image tokens.

    Args:
        unet: reads tokens as `encoder_hidden_states` and, where it has a class embedding, the size vector through it.
        vae: its `scaling_factor` brings latents to about unit variance.
        image_size: (H, W) of its training images.
        null_tokens: tokens of the empty condition. "learned" is a table `(S, D)`, trained by dropping conditions;
            "random" are standard-normal draws, as published for SDXL; "zeros" are Versatile Diffusion's.
        num_tokens: S, for the learned table.
        output: "published" | "corrected" transform of the VAE's output to pixels.
        token_positions: adds a learned table `(S, D)` to the tokens. CLIP's own tokens contain their positions; tokens
            that were standardised position by position do not, and attention has no other source for them.
        packing: side of the square of latents that is one position of the UNet; 1 for SDXL, 2 makes a small model fast.
    """

    sigmas: Tensor  # (1000,)

    def __init__(
        self,
        unet: "UNet2DConditionModel",
        vae: "AutoencoderKL",
        *,
        image_size: tuple[int, int] = (768, 768),
        null_tokens: Literal["random", "learned", "zeros"] = "random",
        num_tokens: PositiveInt = 256,
        output: PublishedOrCorrected = "published",
        packing: PositiveInt = 1,
        token_positions: bool = False,
    ):
        super().__init__()
        self.unet, self.vae = unet, vae
        self.unconditional = null_tokens
        self.image_size, self.output, self.packing = (image_size[0], image_size[1]), output, packing
        self.token_dim = unet.config["cross_attention_dim"]
        table = (num_tokens, self.token_dim)
        self.null_tokens = nn.Parameter(torch.zeros(table)) if null_tokens == "learned" else None
        self.token_positions = nn.Parameter(grid_positions(*table)) if token_positions else None
        self.register_buffer("sigmas", torch.empty(1000), persistent=False)
        self.reset_buffers()

    def reset_buffers(self) -> None:
        """Compute the buffers that are not stored with the weights; on the meta device they have no values."""
        if torch.get_default_device().type != "meta":
            self.sigmas = training_sigmas().float()

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the latents."""
        shrink = 2 ** (len(self.vae.config["block_out_channels"]) - 1)
        rows, columns = self.image_size
        return self.vae.config["latent_channels"], rows // shrink, columns // shrink

    @property
    def uses_sizes(self) -> bool:
        """True if the UNet reads the original size and the crop."""
        return self.unet.config["class_embed_type"] is not None

    def size_vector(self) -> Tensor | None:
        """Return `size_vectors` of the model's own image size without a crop, `(1, E)`; None if the UNet reads none."""
        if not self.uses_sizes:
            return None
        return self.size_vectors(torch.tensor([[*self.image_size, 0, 0]], device=self.sigmas.device))

    def size_vectors(self, size_and_crop: Tensor) -> Tensor:
        """Return Fourier features of the images' original sizes and crop corners.

        Shape: `(B, 4)`, original height and width, top and left of the crop, in pixels -> `(B, E)`.
        """
        width = self.unet.config["projection_class_embeddings_input_dim"] // 4
        return fourier_features(size_and_crop.flatten(), width).view(len(size_and_crop), -1)  # (B, 4 * E / 4)

    def denoise(self, latents: Tensor, timesteps: Tensor, tokens: Tensor, vector: Tensor | None = None) -> Tensor:
        """Predict the noise in `latents` by the UNet.

        Shape: latents `(B, C, h, w)` of unit variance, timesteps `(B,)` 0 to 999, tokens `(B, S, D)`, size vector
            `(1, E)` or `(B, E)`, None if the UNet reads no sizes -> `(B, C, h, w)`.
        """
        if vector is not None:
            vector = vector.expand(len(latents), -1)
        packed = F.pixel_unshuffle(latents, self.packing)
        if self.token_positions is not None:
            tokens = tokens + self.token_positions.to(tokens)
        # The file of an unCLIP may be in half precision.
        packed, tokens = packed.to(self.unet.dtype), tokens.to(self.unet.dtype)
        vector = vector if vector is None else vector.to(self.unet.dtype)
        predicted = self.unet(packed, timesteps, encoder_hidden_states=tokens, class_labels=vector).sample
        return F.pixel_shuffle(predicted, self.packing)

    def loss(self, latents: Tensor, tokens: Tensor, vector: Tensor | None, *, offset: float, drop: float) -> Tensor:
        """Return the mean squared error of the predicted noise at random timesteps (spec section 7.2).

        Latents, tokens and vector are as of `denoise`. `offset` is the amplitude of the noise that is constant over a
        channel, `drop` the fraction of images whose condition is dropped: 0 unless the null tokens are learned.
        """
        if drop:
            assert self.null_tokens is not None, "only learned null tokens can be trained by dropping"
            dropped = torch.rand(len(tokens), 1, 1, device=tokens.device) < drop
            tokens = torch.where(dropped, self.null_tokens.to(tokens), tokens)
        times = torch.randint(TRAIN_TIMESTEPS, (len(latents),), device=latents.device)
        noise = torch.randn_like(latents)
        noise = noise + offset * torch.randn(*latents.shape[:2], 1, 1, device=latents.device)
        sigma = self.sigmas[times].view(-1, 1, 1, 1)
        noisy = (latents + sigma * noise) / (sigma**2 + 1).sqrt()
        predicted = self.denoise(noisy, times, tokens, vector)
        return (predicted.float() - noise).square().mean()

    def start(self, seeds: Sequence[int], *, offset: float = 0.04) -> Tensor:
        """Return starting latents `(B, C, h, w)` of about unit variance, drawn by the seed of each image.

        `offset` is the amplitude of the noise that is constant over an image.
        """
        draws, sigma = [], training_sigmas()[-1].float()
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            z, noise = torch.randn(2, *self.latent_shape, generator=generator)
            shared = torch.randn(1, generator=generator)
            draws.append((z + sigma * (noise + offset * shared)) / (1 + sigma**2).sqrt())
        return torch.stack(draws).to(self.sigmas.device)

    def random_uncond_tokens(self, tokens: Tensor) -> Tensor:
        """Return the empty condition for tokens `(B, S, D)`, of the same shape, from torch's global random state."""
        if self.null_tokens is not None:
            return self.null_tokens.detach().to(tokens).expand_as(tokens)
        return torch.zeros_like(tokens) if self.unconditional == "zeros" else torch.randn_like(tokens)

    def uncond_tokens(self, seeds: Sequence[int], num_tokens: int) -> Tensor:
        """Return the empty condition `(B, S, D)`: the learned table, random tokens by seed, or zeros."""
        if self.null_tokens is not None:
            return self.null_tokens.detach().expand(len(seeds), -1, -1)
        shape = (num_tokens, self.token_dim)
        if self.unconditional == "zeros":
            return torch.zeros(len(seeds), *shape, device=self.sigmas.device)
        return stream_draws(seeds, shape, stream=1).to(self.sigmas.device)

    def posterior_noise(self, seeds: Sequence[int]) -> Tensor:
        """Return draws `(B, C, h, w)` for `encode`, by the seed of each image."""
        return stream_draws(seeds, self.latent_shape, stream=3).to(self.sigmas.device)  # the refiner uses stream 2

    @torch.no_grad()
    def sample(
        self,
        tokens: Tensor,
        *,
        noise: Tensor,
        uncond_tokens: Tensor | None = None,
        vector: Tensor | None = None,
        steps: int = 38,
        guidance: float = 5.0,
        solver: str = "euler_published",
        init_latents: Tensor | None = None,
        strength: float = 1.0,
    ) -> Tensor:
        """Sample scaled latents `(B, C, h, w)` of images from tokens; `decode` maps them to pixels.

        Args:
            tokens: `(B, S, D)`.
            noise: `(B, C, h, w)` starting latents of unit variance, as `start` returns them.
            uncond_tokens: `(B, S, D)`; required if guidance is not 1.
            vector: `(1, E)` size vector; None takes the model's own image size, not cropped.
            steps: of the solver.
            guidance: classifier-free, 1 for none.
            solver: one of `SOLVERS`.
            init_latents: `(B, C, h, w)` scaled latents of an init image, for example of a blurry reconstruction. They
                are noised and denoised, image to image as in MindEye1 (spec section 8). None starts from noise.
            strength: fraction of the steps that are run from the init latents, 1 for all; the first ones are skipped.
        """
        if tokens.device.type == "cpu":
            self.unet.float()  # convolutions in half precision have no fast kernels there
        scheduler = SOLVERS[solver](steps)
        begin = 0 if init_latents is None else steps - min(int(steps * strength), steps)
        vector = self.size_vector() if vector is None else vector
        if guidance != 1:
            assert uncond_tokens is not None, "guidance needs unconditional tokens"
            tokens = torch.cat([uncond_tokens, tokens])
        latents = noise.float()
        if init_latents is not None and begin == steps:
            return init_latents.float()
        if init_latents is not None and begin:
            latents = scheduler.add_noise(init_latents.float(), latents, scheduler.timesteps[begin : begin + 1])
        elif solver == "euler_published":  # clean latents plus sigma times noise; the other solvers keep unit variance
            latents = latents * (1 + self.sigmas[-1] ** 2).sqrt()

        def predict(scaled: Tensor, times: Tensor) -> Tensor:
            return self.denoise(scaled, times, tokens, vector)

        return integrate(scheduler, latents, predict, guidance=guidance, begin=begin)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode scaled latents `(B, C, h, w)` to images `(B, 3, H, W)` in [0, 1]."""
        with torch.autocast(latents.device.type, enabled=False):  # half precision overflows
            decoded = self.vae.decode(latents.float() / self.vae.config["scaling_factor"]).sample
        return PIXELS[self.output](decoded)

    @torch.no_grad()
    def encode(
        self, images: Tensor, *, draft_range: PublishedOrCorrected = "corrected", noise: Tensor | None = None
    ) -> Tensor:
        """Encode images `(B, 3, H, W)` in [0, 1] to scaled latents `(B, C, h, w)`, in float32.

        `draft_range` is the range of the VAE's input: "corrected" its own, [-1, 1], "published" CLIP's, in which
        MindEye1 encodes blurry images. Noise `(B, C, h, w)` samples from the VAE's posterior; None takes the mode.
        """
        with torch.autocast(images.device.type, enabled=False):
            posterior = self.vae.encode(DRAFT_RANGES[draft_range](images.float())).latent_dist
            latents = posterior.mode() if noise is None else posterior.mean + posterior.std * noise
        return latents * self.vae.config["scaling_factor"]

    def draw(self, tokens: Tensor, seeds: Sequence[int], init_images: Tensor | None = None) -> Tensor:
        """Draw images `(B, 3, H, W)` in [0, 1] as `sampling` says; see `ImageDecoder.draw`."""
        sampling, init_latents = self.sampling, None
        if init_images is not None and sampling.strength < 1:
            resized = F.interpolate(init_images.float(), self.image_size, mode="bilinear").clamp(0, 1)
            if sampling.strength == 0:
                return resized
            noise = self.posterior_noise(seeds) if sampling.draft_posterior == "sampled" else None
            init_latents = self.encode(resized, draft_range=sampling.draft_range, noise=noise)
        latents = self.sample(
            tokens,
            noise=self.start(seeds, offset=sampling.offset),
            uncond_tokens=self.uncond_tokens(seeds, tokens.shape[1]),
            steps=sampling.steps,
            guidance=sampling.guidance,
            solver=sampling.solver,
            init_latents=init_latents,
            strength=sampling.strength,
        )
        return self.decode(latents)

    def autoencode(self, images: Tensor) -> Tensor:
        """Return images after encoding and decoding by the VAE."""
        decoded = self.vae.decode(self.encode(images) / self.vae.config["scaling_factor"]).sample
        return corrected_pixels(decoded)
