"""A library's class that refuses its options: one line names the key, not the class alone."""

from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mindeye_pl.engine.refusals import naming_refused_options
from mindeye_pl.errors import UserError

TRAINER = {"_target_": "pytorch_lightning.Trainer", "accelerator": "cpu", "logger": False}
STOPPING = {"_target_": "pytorch_lightning.callbacks.EarlyStopping", "monitor": "validation/loss"}


@pytest.mark.parametrize(
    ("node", "path", "says"),
    [
        (
            TRAINER | {"val_check_interval": "abc"},
            "trainer",
            r"^trainer\.val_check_interval is refused by Trainer \(got: ",
        ),
        (TRAINER | {"max_time": "soon"}, "trainer", r"^trainer\.max_time is refused by Trainer \(got: .*'soon'"),
        (TRAINER | {"epochs": 3}, "trainer", r"^trainer\.epochs is refused by Trainer \(got: .*'epochs'"),
        (STOPPING | {"mode": "best"}, "callbacks.early", r"^callbacks\.early\.mode is refused by EarlyStopping"),
    ],
)
def test_the_option_is_named(node: dict[str, Any], path: str, says: str) -> None:
    config = OmegaConf.create()
    OmegaConf.update(config, path, node, force_add=True)
    with pytest.raises(UserError, match=says), naming_refused_options(config):
        instantiate(OmegaConf.select(config, path), _convert_="all")


def refusing(kind: str) -> None:
    raise {"user": UserError, "full": OSError}[kind]("a line of its own")


@pytest.mark.parametrize(("kind", "error"), [("user", UserError), ("full", OSError)])
def test_an_error_with_a_line_of_its_own_is_kept(kind: str, error: type[Exception]) -> None:
    config = OmegaConf.create({"part": {"_target_": f"{__name__}.refusing", "kind": kind}})
    with pytest.raises(error, match=r"^a line of its own$"), naming_refused_options(config):
        instantiate(config.part)


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), naming_refused_options(OmegaConf.create()):
        raise KeyError("x")
