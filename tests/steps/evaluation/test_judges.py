"""Judges of images: refused where they are the training target, and absent where their package is."""

import json
from pathlib import Path

import pytest
from omegaconf import DictConfig

from mindeye_pl.config import compose_config
from mindeye_pl.errors import UserError
from mindeye_pl.steps.evaluation.judges import check_judges, weight_files
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS
from mindeye_pl.weights.locate import find_weights

BASE = ("+experiment=finetune_subj01_1h", "scale=tiny")


def composed(*overrides: str) -> DictConfig:
    return compose_config([*BASE, *overrides])


def test_a_target_is_refused_as_judge_in_one_line() -> None:
    config = composed("embedder=efficientnet_lite0")
    with pytest.raises(UserError, match="lite0 is the training target, and cannot judge") as caught:
        EVALUATE_RECONSTRUCTIONS.check(config)
    assert "\n" not in str(caught.value)
    check_judges(composed("embedder=efficientnet_lite0", "protocol=photos"))
    check_judges(composed())


@pytest.mark.parametrize(("rule", "refused"), [("published", False), ("refused", True)])
def test_mindeye1_was_scored_by_its_own_target(rule: str, refused: bool) -> None:
    config = composed("protocol=mindeye1", "embedder=clip_l_hidden", f"protocol.target_as_judge={rule}")
    if not refused:
        check_judges(config)
        return
    with pytest.raises(UserError, match=r"networks\.clip is the training target"):
        check_judges(config)


def test_the_bundled_clip_is_one_network_under_two_names() -> None:
    config = composed("embedder=laptop")
    assert weight_files(config.embedder) == weight_files(config.features.laptop_clip)
    assert weight_files(config.embedder).isdisjoint(weight_files(config.features.efficientnet_lite0))


def test_a_judge_without_its_package_is_absent_without_a_message(finished: Path) -> None:
    (path,) = (finished / "artifacts" / "evaluate_reconstructions").glob("*/scores.json")
    content = json.loads(path.read_text())
    installed = find_weights(composed().weights.efficientnet_lite0, None) is not None
    assert ("lite0_two_way" in {metric["name"] for metric in content["metrics"]}) == installed
    assert content["needs"] == {}
    assert ("EfficientNet-Lite0" in content["judges"]) == installed
    if installed:
        assert content["judges"]["EfficientNet-Lite0"] == "ImageNet-1k, not COCO"
