"""The published MindEye2 checkpoint (MindEye2, spec sections 2 to 4)."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.models.mindeye import MindEye2
from mindeye_pl.models.parts.alignment import FunctionalAlignment
from mindeye_pl.models.parts.backbone import Backbone
from mindeye_pl.models.parts.low_level import LowLevel
from mindeye_pl.nn.brain.alignment import PerSubjectLinear
from mindeye_pl.nn.brain.backbone import MixerBackbone
from mindeye_pl.nn.brain.low_level import LowLevelHead
from mindeye_pl.weights.deepspeed import is_deepspeed, read_deepspeed
from mindeye_pl.weights.formats.published_systems import PublishedSystem
from mindeye_pl.weights.formats.renaming import count

_PARTS = {
    "ridge.": "alignment.network.",
    "backbone.backbone_linear.": "backbone.network.to_tokens.",
    "backbone.clip_proj.": "backbone.network.retrieval_head.",
    **{
        f"backbone.{published}.{{i}}.{theirs}.": f"backbone.network.{own}.{{i}}.{ours}."
        for published, own in (("mixer_blocks1", "channel_blocks"), ("mixer_blocks2", "sequence_blocks"))
        for theirs, ours in (("0", "0"), ("1.0", "1"), ("1.3", "4"))
    },
    "backbone.blin1.": "low_level.network.from_hidden.",
    "backbone.bnorm.": "low_level.network.norm.",
    "backbone.bupsampler.": "low_level.network.to_latents.",
    "backbone.b_maps_projector.": "low_level.network.to_maps.",
}


def is_mindeye2(state: Mapping[str, Tensor]) -> bool:
    """Return if a state dict has MindEye2's published names."""
    return any(key.startswith(("ridge.", "backbone.backbone_linear.", "diffusion_prior.")) for key in state)


class _MindEye2Format(PublishedSystem):
    def read(self, path: Path) -> dict[str, Tensor]:
        """Return the state dict of a file, or of a folder that DeepSpeed saved."""
        return read_deepspeed(path) if is_deepspeed(path) else super().read(path)

    def to_published(self, model: MindEye2) -> dict[str, Tensor]:
        if (mixer := getattr(model.backbone.network, "mixer", "none")) != "published":
            got, expected = f"fidelity.mixer={mixer}", "fidelity.mixer=published"
            raise UserError("the published code computes another backbone", got=got, expected=expected)
        return self.published_state(model)

    def build(self, state: Mapping[str, Tensor], path: Path) -> MindEye2:
        shape = self.shapes(state, path)
        alignments = count(state, "ridge.linears.{i}.weight")
        token_dim = shape("backbone.clip_proj.2.weight")[0]
        outputs, hidden_dim = shape("backbone.backbone_linear.weight")
        voxel_counts = tuple(shape(f"ridge.linears.{i}.weight")[1] for i in range(alignments))
        num_tokens, num_blocks = outputs // token_dim, count(state, "backbone.mixer_blocks1.{i}.0.weight")
        return MindEye2(
            FunctionalAlignment(PerSubjectLinear(voxel_counts, hidden_dim)),
            Backbone(MixerBackbone(hidden_dim, num_tokens, token_dim, num_blocks=num_blocks)),
            LowLevel(LowLevelHead(hidden_dim)) if "backbone.blin1.weight" in state else None,
            self.build_prior(num_tokens, token_dim, state, path),
        )


FORMAT = _MindEye2Format("MindEye2", _PARTS, prior_prefix="diffusion_prior.")
