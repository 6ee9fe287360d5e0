"""The laptop's VAE, trained on images.

Legend: B batch, C latent channels, h and w latent size.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mindeye_pl.data.image_sources import Images
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Inputs, Work
from mindeye_pl.models.foundation import VAETraining
from mindeye_pl.nn.diffusion.builders import build_vae
from mindeye_pl.steps.foundation.images import Prepared, embed_all, held_out_ids
from mindeye_pl.steps.foundation.training import TRAINING_KEYS, FoundationTraining, sizes_of
from mindeye_pl.steps.inputs.embeddings import EmbeddingCache
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.store.fingerprint import fingerprint_file
from mindeye_pl.weights.loaders import bundled
from mindeye_pl.weights.sized_safetensors import save_own

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

#: Images encoded at once.
_BATCH_SIZE = 64


class PretrainVAE(FoundationTraining):
    """Trains the VAE."""

    name = "pretrain_vae"
    title = "VAE"
    keys = (*TRAINING_KEYS, "foundation.vae")

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Train, and write the weights with the scaling factor of the held-out images' latents."""
        torch.manual_seed(settings.seed)
        own, images = settings.foundation.vae, inputs["images"]
        sizes = {**sizes_of(own), "image_size": images.image_size}
        network = build_vae(**sizes)
        model = VAETraining(network, max_lr=own.max_lr, kl_scale=own.kl_scale)

        @torch.no_grad()
        def save() -> None:
            network.eval()
            ids = held_out_ids(images, settings.foundation.images.num_validation)
            parts = torch.from_numpy(images.read(ids)).float().split(_BATCH_SIZE)
            latents = torch.cat([network.encode(2 * part - 1).latent_dist.mode() for part in parts])
            scaled = sizes | {"scaling_factor": round(1 / float(latents.std()), 5)}
            save_own(work.folder / bundled.VAE, network.state_dict(), scaled)

        self.fit(model, {"images": Prepared(images)}, len(images), settings, work, save=save)


PRETRAIN_VAE = PretrainVAE()


def vae_moments(folder: Path, images: Images, cache: EmbeddingCache) -> TokenStore:
    """Return the store of the trained VAE's posterior of all images, rows `(2 C, h * w)`.

    Args:
        folder: of the finished `PRETRAIN_VAE`.
        images: all.
        cache: of embeddings.
    """
    vae, by = bundled.load_vae(folder), {"vae": fingerprint_file(folder / bundled.VAE)}
    title, build = "with the trained VAE", partial(moments_of, vae)
    return embed_all(PRETRAIN_VAE.name, images, cache, moments_shape(vae), build, by=by, title=title)


def moments_shape(vae: "AutoencoderKL") -> tuple[int, int]:
    """Return the shape `(2 C, h * w)` of an image's moments, for squares of the VAE's own size."""
    side = vae.config["sample_size"] // 2 ** (len(vae.config["block_out_channels"]) - 1)
    return 2 * vae.config["latent_channels"], side**2


def moments_of(vae: "AutoencoderKL", device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return a function of images `(B, 3, H, W)` in [0, 1] to the moments of their posterior, `(B, 2 C, h * w)`.

    It works in float32, since half precision overflows.
    """
    vae.to(device)  # type: ignore[arg-type]  # the library's decorator hides its arguments
    return lambda images: vae.encode(2 * images - 1).latent_dist.parameters.flatten(2)
