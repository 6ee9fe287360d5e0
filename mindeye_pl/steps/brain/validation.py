"""Scores of a fine-tuned model on validation images, which are training images held out, never test images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_warn

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.own_files import read_json
from mindeye_pl.training.callbacks.history import read_history
from mindeye_pl.training.fit import HISTORY

#: File of the kept weights' scores, in the folder of the step.
VALIDATION = "validation.json"

#: Number of images below which a choice by them is mostly noise: the standard error of a retrieval rate is 9 points.
FEW_IMAGES = 30

_PREFIX, _RETRIEVAL = "validation/", "_retrieval"


def check_validation_images(number: int, data: Any, keep: str) -> None:
    """Check that there are validation images to keep weights by; warn if they are few.

    Args:
        number: of the subject's validation images.
        data: node `data` of the configuration.
        keep: value of `finetune.keep`.

    Raises:
        UserError: if there are none.
    """
    if not number:
        got = f"data.validation_fraction={data.validation_fraction}"
        fix = f"data.validation_images={FEW_IMAGES}, or finetune.keep=last"
        raise UserError(f"finetune.keep={keep} needs validation images", got=got, fix=fix)
    if number < FEW_IMAGES:
        rank_zero_warn(
            f"finetune.keep={keep} chooses the epoch by {number} validation images, which is mostly chance: "
            f"data.validation_images={FEW_IMAGES} holds out more"
        )


def write_kept_scores(folder: Path, epoch: int) -> None:
    """Write the validation scores of the weights that a training kept after `epoch`, counted from 0.

    There are none where a limit of the trainer ended the training inside its first epoch.
    """
    fix = f"rm {folder / HISTORY} finishes without the curves and the validation scores"
    record = next((one for one in read_history(folder / HISTORY, fix) if one["epoch"] == epoch), {})
    scores = [score.to_dict() for score in validation_scores(record)]
    write_json(folder / VALIDATION, {"epoch": epoch + 1, "scores": scores})


def validation_scores(record: Mapping[str, float]) -> list[Score]:
    """Return the scores of an epoch's record: `validation_loss`, `validation_image_retrieval` and others."""
    pool = int(record.get(f"{_PREFIX}pool_size", 0))
    found = []
    for key, value in record.items():
        name = key.replace("/", "_")
        if key.startswith(_PREFIX) and key.endswith(_RETRIEVAL):
            found.append(Score(name, value, 1 / pool, pool, pool))
        elif key == f"{_PREFIX}loss":
            found.append(Score(name, value, None, None, pool, higher_is_better=False))
    return found


def read_kept_scores(folder: Path) -> list[Score]:
    """Return the scores that `write_kept_scores` wrote; empty where there were no validation images."""
    return [Score.from_dict(plain) for plain in read_json(folder / VALIDATION)["scores"]]
