"""Captions that fit their images, and what a training learns of them, on the tiny world with the shipped CLIP."""

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from mindeye_pl.config import compose_config
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.data.simulated.vocabulary import tokenize_names
from mindeye_pl.engine.run import Run, order
from mindeye_pl.errors import UserError
from mindeye_pl.nn.clip.augmented_views import augmented_views
from mindeye_pl.nn.clip.embeddings import clamp_then_normalise, is_caption
from mindeye_pl.steps.brain.finetune import FINETUNE
from mindeye_pl.steps.brain.pretrain import PRETRAIN
from mindeye_pl.steps.inputs.captions import CAPTIONS_FILE, SCREEN_CAPTIONS, KeptCaptions, caption_rows
from mindeye_pl.steps.inputs.dataset import Images
from mindeye_pl.steps.inputs.embeddings import Embeddings
from mindeye_pl.steps.inputs.frozen_models import Frozen, FrozenModel
from mindeye_pl.steps.inputs.image_embeddings import view_rows
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.weights.loaders.bundled import load_clip
from tests.conftest import CommandLine
from tests.steps.opened import targets, training

CLIP = ("scale=tiny", "logger=none", "embedder=laptop_embedding", "text_embedder=laptop")
#: Parts of a model that learn what is asked for here; nothing builds them.
MAPPERS = ("model.caption_mapper.width=1", "model.image_mapper.width=1")


@cache
def composed(*groups: str) -> DictConfig:
    GlobalHydra.instance().clear()
    return compose_config([*CLIP, *groups])


@pytest.fixture
def run_of(tiny_nsd: Path, tmp_path: Path):
    def run_of(*more: str, nsd: Path = tiny_nsd) -> Run:
        """The run of some groups and keys; keys are put into what was composed, which is what takes time."""
        config = composed(*(item for item in more if "." not in item.split("=")[0])).copy()
        keys = [item for item in more if "." in item.split("=")[0]]
        OmegaConf.set_struct(config, False)
        config.merge_with_dotlist([*keys, f"paths.nsd={nsd}", f"paths.outputs={tmp_path / 'outputs'}"])
        return Run(config)

    return run_of


def frozen(run: Run, group: str) -> FrozenModel:
    found = run.open(Frozen(group))
    assert found is not None
    return found


def target_captions(run: Run, ids: np.ndarray) -> TokenStore:
    kept = KeptCaptions()
    return caption_rows(run.open(kept), ids, frozen(run, "text_embedder"), run.open(Embeddings()))


def target_views(run: Run, ids: np.ndarray) -> TokenStore | None:
    return view_rows(frozen(run, "embedder"), run.open(Images()), run.open(Embeddings()), ids)


@pytest.fixture(scope="module")
def clip():
    network, embedder = load_clip()
    return network.eval(), embedder


def described(root: Path) -> list[list[str]]:
    return json.loads(DataLayout(root).captions.read_text())


def with_captions(tiny_nsd: Path, folder: Path, captions: list[list[str]] | None) -> Path:
    """The same world with other captions."""
    root = folder / "nsd"
    root.mkdir()
    for path in tiny_nsd.iterdir():
        if path.name != "captions.json":
            (root / path.name).symlink_to(path)
    if captions is not None:
        DataLayout(root).captions.write_text(json.dumps(captions))
    return root


