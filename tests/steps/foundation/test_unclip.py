"""The unCLIP from SDXL base: small files in the released formats and a user's images in, the published format out."""

import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mindeye_pl.config import compose_config
from mindeye_pl.data.image_sources import ImageFolder
from mindeye_pl.engine.run import Run
from mindeye_pl.steps.inputs.frozen_models import Frozen
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.training.callbacks.history import History
from mindeye_pl.weights.loaders import sdxl_surgery
from mindeye_pl.weights.loaders.openclip import load_openclip
from mindeye_pl.weights.loaders.sdxl_surgery import KEY_VALUE, LABEL
from mindeye_pl.weights.registry import load_published
from tests.conftest import CommandLine
from tests.weights.formats.test_sdxl_base import sdxl_state

TOWER = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 28, "patch_size": 14, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
}
SIZE = 32


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two released files, small."""
    folder = tmp_path_factory.mktemp("released")
    state = {key: value.contiguous().clone() for key, value in sdxl_state().items()}
    # As released: half precision, and a vector of sizes with more columns than the unCLIP keeps.
    state[LABEL] = torch.randn(128, 96)
    save_file({key: value.half() for key, value in state.items()}, folder / "sd_xl_base_1.0.safetensors")
    torch.manual_seed(1)
    save_file(open_clip.CLIP(**TOWER).state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images of different sizes, some below another folder."""
    root = tmp_path_factory.mktemp("images")
    (root / "below").mkdir()
    random = np.random.default_rng(0)
    for index in range(14):
        height, width = random.integers(24, 70, 2)
        pixels = np.repeat(np.repeat(random.integers(0, 255, (4, 4, 3), np.uint8), 18, axis=0), 18, axis=1)
        Image.fromarray(pixels[:height, :width]).save(root / ("below" if index % 2 else ".") / f"{index:02}.png")
    return root


@pytest.fixture
def command(released: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: TOWER if name == "tiny" else None)
    return (
        *("pipeline=pretrain_unclip", "foundation=sdxl", "scale=tiny", "logger=none", f"paths.weights={released}"),
        *("embedder=openclip_bigg", "embedder.network.model_name=tiny"),
        *("embedder.num_tokens=4", "embedder.token_dim=16"),
        *(f"foundation.images.source={images}", "foundation.images.num_validation=4"),
        *(f"foundation.images.image_size={SIZE}", "foundation.unclip.sizes={head_dim: 16, size_dim: 64}"),
        *("foundation.unclip.batch_size=2", "foundation.unclip.epochs=2", "foundation.unclip.steps_per_epoch=2"),
        *("foundation.unclip.max_lr=1e-3", "foundation.unclip.warmup_steps=2", "foundation.unclip.ema_decay=0.5"),
    )


def test_from_a_folder_to_a_file_that_makes_images(
    cli: CommandLine, command: tuple[str, ...], released: Path, images: Path
) -> None:
    assert cli(*command)[0] == 0
    made = cli.made("pretrain_unclip")
    history = json.loads((made / "history.json").read_text())
    assert len(history) == 2
    assert all(np.isfinite(record[f"{split}/loss"]) for record in history for split in ("train", "validation"))
    assert history[-1]["learning_rate"] == 1e-3  # it stays after the warm-up
    assert {path.name for path in made.iterdir()} == {
        "history.json",
        "manifest.json",
        "trained.json",
        "unclip.safetensors",
    }

    unclip = load_published("unclip", made / "unclip.safetensors", head_dim=16, image_size=SIZE)
    embedder = load_openclip("tiny", released / "open_clip_model.safetensors", input_range="corrected")
    seen = torch.from_numpy(ImageFolder(images, SIZE).read(np.arange(3))).float()
    tokens, seeds = embedder(seen), [1, 2, 3]
    assert unclip.unet.config["cross_attention_dim"] == tokens.shape[-1] == 16
    null = unclip.uncond_tokens(seeds, 4)
    latents = unclip.sample(tokens, noise=unclip.start(seeds), uncond_tokens=null, steps=2, guidance=2)
    made_images = unclip.decode(latents)
    assert made_images.shape == (3, 3, SIZE, SIZE)
    assert made_images.isfinite().all()


