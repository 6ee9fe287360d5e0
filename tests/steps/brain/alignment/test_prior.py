"""Priors of a closed-form alignment: against brute force, on planted voxels, and through the command line."""

import numpy as np
import pytest
import torch

from mindeye_pl.metrics.voxel_clusters import FeatureAxes
from mindeye_pl.nn.in_context.neighbours import mean_weights, near_means, nearest_positions
from mindeye_pl.steps.brain.alignment.closed_form import ALIGNMENT, CHOICES
from mindeye_pl.steps.brain.alignment.prior import Anatomy, CarriedMaps, Tuning
from mindeye_pl.store.own_files import read_json, read_tensors
from tests.conftest import CommandLine

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none", "pipeline.steps=[closed_form_alignment]")
NO_TRIALS = np.zeros((0, 0), np.float32), np.zeros(0, np.int64)


def test_a_map_is_the_mean_of_the_nearest_voxels_of_each_other_subject() -> None:
    rng = np.random.default_rng(0)
    positions = {subject: rng.normal(size=(count, 3)) for subject, count in ((1, 12), (2, 20), (5, 9))}
    weights = {subject: torch.from_numpy(rng.normal(size=(4, len(positions[subject])))) for subject in (1, 2, 5)}
    carried = CarriedMaps(weights, Anatomy(positions.__getitem__), 3)(1, *NO_TRIALS)
    assert carried.shape == (4, 12)
    places = {subject: (each - each.mean(0)) / each.std(0) for subject, each in positions.items()}
    for voxel in range(12):
        means = []
        for other in (2, 5):  # not the subject's own
            nearest = ((places[other] - places[1][voxel]) ** 2).sum(1).argsort()[:3]
            means.append(weights[other][:, nearest.copy()].mean(1))
        torch.testing.assert_close(carried[:, voxel], torch.stack(means).mean(0))


def test_means_of_few_known_voxels_take_all_of_them() -> None:
    rng = np.random.default_rng(1)
    known, positions = [rng.normal(size=(2, 3)), rng.normal(size=(3, 3))], rng.normal(size=(4, 3))
    weights = [torch.from_numpy(rng.normal(size=(6, len(each)))) for each in known]
    nearest = nearest_positions(known, positions, 99)
    assert nearest.shape == (4, 5)
    found = near_means(list(zip(known, weights, strict=True)), positions, 99)
    torch.testing.assert_close(found, mean_weights(torch.cat(weights, 1), nearest))
    torch.testing.assert_close(found, torch.cat(weights, 1).mean(1, keepdim=True).expand(6, 4))


def test_voxels_that_respond_alike_have_each_others_weights() -> None:
    """Subjects have the same voxels in another order, and saw other images: the map is carried over exactly."""
    rng = np.random.default_rng(2)
    all_features = rng.normal(size=(300, 6)).astype(np.float32)
    tuning, order = rng.normal(size=(6, 15)).astype(np.float32), rng.permutation(15)
    respond = lambda ids, voxels: all_features[ids] @ tuning[:, voxels]  # noqa: E731
    known_ids, ids = np.arange(200), np.arange(200, 300)
    known = [(2, (respond(known_ids, order), known_ids))]
    axes = FeatureAxes.fit(all_features[known_ids], 6)
    weights = torch.from_numpy(rng.normal(size=(4, 15)).astype(np.float32))
    maps = CarriedMaps({2: weights[:, order]}, Tuning(axes, all_features.__getitem__, known), 1)
    twice = np.concatenate([ids, ids])  # two trials of each image
    torch.testing.assert_close(maps(1, respond(twice, np.arange(15)), twice), weights)


@pytest.mark.parametrize("prior", ["tuning", "anatomy"])
def test_a_prior_through_the_command_line(cli: CommandLine, prior: str) -> None:
    code, _, err = cli(*COMMAND, f"adaptation=[prior_{prior}]", "finetune.alignment.prior_scales=[0.5]")
    assert code == 0, err
    made = cli.made("closed_form_alignment")
    assert read_json(made / CHOICES)["prior_scale"] == 0.5
    assert torch.isfinite(read_tensors(made / ALIGNMENT)["weight"]).all()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("finetune.alignment.start=random",), ("prior needs a closed form", "start=random")),
        (("pretrain.subjects=[2]", "finetune.episodes.per_subject=2"), ("episodes of a single subject", "[2]")),
        (("finetune.alignment.prior=place",), ("finetune.alignment.prior", "place", "none, anatomy, tuning")),
    ],
)
def test_priors_that_cannot_be_are_refused(cli: CommandLine, more: tuple[str, ...], says: tuple[str, ...]) -> None:
    steps = "pipeline.steps=[finetune]"
    cli.refuses(*COMMAND[:-1], steps, "adaptation=[prior_tuning]", *more, says=says)
