"""The shipped unCLIP of four steps draws what its teacher draws."""

import numpy as np
import torch

from mindeye_pl.config import compose_config
from mindeye_pl.data.simulated.rendering import render
from mindeye_pl.data.simulated.world import stimulus_scene
from mindeye_pl.engine.run import Run
from mindeye_pl.steps.brain.reconstructor import sampling_of
from mindeye_pl.steps.inputs.frozen_models import Frozen
from mindeye_pl.weights.loaders import bundled


def test_four_steps_are_near_to_the_teachers_ten() -> None:
    """Nearer than the teacher without guidance, from the same noise; the scenes are of no training."""
    scenes = np.stack([render(stimulus_scene(8, id_), 64) for id_ in range(10**6, 10**6 + 8)])
    tokens = bundled.load_embedder()(torch.from_numpy(scenes).float())
    drawn = {}
    for name, overrides in {
        "student": ["unclip=laptop_4steps"],
        "teacher": ["unclip=laptop"],
        "without": ["unclip=laptop", "unclip.steps=4", "unclip.guidance=1"],
    }.items():
        frozen = Run(compose_config(overrides)).open(Frozen("unclip"))
        unclip = frozen.load()
        unclip.sampling = sampling_of(frozen.settings)
        drawn[name] = unclip.draw(tokens, range(8))
    distance = {name: float((images - drawn["teacher"]).square().mean()) for name, images in drawn.items()}
    assert distance["student"] < 0.3 * distance["without"]
