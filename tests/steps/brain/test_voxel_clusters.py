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
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.training.build import build_model, parameter_counts
from tests.conftest import CommandLine

CLUSTERS = ("alignment=clusters", "backbone=clusters", "adaptation=[voxel_embeddings]")
COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none", *CLUSTERS)
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


def test_a_resumed_training_ends_in_the_same_weights(cli: CommandLine) -> None:
    more = ("finetune.start=scratch", "finetune.trainable=all", "alignment.network.voxel_dropout=0.5")
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
