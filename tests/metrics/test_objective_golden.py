"""Metrics equal the recorded values of the published code."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mindeye_pl.losses.contrastive import soft_contrastive_loss
from mindeye_pl.metrics.identification import correlation_distance_per_image, correlation_matrix, n_way_per_image
from mindeye_pl.metrics.pixels import pixcorr_per_image, ssim_per_image
from mindeye_pl.metrics.retrieval import published_label, retrieval_accuracy
from tests.golden import weights

CASE = Path(weights.__file__).parent / "objective" / "objective_and_metrics.safetensors"


@pytest.fixture(scope="module")
def io() -> dict[str, Tensor]:
    return load_file(CASE)


def assert_near(value: Tensor, expected: Tensor, tolerance: float = 1e-6) -> None:
    assert float(value) == pytest.approx(float(expected), abs=tolerance)


def test_soft_contrastive_loss_equals_the_published_code(io: dict[str, Tensor]) -> None:
    loss = soft_contrastive_loss(io["softcont.student"], io["softcont.teacher"], io["softcont.teacher_aug"])
    assert_near(loss, io["softcont.loss.0.2"], 1e-4)


def test_two_way_identification_equals_the_published_code(io: dict[str, Tensor]) -> None:
    reals, recons = io["twoway.reals"], io["twoway.recons"]
    assert_near(n_way_per_image(correlation_matrix(recons, reals), n=2).mean(), io["twoway.reference"])
    assert_near(n_way_per_image(correlation_matrix(reals, recons), n=2).mean(), io["twoway.other_direction"])


def test_pixcorr_and_ssim_equal_the_published_code(io: dict[str, Tensor]) -> None:
    assert_near(pixcorr_per_image(io["recons"], io["images"]).mean(), io["pixcorr"])
    assert_near(ssim_per_image(io["recons"], io["images"]).mean(), io["ssim"])


def test_correlation_distance_equals_the_published_code(io: dict[str, Tensor]) -> None:
    assert_near(correlation_distance_per_image(io["twoway.recons"], io["twoway.reals"]).mean(), io["corr_distance"])


@pytest.mark.parametrize("top_k", [1, 5])
def test_retrieval_equals_the_published_code(io: dict[str, Tensor], top_k: int) -> None:
    brain, clip = io["retrieval.brain"], io["retrieval.clip"]
    for name, (query, gallery) in {"image_retrieval": (brain, clip), "brain_retrieval": (clip, brain)}.items():
        value = retrieval_accuracy(query=query, gallery=gallery, top_k=top_k)
        assert_near(value, io[f"retrieval.top{top_k}.printed_as_{published_label(name)}"])
    if top_k == 1:
        assert_near(retrieval_accuracy(query=brain, gallery=clip), io["retrieval.top1.image_given_brain"])
        assert_near(retrieval_accuracy(query=clip, gallery=brain), io["retrieval.top1.brain_given_image"])


def test_chance_of_two_way_identification() -> None:
    generator = torch.Generator().manual_seed(0)
    query, gallery = torch.randn(2, 400, 30, generator=generator)
    assert float(n_way_per_image(correlation_matrix(query, gallery), n=2).mean()) == pytest.approx(0.5, abs=0.05)
    assert (n_way_per_image(correlation_matrix(query, query), n=2) == 1).all()
