"""Captions from tokens: the converter's formula, and GIT fed with features against GIT fed with an image."""

import pytest
import torch
from transformers import GitConfig, GitForCausalLM

from mindeye_pl.nn.diffusion.captioner import Captioner, TokenConverter

VISION = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}


@pytest.fixture
def git() -> GitForCausalLM:
    torch.manual_seed(0)
    config = GitConfig(
        vision_config=VISION,
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return GitForCausalLM(config).eval()


def test_converter_is_two_matrices() -> None:
    converter = TokenConverter(6, 8, num_features=5, feature_dim=24)
    tokens = torch.randn(3, 6, 8)
    over, channels = converter.over_tokens, converter.over_channels
    mixed = torch.einsum("fs,bsd->bfd", over.weight, tokens) + over.bias[:, None]
    torch.testing.assert_close(converter(tokens), mixed @ channels.weight.T + channels.bias)


def test_git_gives_the_same_caption_for_features_and_image(git: GitForCausalLM) -> None:
    """Given what its own tower makes of an image, it says what it says of the image."""
    images = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        features = git.git.image_encoder(images).last_hidden_state  # (3, 5, 24)
        wanted = git.generate(pixel_values=images, max_length=12, do_sample=False)
    converter = TokenConverter(5, 24, num_features=5, feature_dim=24)
    converter.load_state_dict(
        {
            "over_tokens.weight": torch.eye(5),
            "over_tokens.bias": torch.zeros(5),
            "over_channels.weight": torch.eye(24),
            "over_channels.bias": torch.zeros(24),
        }
    )
    seen = Captioner(converter, git)(features, max_length=12)
    assert seen.shape[1] == 12  # whatever the longest caption is
    assert torch.equal(seen[:, : wanted.shape[1]], wanted)
    assert (seen[:, wanted.shape[1] :] == 0).all()


def test_a_batch_of_one(git: GitForCausalLM) -> None:
    captioner = Captioner(TokenConverter(6, 8, num_features=5, feature_dim=24), git)
    assert captioner(torch.randn(1, 6, 8)).shape[0] == 1


def test_loss_is_that_of_git_itself(git: GitForCausalLM) -> None:
    """Against transformers' own loss, with the padding left out."""
    converter = TokenConverter(6, 8, num_features=5, feature_dim=24)
    captioner = Captioner(converter, git)
    tokens, words = torch.randn(2, 6, 8), torch.tensor([[1, 7, 9, 11, 2], [1, 8, 2, 0, 0]])
    features = converter(tokens).unsqueeze(1)
    labels = torch.where(words == 0, -100, words)
    wanted = git(input_ids=words, attention_mask=(words != 0).long(), pixel_values=features, labels=labels).loss
    torch.testing.assert_close(captioner.loss(tokens, words), wanted)
