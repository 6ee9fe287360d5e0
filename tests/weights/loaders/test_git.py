"""The published captioner from files in the hub's format, made small by the test."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GitConfig, GitForCausalLM, PreTrainedTokenizerFast

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.captioner import Captioner, TokenConverter
from mindeye_pl.weights.loaders.git import load_git_captioner

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "red", "dog"]


@pytest.fixture
def git(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    vision = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = GitConfig(
        vision_config=vision | {"image_size": 16, "patch_size": 8},
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    folder = tmp_path / "git"
    GitForCausalLM(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    ).save_pretrained(folder)
    return folder / "model.safetensors"


def converter(path: Path, feature_dim: int) -> Path:
    """A converter in the published format."""
    torch.manual_seed(1)
    own = TokenConverter(6, 8, num_features=5, feature_dim=feature_dim)
    names = {"over_tokens": "linear1", "over_channels": "linear2"}
    state = {f"{names[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in own.state_dict().items()}
    torch.save({"model_state_dict": state, "epoch": 8}, path)
    return path


def test_captions_from_files_in_the_published_formats(git: Path, tmp_path: Path) -> None:
    captioner = load_git_captioner(converter(tmp_path / "bigG_to_L.pth", 24), git)
    assert isinstance(captioner, Captioner)
    tokens = torch.randn(3, 6, 8)
    numbers = captioner(tokens, max_length=9)
    assert captioner.text is not None
    text = captioner.text(numbers)
    assert len(text) == 3
    assert set(" ".join(text).split()) <= {"a", "red", "dog", "[UNK]"}
    again = GitForCausalLM.from_pretrained(git.parent)
    features = captioner.converter(tokens).unsqueeze(1)
    again.git.image_encoder = captioner.git.git.image_encoder
    wanted = again.generate(pixel_values=features, max_length=9, do_sample=False)
    assert torch.equal(numbers[:, : wanted.shape[1]], wanted)


def test_missing_files_and_files_that_do_not_match(git: Path, tmp_path: Path) -> None:
    two_matrices = converter(tmp_path / "bigG_to_L.pth", 24)
    with pytest.raises(UserError, match=r"do not fit.*features of 20") as found:
        load_git_captioner(converter(tmp_path / "other.pth", 20), git)
    assert "\n" not in str(found.value)
    (git.parent / "config.json").unlink()
    with pytest.raises(UserError, match="no whole GIT") as found:
        load_git_captioner(two_matrices, git)
    assert "hf download" in str(found.value)
    assert "\n" not in str(found.value)


def test_missing_weights_are_not_drawn_at_random(git: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights = load_file(git)
    del weights["output.weight"]
    save_file(weights, git, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"no whole GIT \(got: no output\.weight"):
        load_git_captioner(converter(tmp_path / "bigG_to_L.pth", 24), git)
    assert capfd.readouterr() == ("", "")
