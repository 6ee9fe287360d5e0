"""Learning rates of foundation models."""

from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from mindeye_pl.models.foundation import Foundation


@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_one_cycle_of_any_number_of_steps(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"max_lr": 1e-3, "weight_decay": 0.0, "warmup_steps": None}
    model = Foundation(nn.Linear(2, 2), **options)
    monkeypatch.setattr(Foundation, "trainer", SimpleNamespace(estimated_stepping_batches=steps))
    made: Any = model.configure_optimizers()
    rates = []
    for step in range(steps):
        rates.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        if step + 1 < steps:
            made["lr_scheduler"]["scheduler"].step()
    assert 0 < min(rates) <= max(rates) <= 1e-3
    assert steps < 3 or max(rates) > 3e-4