@pytest.mark.slow
def test_from_an_hdf5_file(cli: CommandLine, command: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "images.hdf5"
    with h5py.File(path, "w") as file:
        file["images"] = np.random.default_rng(0).random((12, 3, 40, 40)).astype(np.float16)
    code, _, err = cli(*command, f"foundation.images.source={path}", "foundation.unclip.epochs=1")
    assert code == 0, err
    (record,) = json.loads((cli.made("pretrain_unclip") / "history.json").read_text())
    assert np.isfinite(record["validation/loss"])
    load_published("unclip", cli.made("pretrain_unclip") / "unclip.safetensors", head_dim=16)


@pytest.mark.slow
@pytest.mark.parametrize("still", ["foundation.unclip.epochs=0", "foundation.unclip.max_lr=0"])
def test_initially_only_new_weights_differ_from_sdxl(
    cli: CommandLine, command: tuple[str, ...], released: Path, still: str
) -> None:
    assert cli(*command, "foundation.unclip.epochs=1", still)[0] == 0
    base = load_file(released / "sd_xl_base_1.0.safetensors")
    start = load_file(cli.made("pretrain_unclip") / "unclip.safetensors")
    parts = ("model.diffusion_model.", "first_stage_model.")
    assert start.keys() - {"denoiser.sigmas"} == {key for key in base if key.startswith(parts)}
    changed = {key for key in start if key in base and not torch.equal(start[key], base[key].float())}
    remade = {key for key in start if KEY_VALUE.fullmatch(key)}
    assert changed == remade | {LABEL}
    assert torch.equal(start[LABEL], base[LABEL][:, :64].float())
    assert {start[key].shape[1] for key in remade} == {16}


@pytest.mark.slow
def test_a_stopped_training_ends_in_the_same_weights(cli: CommandLine, command: tuple[str, ...]) -> None:
    cli.ends_in_the_same_weights(*command, step="pretrain_unclip", file="unclip.safetensors", stops=(1,), epochs=2)


@pytest.mark.slow
def test_killed_while_the_file_is_written_nothing_is_trained_again(
    cli: CommandLine, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing ten gigabytes takes its time; the checkpoint stays until it is done."""
    short = "foundation.unclip.epochs=1"
    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert cli(*command, short)[0] == 130
    trained: list[int] = []
    monkeypatch.setattr(History, "on_train_batch_end", lambda *_: trained.append(1))
    assert cli(*command, short)[0] == 0
    assert not trained
    assert (cli.made("pretrain_unclip") / "unclip.safetensors").is_file()


@pytest.mark.slow
def test_large_models_are_loaded_one_at_a_time_and_once(
    cli: CommandLine, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedder is gone when SDXL comes, and is not asked again for the same images."""
    alive: list[weakref.ref] = []
    loaded: list[str] = []

    def remembered(name: str, load: Callable) -> Callable:
        def loading(*args: Any, **options: Any) -> Any:
            loaded.append(f"{name} beside {sum(ref() is not None for ref in alive)}")
            model = load(*args, **options)
            if name == "embedder":
                alive.append(weakref.ref(model))
            return model

        return loading

    monkeypatch.setattr("mindeye_pl.weights.loaders.openclip.load_openclip", remembered("embedder", load_openclip))
    for name in ("load_vae", "load_unclip_start"):
        monkeypatch.setattr(sdxl_surgery, name, remembered(name, getattr(sdxl_surgery, name)))
    assert cli(*command, "foundation.unclip.epochs=0")[0] == 0
    assert loaded == ["embedder beside 0", "load_vae beside 0", "load_unclip_start beside 0"]
    loaded.clear()
    _, out, _ = cli(*command, "foundation.unclip.epochs=0", "foundation.unclip.max_lr=1e-4")
    assert loaded == ["load_vae beside 0", "load_unclip_start beside 0"]
    assert "embedding" not in out


def test_clip_sees_the_image_itself_whatever_brains_are_decoded_with(
    cli: CommandLine, command: tuple[str, ...], released: Path, images: Path
) -> None:
    assert cli(*command, "fidelity.input_range=published", "foundation.unclip.epochs=0")[0] == 0
    (folder,) = (cli.outputs / "targets").glob("openclip_bigg-*")
    ids, seen = np.arange(14), ImageFolder(images, SIZE)
    embedder = load_openclip("tiny", released / "open_clip_model.safetensors", input_range="corrected")
    wanted = embedder(torch.from_numpy(seen.read(ids)).float())
    torch.testing.assert_close(torch.from_numpy(TokenStore.open(folder)[ids]).float(), wanted, atol=5e-3, rtol=2e-3)


def test_each_image_is_conditioned_on_its_own_size_and_crop(
    cli: CommandLine, command: tuple[str, ...], images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[torch.Tensor] = []
    vectors = sdxl_surgery.UnCLIPModel.size_vectors

    def size_vectors(self: Any, size_and_crop: torch.Tensor) -> torch.Tensor:
        told.append(size_and_crop)
        return vectors(self, size_and_crop)

    monkeypatch.setattr(sdxl_surgery.UnCLIPModel, "size_vectors", size_vectors)
    assert cli(*command, "foundation.unclip.steps_per_epoch=5", "foundation.unclip.epochs=1")[0] == 0
    known = {tuple(row) for row in ImageFolder(images, SIZE).size_and_crop(np.arange(14)).tolist()}
    assert {tuple(row) for row in torch.cat(told).tolist()} == known  # training and held-out images
    assert len(known) > 10


@pytest.mark.slow
def test_its_file_is_the_unclip_of_an_experiment(cli: CommandLine, command: tuple[str, ...]) -> None:
    assert cli(*command, "foundation.unclip.epochs=0")[0] == 0
    path = cli.made("pretrain_unclip") / "unclip.safetensors"
    own = ("unclip=sdxl", f"unclip.weights.file={path}", "unclip.network.head_dim=16")
    for fidelity in ("published", "corrected"):
        overrides = ["scale=tiny", *own, f"unclip.network.image_size={SIZE}", f"fidelity={fidelity}"]
        unclip = Run(compose_config(overrides)).open(Frozen("unclip")).load()
        assert (unclip.image_size, unclip.output) == ((SIZE, SIZE), fidelity)
        key = "model.diffusion_model.out.2.weight"
        assert torch.equal(unclip.unet.conv_out.weight, load_file(path)[key])
    experiment = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none", "unclip=sdxl")
    gone = f"unclip.weights.file={path.with_name('gone.safetensors')}"
    cli.refuses(*experiment, gone, says=("weights of unclip", "gone.safetensors (no such file)"))


@pytest.mark.slow
def test_missing_files_are_named_with_their_commands_before_anything_begins(
    cli: CommandLine, command: tuple[str, ...], tmp_path: Path, released: Path
) -> None:
    commands = (
        "hf download laion/CLIP-ViT-bigG-14-laion2B-39B-b160k open_clip_model.safetensors",
        "hf download stabilityai/stable-diffusion-xl-base-1.0 sd_xl_base_1.0.safetensors",
    )
    paper = ("pipeline=pretrain_unclip", "foundation=sdxl", "scale=paper", "data=nsd", "logger=none")
    cli.refuses(*paper, f"paths.weights={tmp_path}", says=(*commands, "foundation.images.source=FOLDER"))
    code, out, _ = cli(*paper, f"paths.weights={tmp_path}", "plan=true")
    assert code == 0
    assert "will run when nothing is missing" in out
    shutil.copy(released / "open_clip_model.safetensors", tmp_path)
    (tmp_path / "sd_xl_base_1.0.safetensors").write_bytes(
        (released / "sd_xl_base_1.0.safetensors").read_bytes()[:-1000]
    )
    cli.refuses(*command, f"paths.weights={tmp_path}", says=("sd_xl_base_1.0.safetensors is not whole",))
    save_file({"a": torch.zeros(1)}, tmp_path / "sd_xl_base_1.0.safetensors")
    cli.refuses(*command, f"paths.weights={tmp_path}", says=("sd_xl_base_1.0.safetensors is no SDXL base",))


@pytest.mark.slow
def test_mistakes_end_in_one_line(cli: CommandLine, command: tuple[str, ...], tmp_path: Path) -> None:
    cli.refuses(*command, "embedder.token_dim=24", says=("openclip_bigg", "width 16", "of width 24"))
    cli.refuses(*command, "foundation.unclip.drop=0.1", says=("drop", "foundation.unclip.drop=0"))
    cli.refuses(*command, "foundation.unclip.start=sd15", says=("sd15", "scratch or sdxl_base"))
    cli.refuses(*command, "foundation.images.image_size=50", says=("50", "multiple of 32"))
    cli.refuses(*command, "foundation.images.num_validation=14", says=("too few images", "14"))
    cli.refuses(*command, f"foundation.images.source={tmp_path / 'none'}", says=("image folder is missing or empty",))
    cli.refuses(*command, f"foundation.images.source={tmp_path / 'none.hdf5'}", says=("none.hdf5 is missing",))
    cli.refuses(*command, "pipeline=pretrain_foundation", says=("pretrain_clip", "foundation=sdxl"))
    assert not cli.artifacts()


@pytest.mark.slow
def test_another_start_is_another_artifact(cli: CommandLine, command: tuple[str, ...], images: Path) -> None:
    """Where the images lie changes nothing; what they are, and the embedder's range, do."""
    still = "foundation.unclip.epochs=0"
    assert cli(*command, still)[0] == 0
    moved = images.with_name("moved")
    shutil.copytree(images, moved)
    source = f"foundation.images.source={moved}"
    assert "cached" in cli(*command, still, source, "plan=true")[1]
    Image.new("RGB", (50, 50)).save(moved / "00.png")
    assert "will run" in cli(*command, still, source, "plan=true")[1]
    assert "will run" in cli(*command, still, "foundation.unclip.input_range=published", "plan=true")[1]
