"""Functional clusters from trials to a fine-tuned model, whose new subject learns its voxel embeddings alone."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import normalize

from mindeye_pl.config import compose_config
from mindeye_pl.metrics.voxel_clusters import FeatureAxes
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.steps.brain.voxel_clusters import KnownVoxels
from mindeye_pl.training.build import build_model, parameter_counts
from tests.conftest import CommandLine

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none", "adaptation=[clusters]")
OWN = "alignment.network.voxels."


def test_a_new_subject_learns_its_voxel_embeddings_alone(cli: CommandLine) -> None:
    code, _, err = cli(*COMMAND, "pipeline.steps=[evaluate]")
    assert code == 0, err
    known = load_arrays(cli.made("voxel_clusters") / "voxel_clusters.safetensors")
    places = load_arrays(cli.made("place_voxels") / "places.safetensors")
    pretrained = load_file(cli.made("pretrain") / "model.safetensors")
    finetuned = load_file(cli.made("finetune") / "model.safetensors")

    mixture = GaussianMixture(4, random_state=42, reg_covar=1e-4)
    assert np.array_equal(known["clusters"], mixture.fit_predict(normalize(known["tuning"].astype(float))))
    assert len(known["clusters"]) == known["voxel_counts"].sum()
    assert np.array_equal(places["clusters"], known["clusters"][places["nearest"][:, 0]])
    similarity = cosine_similarity(places["tuning"], known["tuning"])
    assert np.array_equal(places["nearest"], (-similarity).argsort(1)[:, :5])
    assert np.linalg.norm(known["tuning"], axis=1).mean() == pytest.approx(1, rel=1e-5)

    shared = {name for name in finetuned if not name.startswith(OWN)}
    assert shared == {name for name in pretrained if not name.startswith(OWN)}
    assert all(torch.equal(finetuned[name], pretrained[name]) for name in shared)
    assert np.array_equal(finetuned[f"{OWN}clusters_0"].numpy(), places["clusters"])
    of_pretraining = np.concatenate([pretrained[f"{OWN}clusters_{i}"] for i in range(len(known["voxel_counts"]))])
    assert np.array_equal(of_pretraining, known["clusters"])
    learned = torch.cat([pretrained[f"{OWN}embeddings.{i}"] for i in range(len(known["voxel_counts"]))])
    start = learned[torch.from_numpy(places["nearest"])].mean(1)
    moved = (finetuned[f"{OWN}embeddings.0"] - start).abs()
    assert 0 < moved.max() < 0.2


def test_episodes_leave_the_embeddings_and_the_clusters_as_placed(cli: CommandLine) -> None:
    """Voxels of an hour are placed among those of the other subjects alone; the shared parts learn."""
    more = ("adaptation=[clusters,episodes]", "finetune.episodes.per_subject=2", "pipeline.steps=[finetune]")
    code, out, err = cli(*COMMAND[:-1], *more)
    assert code == 0, err
    assert "aligned in closed form" in out
    known = load_arrays(cli.made("voxel_clusters") / "voxel_clusters.safetensors")
    pretrained, trained = (load_file(cli.made(step) / "model.safetensors") for step in ("pretrain", "train_episodes"))
    counts = known["voxel_counts"]
    starts, dim = np.cumsum([0, *counts]), pretrained["alignment.network.queries"].shape[1]
    learned = torch.cat([pretrained[f"{OWN}embeddings.{i}"] for i in range(len(counts))]).double()
    for episode in range(2 * len(counts)):
        subject = episode // 2
        others = torch.cat([learned[: starts[subject]], learned[starts[subject + 1] :]])
        placed = trained[f"{OWN}embeddings.{episode}"].double()
        assert placed.shape == (counts[subject], dim)
        # Means of five voxels of the other subjects: inside their range in every dimension, and no copy of its own.
        assert (placed >= others.amin(0) - 1e-6).all()
        assert (placed <= others.amax(0) + 1e-6).all()
    assert torch.equal(trained["alignment.network.queries"], pretrained["alignment.network.queries"])
    backbone = [name for name in trained if name.startswith("backbone.")]
    assert any(not torch.equal(trained[name], pretrained[name]) for name in backbone)
    finetuned = load_file(cli.made("finetune") / "model.safetensors")
    assert all(torch.equal(finetuned[name], trained[name]) for name in backbone)


def test_places_leave_a_subject_out() -> None:
    rng = np.random.default_rng(0)
    counts, tuning = np.array([5, 7, 6]), rng.normal(size=(18, 3)).astype(np.float32)
    axes = FeatureAxes(np.zeros(3, np.float32), np.eye(3, dtype=np.float32), np.ones(3, np.float32))
    known = KnownVoxels(axes, np.ones(1, np.float32), tuning, rng.integers(0, 4, 18), counts)
    projected = rng.normal(size=(40, 3)).astype(np.float32)
    betas = projected @ tuning[5:12].T
    own, without = (known.places(projected, betas, 2, without=which) for which in (None, 1))
    assert np.array_equal(own.nearest[:, 0], np.arange(5, 12))
    assert not np.isin(without.nearest, np.arange(5, 12)).any()
    similarity = cosine_similarity(without.tuning, tuning)
    similarity[:, 5:12] = -2
    assert np.array_equal(without.nearest, (-similarity).argsort(1)[:, :2])
    assert np.array_equal(without.clusters, known.clusters[without.nearest[:, 0]])


def test_random_embeddings_start_as_in_a_pretraining(cli: CommandLine) -> None:
    more = ("finetune.alignment.start=random", "finetune.epochs=1", "scheduler.max_lr=1e-30")
    assert cli(*COMMAND, *more, "pipeline.steps=[finetune]")[0] == 0
    places = load_arrays(cli.made("place_voxels") / "places.safetensors")
    embeddings = load_file(cli.made("finetune") / "model.safetensors")[f"{OWN}embeddings.0"]
    given = min(places["tuning"].shape[1], embeddings.shape[1])
    np.testing.assert_allclose(embeddings[:, :given], places["tuning"][:, :given], atol=1e-6)


def test_a_resumed_training_ends_in_the_same_weights(cli: CommandLine) -> None:
    more = ("finetune.start=scratch", "finetune.alignment.start=random")
    more += ("finetune.trainable=all", "alignment.network.voxel_dropout=0.5")
    where = {"step": "finetune", "file": "model.safetensors", "stops": (1,), "epochs": 2}
    cli.ends_in_the_same_weights(*COMMAND, *more, "pipeline.steps=[finetune]", **where)


def test_weights_of_other_subjects_are_refused(cli: CommandLine) -> None:
    assert cli(*COMMAND, "pipeline.steps=[finetune]")[0] == 0
    weights = cli.made("finetune") / "model.safetensors"
    says = ("was pretrained on other subjects", "voxels")
    cli.refuses(*COMMAND, "pipeline.steps=[finetune]", f"finetune.checkpoint={weights}", "data.subject=2", says=says)


def test_more_clusters_than_voxels_are_refused(cli: CommandLine) -> None:
    says = ("too few voxels", "voxel_clusters.count=")
    cli.refuses(*COMMAND, "pipeline.steps=[voxel_clusters]", "voxel_clusters.count=2000", says=says)


@pytest.mark.parametrize("model", ["mindeye2", "mindeye1"])
def test_the_papers_sizes(model: str) -> None:
    more = [f"model={model}", "alignment=clusters", "backbone=clusters", "paths.nsd=nsd"]
    config = compose_config(["+experiment=finetune_subj01_1h", "scale=paper", "data=nsd", *more])
    counts = parameter_counts(config, [15724])
    assert counts["alignment"] == (15724 + 128) * 512
    with torch.device("meta"):
        decoder = build_model(config, [15724, 14278])
    assert isinstance(decoder, BrainDecoder)
    assert decoder.voxel_counts == [15724, 14278]
    decoder.freeze_all_but("per_subject")
    trained = {name: p.numel() for name, p in decoder.named_parameters() if p.requires_grad}
    own = {f"{OWN}embeddings.{i}": count * 512 for i, count in enumerate(decoder.voxel_counts)}
    assert {name: count for name, count in trained.items() if name.startswith("alignment")} == own
    assert not any(name.startswith(("backbone", "prior")) for name in trained)
