"""Every way in for a file of somebody else, with files that would run code: none of them does.

`PAYLOADS` are the files, `WAYS_IN` the readers of files, and the tests below them the folders. The first test shows
that each payload runs where nothing protects the user.
"""

import io
import json
import os
import pickle
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import EpsImagePlugin, Image

import mindeye_pl
from mindeye_pl.data.image_sources import read_pixels, read_size
from mindeye_pl.data.layout.shards import read_behaviour
from mindeye_pl.errors import UserError
from mindeye_pl.foreign_config import read_foreign_config
from mindeye_pl.gallery.files import open_gallery
from mindeye_pl.sharing.shareable import Shareable
from mindeye_pl.steps.evaluation.foreign.images import read_published, read_reconstructions_of
from mindeye_pl.training.checkpoints import read_weights
from mindeye_pl.weights.convert import convert
from mindeye_pl.weights.deepspeed import read_deepspeed
from mindeye_pl.weights.files import read_own, read_state
from mindeye_pl.weights.loaders.bundled import load_clip, load_generator, load_unclip
from mindeye_pl.weights.loaders.efficientnet_lite import load_embedder, load_features
from mindeye_pl.weights.loaders.feature_networks import load_feature_network, load_lpips
from mindeye_pl.weights.loaders.git import load_git_captioner
from mindeye_pl.weights.loaders.openclip import load_openclip
from mindeye_pl.weights.loaders.sd_vae import load_sd_vae
from mindeye_pl.weights.loaders.sdxl_surgery import load_unclip_start, load_vae
from mindeye_pl.weights.loaders.text_embedders import load_clip_text, load_sentence_embedder
from mindeye_pl.weights.loaders.versatile_diffusion import load_versatile_diffusion
from mindeye_pl.weights.registry import FORMATS, load_published, load_published_system
from tests.conftest import ALONE, CommandLine


