"""The distillation as a step: a teacher's file in, a student's file of the same format out."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from mindeye_pl.config import compose_config
from mindeye_pl.engine.run import Run
from mindeye_pl.steps.foundation.distillation import DISTIL_UNCLIP
from mindeye_pl.steps.inputs.frozen_models import Frozen
from mindeye_pl.weights.loaders import bundled
from mindeye_pl.weights.registry import load_published, save_published
from tests.conftest import CommandLine
from tests.steps.fingerprints import another, leaves
from tests.steps.foundation.test_unclip import SIZE, command, images, released  # noqa: F401

#: The tiny training with the laptop's unCLIP as the teacher.
LAPTOP = (
    *("pipeline=distil_unclip", "foundation=tiny", "scale=tiny", "unclip=laptop", "embedder=laptop", "logger=none"),
    *("foundation.images.count=10", "foundation.images.image_size=64", "foundation.images.num_validation=2"),
    *("foundation.unclip_student.steps_per_epoch=2", "foundation.unclip_student.batch_size=2"),
)


def test_the_students_file_is_the_unclip_of_an_experiment(cli: CommandLine) -> None:
    assert cli(*LAPTOP)[0] == 0
    path = cli.made(DISTIL_UNCLIP.name) / bundled.UNCLIP
    student, teacher = load_file(path), load_file(bundled.SHIPPED / bundled.UNCLIP)
    assert student.keys() == teacher.keys()
    torch.testing.assert_close(student["null_tokens"], teacher["null_tokens"].float())  # not trained
    assert not torch.equal(student["unet.conv_out.weight"], teacher["unet.conv_out.weight"].float())
    config = compose_config(["scale=tiny", "unclip=laptop_4steps", f"unclip.network.path={path}"])
    unclip = Run(config).open(Frozen("unclip")).load()
    assert torch.equal(unclip.unet.conv_out.weight, student["unet.conv_out.weight"])


def test_trains_on_from_an_earlier_student(cli: CommandLine, tmp_path: Path) -> None:
    short = (*LAPTOP, "foundation.unclip_student.regressed=null", "foundation.unclip_student.drafts=null")
    assert cli(*short)[0] == 0
    first = cli.made(DISTIL_UNCLIP.name).rename(tmp_path / "first") / bundled.UNCLIP
    again = (f"foundation.unclip_student.checkpoint={first}", "foundation.unclip_student.max_lr=1e-9")
    assert cli(*short, *again)[0] == 0
    second = load_file(cli.made(DISTIL_UNCLIP.name) / bundled.UNCLIP)
    torch.testing.assert_close(second, load_file(first), rtol=0, atol=1e-6)
    gone = "foundation.unclip_student.checkpoint=gone.safetensors"
    cli.refuses(*short, gone, says=("foundation.unclip_student.checkpoint does not exist",))


@pytest.mark.slow
def test_a_stopped_training_ends_in_the_same_weights(cli: CommandLine) -> None:
    cli.ends_in_the_same_weights(*LAPTOP, step=DISTIL_UNCLIP.name, file=bundled.UNCLIP, stops=(1,), epochs=2)


@pytest.mark.slow
def test_the_sdxl_unclip_is_distilled_to_the_published_format(
    cli: CommandLine,
    command: tuple[str, ...],  # noqa: F811
    tmp_path: Path,
) -> None:
    assert cli(*command, "foundation.unclip.epochs=0")[0] == 0
    made = cli.made("pretrain_unclip") / bundled.UNCLIP
    teacher = tmp_path / "teacher.safetensors"
    made.rename(teacher)
    own = [one for one in command if not one.startswith(("pipeline=", "foundation.unclip."))]
    student = [f"foundation.unclip_student.{one}" for one in ("epochs=1", "steps_per_epoch=2", "batch_size=2")]
    network = ("unclip.network.head_dim=16", f"unclip.network.image_size={SIZE}")
    code, _, err = cli(
        *("pipeline=distil_unclip", *own, "unclip=sdxl", f"unclip.weights.file={teacher}", *network, *student)
    )
    assert code == 0, err
    path = cli.made(DISTIL_UNCLIP.name) / bundled.UNCLIP
    unclip = load_published("unclip", path, head_dim=16, image_size=SIZE)
    before, after = load_file(teacher), load_file(path)
    assert before.keys() == after.keys()
    assert not torch.equal(before["model.diffusion_model.out.2.weight"], after["model.diffusion_model.out.2.weight"])
    save_published("unclip", unclip, tmp_path / "again.safetensors")
    torch.testing.assert_close(load_file(tmp_path / "again.safetensors"), after, rtol=0, atol=0)


def test_every_setting_that_the_student_depends_on_changes_its_fingerprint() -> None:
    """The tables of all systems have an unCLIP without a file, which the step refuses."""
    config = compose_config(list(LAPTOP))
    OmegaConf.set_struct(config, False)

    def changes(key: str) -> bool:
        before, value = (Run(config).spec(DISTIL_UNCLIP).fingerprint, OmegaConf.select(config, key))
        OmegaConf.update(config, key, another(value))
        after = Run(config).spec(DISTIL_UNCLIP).fingerprint
        OmegaConf.update(config, key, value)
        return before != after

    own = [
        f"foundation.unclip_student.{key}"
        for key, *_ in leaves(config.foundation.unclip_student)
        if key != "checkpoint"
    ]
    read = ("seed", "unclip.guidance", "unclip.offset", "foundation.images.count", "embedder.token_dim")
    assert len(own) > 15
    assert {key for key in (*own, *read) if not changes(key)} == set()
    sampler = ("unclip.steps", "unclip.strength", "unclip.batch_size", "foundation.unclip.max_lr")
    assert {key for key in sampler if changes(key)} == set()


def test_mistakes_are_one_line(cli: CommandLine) -> None:
    cli.refuses(*LAPTOP, "unclip=lafite", says=("has no unCLIP to distil", "unclip=laptop or unclip=sdxl"))
    other = [one for one in LAPTOP if not one.startswith("foundation")]
    cli.refuses(*other, "foundation=lafite", says=("distil_unclip has no settings",))
    size = "foundation.images.image_size=32"
    cli.refuses(*LAPTOP, size, says=("drafts need images of the size of unclip=laptop", "64"))
