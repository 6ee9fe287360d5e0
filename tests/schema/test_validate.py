"""Every shipped configuration is valid, and the user's own classes are validated as the project's are."""

import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest
from omegaconf import OmegaConf, open_dict

from mindeye_pl.conf_files import conf_dir
from mindeye_pl.config import compose_config
from mindeye_pl.errors import UserError
from mindeye_pl.schema.nodes.root import Config
from mindeye_pl.schema.validate import origin, validate
from tests.test_configurations import EXPERIMENTS, MODELS, OF_MIND_READER, OPTIONS, group_of

SCALES = sorted(path.stem for path in (conf_dir() / "scale").glob("*.yaml"))

OWN_MODULE = '''
"""A part in the user's own module."""

from typing import Annotated, Literal

from annotated_types import Gt

from mindeye_pl.models.parts.backbone import Backbone


class WideBackbone(Backbone):
    """A backbone.

    Args:
        hidden_dim: h.
        num_tokens: S.
        token_dim: D.
        factor: how much wider it is.
        kind: which one.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_tokens: int,
        token_dim: int,
        *,
        factor: Annotated[float, Gt(1)],
        kind: Literal["a", "b"] = "a",
    ):
        super().__init__(hidden_dim, num_tokens, token_dim, num_blocks=1)


class OwnCallback:
    def __init__(self, patience: Annotated[int, Gt(0)] = 3):
        self.patience = patience
'''


def by_group(options: list[str]) -> list[tuple[str, ...]]:
    """Options side by side, one of each group: every option is in one command line."""
    groups = [
        [option for option in options if group_of(option) == group] for group in dict.fromkeys(map(group_of, options))
    ]
    return [tuple(filter(None, together)) for together in zip_longest(*groups)]


#: Groups whose options are for one system or scale, and are composed alone.
ALONE = (
    "scale",
    "model",
    "ablation",
    "preset",
    "sizes",
    "data",
    "alignment",
    "backbone",
    "low_level",
    "prior",
    "objective",
)


@pytest.mark.parametrize("option", [option for option in OPTIONS if group_of(option) in ALONE])
def test_every_option_of_a_system(option: str) -> None:
    validate(compose_config([option]), Config)


@pytest.mark.parametrize(
    "options",
    by_group([one for one in OPTIONS if group_of(one) not in ALONE and not one.startswith(OF_MIND_READER)]),
    ids=lambda options: options[0],
)
def test_every_other_option(options: tuple[str, ...]) -> None:
    validate(compose_config(list(options)), Config)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("scale", SCALES)
def test_every_system_at_every_scale(model: str, scale: str) -> None:
    validate(compose_config([f"scale={scale}", f"model={model}"]), Config)


def test_every_experiment() -> None:
    for experiment in EXPERIMENTS:
        validate(compose_config([f"+experiment={experiment}", "scale=tiny"]), Config)


def test_it_is_fast() -> None:
    config = compose_config(["scale=tiny"])
    validate(config, Config)  # imports, and what is kept for the jobs of a sweep
    start = time.process_time()
    validate(config, Config)
    assert time.process_time() - start < 0.5


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "my_lab_parts.py").write_text(OWN_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_lab_parts"
    sys.modules.pop("my_lab_parts", None)


def composed(own_module: str, **arguments: object):
    config = compose_config(["scale=tiny"])
    sizes = {"hidden_dim": "${scale.hidden_dim}", "num_tokens": 4, "token_dim": 16}
    config.backbone = {"_target_": f"{own_module}.WideBackbone", **sizes, **arguments}
    return config


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"factor": 1}, r"backbone\.factor has a wrong value \(got: 1; expected: a number above 1\)"),
        ({"factor": 2, "kind": "c"}, r"backbone\.kind .*expected: a or b"),
        ({}, r"backbone\.factor is missing \(expected: a number above 1\)\. Fix: \+backbone\.factor="),
        ({"factor": 2, "num_blocks": 1}, r"unknown key \(got: backbone\.num_blocks; expected: backbone\.num_tokens\)"),
    ],
)
def test_a_class_of_the_users_own(own_module: str, arguments: dict[str, object], words: str) -> None:
    validate(composed(own_module, factor=2), Config)
    with pytest.raises(UserError, match=words):
        validate(composed(own_module, **arguments), Config)


@pytest.mark.parametrize("callbacks", [{"own": {"patience": 0}}, [{"patience": 0}]])
def test_lists_and_mappings_of_objects(own_module: str, callbacks: dict | list) -> None:
    config = compose_config(["scale=tiny"])
    nodes = callbacks.values() if isinstance(callbacks, dict) else callbacks
    for node in nodes:
        node["_target_"] = f"{own_module}.OwnCallback"
    OmegaConf.update(config, "callbacks", callbacks, merge=False)
    with pytest.raises(UserError, match=r"callbacks\.(own|0)\.patience .*a whole number of at least 1"):
        validate(config, Config)
    for node in nodes:
        node["patience"] = 1
    OmegaConf.update(config, "callbacks", callbacks, merge=False)
    validate(config, Config)


def test_a_nested_network(own_module: str) -> None:
    """A part that receives its network by `_target_`."""
    config = compose_config(["scale=tiny"])
    network = {
        "_target_": "mindeye_pl.nn.brain.backbone.MixerBackbone",
        "hidden_dim": 16,
        "num_tokens": 4,
        "token_dim": 0,
    }
    config.backbone = {"_target_": "mindeye_pl.models.parts.part.Part", "weight_decay": 0.0, "gain_decay": "published"}
    OmegaConf.update(config, "backbone.network", network, force_add=True)
    with pytest.raises(UserError, match=r"backbone\.network\.token_dim .*Fix: backbone\.network\.token_dim=1"):
        validate(config, Config)


def test_a_new_top_level_key_may_hold_a_part(own_module: str) -> None:
    config = compose_config(["scale=tiny"])
    with open_dict(config):
        config.shaper = {"_target_": f"{own_module}.OwnCallback", "patience": 2}
    validate(config, Config)
    config.shaper.patience = 0
    with pytest.raises(UserError, match=r"shaper\.patience has a wrong value"):
        validate(config, Config)
    with open_dict(config):
        config.shaper = {"patience": 2}
    with pytest.raises(UserError, match=r"unknown key \(got: shaper"):
        validate(config, Config)


def test_supplied_arguments_may_be_missing() -> None:
    config = compose_config(["scale=tiny"])
    with open_dict(config):
        del config.alignment.network["voxel_counts"]
    validate(config, Config)


def test_the_key_that_a_value_came_from() -> None:
    config = compose_config(["scale=tiny"])
    assert origin(config, ("model", "backbone", "network", "hidden_dim")) == ("scale", "hidden_dim")
    assert origin(config, ("model", "backbone", "network", "mixer")) == ("fidelity", "mixer")
    assert origin(config, ("model", "backbone", "weight_decay")) == ("backbone", "weight_decay")
    assert origin(config, ("finetune", "epochs")) == ("scale", "finetune_epochs")
    assert origin(config, ("pretrain", "subjects")) == ("pretrain", "subjects")
    with pytest.raises(UserError, match=r"^scale\.hidden_dim has"):
        validate(compose_config(["scale=tiny", "scale.hidden_dim=0"]), Config)


def test_help_imports_no_torch() -> None:

    code = (
        "import sys, mindeye_pl.cli; print([m for m in ('torch', 'pydantic', 'mindeye_pl.schema') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
