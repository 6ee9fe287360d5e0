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


def test_the_documented_command_has_the_architecture_of_the_published_model() -> None:
    """Hidden width 1024 with the low-level branch and bigG's tokens, as the model card of the checkpoint says."""
    config = compose_config([COMMAND[0], "scale=small", "low_level=vae_blur", "data=nsd"])
    with torch.device("meta"):
        model = build_model(config, [14278])
        assert isinstance(model, MindEye2)
        state = FORMAT.to_published(model)
        again = FORMAT.build(state, Path("last.pth"))
    assert state["ridge.linears.0.weight"].shape == (1024, 14278)
    assert state["backbone.backbone_linear.weight"].shape == (256 * 1664, 1024)
    assert state["backbone.blin1.weight"].shape == (4 * 28 * 28, 1024)
    assert "backbone.mixer_blocks1.3.1.0.weight" in state
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assert {name: value.shape for name, value in again.state_dict().items()} == shapes


@pytest.mark.slow
def test_images_of_a_checkpoint_of_subject_2(cli: CommandLine, published: dict[str, Tensor]) -> None:
    cli.outputs.mkdir()
    torch.save({"model_state_dict": published}, cli.outputs / "last.pth")
    code, _, err = cli(*COMMAND, f"evaluate.checkpoint={cli.outputs / 'last.pth'}", "pipeline=reconstruct")
    assert code == 0, err
    (path,) = (cli.outputs / "artifacts" / "reconstruct").glob("subj02-last*/reconstructions.safetensors")
    assert load_file(path)["images"].shape == (10, 3, 32, 32)
