"""Vision towers through open_clip's whole-model format, and files that are refused in one line."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from mindeye_pl.errors import UserError
from mindeye_pl.nn.clip.clip_embedder import CLIPImageEmbedder
from mindeye_pl.weights.loaders.openclip import load_openclip

CASE = Path(__file__).parents[2] / "golden" / "clip_embedder_small"


class Malice:
    """A pickle that would leave a file if it were executed."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize(
    ("model_name", "tokens", "num_tokens", "token_dim"),
    [
        ("ViT-bigG-14", "patches", 256, 1664),
        ("ViT-L-14-quickgelu", "patches", 256, 1024),
        ("ViT-B-32-quickgelu", "class", 1, 512),
    ],
)
def test_sizes_are_known_on_the_meta_device(model_name: str, tokens: str, num_tokens: int, token_dim: int) -> None:
    with torch.device("meta"):
        embedder = load_openclip(model_name, tokens=tokens)
    assert (embedder.num_tokens, embedder.token_dim) == (num_tokens, token_dim)
    assert all(parameter.is_meta for parameter in embedder.parameters())


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> open_clip.CLIP:
    """A real open_clip model under a name that the loader finds."""
    config = json.loads((CASE / "config.json").read_text())
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: config if name == "tiny" else None)
    torch.manual_seed(1)
    return open_clip.CLIP(**config)


def test_whole_models_from_safetensors_and_from_torch_files(model: open_clip.CLIP, tmp_path: Path) -> None:
    state = model.state_dict()
    save_file({key: value.half() for key, value in state.items()}, tmp_path / "model.safetensors")
    torch.save(state, tmp_path / "plain.bin")
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "parallel.pt")
    images = torch.rand(1, 3, 224, 224)
    expected = CLIPImageEmbedder(model.visual, input_range="corrected")(images)
    for name, tolerance in (("model.safetensors", 2e-2), ("plain.bin", 1e-6), ("parallel.pt", 1e-6)):
        embedder = load_openclip("tiny", tmp_path / name, input_range="corrected")
        assert not hasattr(embedder.visual, "token_embedding")
        assert all(parameter.dtype == torch.float32 for parameter in embedder.parameters())
        torch.testing.assert_close(embedder(images), expected, rtol=tolerance, atol=tolerance)


def test_a_class_token_that_is_clamped_and_of_length_one(model: open_clip.CLIP, tmp_path: Path) -> None:
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "model.safetensors")
    images = torch.rand(2, 3, 224, 224)
    how = {"tokens": "class", "input_range": "corrected"}
    plain = load_openclip("tiny", tmp_path / "model.safetensors", **how)(images)
    limit = 0.5 * plain.abs().max().item()
    clamped = load_openclip("tiny", tmp_path / "model.safetensors", clamp=limit, **how)(images)
    wanted = plain.clamp(-limit, limit)
    torch.testing.assert_close(clamped, wanted / wanted.norm(dim=-1, keepdim=True))
    assert not torch.allclose(clamped, plain / plain.norm(dim=-1, keepdim=True), atol=1e-3)
    of_length_one = load_openclip("tiny", tmp_path / "model.safetensors", clamp=float("inf"), **how)(images)
    torch.testing.assert_close(of_length_one, plain / plain.norm(dim=-1, keepdim=True))


def test_another_model_is_refused_by_the_first_weight_that_differs(model: open_clip.CLIP, tmp_path: Path) -> None:
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    wider = state | {"visual.ln_post.bias": torch.zeros(33)}
    save_file(wider, tmp_path / "wide.safetensors")
    with pytest.raises(
        UserError, match=r"wide\.safetensors .* visual\.ln_post\.bias \(got: \(33,\); expected: \(32,\)"
    ):
        load_openclip("tiny", tmp_path / "wide.safetensors")
    del state["visual.ln_post.bias"]
    save_file(state, tmp_path / "short.safetensors")
    with pytest.raises(UserError, match=r"visual\.ln_post\.bias \(got: missing"):
        load_openclip("tiny", tmp_path / "short.safetensors")
    with pytest.raises(UserError, match="without its weights"):
        load_openclip("tiny")
    with pytest.raises(UserError, match=r"no such model \(got: ViT-Z"):
        load_openclip("ViT-Z")


def test_broken_files_end_in_one_line(model: open_clip.CLIP, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_openclip("tiny", tmp_path / "nothing.safetensors")
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, tmp_path / "whole.safetensors")
    torch.save(state, tmp_path / "whole.bin")
    for suffix in (".safetensors", ".bin"):
        content = (tmp_path / f"whole{suffix}").read_bytes()
        for name, part in (("cut", content[: len(content) // 2]), ("noise", b"no weights at all"), ("empty", b"")):
            path = tmp_path / f"{name}{suffix}"
            path.write_bytes(part)
            with pytest.raises(UserError, match=rf"{name}\{suffix}"):
                load_openclip("tiny", path)


@pytest.mark.parametrize(
    "save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))]
)
def test_a_pickle_with_code_is_never_executed(model: open_clip.CLIP, tmp_path: Path, save: Callable) -> None:
    trace, path = tmp_path / "executed", tmp_path / "open_clip_pytorch_model.bin"
    save(model.state_dict() | {"hook": Malice(trace)}, path)
    with pytest.raises(UserError, match=path.name):
        load_openclip("tiny", path)
    assert not trace.exists()
