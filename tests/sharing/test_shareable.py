"""A part in a folder is the part that was written; what is damaged, foreign or malicious is refused in one line."""

import copy
import functools
import json
import os
import pickle
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import nn

import mindeye_pl
from mindeye_pl.errors import UserError
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.models.mindeye import MindEye2
from mindeye_pl.models.objectives import Objective
from mindeye_pl.models.parts.alignment import FunctionalAlignment
from mindeye_pl.models.parts.backbone import Backbone
from mindeye_pl.models.parts.part import Part
from mindeye_pl.models.schedule import published_onecycle
from mindeye_pl.nn.brain.alignment import PerSubjectLinear
from mindeye_pl.nn.recorded import Recorded
from mindeye_pl.sharing.folder import is_shared
from mindeye_pl.sharing.plain import describe, rebuild
from tests.models.test_mindeye2 import system
from tests.models.tiny import alignment, low_level, mixer, prior

FILES = {"model.safetensors", "config.json", "README.md"}


class Twice(Recorded):
    """A network of the user's own."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, 2 * width)


class Doubling(Part):
    """A part of the user's own."""

    def __init__(self, network: nn.Module):
        super().__init__(network, weight_decay=0.0, gain_decay="published")


@pytest.fixture
def model() -> MindEye2:
    torch.manual_seed(3)
    return MindEye2(
        alignment((9, 7)),
        mixer(num_blocks=2, mixer="corrected", dropout=0.3),
        low_level(),
        prior(sample_steps=4),
        Objective(prior_scale=2.0),
        functools.partial(torch.optim.AdamW, lr=1e-3),
        functools.partial(published_onecycle, max_lr=1e-3),
    )


@pytest.fixture
def folder(model: MindEye2, tmp_path: Path) -> Path:
    model.facts = {"subject": 1, "hours": 1.0, "simulated": True, "seed": 42}
    model.save_pretrained(tmp_path / "out")
    return tmp_path / "out"


def edit(folder: Path, **changes: Any) -> None:
    """Replace entries of the model's node."""
    config = json.loads((folder / "config.json").read_text())
    config["model"] |= changes
    (folder / "config.json").write_text(json.dumps(config))


def test_rebuilt_as_it_was(model: MindEye2, folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]
    state = torch.get_rng_state()
    again = mindeye_pl.from_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), state), "no random number is drawn"
    assert type(again) is MindEye2
    assert again.device.type == again.backbone.device.type == "cpu"
    assert not any(module.training for module in again.modules())
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    voxels = torch.randn(3, 7)
    wanted, seen = model.eval().predict(voxels, 1), again.predict(voxels, 1)
    for name in ("aligned", "tokens", "retrieval", "latents", "maps"):
        assert torch.equal(getattr(seen, name), getattr(wanted, name)), name
    assert again.objective == model.objective
    assert again.prior is not None
    assert again.prior.sample_steps == 4
    assert again.facts == model.facts


def test_rebuilt_to_train_on(model: MindEye2, folder: Path) -> None:
    again = MindEye2.from_pretrained(folder)
    assert again._optimizer is not None
    assert again._scheduler is not None
    optimizer = again._optimizer([group for part in again.parts().values() for group in part.parameter_groups()])
    assert isinstance(optimizer, torch.optim.AdamW)
    again._scheduler(optimizer, iterations_per_epoch=[2] * 3)
    assert all(p.requires_grad for p in again.parts()["backbone"].parameters())


def test_written_again_it_is_the_same_folder(folder: Path, tmp_path: Path) -> None:
    BrainDecoder.from_pretrained(folder).save_pretrained(tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_each_part_alone(model: MindEye2, tmp_path: Path) -> None:
    for name, part in model.parts().items():
        part.save_pretrained(tmp_path / name)
        again = type(part).from_pretrained(tmp_path, subfolder=name)
        assert all(torch.equal(again.state_dict()[key], value) for key, value in part.state_dict().items()), name
    with pytest.raises(UserError, match="another part") as found:
        Backbone.from_pretrained(tmp_path / "prior")
    assert "DiffusionPrior" in str(found.value)


def test_a_part_of_the_users_own(tmp_path: Path) -> None:
    Doubling(Twice(3)).save_pretrained(tmp_path / "out")
    assert isinstance(Part.from_pretrained(tmp_path / "out"), Doubling)


def test_copied_and_pickled_parts_keep_their_arguments(model: MindEye2) -> None:
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert describe(again) == describe(model)


def test_arguments_are_plain_or_refused() -> None:
    part = FunctionalAlignment(PerSubjectLinear(OmegaConf.create([9, 7]), 12))
    assert describe(part)["network"]["voxel_counts"] == [9, 7]
    assert describe(part)["weight_decay"] == 1e-2, "defaults are recorded too"
    part.made_of["weight_decay"] = object()
    with pytest.raises(TypeError, match="no plain data"):
        describe(part)
    with pytest.raises(TypeError, match=r"Linear does not derive from .*Recorded"):
        describe(Doubling(nn.Linear(3, 6)))


def test_functions_of_the_users_own_are_left_out() -> None:
    node = describe(system())  # made with an optimiser and a schedule that are functions of the tests
    assert node["optimizer"] is node["scheduler"] is None
    assert rebuild(node)._optimizer is None


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "torch.hub.load",
        "torch.optim.swa_utils.AveragedModel",
        "mindeye_pl.store.artifacts.os.system",
        "mindeye_pl.store.artifacts.write_text",
        "mindeye_pl.weights.registry.save_published",
        "mindeye_pl.models.mindeye.torch.load",
        "mindeye_pl.models.mindeye.torch",
        "mindeye_pl.nn.diffusion.unclip.UnCLIPModel",
        "mindeye_pl.nn.diffusion.builders.random_unclip",
        "mindeye_pl.nn.brain.backbone.nn.Linear",
        "mindeye_pl.models.schedule.OneCycleLR",
        "mindeye_pl.models.nowhere.Part",
        "mindeye_pl.models.schedule.nothing",
        "tests.models.test_mindeye2.system",
        "",
        ["os", "system"],
    ],
)
@pytest.mark.parametrize("partial", [False, True])
def test_nothing_but_parts_is_called(folder: Path, target: Any, partial: bool) -> None:
    trace = folder / "trace"
    edit(folder, optimizer={"_target_": target, "_partial_": partial, "path": str(trace), "command": f"touch {trace}"})
    with pytest.raises(UserError, match="no known part and was not called") as found:
        mindeye_pl.from_pretrained(folder)
    assert "\n" not in str(found.value)
    assert not trace.exists()


