"""Stores of embeddings: of the images as they are, and as the published evaluation saves them."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from hydra.core.global_hydra import GlobalHydra

from mindeye_pl.config import compose_config
from mindeye_pl.engine.run import Run
from mindeye_pl.steps.inputs.targets import Targets


def test_targets_of_images_that_were_saved_at_another_side(finished: Path) -> None:
    GlobalHydra.instance().clear()
    run = Run(compose_config(["+experiment=finetune_subj01_1h", "scale=tiny", f"paths.outputs={finished}"]))
    targets, ids = run.open(Targets()), np.arange(3)
    images = torch.from_numpy(targets.dataset.stimuli.read(ids)).float()
    embed = targets.embedder.load()
    saved = F.interpolate(images, size=(48, 48), mode="bilinear", align_corners=False)
    with torch.inference_mode():
        by_hand, as_they_are = embed(saved).half().numpy(), embed(images).half().numpy()
    np.testing.assert_allclose(targets.tokens(ids, side=48)[ids], by_hand, atol=2e-3)
    np.testing.assert_allclose(targets.tokens(ids)[ids], as_they_are, atol=2e-3)
    assert not np.allclose(by_hand, as_they_are, atol=2e-2)
    assert targets.tokens(ids, side=32).folder == targets.tokens(ids).folder, "they have this side already"
