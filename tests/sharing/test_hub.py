"""The way to the hub and back, through the hub's real client against a small hub on this machine."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

import mindeye_pl
from mindeye_pl.errors import UserError
from mindeye_pl.models.mindeye import MindEye2
from mindeye_pl.models.parts.backbone import Backbone
from mindeye_pl.sharing.hub import fetch_folder, push_to_hub
from tests.models.test_mindeye2 import system
from tests.sharing.hub_server import TOKEN, Hub, serving


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's cache nor the user's token."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub()) as running:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", running.endpoint)
        monkeypatch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            running.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        )
        yield running


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return TOKEN


def says(found: pytest.ExceptionInfo[UserError], *words: str) -> None:
    line = str(found.value)
    assert "\n" not in line
    for word in words:
        assert word in line, line
    assert TOKEN not in line


def test_a_pushed_model_is_loaded_again(hub: Hub, token: str) -> None:
    model = system().eval()
    model.facts = {"subject": 1, "simulated": True}
    address = model.push_to_hub("lab/subject-one")
    assert address.startswith(f"{hub.endpoint}/lab/subject-one/commit/")
    assert set(hub.repositories["lab/subject-one"]) == {"model.safetensors", "config.json", "README.md"}
    assert hub.private["lab/subject-one"] is True

    again = MindEye2.from_pretrained("lab/subject-one")
    assert again.facts == model.facts
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key

    hub.asked.clear()
    cached = mindeye_pl.from_pretrained("lab/subject-one", local_files_only=True)
    assert isinstance(cached, MindEye2)
    assert not hub.asked, "local_files_only asks no network"

    voxels = torch.randn(3, 9)
    decoder = mindeye_pl.load("lab/subject-one")
    torch.testing.assert_close(decoder.reconstruct(voxels).retrieval, model.predict(voxels).retrieval)


def test_pushed_again_it_replaces_and_stays_as_visible_as_it_was(hub: Hub, token: str) -> None:
    system().push_to_hub("lab/model", private=False)
    first = dict(hub.repositories["lab/model"])
    system(with_prior=False).push_to_hub("lab/model")
    assert hub.repositories["lab/model"]["model.safetensors"] != first["model.safetensors"]
    assert hub.private["lab/model"] is False


def test_one_part_of_a_repository(hub: Hub, token: str, tmp_path: Path) -> None:
    model = system()
    model.save_pretrained(tmp_path / "out")
    model.backbone.save_pretrained(tmp_path / "out" / "backbone")
    push_to_hub(tmp_path / "out", "lab/model")
    backbone = Backbone.from_pretrained("lab/model", subfolder="backbone")
    assert torch.equal(backbone.network.to_tokens.weight, model.backbone.network.to_tokens.weight)
    assert not any(path.endswith("lab/model/resolve/main/model.safetensors") for path in hub.asked)


def test_weights_of_an_earlier_push_do_not_stay(hub: Hub, token: str, tmp_path: Path) -> None:
    (tmp_path / "scaling").write_bytes(b"of betas")
    system().save_pretrained(tmp_path / "out", more={"betas.safetensors": tmp_path / "scaling"})
    push_to_hub(tmp_path / "out", "lab/model")
    assert "betas.safetensors" in hub.repositories["lab/model"]
    hub.repositories["lab/model"]["LICENSE"] = b"the lab's own"
    system().push_to_hub("lab/model")
    assert set(hub.repositories["lab/model"]) == {"model.safetensors", "config.json", "README.md", "LICENSE"}


def test_mistakes_of_a_download(hub: Hub) -> None:
    hub.repositories["lab/other"] = {"config.json": b'{"model_type": "bert"}'}
    with pytest.raises(UserError) as found:
        MindEye2.from_pretrained("lab/nothing")
    says(found, "lab/nothing was not found", "404", "hf auth login")
    with pytest.raises(UserError) as found:
        MindEye2.from_pretrained("lab/other", revision="nowhere")
    says(found, "lab/other has no such revision")
    with pytest.raises(UserError) as found:
        MindEye2.from_pretrained("lab/other")
    says(found, "another program")
    for wrong in ("nowhere", "a/b/c", "/nowhere/at/all", "", "lab/"):
        with pytest.raises(UserError) as found:
            fetch_folder(wrong or "?")
        says(found, "no such folder", "owner/name")


def test_mistakes_of_an_upload(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = system()
    with pytest.raises(UserError) as found:
        model.push_to_hub("lab/model")
    says(found, "no token", "hf auth login")
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(UserError) as found:
        model.push_to_hub("lab/model")
    says(found, "the hub refused lab/model", "401", "hf auth login")
    assert "hf_of_somebody_else" not in str(found.value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(UserError) as found:
        model.push_to_hub("somebody/model")
    says(found, "the hub refused somebody/model", "403", "rights")
    (tmp_path / "private.txt").write_text("mine")
    with pytest.raises(UserError) as found:
        push_to_hub(tmp_path, "lab/model")
    says(found, "config.json cannot be read")
    assert hub.repositories == {}


def test_without_a_network(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    with serving(Hub()) as gone:
        endpoint = gone.endpoint  # nobody answers there any more
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    with pytest.raises(UserError) as found:
        MindEye2.from_pretrained("lab/model")
    says(found, "lab/model is not in the hub's cache")
    with pytest.raises(UserError) as found:
        system().push_to_hub("lab/model")
    says(found, "the hub did not answer for lab/model")


def test_with_the_network_switched_off(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as found:
        MindEye2.from_pretrained("lab/model")
    says(found, "lab/model is not in the hub's cache", "switched off")
    with pytest.raises(UserError) as found:
        system().push_to_hub("lab/model")
    says(found, "lab/model cannot be reached", "HF_HUB_OFFLINE")
