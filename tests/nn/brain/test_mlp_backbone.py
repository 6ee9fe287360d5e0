import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mindeye_pl.nn.brain.low_level import LowLevelModel
from mindeye_pl.nn.brain.mlp_backbone import MLPBackbone, ResidualMLP


def test_residual_mlp_against_a_written_out_pass() -> None:
    torch.manual_seed(0)
    network, x = ResidualMLP(12, num_blocks=2).eval(), torch.randn(5, 12)
    nn.init.normal_(network.stem[0].bias)
    hidden = F.gelu(F.layer_norm(x, (12,), network.stem[0].weight, network.stem[0].bias))
    for linear, norm, *_ in network.blocks:
        hidden = hidden + F.gelu(F.layer_norm(hidden @ linear.weight.T + linear.bias, (12,), norm.weight, norm.bias))
    torch.testing.assert_close(network(x), hidden)


def test_dropout_is_the_stem_s_and_the_blocks_own() -> None:
    """Where the blocks add nothing, a hidden channel is zero half of the time in training, and else twice as large."""
    torch.manual_seed(0)
    network = ResidualMLP(40, num_blocks=1, activation=nn.SiLU)
    nn.init.zeros_(network.blocks[0][1].weight)
    nn.init.zeros_(network.blocks[0][1].bias)
    x = torch.randn(40).expand(500, 40)
    still, dropped = network.eval()(x), network.train()(x)
    zero = dropped == 0
    assert zero.float().mean() == pytest.approx(0.5, abs=0.02)
    torch.testing.assert_close(dropped[~zero], 2 * still[~zero])


def test_without_bias_there_is_none_but_the_norms() -> None:
    names = {name for name, _ in ResidualMLP(4, num_blocks=1, bias=False).named_parameters() if "bias" in name}
    assert names == {"stem.0.bias", "blocks.0.1.bias"}


@pytest.mark.parametrize("num_tokens", [3, 1])
def test_retrieval_reads_the_tokens_one_by_one(num_tokens: int) -> None:
    torch.manual_seed(0)
    network = MLPBackbone(12, num_tokens, 8, num_blocks=1, retrieval_dim=20).eval()
    tokens, retrieval = network(torch.randn(4, 12))
    assert tokens.shape == retrieval.shape == (4, num_tokens, 8)
    torch.testing.assert_close(network.retrieval_head(tokens[2:3, -1]), retrieval[2:3, -1])


def test_low_level_model_s_subjects_share_all_but_the_alignment() -> None:
    torch.manual_seed(0)
    model = LowLevelModel([7, 5], 8, num_blocks=1, latent_size=8, widths=(8, 8, 8)).eval()
    first, second = model.predict(torch.zeros(2, 7)), model.predict(torch.zeros(2, 5), subject_index=1)
    assert first.latents.shape == (2, 4, 8, 8)
    assert first.maps.shape == (2, 4, 512)
    torch.testing.assert_close(first, second)  # nothing has a bias before the first norm
    assert not torch.allclose(model.predict(torch.randn(2, 7)).latents, first.latents)
