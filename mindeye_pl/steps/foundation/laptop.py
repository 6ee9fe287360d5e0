"""The laptop's CLIP, VAE and captioner, trained on simulated scenes and their captions.

Legend: B batch, N images, L words, S tokens, D token width, C latent channels, h and w latent size.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.data.image_sources import Images, Table
from mindeye_pl.data.simulated.vocabulary import CONTEXT_LENGTH, MARKS, tokenize_captions, vocabulary
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Made, Work
from mindeye_pl.models.foundation import CaptionTraining, CLIPTraining, VAETraining
from mindeye_pl.nn.clip.clip_embedder import CLIPImageEmbedder
from mindeye_pl.nn.diffusion.builders import build_captioner, build_clip, build_vae
from mindeye_pl.steps.foundation.images import Prepared, embed_all, held_out_ids, scene_captions
from mindeye_pl.steps.foundation.training import TRAINING_KEYS, FoundationTraining, sizes_of
from mindeye_pl.steps.inputs.embeddings import EmbeddingCache, Embeddings
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.store.fingerprint import fingerprint_file
from mindeye_pl.weights.files import save_own
from mindeye_pl.weights.loaders import bundled

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

#: Images embedded at once.
_BATCH_SIZE = 256
#: Images that the VAE encodes at once.
_VAE_BATCH_SIZE = 64
#: Images whose tokens are standardised to mean 0 and standard deviation 1.
_NUM_STANDARDISED = 2048


class PretrainCLIP(FoundationTraining):
    """Trains both towers of the CLIP."""

    name = "pretrain_clip"
    title = "CLIP"
    keys = (*TRAINING_KEYS, "foundation.clip")
    needs_scenes = True

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Train, and write the weights with the moments that standardise the tokens."""
        torch.manual_seed(settings.seed)
        own, images = settings.foundation.clip, inputs["images"]
        sizes = {**sizes_of(own), "image_size": images.image_size}
        sizes |= {"vocabulary_size": len(vocabulary()), "context_length": CONTEXT_LENGTH}
        network = build_clip(**sizes)
        words = tokenize_captions([full for full, _ in scene_captions(inputs["scenes"])]).numpy()  # (N, L)
        embedder = CLIPImageEmbedder(network.visual, input_range="corrected")
        network.requires_grad_(True).train()
        network.visual.output_tokens = False  # open_clip's own forward wants the pooled embedding alone
        tables: dict[str, Table] = {"images": Prepared(images, embedder.preprocess), "words": words}
        model = CLIPTraining(network, max_lr=own.max_lr, weight_decay=own.weight_decay)

        def save() -> None:
            network.requires_grad_(False).eval()
            network.visual.output_tokens = True
            mean, std = _token_moments(embedder, images)
            weights = {**network.state_dict(), "standardise.mean": mean, "standardise.std": std}
            save_own(work.folder / bundled.CLIP, weights, sizes)

        self.fit(model, tables, len(images), settings, work, save=save)


PRETRAIN_CLIP = PretrainCLIP()


@torch.no_grad()
def _token_moments(embedder: CLIPImageEmbedder, images: Images) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each token's channels over some images, `(S, D)` each."""
    ids = np.arange(min(_NUM_STANDARDISED, len(images)))
    batches = [ids[i : i + _BATCH_SIZE] for i in range(0, len(ids), _BATCH_SIZE)]
    tokens = torch.cat([embedder(torch.from_numpy(images.read(batch)).float()) for batch in batches])
    return tokens.mean(0), tokens.std(0)


def clip_tokens(folder: Path, images: Images, cache: EmbeddingCache) -> TokenStore:
    """Return the store of tokens of all images, rows `(S, D)`, by the CLIP in a finished folder."""
    embedder, by = bundled.load_embedder(folder), {"clip": fingerprint_file(folder / bundled.CLIP)}
    shape = embedder.num_tokens, embedder.token_dim
    return embed_all(PRETRAIN_CLIP.name, images, cache, shape, embedder.to, by=by, title="with the trained CLIP")


class PretrainCaptioner(FoundationTraining):
    """Trains the captioner."""

    name = "pretrain_captioner"
    title = "Captioner"
    keys = (*TRAINING_KEYS, "foundation.captioner")
    needs_scenes = True

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return images, captions and the trained CLIP."""
        return {**super().inputs(config), "clip": Made(PRETRAIN_CLIP), "embeddings": Embeddings()}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Train, and write the weights."""
        own = settings.foundation.captioner
        tokens = clip_tokens(inputs["clip"], inputs["images"], inputs["embeddings"])
        torch.manual_seed(settings.seed)
        sizes = {**sizes_of(own), "num_tokens": tokens.shape[1], "token_dim": tokens.shape[2]}
        sizes |= {"context_length": CONTEXT_LENGTH, "vocabulary": list(vocabulary()), "marks": list(MARKS)}
        network = build_captioner(**sizes).requires_grad_(True).train()
        words = tokenize_captions([full for full, _ in scene_captions(inputs["scenes"])]).numpy()  # (N, L)
        model = CaptionTraining(network, token_noise=own.token_noise, max_lr=own.max_lr, weight_decay=own.weight_decay)

        def save() -> None:
            save_own(work.folder / bundled.CAPTIONER, network.state_dict(), sizes)

        self.fit(model, {"tokens": tokens, "words": words}, len(tokens), settings, work, save=save)


PRETRAIN_CAPTIONER = PretrainCaptioner()


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
            parts = torch.from_numpy(images.read(ids)).float().split(_VAE_BATCH_SIZE)
            latents = torch.cat([network.encode(2 * part - 1).latent_dist.mode() for part in parts])
            scaled = sizes | {"scaling_factor": round(1 / float(latents.std()), 5)}
            save_own(work.folder / bundled.VAE, network.state_dict(), scaled)

        self.fit(model, {"images": Prepared(images)}, len(images), settings, work, save=save)


PRETRAIN_VAE = PretrainVAE()


def vae_moments(folder: Path, images: Images, cache: EmbeddingCache) -> TokenStore:
    """Return the store of the posterior of all images, rows `(2 C, h * w)`, by the VAE in a finished folder."""
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