@pytest.mark.parametrize("share", [0.5, 0.001])
def test_captions_are_screened_by_clip(cli: CommandLine, tiny_nsd: Path, clip, share: float) -> None:
    """Against CLIP's own forward, image by image: its logits, a softmax, and half of the best one's."""
    screening = f"text_embedder.screening.share={share}"
    code, out, err = cli(*CLIP, "pipeline=screen_captions", f"paths.nsd={tiny_nsd}", screening)
    assert code == 0, err
    (path,) = (cli.outputs / "artifacts" / "screen_captions").glob(f"laptop-half_of_best-*/{CAPTIONS_FILE}")
    kept, every = json.loads(path.read_text()), described(tiny_nsd)
    assert len(kept) == len(every)
    network, embedder = clip
    for id_ in range(0, len(every), 15):
        image = torch.from_numpy(Stimuli(DataLayout(tiny_nsd).stimuli).read(np.array([id_]))).float()
        with torch.no_grad():
            cosines = torch.cosine_similarity(embedder.pooled(image), network.encode_text(tokenize_names(every[id_])))
            chances = (network.logit_scale.exp() * cosines).softmax(0)
        stays = chances >= share * chances.max()
        assert kept[id_] == [text for text, stay in zip(every[id_], stays.tolist(), strict=True) if stay]
    facts = json.loads((path.parent / "manifest.json").read_text())["facts"]
    assert facts["kept"] == sum(map(len, kept))
    assert facts["kept"] + facts["dropped"] == sum(map(len, every))
    assert facts["images_without"] == 0
    assert f"{facts['kept']:,} captions kept, {facts['dropped']:,} dropped" in out


def test_errors_are_one_line(cli: CommandLine, run_of, tiny_nsd: Path, tmp_path: Path) -> None:
    command = (*CLIP, "pipeline=screen_captions", f"paths.nsd={tiny_nsd}")
    cli.refuses(*command, "text_embedder=none", says=("need a text embedder", "Fix: text_embedder=laptop"))
    bare = with_captions(tiny_nsd, tmp_path, None)
    cli.refuses(*command[:-1], f"paths.nsd={bare}", says=("no captions", "captions.json", "a json list over stimulus"))
    with pytest.raises(UserError, match=r"two CLIPs .got: embeddings of width 64 and 16"):
        run_of("embedder=tiny").make(SCREEN_CAPTIONS)


def test_targets_are_the_kept_captions_clamped_and_of_length_one(run_of, tiny_nsd: Path, tmp_path: Path, clip) -> None:
    """Three images of three, one and two captions, empty ones between them."""
    captions = described(tiny_nsd)
    captions[3] = ["A red star.", "", "A small blue ring.", "A large green square on a white ground."]
    captions[4] = ["", "A red star."]
    run = run_of("text_embedder.screening.rule=all", nsd=with_captions(tiny_nsd, tmp_path, captions))
    ids = np.array([3, 4, 5])
    store = target_captions(run, ids)
    assert store.shape == (len(captions), 3, 64)
    rows = torch.from_numpy(store[ids]).float()  # (3, C, D)
    assert is_caption(rows).sum(1).tolist() == [3, 1, 2]
    network, _ = clip
    for row, texts in zip(rows, (captions[id_] for id_ in ids), strict=True):
        texts = [text for text in texts if text]
        with torch.no_grad():
            wanted = clamp_then_normalise(network.encode_text(tokenize_names(texts)), limit=3.2)
        torch.testing.assert_close(row[: len(texts)], wanted, atol=1e-3, rtol=0)
    clamped = run_of("text_embedder.screening.rule=all", "text_embedder.clamp=0.5", nsd=run.config.paths.nsd)
    assert (torch.from_numpy(target_captions(clamped, ids)[ids]).float() - rows).abs().max() > 1e-2


def test_a_users_file_replaces_the_step(run_of, tiny_nsd: Path, tmp_path: Path) -> None:
    captions = [texts[1:] for texts in described(tiny_nsd)]
    captions[7] = [""]
    own = tmp_path / "own.json"
    own.write_text(json.dumps(captions))
    run = run_of(f"text_embedder.captions={own}", *MAPPERS)
    assert SCREEN_CAPTIONS not in order(run.config, [FINETUNE])
    store = target_captions(run, np.array([6]))
    assert store.shape[1:] == (1, 64)
    assert run.made == []
    with pytest.raises(UserError, match=r"1 images of the training have no caption .got: stimulus 7"):
        target_captions(run, np.array([6, 7]))
    before = run.spec(FINETUNE).fingerprint
    own.write_text(json.dumps(described(tiny_nsd)))
    assert run_of(f"text_embedder.captions={own}", *MAPPERS).spec(FINETUNE).fingerprint != before
    shutil.copy(own, tmp_path / "copy.json")
    copy = run_of(f"text_embedder.captions={tmp_path / 'copy.json'}", *MAPPERS)
    assert (
        copy.spec(FINETUNE).fingerprint == run_of(f"text_embedder.captions={own}", *MAPPERS).spec(FINETUNE).fingerprint
    )
    with pytest.raises(UserError, match=r"text_embedder\.captions does not exist"):
        run_of("text_embedder.captions=nothing.json", *MAPPERS).spec(FINETUNE)


