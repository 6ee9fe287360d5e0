"""Columns of a protocol: their order by agreement with people, and questions among many images."""

import json
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from mindeye_pl.config import compose_config
from mindeye_pl.metrics.human_agreement import PAIRWISE_ACCURACY
from mindeye_pl.metrics.identification import correlation_matrix, n_way_per_image
from mindeye_pl.reports.render.published import read_published
from mindeye_pl.steps.evaluation.image_sets import draw_candidates
from mindeye_pl.steps.evaluation.protocol_columns import n_way_questions, num_others_asked, protocol_metrics


def protocol(name: str, *overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    return compose_config(["+experiment=finetune_subj01_1h", "scale=tiny", f"protocol={name}", *overrides]).protocol


def test_columns_stand_by_agreement_with_people() -> None:
    metrics = protocol_metrics(protocol("mindeye2"), 1000)
    figures = [metric.human_agreement for metric in metrics]
    known = [figure for figure in figures if figure is not None]
    assert known == sorted(known, reverse=True)
    assert figures[: len(known)] == known, "metrics without a figure follow"
    assert [metric.name for metric in metrics[:3]] == ["effnet_distance", "swav_distance", "clip_two_way"]
    assert "agrees with people on 78% of pairs" in metrics[0].question


def test_a_figure_belongs_to_the_network_of_the_study() -> None:
    """The laptop's CLIP is not OpenAI's."""
    figures = {metric.name: metric.human_agreement for metric in protocol_metrics(protocol("native"), 50)}
    assert figures["pixcorr"] == PAIRWISE_ACCURACY["pixcorr"]
    assert figures["clip_two_way"] is None
    assert figures["lite0_two_way"] is None


def test_figures_are_those_of_the_published_table() -> None:
    (table,) = (each for each in read_published()["tables"] if each["paper"] == "seed" and "human" in each["scores"][0])
    printed = sorted(row[1] / 100 for row in table["rows"])
    assert printed == pytest.approx(sorted(PAIRWISE_ACCURACY.values()))


def test_questions_among_more_images_than_the_test_set_draw_others() -> None:
    native = protocol("native")
    assert num_others_asked(native, 500) == 500
    assert num_others_asked(native, 1200) == 0
    asked = {(one.n, one.top_k): one.others for one in n_way_questions(native, "clip", 500, 500)}
    assert asked == {(50, 1): False, (500, 1): False, (500, 5): False, (1000, 1): True}
    asked = {(one.n, one.top_k): one.others for one in n_way_questions(native, "clip", 500, 30)}
    assert asked[530, 1], "as many as there are"
    asked = {(one.n, one.top_k): one.others for one in n_way_questions(native, "clip", 1000, 0)}
    assert asked == {(50, 1): False, (1000, 1): False, (1000, 5): False}, "no question twice"
    (column,) = (one for one in protocol_metrics(native, 500, 500) if one.name == "clip_1000_way")
    assert (column.chance, column.pool_size) == (1 / 1000, 1000)


def test_others_are_no_test_images() -> None:
    ids = torch.arange(3, 60, 3).numpy()
    drawn = draw_candidates(60, ids, 20, seed=0)
    assert len(set(drawn.tolist())) == 20
    assert not set(drawn.tolist()) & set(ids.tolist())
    assert len(draw_candidates(60, ids, 1000, seed=0)) == 60 - len(ids)


def test_more_candidates_make_the_question_harder_by_as_much_as_expected() -> None:
    generator = torch.Generator().manual_seed(0)
    images, others = (torch.randn(count, 16, generator=generator) for count in (40, 160))
    made = images + 1.5 * torch.randn(40, 16, generator=generator)
    both = torch.cat([correlation_matrix(made, images), correlation_matrix(made, others)], 1)
    own = both.diagonal()[:, None]
    first = (both > own).sum(1) == 0
    torch.testing.assert_close(n_way_per_image(both, n=200).mean(), first.double().mean())
    # Two-way over all candidates is the fraction of the 199 others that are less similar.
    torch.testing.assert_close(n_way_per_image(both, n=2), (both < own).double().sum(1) / 199)


def test_a_run_scores_the_question_among_others(finished: Path) -> None:
    (path,) = (finished / "artifacts" / "evaluate_reconstructions").glob("*/scores.json")
    content = json.loads(path.read_text())
    many = [metric for metric in content["metrics"] if (metric["pool_size"] or 0) > len(content["stimulus_ids"])]
    assert len(many) == 1
    scores = {score["name"]: score for score in content["rows"]["model"]}
    assert 0 <= scores[many[0]["name"]]["value"] <= 1
    assert scores[many[0]["name"]]["chance"] == 1 / many[0]["pool_size"]
