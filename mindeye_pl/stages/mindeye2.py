"""MindEye2: functional alignment, backbone and diffusion prior, trained in one step."""

from mindeye_pl.stages.backbone import Backbone
from mindeye_pl.stages.brain_to_tokens import BrainToTokens


class MindEye2(BrainToTokens):
    """The MindEye2 system (arXiv 2403.11207): mixer blocks, and a low-level branch on their hidden vector."""

    backbone: Backbone
