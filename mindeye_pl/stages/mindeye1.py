"""MindEye1: MindEye2's parts around another backbone, and a low-level model apart from them."""

from mindeye_pl.stages.backbone import ResidualBackbone
from mindeye_pl.stages.brain_to_tokens import BrainToTokens


class MindEye1(BrainToTokens):
    """The MindEye1 system (arXiv 2305.18274): a residual MLP, and a prior whose samples are renormalised.

    Its functional alignment is the first linear map of the published backbone. What a blurry reconstruction is made
    from is a model of its own.
    """

    backbone: ResidualBackbone
