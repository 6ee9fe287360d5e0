"""The published converter from bigG tokens to ViT-L features (MindEye2, spec section 8)."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mindeye_pl.nn.diffusion.captioner import TokenConverter
from mindeye_pl.weights.formats.published_format import PublishedFormat


class _TokenConverterFormat(PublishedFormat):
    def build(self, state: Mapping[str, Tensor], path: Path) -> TokenConverter:
        shape = self.shapes(state, path)
        (num_features, num_tokens), (feature_dim, token_dim) = shape("linear1.weight"), shape("linear2.weight")
        return TokenConverter(num_tokens, token_dim, num_features=num_features, feature_dim=feature_dim)


FORMAT = _TokenConverterFormat("token converter", {"linear1.": "over_tokens.", "linear2.": "over_channels."})
