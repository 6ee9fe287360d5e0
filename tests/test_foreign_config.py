"""Configurations of foreign folders: what they name is called only if this package's own configuration names it."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mindeye_pl.config import compose_config
from mindeye_pl.errors import UserError
from mindeye_pl.foreign_config import read_foreign_config


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def write(path: Path, content: dict[str, Any]) -> Path:
    config = compose_config(["scale=tiny"])
    OmegaConf.set_struct(config, False)
    OmegaConf.save(OmegaConf.merge(config, content), path)
    return path


@pytest.mark.parametrize(
    "choices",
    [["model=mindeye2", "trainer=fsdp"], ["model=mindeye1", "scale=paper"], ["model=mind_reader"], ["index=milvus"]],
    ids=lambda choices: choices[-1],
)
def test_our_own_configurations_are_read_with_their_values(choices: list[str], path: Path) -> None:
    config = compose_config(choices)
    OmegaConf.save(config, path)
    assert read_foreign_config(path) == OmegaConf.to_container(config, resolve=True)


TOUCH = {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path", "_args_": ["executed"]}]}
PART = "mindeye_pl.models.parts.prior.DiffusionPrior"

MALICE: dict[str, dict[str, Any]] = {
    "a part": {"model": {"prior": TOUCH}},
    "the system": {"model": TOUCH},
    "inside a part": {"model": {"_target_": PART, "network": TOUCH}},
    "an argument": {"model": {"_target_": PART, "_args_": [TOUCH]}},
    "in lists": {"x": [[{"y": TOUCH}]]},
    "torch.load": {"model": {"_target_": "torch.load", "f": "x.pt", "weights_only": False}},
    "torch.hub": {"model": {"_target_": "torch.hub.load", "repo_or_dir": ".", "model": "x", "source": "local"}},
    "a lookup": {"model": {"_target_": "hydra.utils.get_object", "path": "evil.thing"}},
    "a lookup by position": {"model": {"_target_": "hydra.utils.get_class", "_args_": ["evil.thing"]}},
    "a lookup of a lookup": {"model": {"_target_": "hydra.utils.get_object", "path": "hydra.utils.call"}},
    "instantiate": {"model": {"_target_": "hydra.utils.instantiate", "config": {}}},
    "a function of ours": {"model": {"_target_": "mindeye_pl.store.atomic.remove", "path": "x"}},
    "a module of ours": {"model": {"_target_": "mindeye_pl.models.base.torch.load", "f": "x"}},
    "a step": {"data": {"made_by": "evil.STEP"}},
    "a step of ours": {"data": {"made_by": "mindeye_pl.store.atomic.remove"}},
    "no text": {"model": {"_target_": ["os.system"]}},
    "by interpolation": {"name": "os.system", "model": {"_target_": "${name}"}},
    "by a resolver": {"model": "${oc.decode:'{_target_: os.system, command: ls}'}"},
    "resolved twice": {"text": r"\${oc.create:{_target_:os.system}}", "model": "${text}"},
    "its own allow-list": {"modules": ["os"], "model": {"_target_": "os.system", "command": "ls"}},
}


@pytest.mark.parametrize("malice", MALICE)
def test_other_names_are_refused(malice: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    (path.parent / "evil.py").write_text("open('executed', 'w')")
    monkeypatch.syspath_prepend(str(path.parent))
    with pytest.raises(UserError, match=r"was not called|interpolation of an interpolation") as error:
        read_foreign_config(write(path, MALICE[malice]))
    assert "\n" not in str(error.value)
    assert not (path.parent / "executed").exists()


def test_a_users_modules_are_listed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path.parent / "my_lab").mkdir()
    (path.parent / "my_lab" / "callbacks.py").write_text("class Mine: ...")
    monkeypatch.syspath_prepend(str(path.parent))
    content = {"callbacks": {"mine": {"_target_": "my_lab.callbacks.Mine"}}}
    with pytest.raises(
        UserError, match=r"got: callbacks\.mine\._target_=my_lab\.callbacks\.Mine.*modules=\['my_lab\.callbacks'\]"
    ):
        read_foreign_config(write(path, content))
    for modules in (["my_lab"], ["my_lab.callbacks"]):
        assert read_foreign_config(path, modules).callbacks.mine == content["callbacks"]["mine"]
    for other in ("my_la", "my_lab.callbacks.Mine", ""):
        with pytest.raises(UserError, match="was not called"):
            read_foreign_config(path, [other])


@pytest.mark.parametrize(
    "content", [b"a: [", b"a:\t- b\n\t-", b"\xff\xfe", b"- a\n- b", b"a: ${b}", b"", b"a: 1\na: 2"]
)
def test_damaged_files(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"config\.yaml (cannot be read|holds no configuration)|unknown key|is missing"
    ) as error:
        read_foreign_config(path)
    assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        read_foreign_config(path)


BOMBS = {
    "deep": ("a: " + "[" * 3000 + "]" * 3000, "more than 40 levels in line 1"),
    "deep objects": ("\n".join(" " * level + "a:" for level in range(100)), "more than 40 levels in line 41"),
    "aliases": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "an alias in line 2"),
    "long": ("a: " + "x" * 1_000_000, "more than 1,000,000 bytes"),
    "a long number": ("a: " + "1" * 10_000, "cannot be read"),
    "text of text": (
        "a0: x\n" + "\n".join(f"a{i}: ${{a{i - 1}}}${{a{i - 1}}}" for i in range(1, 60)),
        "interpolations of",
    ),
    "nodes of nodes": (
        "a0: {x: 1}\n" + "\n".join(f"a{i}: {{x: '${{a{i - 1}}}', y: '${{a{i - 1}}}'}}" for i in range(1, 40)),
        "interpolations of",
    ),
    "relative, by a resolver": (
        "b:\n  a0: x\n" + "\n".join(f"  a{i}: ${{oc.select:b.a{i - 1}}}${{.a{i - 1}}}" for i in range(1, 60)),
        "interpolations of",
    ),
    "interpolations": ("a: " + "${" * 3000 + "a" + "}" * 3000, "cannot be read"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_small_files_that_become_large(bomb: str, path: Path) -> None:
    content, words = BOMBS[bomb]
    path.write_text(content)
    with pytest.raises(UserError, match=words) as error:
        read_foreign_config(path)
    assert len(str(error.value)) < 1000
