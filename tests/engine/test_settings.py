import sys
from types import ModuleType

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ReadonlyConfigError

from mindeye_pl.engine.settings import UndeclaredKeyError, declare, identity, select

CONFIG = {
    "seed": 1,
    "data": {"subject": 2, "num_workers": 4, "shards": {"train": 3}},
    "model": {"_target_": "collections.OrderedDict", "width": 8, "parts": [{"_target_": "builtins.list"}]},
}


def test_declared_keys_are_read() -> None:
    settings = declare(CONFIG, ("seed", "data.subject", "model"))
    assert settings.seed == 1
    assert settings.data.subject == 2
    assert OmegaConf.to_container(settings.model) == CONFIG["model"]


def test_a_declared_key_that_is_missing_is_none() -> None:
    settings = declare(CONFIG, ("generator", "data.captions", "text.width"))
    assert settings.generator is None
    assert settings.data.captions is None
    assert settings.text.width is None


@pytest.mark.parametrize("read", ["data.num_workers", "model", "data.subjects", "trainer"])
def test_an_undeclared_key_raises(read: str) -> None:
    settings = declare(CONFIG, ("seed", "data.subject"))
    node = settings
    *above, last = read.split(".")
    for name in above:
        node = getattr(node, name)
    with pytest.raises(UndeclaredKeyError, match=read):
        getattr(node, last)
    with pytest.raises(UndeclaredKeyError, match=read):
        node[last]


def test_a_key_below_a_declared_node_does_not_narrow_it() -> None:
    assert declare(CONFIG, ("data.subject", "data")).data.num_workers == 4


def test_declared_nodes_cannot_be_changed_or_read_past_their_keys() -> None:
    model = declare(CONFIG, ("model",)).model
    with pytest.raises(ReadonlyConfigError):
        model.width = 9
    with pytest.raises(AttributeError):
        _ = model.depth


def test_selected_keys_without_those_that_change_nothing() -> None:
    found = select(CONFIG, ("data", "seed"), without=("data.num_workers", "data.shards.train"))
    assert found == {"data": {"subject": 2, "shards": {}}, "seed": 1}


def test_a_class_is_identified_by_its_name_not_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one_module", "another_module"):
        module = ModuleType(name)
        module.Network = type("Network", (), {"__module__": name})  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    one, other = ({"_target_": f"{name}.Network", "width": 3} for name in ("one_module", "another_module"))
    assert identity(one) == identity(other) == {"class": "Network", "width": 3}


def test_a_renamed_class_keeps_its_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("renamed_module")
    module.Better = type("Better", (), {"fingerprint_name": "Network"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "renamed_module", module)
    assert identity({"_target_": "renamed_module.Better"}) == {"class": "Network"}


def test_functions_that_a_configuration_looks_up_are_identified_by_name() -> None:
    node = {"_target_": "hydra.utils.get_method", "path": "os.path.join"}
    assert identity({"join": node}) == {"join": "join"}


def test_keys_that_are_numbers_become_text() -> None:
    assert identity({"voxel_counts": {1: 10, 2: 20}}) == {"voxel_counts": {"1": 10, "2": 20}}
