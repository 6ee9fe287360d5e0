"""Parts of an interrupted evaluation: found again, and made again where they are damaged."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mindeye_pl.metrics.images import Scored
from mindeye_pl.steps.evaluation.brain_scores import TRUE_IMAGE, _predictions
from mindeye_pl.steps.evaluation.image_scores import FeaturesOfSets, Lines, kept
from mindeye_pl.steps.evaluation.image_sets import SEEN, ImageSets, Line

IMAGES = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
BACKWARDS = torch.arange(5).flip(0)
SETS = ImageSets(np.arange(5), {SEEN: IMAGES}, {"model": Line(SEEN, BACKWARDS)})  # type: ignore[dict-item]


def scores(folder: Path, made: list[str]) -> list[np.ndarray]:
    each = np.array([0.1, np.nan, 0.3])

    def compute() -> Lines:
        made.append("scores")
        return {"model": {"ssim": Scored(each, 2 * each)}}

    found = kept(folder, "pixels", compute)["model"]["ssim"]
    np.testing.assert_array_equal(found.each, each)
    return [found.each, found.influence]


def features(folder: Path, made: list[str]) -> list[np.ndarray]:
    def network(images: Tensor) -> dict[str, Tensor]:
        made.append("features")
        return {"pixels": images}

    found = FeaturesOfSets(folder, SETS, lambda: network, torch.device("cpu")).of_line("model", "pixels")
    torch.testing.assert_close(found, IMAGES.flatten(1)[BACKWARDS])
    return [found.numpy()]


def betas(folder: Path, made: list[str]) -> list[np.ndarray]:
    def encoder(images: Tensor) -> np.ndarray:
        made.append("betas")
        return images.flatten(1).numpy()

    found = _predictions(encoder, SETS, folder / "betas-own.safetensors")
    torch.testing.assert_close(found[TRUE_IMAGE], IMAGES.flatten(1))
    return [rows.clone().numpy() for rows in found.values()]  # the file is mapped, and overwritten in place below


@pytest.mark.parametrize("part", [scores, features, betas])
def test_damaged_parts_are_made_again(
    part: Callable[[Path, list[str]], list[np.ndarray]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, made = part(tmp_path, []), list[str]()
    assert part(tmp_path, made)
    assert made == []
    (path,) = tmp_path.iterdir()
    for content in (path.read_bytes()[:-3], b"", b'{"model": {"ssim": [[1, 2]]}}'):
        path.write_bytes(content)
        made.clear()
        for again, before in zip(part(tmp_path, made), first, strict=True):
            np.testing.assert_array_equal(again, before)
        assert made == [part.__name__]
        assert f"{path.name} is damaged: it is made again" in " ".join(capsys.readouterr().out.split())
