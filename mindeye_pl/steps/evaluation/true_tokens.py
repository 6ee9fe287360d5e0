"""Images drawn from the test images' own tokens: the ceiling of every model that the same image decoder draws for.

Legend: n test images.
"""

from collections.abc import Mapping

import torch
from omegaconf import DictConfig

from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import RECONSTRUCTIONS, Input, Inputs, Made, Step, Work
from mindeye_pl.models.token_drawer import TokenDrawer, TokenQuery
from mindeye_pl.steps.brain.finetune_generator import FINETUNE_GENERATOR, FinetunedGenerator, trains_generator
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCTIONS as FILE
from mindeye_pl.steps.brain.reconstruct import make_images
from mindeye_pl.steps.brain.reconstructor import ImageModels, sampling_of, unclip_input
from mindeye_pl.steps.inputs.frozen_models import Frozen
from mindeye_pl.steps.inputs.splits import Split, test_data
from mindeye_pl.steps.inputs.targets import Targets

#: Seed of all draws: trainings of any seed share the images.
_SEED = 0


class DrawTrueTokens(Step):
    """Draws the test images of `data.subject` from their own tokens, once for all models with the same unCLIP."""

    name = "draw_true_tokens"
    title = "Images from true tokens"
    keys = ("data.subject", "data.test_split", "trainer.precision")
    runtime_keys = ("trainer", "unclip")
    artifact_type = RECONSTRUCTIONS
    by_all_ranks = True

    def label(self, config: DictConfig) -> str:
        """Return the subject and the unCLIP."""
        return f"subj{config.data.subject:02d}-{config.unclip.name}"

    def tags(self, config: DictConfig) -> list[str]:
        """Return the subject."""
        return [f"subj{config.data.subject:02d}"]

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the test images, their tokens, and the image decoder; nothing starts from a blur."""
        unclip = unclip_input(config)
        found: dict[str, Input] = {
            "data": test_data(config),
            "split": Split(),
            "targets": Targets(),
            "unclip": Frozen("unclip", optional=unclip.optional, without=(*unclip.without, "strength")),
        }
        return found | ({"generator": Made(FINETUNE_GENERATOR)} if trains_generator(config) else {})

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Draw every test image."""
        ids = inputs["data"].test_ids(settings.data.subject, settings.data.test_split, inputs["split"])
        tokens = inputs["targets"].true_tokens(ids)  # (n, S, D)
        generator = FinetunedGenerator(inputs["generator"]) if "generator" in inputs else None
        models = ImageModels(unclip=inputs["unclip"], generator=generator)

        def drawer() -> TokenDrawer:
            decoder = models.load_unclip()
            decoder.sampling = sampling_of(inputs["unclip"].settings)
            return TokenDrawer(decoder, seed=_SEED).eval()

        stimulus_ids = torch.from_numpy(ids)
        make_images(
            stimulus_ids,
            lambda rows: TokenQuery(stimulus_ids[rows], tokens[rows]),
            drawer,
            work.folder / FILE,
            settings,
            announced="drawing {} images from their own tokens",
        )


DRAW_TRUE_TOKENS = DrawTrueTokens()
