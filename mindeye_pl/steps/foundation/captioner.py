"""The laptop's captioner, trained on the tokens of simulated scenes and their captions."""

from collections.abc import Mapping

import torch
from omegaconf import DictConfig

from mindeye_pl.data.simulated.vocabulary import CONTEXT_LENGTH, MARKS, tokenize_captions, vocabulary
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Made, Work
from mindeye_pl.models.foundation import CaptionTraining
from mindeye_pl.nn.diffusion.builders import build_captioner
from mindeye_pl.steps.foundation.clip import PRETRAIN_CLIP, clip_tokens
from mindeye_pl.steps.foundation.images import scene_captions
from mindeye_pl.steps.foundation.training import TRAINING_KEYS, FoundationTraining, sizes_of
from mindeye_pl.steps.inputs.embeddings import Embeddings
from mindeye_pl.weights.loaders import bundled
from mindeye_pl.weights.sized_safetensors import save_own


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
        sizes = {
            **sizes_of(own),
            "num_tokens": tokens.shape[1],
            "token_dim": tokens.shape[2],
            "context_length": CONTEXT_LENGTH,
            "vocabulary": list(vocabulary()),
            "marks": list(MARKS),
        }
        network = build_captioner(**sizes).requires_grad_(True).train()
        words = tokenize_captions([full for full, _ in scene_captions(inputs["scenes"])]).numpy()  # (N, L)
        model = CaptionTraining(network, token_noise=own.token_noise, max_lr=own.max_lr, weight_decay=own.weight_decay)

        def save() -> None:
            save_own(work.folder / bundled.CAPTIONER, network.state_dict(), sizes)

        self.fit(model, {"tokens": tokens, "words": words}, len(tokens), settings, work, save=save)


PRETRAIN_CAPTIONER = PretrainCaptioner()
