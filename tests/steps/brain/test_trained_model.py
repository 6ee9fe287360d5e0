"""`evaluate.checkpoint`: a published checkpoint whose only alignment is subject 2's."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mindeye_pl.config import compose_config
from mindeye_pl.engine.run import Run
from mindeye_pl.errors import UserError
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.models.mindeye import MindEye2
from mindeye_pl.steps.brain.trained_model import Trained
from mindeye_pl.training.build import build_model
from mindeye_pl.weights.formats.mindeye2 import FORMAT
from tests.conftest import CommandLine

COMMAND = ("+experiment=finetune_subj02_1h", "scale=tiny", "logger=none")
VOXELS, OF_SUBJECT_1 = 36, 40


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """Random weights of the tiny model under the published names."""
    config = compose_config(list(COMMAND))
    assert [config.simulation.voxel_counts[subject] for subject in (1, 2)] == [OF_SUBJECT_1, VOXELS]
    model = build_model(config, [VOXELS])
    assert isinstance(model, MindEye2)
    return {key: value.clone() for key, value in FORMAT.to_published(model).items()}


def opened(state: dict[str, Tensor], folder: Path, *, num_voxels: int = VOXELS) -> BrainDecoder:
    torch.save({"model_state_dict": state}, folder / "last.pth")
    overrides = [*COMMAND, f"evaluate.checkpoint={folder / 'last.pth'}", f"paths.outputs={folder}"]
    return Run(compose_config(overrides), overrides).open(Trained()).load(num_voxels)


def test_a_checkpoint_of_subject_2(published: dict[str, Tensor], tmp_path: Path) -> None:
    model = opened({f"module.{key}": value for key, value in published.items()}, tmp_path)
    assert model.voxel_counts == [VOXELS]
    assert isinstance(model, MindEye2)
    assert all(torch.equal(value, published[key]) for key, value in FORMAT.to_published(model).items())


def test_what_does_not_fit_is_one_line(published: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"40 voxels in the data.*36 voxels, as in.*data\.subject="):
        opened(published, tmp_path, num_voxels=OF_SUBJECT_1)
    without = {key: value for key, value in published.items() if not key.startswith("diffusion_prior.")}
    with pytest.raises(UserError, match=r"last\.pth has no prior.*prior=none"):
        opened(without, tmp_path)
    ridge = {f"ridge.linears.1.{name}": published[f"ridge.linears.0.{name}"] for name in ("weight", "bias")}
    with pytest.raises(UserError, match=r"several subjects.*alignments of 2.*finetune\.checkpoint="):
        opened(published | ridge, tmp_path)


@pytest.mark.slow
def test_images_of_a_checkpoint_of_subject_2(cli: CommandLine, published: dict[str, Tensor]) -> None:
    cli.outputs.mkdir()
    torch.save({"model_state_dict": published}, cli.outputs / "last.pth")
    code, _, err = cli(*COMMAND, f"evaluate.checkpoint={cli.outputs / 'last.pth'}", "pipeline=reconstruct")
    assert code == 0, err
    (path,) = (cli.outputs / "artifacts" / "reconstruct").glob("subj02-last*/reconstructions.safetensors")
    assert load_file(path)["images"].shape == (10, 3, 32, 32)
