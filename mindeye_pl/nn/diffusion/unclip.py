"""The unCLIP: image tokens to the latents of an image, and latents to pixels (MindEye2, spec section 7).

Versatile Diffusion's image flow is one too (MindEye1, spec section 8): tokens of width 768, no vector of sizes.

Legend: B batch, S tokens, D token width, C latent channels, h and w latent size, H and W image size, E length of the
vector of sizes.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindeye_pl.nn.clip.clip_embedder import CLIP_MEAN, CLIP_STD
from mindeye_pl.nn.diffusion.fourier import fourier_features, grid_positions
from mindeye_pl.nn.diffusion.seeds import stream_seed
from mindeye_pl.nn.diffusion.solvers import SOLVERS, TRAIN_TIMESTEPS, integrate, training_sigmas
from mindeye_pl.types import PositiveInt, PublishedOrCorrected

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel


def published_pixels(decoded: Tensor) -> Tensor:
    """What the published script makes of the decoder's output, to suit tokens of washed-out images."""
    return (0.8 * decoded + 0.2).clamp(0, 1)


def corrected_pixels(decoded: Tensor) -> Tensor:
    """[-1, 1] to [0, 1]."""
    return ((decoded + 1) / 2).clamp(0, 1)


PIXELS: dict[PublishedOrCorrected, Callable[[Tensor], Tensor]] = {
    "published": published_pixels,
    "corrected": corrected_pixels,
}


