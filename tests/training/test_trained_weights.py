"""The parts of a system that learn as a whole, and those that learn by adapters."""

from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from mindeye_pl.errors import UserError
from mindeye_pl.training.trained_weights import choose_trained_weights, trained_counts
from tests.models.test_mindeye2 import batch, decayed, fit, system


def node(*parts: str, rank: int = 2) -> Any:
    return OmegaConf.create({"parts": list(parts), "rank": rank, "alpha": 4.0, "dropout": 0.0})


@pytest.mark.parametrize(
    ("trainable", "adapters", "says"),
    [
        ("cortex", None, "finetune.trainable names no part.*cortex"),
        ("alignment", node("cortex"), "finetune.adapters.parts names no part.*cortex.*backbone"),
        (["alignment", "prior"], node("backbone", "prior"), "name the same part.*prior"),
        ("all", node("alignment"), "no linear layer that subjects share.*alignment"),
        ("all", node("backbone", rank=17), "rank is larger than every layer of the backbone.*17.*16 or less"),
    ],
)
def test_refused(trainable: str | list[str], adapters: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        choose_trained_weights(system(), trainable, adapters)


def test_counts_of_whole_parts() -> None:
    model = system()
    choose_trained_weights(model, "alignment")
    assert trained_counts(model) == {"alignment": 12 * (9 + 1) + 12 * (7 + 1)}


@pytest.mark.parametrize("trainable", ["alignment", "all"])
def test_adapters_learn_and_are_merged(trainable: str, tmp_path: Any) -> None:
    pytest.importorskip("peft")
    model, names = system(), set(system().state_dict())
    choose_trained_weights(model, trainable, node("backbone"))
    # A and B of two blocks, the narrow one of rank 1, of the map to the tokens, and of the retrieval head
    assert trained_counts(model)["backbone"] == 2 * 2 * (12 + 12) + 2 * (1 + 1) + 2 * (12 + 64) + 3 * 2 * (16 + 16)
    assert ("prior" in trained_counts(model)) == (trainable == "all")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(model, batch(), default_root_dir=str(tmp_path))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    whole = {"alignment"} if trainable == "alignment" else {"alignment", "prior"}
    assert {name.split(".")[0] for name in changed} == {"backbone", *whole}
    assert all(".lora_" in name for name in changed if name.startswith("backbone."))
    unmerged = model.eval().predict(torch.ones(2, 7), 1)
    model.merge_adapters()
    merged = model.predict(torch.ones(2, 7), 1)
    torch.testing.assert_close(merged.tokens, unmerged.tokens, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(merged.retrieval, unmerged.retrieval, rtol=1e-4, atol=1e-5)
    assert set(model.state_dict()) == names


@pytest.mark.parametrize("gain_decay", ["published", "corrected"])
def test_adapters_are_decayed_as_matrices(gain_decay: str) -> None:
    pytest.importorskip("peft")
    model = system(gain_decay=gain_decay)
    choose_trained_weights(model, "alignment", node("backbone", "prior"))
    adapters = {name for name, p in model.named_parameters() if p.requires_grad and ".lora_" in name}
    assert {name.split(".")[0] for name in adapters} == {"backbone", "prior"}
    assert {name for name in decayed(model) if not name.startswith("alignment.")} == adapters
