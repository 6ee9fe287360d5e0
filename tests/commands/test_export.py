"""`pipeline=export`: from an experiment to a folder and a hub repository, each mistake one line."""

import json
import re
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load_file

import mindeye_pl
from mindeye_pl.commands.export import export_composite, export_parts
from mindeye_pl.config import compose_config
from mindeye_pl.models.mindeye import MindEye2
from mindeye_pl.models.parts.backbone import Backbone
from mindeye_pl.training.build import build_model
from tests.conftest import CommandLine
from tests.sharing.hub_server import TOKEN, Hub, serving

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none", "pipeline=export")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture
def trained(outputs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Outputs that the tests share, so that one of them trains."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(outputs / "no_token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(outputs / "cache"))
    return CommandLine(outputs, capfd, monkeypatch)


def weights(cli: CommandLine) -> Path:
    (path,) = cli.outputs.glob("artifacts/finetune/subj*/model.safetensors")
    return path


def test_to_a_folder(trained: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    code, out, err = trained(
        *COMMAND, f"export.folder={folder}", "export.parts=true", "fidelity.betas=zscore_train_sessions"
    )
    assert code == 0, err
    assert f"exported: {folder}" in out.replace("\n", "")
    config = json.loads((folder / "config.json").read_text())
    assert config["mindeye_pl"] == mindeye_pl.__version__
    facts = config["facts"]
    assert (facts["subject"], facts["hours"], facts["seed"], facts["simulated"]) == (1, 1.0, 42, True)
    assert facts["embedder"] == {"name": "tiny", "num_tokens": 4, "token_dim": 16}
    assert facts["fidelity"]["mixer"] == "published"
    assert config["model"]["alignment"]["network"]["voxel_counts"] == facts["voxels"]
    assert "simulated" in (folder / "README.md").read_text()

    (artifact,) = trained.outputs.glob("artifacts/finetune/subj*/betas.safetensors")
    wanted = load_file(artifact.with_name("model.safetensors"))
    model = MindEye2.from_pretrained(folder)
    assert model.state_dict().keys() == wanted.keys()
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())
    backbone = Backbone.from_pretrained(folder, subfolder="backbone")
    assert torch.equal(backbone.network.to_tokens.weight, model.backbone.network.to_tokens.weight)

    betas = np.random.default_rng(0).normal(size=(3, facts["voxels"][0])).astype(np.float32)
    shared, own = mindeye_pl.load(folder), mindeye_pl.load(artifact.parent, images=False)
    torch.testing.assert_close(shared.reconstruct(betas).tokens, own.reconstruct(betas).tokens)


@pytest.mark.slow
def test_a_checkpoint_of_the_users(trained: CommandLine, tmp_path: Path) -> None:
    assert trained(*COMMAND, f"export.folder={tmp_path / 'first'}")[0] == 0
    given = tmp_path / "first" / "model.safetensors"
    before = trained.artifacts()
    code, _, err = trained(*COMMAND, f"export.folder={tmp_path / 'second'}", f"evaluate.checkpoint={given}")
    assert code == 0, err
    assert trained.artifacts() == before, "nothing is trained"
    facts = json.loads((tmp_path / "second" / "config.json").read_text())["facts"]
    assert facts["checkpoint"] == "model.safetensors"
    assert "hours" not in facts


def test_plan(trained: CommandLine, tmp_path: Path) -> None:
    code, out, _ = trained(*COMMAND, f"export.folder={tmp_path / 'out'}", "plan=true", "seed=7")
    assert code == 0
    assert re.search(r"finetune .*will run", out)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_to_the_hub(trained: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with serving(Hub()) as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.endpoint)
        code, out, err = trained(*COMMAND, "export.repository=lab/subject-one")
        assert code == 0, err
        assert "pushed: " in out
        assert hub.private == {"lab/subject-one": True}
        assert {"model.safetensors", "config.json", "README.md"} <= set(hub.repositories["lab/subject-one"])
        trained.refuses(*COMMAND, "export.repository=somebody/model", says=("refused somebody/model", "403"))
    trained.refuses(*COMMAND, "export.repository=lab/subject-one", says=("did not answer for lab/subject-one",))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    trained.refuses(*COMMAND, "export.repository=lab/subject-one", says=("cannot be reached", "HF_HUB_OFFLINE"))


def test_mistakes_are_reported_before_the_first_step(trained: CommandLine, tmp_path: Path) -> None:
    fresh = (*COMMAND, "seed=8")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README.md").write_text("mine")
    trained.refuses(*fresh, says=("export needs a place", "export.folder=", "export.repository="))
    trained.refuses(*fresh, f"export.folder={tmp_path / 'notes'}", says=("notes holds something else",))
    trained.refuses(*fresh, "export.repository=lab/model", says=("no token", "hf auth login"))
    trained.refuses(*fresh, "export.repository=model", says=("no name of a repository", "owner/name"))
    assert not list(trained.outputs.glob("artifacts/finetune/*seed8*"))
    assert (tmp_path / "notes" / "README.md").read_text() == "mine"


@pytest.mark.parametrize("options", [("low_level=none", "prior=none"), ("low_level=vae_blur", "fidelity=corrected")])
def test_every_composition_is_rebuilt(options: tuple[str, ...], tmp_path: Path) -> None:
    GlobalHydra.instance().clear()
    config = compose_config(["scale=tiny", *options])
    model = build_model(config, [9, 7])
    export_composite(model, config, tmp_path / "out")
    export_parts(model, tmp_path / "out")
    again = MindEye2.from_pretrained(tmp_path / "out")
    assert all(torch.equal(again.state_dict()[key], value) for key, value in model.state_dict().items())
    assert again.parts().keys() == model.parts().keys()
    for name, stage in model.parts().items():
        assert again.parts()[name].gain_decay == stage.gain_decay == config.fidelity.gain_decay
        assert (tmp_path / "out" / name / "model.safetensors").is_file()
    assert again._optimizer is not None
    assert again.backbone.network.mixer == config.fidelity.mixer
