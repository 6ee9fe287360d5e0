"""The published token converter: its format, and what is refused."""

from pathlib import Path

import pytest
import torch

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.captioner import TokenConverter
from mindeye_pl.weights.registry import load_published


def published(**more: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
    state = {
        "linear1.weight": torch.randn(5, 6),
        "linear1.bias": torch.randn(5),
        "linear2.weight": torch.randn(24, 8),
        "linear2.bias": torch.randn(24),
    }
    return {"model_state_dict": state | more}


def test_published_format(tmp_path: Path) -> None:
    path, content = tmp_path / "bigG_to_L_epoch8.pth", published()
    torch.save(content, path)
    converter = load_published("bigg_to_l", path)
    state, tokens = content["model_state_dict"], torch.randn(2, 6, 8)
    mixed = (state["linear1.weight"] @ tokens) + state["linear1.bias"][:, None]
    torch.testing.assert_close(converter(tokens), mixed @ state["linear2.weight"].T + state["linear2.bias"])


def test_published_size_on_the_meta_device() -> None:
    with torch.device("meta"):
        converter = TokenConverter()
    assert {key: tuple(value.shape) for key, value in converter.state_dict().items()} == {
        "over_tokens.weight": (257, 256),
        "over_tokens.bias": (257,),
        "over_channels.weight": (1024, 1664),
        "over_channels.bias": (1024,),
    }


def test_a_key_left_over(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(published(**{"linear3.weight": torch.zeros(1)}), path)
    with pytest.raises(UserError, match=r"no token converter .*linear3"):
        load_published("bigg_to_l", path)
