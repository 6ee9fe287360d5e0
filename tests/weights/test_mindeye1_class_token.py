"""The published checkpoint of MindEye1's class-token model, whose prior is a text-to-image model's."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.models.mindeye import MindEye1
from mindeye_pl.weights.registry import load_published, save_published
from tests.models.tiny import alignment, diffusion_model, prior, residual_mlp

#: Keys of the prior beside those that every prior has, and their shapes at width 16, with 6 tokens and 50 times.
OWN_KEYS = {
    "net.learned_query": (16,),
    "net.null_text_encodings": (1, 6, 16),
    "net.null_text_embeds": (1, 1, 16),
    "net.null_image_embed": (1, 16),
    "net.to_time_embeds.0.weight": (50, 16),
    "net.causal_transformer.layers.1.1.3.g": (64,),
}


def model(**changes: object) -> MindEye1:
    torch.manual_seed(0)
    options = {"layout": "causal", "padding": 6, "time_table": 50, "inner_norm": True, "target_scale": "sqrt_width"}
    causal = prior(1, depth=2, timesteps=50, **(options | changes))
    return MindEye1(alignment([7], 8), residual_mlp(8, 1, num_blocks=2, retrieval_dim=12), prior=causal).eval()


@pytest.mark.parametrize("changes", [{}, {"time_table": 0, "inner_norm": False}], ids=["table", "sinusoids"])
def test_round_trip(tmp_path: Path, changes: dict[str, object]) -> None:
    written, path, again = model(**changes), tmp_path / "last.pth", tmp_path / "again.pth"
    save_published("mindeye1", written, path)
    read = load_published("mindeye1", path)
    save_published("mindeye1", read, again)
    first, second = (torch.load(file, weights_only=True)["model_state_dict"] for file in (path, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    voxels, draws = torch.randn(3, 7), torch.randn(51, 3, 1, 16)
    seen, wanted = read.predict(voxels), written.predict(voxels)
    assert torch.equal(seen.retrieval, wanted.retrieval)
    for steps in (10, 50):
        sampled = read.prior.sample(seen.tokens, steps=steps, noise=draws)
        assert torch.equal(sampled, written.prior.sample(wanted.tokens, steps=steps, noise=draws))  # type: ignore[union-attr]
    torch.manual_seed(1)
    reconstructed = read.sample_tokens(seen.tokens)
    torch.manual_seed(1)
    assert torch.equal(reconstructed, read.prior.sample(seen.tokens)), "the target is not normalised, nor is the sample"


def test_keys_and_shapes_of_the_file(tmp_path: Path) -> None:
    save_published("mindeye1", model(), tmp_path / "last.pth")
    state = torch.load(tmp_path / "last.pth", weights_only=True)["model_state_dict"]
    assert {key: tuple(state[key].shape) for key in OWN_KEYS} == OWN_KEYS
    assert "net.null_brain_embeds" not in state
    assert "net.to_time_embeds.0.1.net.2.weight" not in state


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"net.null_brain_embeds": torch.zeros(1, 16)}, "no MindEye1 class-token checkpoint.*null_brain_embeds"),
        ({"net.learned_query": torch.zeros(15)}, r"another architecture.*\(1, 15\).*\(1, 16\)"),
        ({"net.learned_query": torch.tensor(1.0)}, "another architecture.*position_query"),
        ({"net.causal_transformer.layers.1.1.3.g": None}, "another architecture.*inner_norm.*missing"),
    ],
)
def test_another_content_is_refused(tmp_path: Path, change: dict[str, Tensor | None], words: str) -> None:
    path = tmp_path / "last.pth"
    save_published("mindeye1", model(), path)
    state = torch.load(path, weights_only=True)["model_state_dict"] | change
    torch.save({"model_state_dict": {key: value for key, value in state.items() if value is not None}}, path)
    with pytest.raises(UserError, match=words) as found:
        load_published("mindeye1", path)
    assert "\n" not in str(found.value)


def test_causal_layout_against_a_written_out_pass() -> None:
    """[padding | brain | time | noisy | query] through the layers, the masked softmax written out."""
    torch.manual_seed(0)
    options = {"layout": "causal", "padding": 4, "time_table": 20, "inner_norm": True}
    model = diffusion_model(1, depth=2, timesteps=20, **options).eval()
    network, transformer = model.network, model.network.transformer
    for layer in transformer.feed_forward:
        torch.nn.init.normal_(layer.inner_norm.gain)
    noisy, brain = torch.randn(2, 3, 1, 16)
    times = torch.tensor([0, 7, 19])
    time, padding = network.time_embedding.weight[times, None], network.padding_tokens.repeat(3, 1, 1)
    x = torch.cat([padding, brain, time, noisy, network.position_query.repeat(3, 1, 1)], dim=1)  # (3, 8, 16)
    places = torch.arange(8)
    seen = torch.cat([torch.ones(8, 1, dtype=torch.bool), places[:, None] >= places[None, :]], dim=1)  # null key first
    for attention, feed_forward in zip(transformer.attention, transformer.feed_forward, strict=True):
        normed = attention.norm(x)
        queries = transformer.rotary(attention.to_queries(normed).view(3, 8, 2, 8).transpose(1, 2))
        key, value = attention.to_key_value(normed).chunk(2, -1)
        key = torch.cat([attention.null_key_value[0].repeat(3, 1, 1), transformer.rotary(key)], 1)
        value = torch.cat([attention.null_key_value[1].repeat(3, 1, 1), value], 1)
        unit = [t / t.norm(dim=-1, keepdim=True) for t in (queries, key)]
        logits = 16 * torch.einsum("bhid,bjd->bhij", *unit) + transformer.position_bias(8, 9)
        weights = logits.exp() * seen
        weights = weights / weights.sum(-1, keepdim=True)
        attended = torch.einsum("bhij,bjd->bihd", weights, value).flatten(2)
        x = x + attention.out_norm(attention.to_out(attended))
        raised, gate = feed_forward.expand(feed_forward.norm(x)).chunk(2, -1)
        x = x + feed_forward.contract(feed_forward.inner_norm(raised * gate * gate.sigmoid()))
    wanted = transformer.project_out(transformer.norm(x))[:, -1:]
    torch.testing.assert_close(model.denoise(noisy, times, brain), wanted, rtol=1e-4, atol=1e-5)