def test_views_are_embedded_once_whatever_the_batch(run_of, tiny_nsd: Path, clip) -> None:
    run = run_of("embedder.views=3", "scale.embed_batch_size=2")
    ids = np.array([2, 5, 9])
    store = target_views(run, ids)
    assert store is not None
    assert store.shape[1:] == (3, 64)
    images = torch.from_numpy(Stimuli(DataLayout(tiny_nsd).stimuli).read(ids)).float()
    views = augmented_views(images, 3, augmentation="mind_reader")
    _, embedder = clip
    wanted = clamp_then_normalise(embedder.pooled(views.flatten(0, 1)), limit=3.2).unflatten(0, (3, 3))
    torch.testing.assert_close(torch.from_numpy(store[ids]).float(), wanted, atol=1e-3, rtol=0)
    own = torch.from_numpy(targets(run).tokens(ids)[ids]).float()  # (n, 1, D)
    likeness = (own * torch.from_numpy(store[ids]).float()).sum(-1)
    assert 0.2 < likeness.mean() < 0.99, "near the image's own, and other"
    torch.testing.assert_close(own.norm(dim=-1), torch.ones(3, 1), atol=1e-3, rtol=0)
    assert target_views(run_of("embedder.views=0"), ids) is None
    assert target_views(run_of("embedder=laptop"), ids) is None
    with pytest.raises(UserError, match=r"embedder\.views need an embedder of one token"):
        target_views(run_of("embedder=laptop", "embedder.views=2", "embedder.augmentation=mind_reader"), ids)


def test_a_training_gets_captions_and_views_where_its_model_learns_them(run_of) -> None:
    run = run_of(*MAPPERS, "embedder.views=2")
    data = training(run, [1], 1)
    data.setup()
    for batch in (next(iter(data.train_dataloader())), next(iter(data.val_dataloader()))):
        ids = batch.stimulus_ids.numpy()
        for found, store in (
            (batch.targets["captions"], target_captions(run, ids)),
            (batch.targets["views"], target_views(run, ids)),
        ):
            np.testing.assert_array_equal(found.numpy(), store[ids])
    without = training(run_of(), [1], 1)
    without.setup()
    batch = next(iter(without.train_dataloader()))
    assert not {"captions", "views"} & batch.targets.keys()


def test_text_embedder_and_screening_determine_a_training_that_learns_captions_alone(run_of) -> None:
    def fingerprint(*more: str) -> str:
        return run_of(*more).spec(PRETRAIN).fingerprint

    without = {fingerprint(), fingerprint("text_embedder=none"), fingerprint("text_embedder.clamp=1")}
    assert len(without) == 1
    learnt = {
        *without,
        fingerprint(*MAPPERS),
        fingerprint(*MAPPERS, "text_embedder.clamp=1"),
        fingerprint(*MAPPERS, "text_embedder.screening.share=0.4"),
    }
    assert len(learnt) == 4
    run = run_of(*MAPPERS, "finetune.start=scratch")
    assert SCREEN_CAPTIONS in order(run.config, [FINETUNE])
    assert "targets.text_embedder" in run.leaves(FINETUNE)
    assert "targets.text_embedder" not in run_of().leaves(FINETUNE)
    with pytest.raises(UserError, match="captions need a text embedder"):
        run_of(*MAPPERS, "text_embedder=none").spec(FINETUNE)
