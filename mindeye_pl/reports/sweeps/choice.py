"""The choice of a swept parameter's value by the mean over all other settings."""

from collections.abc import Sequence

import numpy as np

from mindeye_pl.errors import UserError
from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.sweeps.settings import Cell, in_words


def choose(cells: Sequence[Cell], key: str, column: Column, tolerance: float) -> str:
    """Return the sentence on the chosen value of `key`: the first swept one whose mean is near the best.

    The values are swept from the cheapest on. Settings for which any value lacks the score do not count.

    Raises:
        UserError: if the parameter is not swept, or no setting has the score for every value.
    """
    values = list(dict.fromkeys(cell.settings[key] for cell in cells if key in cell.settings))
    if not values:
        raise UserError("sweep.choose is not swept", got=key, expected=f"one of {list(cells[0].settings)}")
    by_arm: dict[frozenset[tuple[str, str]], dict[str, float]] = {}
    for cell in cells:
        if (score := cell.score(column.score)) is not None:
            arm = frozenset(item for item in cell.settings.items() if item[0] != key)
            by_arm.setdefault(arm, {})[cell.settings[key]] = score.value
    arms = [scores for scores in by_arm.values() if len(scores) == len(values)]
    if not arms:
        raise UserError(f"sweep.choose={key}: no setting has {column.score} for every value", fix="finish the sweep")
    means = {value: float(np.mean([scores[value] for scores in arms])) for value in values}
    sign = 1 if column.higher_is_better else -1
    best = max(sign * mean for mean in means.values())
    chosen = next(value for value in values if sign * means[value] >= best - tolerance)
    scale, unit = (100, " %") if column.form == "percent" else (1, "")
    listed = ", ".join(f"{in_words(key, value)} {scale * mean:.4g}{unit}" for value, mean in means.items())
    near = f"within {scale * tolerance:g}{' points' if unit else ''} of the best"
    title = column.title[0].lower() + column.title[1:]
    return f"By mean {title} over {len(arms)} settings ({listed}), {key}={chosen} is chosen: the first {near}."
