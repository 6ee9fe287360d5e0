"""What a rank does that only follows: it joins every training and prediction of rank 0, and is silent."""

import logging
import os
import sys
import time
import warnings
from pathlib import Path

import torch
from omegaconf import OmegaConf

from mindeye_pl.console import console
from mindeye_pl.distributed.ranks import JoinedError, Ranks
from mindeye_pl.engine.run import Run
from mindeye_pl.errors import UserError
from mindeye_pl.steps.registry import STEPS


def follow(ranks: Ranks) -> None:
    """Joins rank 0 until it says its last word.

    Raises:
        UserError: what this rank met and rank 0 did not.
    """
    _hush()
    if torch.cuda.is_available():  # frozen models that are loaded before the training lie on the own device too
        local = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0)))
        torch.cuda.set_device(local % torch.cuda.device_count())
    try:
        while (word := ranks.hear()) is not None:
            ranks.said = word["said"]
            run = Run(OmegaConf.create(word["config"]), word["overrides"])
            try:
                STEPS[word["step"]].build(run, Path(word["folder"]))
            except JoinedError:
                ranks.tell(f"done-{ranks.words}")
            else:
                raise AssertionError(f"{word['step']} was said to be done together, and was not")
    except Exception as error:
        if _rank_0_failed(ranks, wait_s=2.0 if isinstance(error, UserError) else 0.0):
            sys.exit(2)
        raise


def _hush() -> None:
    """Leaves all words to rank 0."""
    console.quiet = True
    logging.disable()
    warnings.simplefilter("ignore")
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  # to the end of the process


def _rank_0_failed(ranks: Ranks, wait_s: float) -> bool:
    """Whether rank 0 has failed too, or is gone, and so has said what there is to say."""
    until = time.monotonic() + wait_s
    try:
        while not (failed := ranks.store.check(["failed-0"])) and time.monotonic() < until:
            time.sleep(0.1)
    except RuntimeError:  # its store is gone with it
        return True
    return failed
