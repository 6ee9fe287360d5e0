"""Metrics of the user's own: what changes their scores, and what is refused."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from mindeye_pl.config import check_config, compose_config
from mindeye_pl.engine.run import Run
from mindeye_pl.errors import UserError
from mindeye_pl.steps.evaluation.image_sets import SEEN, ImageSet, ImageSets, Line, Size
from mindeye_pl.steps.evaluation.own_metrics import OwnMetric, OwnMetricInput
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS

FILE = '''
def difference(reconstructions, images, *, power: float = 1.0):
    """How different are the pixels?

    Direction: lower is better.
    """
    return (reconstructions - images).abs().mean((1, 2, 3)) ** power


def column(reconstructions, images):
    """How different are the pixels?

    Direction: lower is better.
    """
    return (reconstructions - images).abs().mean((2, 3))


def undirected(reconstructions, images):
    """How different are the pixels?"""
    return (reconstructions - images).abs().mean((1, 2, 3))
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module outside the package, importable as `own_lab`."""
    path = tmp_path / "own_lab.py"
    path.write_text(FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, path.stem, raising=False)
    importlib.invalidate_caches()
    return path


def run_with(function: str, name: str = "difference", arguments: str = "") -> Run:
    GlobalHydra.instance().clear()
    node = f"{{_target_:own_lab.{function}{arguments}}}"
    return Run(compose_config(["+experiment=scratch", "scale=tiny", f"+protocol.metrics.{name}={node}"]))


def opened(function: str, arguments: str = "") -> OwnMetric:
    return run_with(function, arguments=arguments).open(OwnMetricInput("difference"))


def small_sets() -> ImageSets:
    images = torch.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4).half() / 100
    order = torch.arange(2)
    lines = {"model": Line("model", order), "shuffled": Line("model", order.flip(0))}
    size = Size(4, 4, antialias=False)
    return ImageSets(np.arange(2), {name: ImageSet(images, size) for name in (SEEN, "model")}, lines)


def test_scores_of_every_line(module: Path) -> None:
    metric = opened("difference", ",power:2.0")
    assert not metric.column.higher_is_better
    assert metric.column.question == "How different are the pixels?"
    scores = metric.score(small_sets(), [slice(0, 1), slice(1, 2)])
    assert scores["model"]["difference"].each == pytest.approx([0, 0])
    assert scores["shuffled"]["difference"].each == pytest.approx([0.48**2] * 2, rel=2e-3)


def test_file_name_and_arguments_change_the_fingerprint(module: Path) -> None:
    def fingerprint(**changes: str) -> str:
        return run_with(**({"function": "difference"} | changes)).spec(EVALUATE_RECONSTRUCTIONS).fingerprint

    found = [fingerprint(), fingerprint(function="column"), fingerprint(arguments=",power:2.0")]
    found.append(fingerprint(name="other"))
    module.write_text(f"{FILE}\n# edited\n")
    found.append(fingerprint())
    assert len(set(found)) == 5
    module.write_text(FILE)
    assert fingerprint() == found[0]


def test_scores_that_are_not_one_number_per_image_are_refused(module: Path) -> None:
    with pytest.raises(UserError, match=r"does not return one finite number per image .*expected: a tensor \(1,\)"):
        opened("column").score(small_sets(), [slice(0, 1)])


def test_docstring_without_direction_is_refused(module: Path) -> None:
    with pytest.raises(UserError, match="does not say which scores are better"):
        run_with("undirected").spec(EVALUATE_RECONSTRUCTIONS)


@pytest.mark.parametrize(
    ("function", "arguments", "says"),
    [
        ("diference", "", "expected: own_lab.difference"),
        ("difference", ",powr:2", "expected: protocol.metrics.difference.power"),
        ("difference", ",power:two", "expected: a number"),
        ("difference", ",images:1", "unknown key"),
    ],
)
def test_refused_before_the_first_step(module: Path, function: str, arguments: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_config(run_with(function, arguments=arguments).config)


def test_function_of_fewer_arguments_is_refused() -> None:
    config = compose_config(["+experiment=scratch", "scale=tiny", "+protocol.metrics.root._target_=math.sqrt"])
    with pytest.raises(UserError, match="expected: a function of reconstructions and images"):
        check_config(config)


def test_name_that_is_taken_is_refused(module: Path) -> None:
    with pytest.raises(UserError, match="name that is taken"):
        run_with("difference", name="ssim").spec(EVALUATE_RECONSTRUCTIONS)