def clip_range(images: Tensor) -> Tensor:
    """What MindEye1 gives the VAE of its blurry image: the range that CLIP reads (spec section 8.4)."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1).to(images) for values in (CLIP_MEAN, CLIP_STD))
    return (images - mean) / std


def vae_range(images: Tensor) -> Tensor:
    """[0, 1] to [-1, 1], which the VAE was trained on."""
    return 2 * images - 1


DRAFT_RANGES: dict[PublishedOrCorrected, Callable[[Tensor], Tensor]] = {"published": clip_range, "corrected": vae_range}


class UnCLIPModel(nn.Module):
    """A latent diffusion model whose condition is CLIP's image tokens.

    Args:
        unet: takes tokens as `encoder_hidden_states` and the vector of sizes through its class embedding, where it has
            one.
        vae: its `scaling_factor` brings latents to about unit variance.
        image_size: (H, W) that it was made for.
        null_tokens: "learned" keeps a table `(S, D)` that stands for "no condition", trained by dropping; "random" has
            none, and standard-normal tokens stand for it, as published for SDXL; "zeros" are Versatile Diffusion's.
        num_tokens: S, for the learned table.
        output: "published" or "corrected" transform of the decoder's output to pixels.
        token_positions: adds a learned table `(S, D)` to the tokens. CLIP's own say where in the image they belong;
            tokens that were standardised place by place do not, and attention cannot know it otherwise.
        packing: side of the square of latents that make one place of the UNet; 1 for SDXL, 2 makes a small model fast.
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
        self.image_size, self.output, self.packing = tuple(image_size), output, packing
        self.null_tokens = (
            nn.Parameter(torch.zeros(num_tokens, unet.config["cross_attention_dim"]))
            if null_tokens == "learned"
            else None
        )
        self.token_positions = (
            nn.Parameter(grid_positions(num_tokens, unet.config["cross_attention_dim"])) if token_positions else None
        )
        sigmas = training_sigmas().float() if torch.get_default_device().type != "meta" else torch.empty(1000)
        self.register_buffer("sigmas", sigmas, persistent=False)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the images that it was made for."""
        shrink = 2 ** (len(self.vae.config["block_out_channels"]) - 1)
        rows, columns = self.image_size
        return self.vae.config["latent_channels"], rows // shrink, columns // shrink

    @property
    def knows_sizes(self) -> bool:
        """Whether the UNet is told the original size and the crop."""
        return self.unet.config["class_embed_type"] is not None

    def size_vector(self, original: tuple[int, int] | None = None, crop: tuple[int, int] = (0, 0)) -> Tensor | None:
        """The original size and the crop's corner as Fourier features, `(1, E)`; None where the UNet is not told them.

        Args:
            original: (H, W) in pixels; None is the model's own.
            crop: (top, left) in pixels.
        """
        if not self.knows_sizes:
            return None
        return self.size_vectors(torch.tensor([[*(original or self.image_size), *crop]], device=self.sigmas.device))

    @property
    def token_dim(self) -> int:
        """D."""
        return self.unet.config["cross_attention_dim"]

    def size_vectors(self, size_and_crop: Tensor) -> Tensor:
        """Sizes and corners of many images as Fourier features.

        Shape:
            size_and_crop `(B, 4)`: original height and width, top and left of the crop, in pixels -> `(B, E)`.
        """
        width = self.unet.config["projection_class_embeddings_input_dim"] // 4
        return fourier_features(size_and_crop.flatten(), width).view(len(size_and_crop), -1)  # (B, 4 * E / 4)

    def denoise(self, latents: Tensor, timesteps: Tensor, tokens: Tensor, vector: Tensor | None = None) -> Tensor:
        """The UNet: the noise in `latents`.

        Shape:
            latents `(B, C, h, w)` of unit variance, timesteps `(B,)` 0 to 999, tokens `(B, S, D)`, vector `(1, E)` or
            `(B, E)`, None where the UNet is not told sizes -> `(B, C, h, w)`.
        """
        if vector is not None:
            vector = vector.expand(len(latents), -1)
        packed = F.pixel_unshuffle(latents, self.packing)
        if self.token_positions is not None:
            tokens = tokens + self.token_positions.to(tokens)
        predicted = self.unet(packed, timesteps, encoder_hidden_states=tokens, class_labels=vector).sample
        return F.pixel_shuffle(predicted, self.packing)

    def loss(self, latents: Tensor, tokens: Tensor, vector: Tensor | None, *, offset: float, drop: float) -> Tensor:
        """Mean squared error of the predicted noise at random timesteps (spec section 7.2).

        Args:
            latents: `(B, C, h, w)`, scaled.
            tokens: `(B, S, D)`.
            vector: see `denoise`.
            offset: amplitude of the noise that a whole channel shares.
            drop: share of images that lose their condition; 0 unless the null tokens are learned.
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
        """Starting latents `(B, C, h, w)` of about unit variance, by the seed of each image.

        Args:
            seeds: one for each image; the same seed gives the same image in whatever batch.
            offset: amplitude of the noise that a whole image shares.
        """
        draws, sigma = [], training_sigmas()[-1].float()
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            z, noise = torch.randn(2, *self.latent_shape, generator=generator)
            shared = torch.randn(1, generator=generator)
            draws.append((z + sigma * (noise + offset * shared)) / (1 + sigma**2).sqrt())
        return torch.stack(draws).to(self.sigmas.device)

    def uncond_tokens(self, seeds: Sequence[int], num_tokens: int) -> Tensor:
        """What stands for "no condition", `(B, S, D)`: the learned table, random tokens by seed, or zeros."""
        if self.null_tokens is not None:
            return self.null_tokens.detach().expand(len(seeds), -1, -1)
        shape = (num_tokens, self.unet.config["cross_attention_dim"])
        if self.unconditional == "zeros":
            return torch.zeros(len(seeds), *shape, device=self.sigmas.device)
        return self._draws(seeds, shape, stream=1)

    def posterior_noise(self, seeds: Sequence[int]) -> Tensor:
        """Draws `(B, C, h, w)` for `encode`, by the seed of each image."""
        return self._draws(seeds, self.latent_shape, stream=3)  # the refiner's is the second

    def _draws(self, seeds: Sequence[int], shape: Sequence[int], *, stream: int) -> Tensor:
        """Standard-normal draws `(B, *shape)` of another stream than that of the starting latents."""
        generators = [torch.Generator().manual_seed(stream_seed(seed, stream)) for seed in seeds]
        return torch.stack([torch.randn(*shape, generator=g) for g in generators]).to(self.sigmas.device)

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
        draft: Tensor | None = None,
        strength: float = 1.0,
    ) -> Tensor:
        """Latents of the images that tokens speak of.

        Args:
            tokens: `(B, S, D)`.
            noise: `(B, C, h, w)` starting latents of unit variance, as `start` gives them.
            uncond_tokens: `(B, S, D)`; needed where guidance is not 1.
            vector: `(1, E)`; None is the model's own image size, not cropped.
            steps: of the solver.
            guidance: classifier-free, 1 for none.
            solver: one of `SOLVERS`.
            draft: `(B, C, h, w)` scaled latents of a first guess, a blurry reconstruction for instance: they are noised
                and drawn again, image to image as in MindEye1 (spec section 8). None starts from noise.
            strength: share of the steps that are taken from a draft, 1 for all; the first ones are left out.

        Returns:
            `(B, C, h, w)`, scaled; `decode` makes pixels of them.
        """
        scheduler = SOLVERS[solver](steps)
        begin = 0 if draft is None else steps - min(int(steps * strength), steps)
        vector = self.size_vector() if vector is None else vector
        guided = guidance != 1
        assert uncond_tokens is not None or not guided, "guidance needs unconditional tokens"
        conditions = torch.cat([uncond_tokens, tokens]) if guided and uncond_tokens is not None else tokens
        latents = noise.float()
        if draft is not None and begin == steps:
            return draft.float()
        if draft is not None and begin:
            latents = scheduler.add_noise(draft.float(), latents, scheduler.timesteps[begin : begin + 1])
        elif solver == "euler_published":  # clean latents plus sigma times noise; the other solvers keep unit variance
            latents = latents * (1 + self.sigmas[-1] ** 2).sqrt()

        def predict(scaled: Tensor, times: Tensor) -> Tensor:
            return self.denoise(scaled, times, conditions, vector)

        return integrate(scheduler, latents, predict, guidance=guidance, begin=begin)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents `(B, C, h, w)` to pixels `(B, 3, H, W)` in [0, 1], in float32: half precision overflows."""
        with torch.autocast(latents.device.type, enabled=False):
            decoded = self.vae.decode(latents.float() / self.vae.config["scaling_factor"]).sample
        return PIXELS[self.output](decoded)

    @torch.no_grad()
    def encode(
        self, images: Tensor, *, draft_range: PublishedOrCorrected = "corrected", noise: Tensor | None = None
    ) -> Tensor:
        """Pixels `(B, 3, H, W)` in [0, 1] to their scaled latents `(B, C, h, w)`, in float32.

        Args:
            images: that are encoded.
            draft_range: the range in which the VAE sees them. "corrected" is its own, [-1, 1]; "published" is CLIP's,
                in which MindEye1 encodes its blurry images.
            noise: `(B, C, h, w)` standard-normal draws that say which of the posterior's latents are taken; None takes
                the mode.
        """
        with torch.autocast(images.device.type, enabled=False):
            posterior = self.vae.encode(DRAFT_RANGES[draft_range](images.float())).latent_dist
            latents = posterior.mode() if noise is None else posterior.mean + posterior.std * noise
        return latents * self.vae.config["scaling_factor"]
