"""The laptop's CLIP, trained on simulated scenes and their captions."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.data.image_sources import Images, Table
from mindeye_pl.data.simulated.vocabulary import CONTEXT_LENGTH, tokenize_captions, vocabulary
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Inputs, Work
from mindeye_pl.models.foundation import CLIPTraining
from mindeye_pl.nn.clip.clip_embedder import CLIPImageEmbedder
from mindeye_pl.nn.diffusion.builders import build_clip
from mindeye_pl.steps.foundation.images import Prepared, embed_all, scene_captions
from mindeye_pl.steps.foundation.training import TRAINING_KEYS, FoundationTraining, sizes_of
from mindeye_pl.steps.inputs.embeddings import EmbeddingCache
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.store.fingerprint import fingerprint_file
from mindeye_pl.weights.loaders import bundled
from mindeye_pl.weights.sized_safetensors import save_own

#: Images embedded at once.
_BATCH_SIZE = 256
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
        sizes = {
            **sizes_of(own),
            "image_size": images.image_size,
            "vocabulary_size": len(vocabulary()),
            "context_length": CONTEXT_LENGTH,
        }
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
    """Return the store of the trained CLIP's tokens of all images, rows `(S, D)`.

    Args:
        folder: of the finished `PRETRAIN_CLIP`.
        images: all.
        cache: of embeddings.
    """
    embedder, by = bundled.load_embedder(folder), {"clip": fingerprint_file(folder / bundled.CLIP)}
    shape = embedder.num_tokens, embedder.token_dim
    return embed_all(PRETRAIN_CLIP.name, images, cache, shape, embedder.to, by=by, title="with the trained CLIP")
