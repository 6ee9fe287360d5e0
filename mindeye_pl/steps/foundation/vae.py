"""The laptop's VAE, trained on images."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mindeye_pl.distributed.ranks import on_main_process
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.models.foundation import VAETraining
from mindeye_pl.nn.diffusion.builders import build_vae
from mindeye_pl.steps.foundation.images import (
    Prepared,
    _embedded,
    fit_foundation,
    foundation_spec,
    held_out_ids,
    image_steps,
    images_of,
    tables_of,
)
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.weights.loaders import bundled as laptop
from mindeye_pl.weights.sized_safetensors import save_own

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL


def _build_vae(run: Run, folder: Path) -> None:
    torch.manual_seed(run.config.seed)
    settings = run.config.foundation.vae
    sizes = {
        **run.plain("foundation.vae.sizes")["foundation.vae.sizes"],
        "image_size": run.config.foundation.images.image_size,
    }
    network = build_vae(**sizes)
    images = images_of(run)
    model = VAETraining(network, max_lr=settings.max_lr, kl_scale=settings.kl_scale)
    fit_foundation(run, PRETRAIN_VAE, folder, model, tables_of(run, "vae", {"images": Prepared(images)}))

    def write() -> None:
        network.eval()
        with torch.no_grad():
            held_out = torch.from_numpy(images.read(held_out_ids(run))).float()
            latents = torch.cat([network.encode(2 * part - 1).latent_dist.mode() for part in held_out.split(64)])
        sizes["scaling_factor"] = round(1 / float(latents.std()), 5)
        save_own(folder / laptop.VAE, network.state_dict(), sizes)

    on_main_process(write)


PRETRAIN_VAE = Step("pretrain_vae", lambda run: foundation_spec(run, "vae"), image_steps, _build_vae, on_all_ranks=True)


def vae_moments(run: Run) -> TokenStore:
    """The posterior that the trained VAE has of every image, rows `(2 C, h * w)`."""
    vae = laptop.load_vae(run.make(PRETRAIN_VAE).folder)
    return _embedded(run, PRETRAIN_VAE, moments_shape(vae), partial(moments_of, vae))


def moments_shape(vae: "AutoencoderKL") -> tuple[int, int]:
    """Of one row of moments: (2 C, h * w), for squares of the VAE's own size."""
    side = vae.config["sample_size"] // 2 ** (len(vae.config["block_out_channels"]) - 1)
    return 2 * vae.config["latent_channels"], side**2


def moments_of(vae: "AutoencoderKL", device: torch.device) -> Callable[[Tensor], Tensor]:
    """From images `(B, 3, H, W)` in [0, 1] to the moments of their posterior, in float32: half overflows."""
    vae.to(device)  # type: ignore[arg-type]  # the library's decorator hides its arguments
    return lambda images: vae.encode(2 * images - 1).latent_dist.parameters.flatten(2)
