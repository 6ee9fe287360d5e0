"""Metrics equal the recorded values of the published code."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mindeye_pl.losses.soft_contrastive import soft_contrastive_loss
from mindeye_pl.metrics.identification import correlation_distance, two_way_identification
from mindeye_pl.metrics.pixels import pixcorr, ssim
from mindeye_pl.metrics.retrieval import brain_retrieval, image_retrieval, published_label
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
    assert_near(two_way_identification(query=recons, gallery=reals), io["twoway.reference"])
    assert_near(two_way_identification(query=reals, gallery=recons), io["twoway.other_direction"])


def test_pixcorr_and_ssim_equal_the_published_code(io: dict[str, Tensor]) -> None:
    assert_near(pixcorr(io["recons"], io["images"]), io["pixcorr"])
    assert_near(ssim(io["recons"], io["images"]), io["ssim"])


def test_correlation_distance_equals_the_published_code(io: dict[str, Tensor]) -> None:
    assert_near(correlation_distance(io["twoway.recons"], io["twoway.reals"]), io["corr_distance"])


@pytest.mark.parametrize("top_k", [1, 5])
def test_retrieval_equals_the_published_code(io: dict[str, Tensor], top_k: int) -> None:
    brain, clip = io["retrieval.brain"], io["retrieval.clip"]
    directions = {"image_retrieval": image_retrieval, "brain_retrieval": brain_retrieval}
    for name, metric in directions.items():
        value = metric(brain=brain, clip=clip, top_k=top_k)
        assert_near(value, io[f"retrieval.top{top_k}.printed_as_{published_label(name)}"])
    if top_k == 1:
        assert_near(image_retrieval(brain=brain, clip=clip), io["retrieval.top1.image_given_brain"])
        assert_near(brain_retrieval(brain=brain, clip=clip), io["retrieval.top1.brain_given_image"])


def test_chance_of_two_way_identification() -> None:
    generator = torch.Generator().manual_seed(0)
    query, gallery = torch.randn(2, 400, 30, generator=generator)
    assert float(two_way_identification(query=query, gallery=gallery)) == pytest.approx(0.5, abs=0.05)
    assert two_way_identification(query=query, gallery=query) == 1
