"""Random files of the rehearsal: their formats, and those of up to 4 GB through the real loaders at full size."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.loaders.feature_networks import load_feature_network
from mindeye_pl.weights.loaders.git import load_git_captioner
from mindeye_pl.weights.loaders.openclip import load_openclip
from mindeye_pl.weights.loaders.sd_vae import load_sd_vae
from mindeye_pl.weights.loaders.text_embedders import load_clip_text, load_sentence_embedder
from mindeye_pl.weights.registry import load_published

sys.path.append(str(Path(__file__).parents[1] / "benchmarks" / "rehearsal"))

import random_files
import released


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_random_values_of_the_given_shapes(tmp_path: Path, name: str) -> None:
    with torch.device("meta"):
        state = {
            "layer.weight": torch.empty(300, 400),
            "norm.weight": torch.empty(400, dtype=torch.float16),
            "position_ids": torch.empty(1, 7, dtype=torch.int64),
        }
    state["kept"] = torch.tensor([1.5, 2.5])
    write = random_files.write_safetensors if name.endswith("safetensors") else random_files.write_torch
    for file in (tmp_path / name, tmp_path / f"again-{name}"):
        write(file, state, 3)
    found, again = read_state(tmp_path / name), read_state(tmp_path / f"again-{name}")
    assert {key: (value.shape, value.dtype) for key, value in found.items()} == {
        key: (value.shape, value.dtype) for key, value in state.items()
    }
    assert all(torch.equal(value, again[key]) for key, value in found.items())
    assert found["layer.weight"].std().item() == pytest.approx(400**-0.5, rel=0.02)
    assert found["norm.weight"].eq(1).all()
    assert found["position_ids"].tolist() == [list(range(7))]
    assert found["kept"].tolist() == [1.5, 2.5]


def images_to_rows(model: Any) -> None:
    with torch.no_grad():
        rows = model(torch.rand(1, 3, 224, 224))
    assert rows.isfinite().all()


def captions(path: Path) -> None:
    released.WRITERS["bigg_to_l"](path.parent / "converter.pth", 0)
    captioner = load_git_captioner(path.parent / "converter.pth", path)
    assert captioner.text is not None
    assert len(captioner.text(captioner(torch.randn(1, 256, 1664), max_length=4))) == 1


def latents(path: Path) -> None:
    vae = load_sd_vae(path)
    mode = vae.encode(torch.rand(1, 3, 224, 224)).latent_dist.mode()
    assert mode.shape == (1, 4, 28, 28)
    assert vae.decode(mode).sample.isfinite().all()


def sentences(load: Callable[[Path], Any], path: Path) -> None:
    assert load(path)(["word1 word2", "word3"]).isfinite().all()


#: Use of each file, called with its path.
USES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "sd_vae": ("vae.pth", latents),
    "convnext": ("convnext.pth", lambda path: images_to_rows(load_published("convnext", path))),
    "git_large_coco": ("model.safetensors", captions),
    "openclip_l": ("clip.safetensors", lambda path: images_to_rows(load_openclip(released.L14, path))),
    "minilm": ("model.safetensors", partial(sentences, load_sentence_embedder)),
    "clip_text_b32": ("model.safetensors", partial(sentences, load_clip_text)),
    "clip_text_l14": ("model.safetensors", partial(sentences, load_clip_text)),
    **{
        entry: (f"{name}.pth", lambda path, name=name: images_to_rows(load_feature_network(name, path)))
        for entry, name in {
            "alexnet": "alexnet",
            "inception_v3": "inception_v3",
            "efficientnet_b1": "efficientnet_b1",
            "swav_resnet50": "swav",
            "fid_inception": "fid_inception",
        }.items()
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", USES)
def test_files_of_full_size_load_and_give_finite_values(tmp_path: Path, name: str) -> None:
    file, use = USES[name]
    released.WRITERS[name](tmp_path / file, 0)
    use(tmp_path / file)
    for path in tmp_path.iterdir():
        path.unlink()
