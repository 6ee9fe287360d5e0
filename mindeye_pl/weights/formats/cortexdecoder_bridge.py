"""CortexDecoder's published bridges, `clip_bridge.safetensors` and `vgg_bridge.safetensors`.

The layers are those of the training notebooks in github.com/teooi/CortexDecoder (September 2026). They have 39,284,864
and 43,724,288 parameters, the 39.3 M and 43.7 M of the model card. The later code that the card names (`code/v2`) has
not been read. Heads, order of the norms and activation are not in a file; the notebooks have 8 heads, post-norm, ReLU.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.brain.token_bridge import TokenBridge
from mindeye_pl.weights.formats.published_format import PublishedFormat
from mindeye_pl.weights.formats.renaming import count

_PREFIXES = {
    "bridge.query_embed": "queries",
    "bridge.brain_proj.": "to_hidden.",
    "bridge.brain_norm.": "norm.",
    "bridge.decoder.layers.{i}.": "decoder.layers.{i}.",
    "bridge.output_proj.": "to_tokens.",
}


class _BridgeFormat(PublishedFormat):
    def to_own(self, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
        return {key: value.float() for key, value in super().to_own(state, path).items()}

    def to_published(self, model: TokenBridge) -> dict[str, Tensor]:
        return self.renaming.to_published(model.state_dict())

    def build(self, state: Mapping[str, Tensor], path: Path, *, heads: int = 8) -> TokenBridge:
        """Build the bridge; `heads` of its attention, which no weight tells."""
        shape = self.shapes(state, path)
        (num_tokens, hidden_dim), token_dim = shape("bridge.query_embed"), shape("bridge.output_proj.weight")[0]
        projection = "bridge.brain_proj.weight"
        feature_dim = shape(projection)[1] if projection in state else hidden_dim
        if heads < 1 or hidden_dim % heads:
            raise UserError(f"{path}: heads do not divide the width", got=heads, expected=f"a divisor of {hidden_dim}")
        return TokenBridge(
            feature_dim,
            num_tokens,
            token_dim,
            hidden_dim=hidden_dim,
            layers=count(state, "bridge.decoder.layers.{i}."),
            heads=heads,
            feed_forward_dim=shape("bridge.decoder.layers.0.linear1.weight")[0],
        )


#: The released files are plain state dicts; training checkpoints hold it as `model`, beside the optimiser's state.
FORMAT = _BridgeFormat("CortexDecoder bridge", _PREFIXES, state_key="model")