class Malice:
    """Pickles as a call that leaves a file."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self.trace,)


class MalicePart(torch.nn.Module):
    """A TorchScript module that writes a file while it is loaded."""

    def __init__(self, trace: str):
        super().__init__()
        self.trace = trace

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.trace, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.trace, self.training = state
        torch.save(torch.ones(1), self.trace)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def write_script(path: Path, trace: Path) -> None:
    torch.jit.script(MalicePart(str(trace))).save(str(path))


def write_entry(path: Path, trace: Path, *, zipped: bool) -> None:
    content = {"state_dict": {"weight": torch.ones(2)}, "hook": Malice(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)


#: Writers of files that touch their second argument when a careless reader opens them.
PAYLOADS: dict[str, Callable[[Path, Path], Any]] = {
    "torch.save": lambda path, trace: write_entry(path, trace, zipped=True),
    "torch.save before 1.6": lambda path, trace: write_entry(path, trace, zipped=False),
    "pickle": lambda path, trace: path.write_bytes(pickle.dumps(Malice(trace))),
    "TorchScript": write_script,
    "npy of objects": lambda path, trace: path.write_bytes(npy_of_objects(trace)),
}

#: Readers of one file, by what the file is said to be.
WAYS_IN: dict[str, Callable[[Path], object]] = {
    **{f"load_published {kind}": lambda path, kind=kind: load_published(kind, path) for kind in FORMATS},
    "mindeye_pl.load": mindeye_pl.load,
    "load_published_system": load_published_system,
    "evaluate.checkpoint": read_weights,
    "evaluate.low_level_checkpoint": lambda path: FORMATS["mindeye1_low_level"].read(path),
    "file of a state dict": read_state,
    "own weights": read_own,
    "foundation.folder: CLIP": lambda path: load_clip(folder_of(path, "clip.safetensors")),
    "foundation.folder: unCLIP": lambda path: load_unclip(folder_of(path, "unclip.safetensors")),
    "foundation.folder: generator": lambda path: load_generator(folder_of(path, "generator.safetensors")),
    "open_clip": lambda path: load_openclip("ViT-B-32", path),
    "autoencoder": load_sd_vae,
    "SDXL base, as start": lambda path: load_unclip_start(path, token_dim=8, size_dim=8),
    "SDXL base, autoencoder": load_vae,
    "Versatile Diffusion": lambda path: load_versatile_diffusion(path, path),
    "converter of the captioner": lambda path: load_git_captioner(path, path),
    "sentence embedder": load_sentence_embedder,
    "CLIP's text tower": load_clip_text,
    "LPIPS": load_lpips,
    **{
        f"features {name}": lambda path, name=name: load_feature_network(name, path)
        for name in ("alexnet", "clip_l", "efficientnet_b1", "fid_inception", "inception_v3", "swav")
    },
    "EfficientNet-Lite tokens": lambda path: load_embedder("efficientnet_lite0", path),
    "EfficientNet-Lite features": lambda path: load_features("efficientnet_lite2", path),
    "evaluate.reconstructions": lambda path: read_reconstructions_of(path, np.arange(2)),
    "captions of reconstructions": read_published,
    "retrieve.gallery, vectors": lambda path: open_gallery(path, 32, "vectors"),
    "retrieve.gallery, tar": lambda path: open_gallery(path, 32, "tar").names(np.arange(1)),
    "retrieve.gallery, hdf5": lambda path: open_gallery(path, 32, "hdf5"),
    "shard of behaviour": read_behaviour,
    "an image": read_pixels,
    "configuration of a run": read_foreign_config,
}


def npy_of_objects(trace: Path) -> bytes:
    content = io.BytesIO()
    np.save(content, np.array([Malice(trace)], dtype=object), allow_pickle=True)
    return content.getvalue()


def folder_of(path: Path, name: str) -> Path:
    (folder := path.with_suffix("")).mkdir()
    path.rename(folder / name)
    return folder


@pytest.mark.parametrize("payload", PAYLOADS)
def test_the_payloads_run_where_nothing_protects(payload: str, tmp_path: Path) -> None:
    path, trace = tmp_path / "file", tmp_path / "executed"
    PAYLOADS[payload](path, trace)
    careless = {"TorchScript": torch.jit.load, "npy of objects": lambda path: np.load(path, allow_pickle=True)}
    if payload == "pickle":
        pickle.loads(path.read_bytes())
    else:
        careless.get(payload, lambda path: torch.load(path, weights_only=False))(path)
    assert trace.exists()


@pytest.mark.parametrize("way", WAYS_IN)
def test_no_file_runs_code(way: str, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    for payload, suffix in (*((payload, ".pt") for payload in PAYLOADS), ("torch.save", ".safetensors")):
        folder = tmp_path / payload / suffix[1:]
        folder.mkdir(parents=True)
        PAYLOADS[payload](path := folder / f"file{suffix}", trace)
        with pytest.raises(UserError):
            WAYS_IN[way](path)
        assert not trace.exists(), (payload, suffix)


@pytest.mark.parametrize("payload", ["torch.save", "torch.save before 1.6"])
def test_converting_keeps_the_tensors_and_runs_nothing(payload: str, tmp_path: Path) -> None:
    path, trace = tmp_path / "last.pth", tmp_path / "executed"
    PAYLOADS[payload](path, trace)
    assert convert(path, tmp_path / "last.safetensors") == 1
    assert not trace.exists()
    for other in ("pickle", "TorchScript", "npy of objects"):
        PAYLOADS[other](path, trace)
        with pytest.raises(UserError):
            convert(path, tmp_path / "other.safetensors")
        assert not trace.exists(), other


@pytest.mark.parametrize("payload", PAYLOADS)
def test_deepspeeds_folder(payload: str, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    for name in ("mp_rank_00_model_states.pt", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"):
        PAYLOADS[payload](tmp_path / name, trace)
    with pytest.raises(UserError):
        read_deepspeed(tmp_path)
    assert not trace.exists()


def test_a_shard_and_a_gallery_of_pickled_arrays(tmp_path: Path) -> None:
    trace, path = tmp_path / "executed", tmp_path / "0.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("sample000000.behav.npy", "0.png"):
            (member := tarfile.TarInfo(name)).size = len(content := npy_of_objects(trace))
            tar.addfile(member, io.BytesIO(content))
    with pytest.raises(UserError, match="not a numpy array"):
        read_behaviour(path)
    assert list(open_gallery(path, 32, "tar").read(np.arange(1)).unreadable) == ["0.tar/0.png"]
    assert not trace.exists()


#: Nodes that Hydra would call, and text that PyYAML's unsafe loaders would.
NODES = {
    "a call": lambda trace: {"_target_": "pathlib.Path.touch", "_args_": [str(trace)]},
    "torch.load": lambda trace: {"_target_": "torch.load", "f": str(trace.with_suffix(".pt")), "weights_only": False},
    "hub": lambda trace: {"_target_": "torch.hub.load", "repo_or_dir": str(trace.parent), "source": "local"},
    "through Hydra": lambda trace: {"_target_": "hydra.utils.get_method", "path": "pathlib.Path.touch"},
    "partial": lambda trace: {"_target_": "pathlib.Path.touch", "_partial_": True, "_args_": [str(trace)]},
    "nested": lambda trace: {"_target_": "torch.optim.AdamW", "params": {"_target_": "os.system", "command": "true"}},
}


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("place", ["run", "artifact", "export"])
def test_no_folder_runs_code(node: str, place: str, tmp_path: Path) -> None:
    trace, folder = tmp_path / "executed", tmp_path / "folder"
    (folder / ".hydra").mkdir(parents=True)
    PAYLOADS["pickle"](trace.with_suffix(".pt"), trace)
    (tmp_path / "hubconf.py").write_text(f"import pathlib\npathlib.Path({str(trace)!r}).touch()\n")
    malice: dict[str, Any] = NODES[node](trace)
    config = {"model": {"_target_": "mindeye_pl.models.mindeye.MindEye", "prior": malice}, "simulation": malice}
    file = {"run": ".hydra/config.yaml", "artifact": "config.yaml", "export": "config.json"}[place]
    (folder / file).write_text(
        yaml.safe_dump(config) if place != "export" else json.dumps(config | {"mindeye_pl": malice})
    )
    (folder / "model.safetensors").write_bytes(b"")
    for load in (mindeye_pl.load, Shareable.from_pretrained):
        with pytest.raises(UserError):
            load(folder)
        assert not trace.exists()


@pytest.mark.parametrize("text", ["!!python/object/apply:pathlib.Path.touch", "!!python/object/new:pathlib.Path.touch"])
def test_no_yaml_tag_runs_code(text: str, cli: CommandLine, tmp_path: Path) -> None:
    """In the configuration of a run, and in an experiment that was sent by somebody."""
    trace, own = tmp_path / "executed", tmp_path / "conf" / "experiment"
    own.mkdir(parents=True)
    (own / "sent.yaml").write_text(f"# @package _global_\nseed: {text} [{str(trace)!r}]\n")
    with pytest.raises(UserError):
        read_foreign_config(own / "sent.yaml")
    cli.refuses("+experiment=sent", "scale=tiny", f"hydra.searchpath=[{own.parent}]", says=("sent.yaml",))
    assert not trace.exists()


def test_no_image_starts_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow opens EPS with Ghostscript, whatever the file is called."""
    (tools := tmp_path / "tools").mkdir()
    trace, program = tmp_path / "executed", tools / "gs"
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    path = tmp_path / "images" / "0.png"
    path.parent.mkdir()
    Image.new("RGB", (32, 32)).save(path, format="EPS")
    for read in (read_pixels, read_size):
        with pytest.raises(UserError, match="damaged or not an image"):
            read(path)
    assert list(open_gallery(path.parent, 32).read(np.arange(1)).unreadable) == ["0.png"]
    assert not trace.exists()
    with Image.open(path) as image, suppress(OSError):
        image.load()
    assert trace.exists(), "the program runs where nothing protects"


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_beside_a_hub_model_is_not_imported(file: str, tmp_path: Path) -> None:
    """transformers imports it where `trust_remote_code` is set, and asks the user where it is not given."""
    trace = tmp_path / "executed"
    (tmp_path / "evil.py").write_text(f"import pathlib\npathlib.Path({str(trace)!r}).touch()\nclass Evil: pass\n")
    auto = dict.fromkeys(("AutoConfig", "AutoModel", "AutoTokenizer", "AutoModelForCausalLM"), "evil.Evil")
    content = {
        "model_type": "evil",
        "tokenizer_class": "Evil",
        "auto_map": auto | {"AutoTokenizer": ["evil.Evil", None]},
    }
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "git"}))
    (tmp_path / file).write_text(json.dumps(content))
    torch.save({"weight": torch.ones(1)}, converter := tmp_path / "converter.pth")
    for load in (lambda path: load_git_captioner(converter, path), load_sentence_embedder, load_clip_text):
        (path := tmp_path / "model.safetensors").write_bytes(b"")
        with pytest.raises(UserError):
            load(path)
        assert not trace.exists()


def test_a_command_ends_with_its_line(cli: CommandLine, tmp_path: Path) -> None:
    """From the command line too: a checkpoint, reconstructions, a gallery and an index."""
    trace = tmp_path / "executed"
    for name in ("m.pth", "r.pt", "v.npy"):
        PAYLOADS["TorchScript"](tmp_path / name, trace)
    (tmp_path / "index").mkdir()
    malice = NODES["a call"](trace)
    (tmp_path / "index" / "index.json").write_text(json.dumps({"engine": malice, "build": malice}))
    scale = ("scale=tiny", ALONE)
    cli.refuses(*scale, f"evaluate.checkpoint={tmp_path / 'm.pth'}", says=("m.pth",))
    cli.refuses(*scale, f"evaluate.reconstructions={tmp_path / 'r.pt'}", says=("r.pt",))
    cli.refuses(*scale, "pipeline=retrieve", f"retrieve.gallery={tmp_path / 'v.npy'}", says=("v.npy",))
    cli.refuses(*scale, "pipeline=retrieve", f"index.folder={tmp_path / 'index'}", says=("index",))
    assert not trace.exists()
