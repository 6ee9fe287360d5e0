"""How often each test set was looked at: a number that only grows, kept in the manifest of every evaluation.

Choosing by test scores is invisible in a single table. The count says how many different models and settings have been
scored on the same test images below one `paths.artifacts`.
"""

import json
import time
from pathlib import Path
from typing import Any

from mindeye_pl.engine.step import Run, Step
from mindeye_pl.steps.inputs.simulate import data_inputs
from mindeye_pl.steps.inputs.splits import is_image_wise, split_identity
from mindeye_pl.store.artifacts import FACTS
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.fingerprint import fingerprint
from mindeye_pl.store.locks import held

LEDGER = "test_evaluations.json"


def count_evaluation(run: Run, step: Step, folder: Path) -> int:
    """Writes down that `step` looks at the test set; returns which evaluation of it this is, 1 for the first.

    The same evaluation, taken up again after a stop or made anew after its artifact was removed, counts once.

    Args:
        run: whose test set it is.
        step: that evaluates.
        folder: its work folder; the manifest of the artifact gets `test_set` and `test_evaluations`.
    """
    test_set = fingerprint_of_test_set(run)
    path = run.store.root / LEDGER
    with held(path.with_name(f".{path.name}.lock"), "the log of the test sets", locks=run.store.locks):
        ledger: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
        looked = ledger.setdefault(test_set, {})
        entry = f"{step.name}/{run.spec(step).name}"
        looked.setdefault(entry, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        write_json(path, ledger)
    of_this_step = [name for name in looked if name.startswith(f"{step.name}/")]
    count = of_this_step.index(entry) + 1
    write_json(folder / FACTS, {"test_set": test_set, "test_evaluations": count})
    return count


def fingerprint_of_test_set(run: Run) -> str:
    """Of the subject's test images and the responses to them, 12 digits."""
    shards = ("train", run.config.data.test_split) if is_image_wise(run) else (run.config.data.test_split,)
    inputs = data_inputs(run, [run.config.data.subject], shards) | split_identity(run)
    return fingerprint(inputs | run.plain("data.subject", "data.test_split", "data.split"))[:12]
