"""The files of the package that a batch passes through in the step `reconstruct`, from voxels to written images.

    python benchmarks/batch_path.py [mindeye2|mindeye1|mind_reader] [OVERRIDE...]

A tiny system is trained from scratch, then one batch is reconstructed. A file counts if one of its functions is entered
between the start of the batch loop and its end; importing a file and opening inputs do not count.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

from pytorch_lightning import Trainer

import mindeye_pl
from mindeye_pl.config import compose_config
from mindeye_pl.engine.run import Run
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCT

PACKAGE = str(Path(mindeye_pl.__file__).parent)


def entered(function: Any, *args: Any, **kwargs: Any) -> Counter[str]:
    """Return how often functions of each file of the package are entered while a function runs."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            calls[frame.f_code.co_filename.removeprefix(PACKAGE).lstrip("/")] += 1

    sys.setprofile(note)
    try:
        function(*args, **kwargs)
    finally:
        sys.setprofile(None)
    return calls


def batch_path(model: str, *more: str) -> Counter[str]:
    """Return how often functions of each file are entered for one batch of a system."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = (
            "scale=tiny",
            "logger=none",
            "finetune.start=scratch",
            f"paths.outputs={folder}",
            "unclip.batch_size=1000",
        )
        overrides = ["+experiment=finetune_subj01_1h", f"model={model}", *tiny, f"paths.outputs={folder}", *more]
        found, predict = Counter[str](), Trainer.predict

        def one_batch(trainer: Trainer, model: Any, batches: Any, **options: Any) -> None:
            assert len(batches) == 1
            found.update(entered(predict, trainer, model, batches, **options))

        with patch.object(Trainer, "predict", one_batch):
            Run(compose_config(overrides), overrides).make(RECONSTRUCT)
    return found


if __name__ == "__main__":
    model, *more = sys.argv[1:] or ["mindeye2"]
    path = batch_path(model, *more)
    print(f"{len(path)} files, {path.total()} calls")
    for file, calls in path.most_common():
        print(f"{calls:6d}  {file}")