def test_a_module_that_was_not_imported_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "foreign_part.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="foreign_part"):
        rebuild({"_target_": "foreign_part.Part"})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"alignment": None}, "does not fit"),
        ({"alignment": "x"}, "does not fit"),
        ({"backbone": {"_target_": "mindeye_pl.models.parts.backbone.Backbone", "width": 3}}, "describes no part"),
        ({"unknown": 3}, "describes no part"),
        ({"prior": None}, "does not fit"),
        ({"_target_": "mindeye_pl.models.objectives.Objective"}, "describes no part"),
    ],
)
def test_a_configuration_that_fits_no_part(folder: Path, changes: dict[str, Any], says: str) -> None:
    edit(folder, **changes)
    with pytest.raises(UserError, match=says) as found:
        mindeye_pl.from_pretrained(folder)
    assert "\n" not in str(found.value)


def test_a_damaged_folder(folder: Path) -> None:
    def refused(*words: str) -> None:
        with pytest.raises(UserError) as found:
            mindeye_pl.from_pretrained(folder)
        assert "\n" not in str(found.value)
        assert all(word in str(found.value) for word in words), str(found.value)

    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    state = load_file(weights)
    key = "backbone.network.to_tokens.weight"
    save_file(state | {key: state[key][:-1].clone()}, weights)
    refused("model.safetensors does not fit config.json", key)
    save_file({name: value for name, value in state.items() if name != key}, weights)
    refused("model.safetensors does not fit config.json", key)
    weights.write_bytes(whole[:-8])
    refused("model.safetensors is damaged")
    weights.unlink()
    refused("model.safetensors", "do not exist")
    for text, says in (("{", "not json"), ("[" * 100_000, "not json"), ("[]", "another program"), ("{}", "another")):
        (folder / "config.json").write_text(text)
        refused("config.json", says)
    (folder / "config.json").unlink()
    refused("config.json cannot be read")


def test_an_earlier_export_is_replaced_whole(model: MindEye2, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "scaling").write_bytes(b"scaling")
    model.save_pretrained(folder, more={"betas.safetensors": tmp_path / "scaling"})
    model.backbone.save_pretrained(folder / "backbone")
    (folder / "LICENSE").write_text("the user's own")
    assert (folder / "betas.safetensors").read_bytes() == b"scaling"
    system().save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} == FILES | {"LICENSE"}
    MindEye2.from_pretrained(folder)


def test_another_folder_is_not_touched(model: MindEye2, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path, tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError) as found:
            model.save_pretrained(place)
        assert str(place) in str(found.value)
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "file"}


def test_a_write_that_fails_leaves_the_earlier_export(
    model: MindEye2, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def no_room(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mindeye_pl.sharing.shareable.card", no_room)
    with pytest.raises(OSError, match="No space"):
        system().save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_card_is_one_that_the_hub_reads(folder: Path) -> None:
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "mindeye_pl"
    assert {"fmri", "mindeye2", "simulated"} <= set(card.data.tags)
    assert card.text.lstrip().startswith("# MindEye2, subject 1, 1 hour (simulated)")
    assert "from_pretrained" in card.text
    assert "| seed | 42 |" in card.text


def killed_after(moves: int, model: MindEye2, target: Path) -> int:
    """Export in a child that is killed after some files were moved; return its exit code."""
    pid = os.fork()
    if pid == 0:
        replace, done = os.replace, iter(range(moves))

        def replace_or_die(source: Path, path: Path) -> None:
            if next(done, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, path)

        os.replace = replace_or_die  # type: ignore[assignment]
        model.save_pretrained(target)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_killed_while_files_are_moved(moves: int, model: MindEye2, folder: Path, tmp_path: Path) -> None:
    """Into a new folder and over an earlier export: the same command finishes it."""
    shutil.copytree(folder, tmp_path / "earlier")
    for target in (tmp_path / "new", tmp_path / "earlier"):
        assert killed_after(moves, model, target) == -signal.SIGKILL
        assert not is_shared(target), "a folder with a configuration is complete"
        model.save_pretrained(target)
        assert {path.name for path in target.iterdir()} == FILES
        MindEye2.from_pretrained(target)
    assert {path.name for path in tmp_path.iterdir()} == {"earlier", "new", "out"}, "nothing is left beside them"
