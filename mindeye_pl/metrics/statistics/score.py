"""A score with its chance level, pool size and interval, and scores as numbers and table rows of a step's record."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

SCORES = "scores.json"

#: Columns of every table of scores: one row for each line and metric.
COLUMNS = ("line", "kind", "metric", "value", "low", "high", "chance", "pool_size", "num_images", "higher_is_better")

Interval = tuple[float, float]
Plain = Mapping[str, Any]


def is_hit_rate(pool_size: int | None) -> bool:
    """Return whether the score of an image is a hit, or a fraction of hits: it is found among more than two candidates.

    Its score by two-way identification is a mean over all other images.
    """
    return pool_size not in (None, 2)


@dataclass(frozen=True)
class Score:
    """A score with everything needed to interpret it."""

    name: str  # of the metric, for example `image_retrieval`
    value: float  # a fraction in [0, 1] for retrieval
    chance: float | None  # score of a random guess; None if it is no single number and null rows replace it
    pool_size: int | None  # number of candidates; None if there are no candidates
    num_images: int  # that the value is a mean over
    interval: Interval | None = None  # 95 % interval over images; None if it was not computed
    higher_is_better: bool = True

    @property
    def is_hit_rate(self) -> bool:
        """As the function of this name."""
        return is_hit_rate(self.pool_size)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Score":
        """Restore the score of `to_dict`, also after JSON has turned the interval into a list."""
        interval = plain.get("interval")
        return cls(**plain | {"interval": None if interval is None else (interval[0], interval[1])})


def score_summary(scores: Iterable[Plain], prefix: str = "") -> dict[str, float]:
    """Return scores as numbers: `score/NAME`, with `_low`, `_high`, `_chance`, `_pool` and `_images` beside it."""
    summary: dict[str, float] = {}
    for score in scores:
        low, high = score["interval"] or (None, None)
        parts = {"": score["value"], "_low": low, "_high": high, "_chance": score["chance"]}
        parts |= {"_pool": score["pool_size"], "_images": score["num_images"]}
        name = f"score/{prefix}{score['name']}"
        summary |= {f"{name}{part}": value for part, value in parts.items() if value is not None}
    return summary


def score_table(lines: Mapping[str, Iterable[Plain]], kinds: Mapping[str, str]) -> list[list[Any]]:
    """Return lines of scores as rows of a table with `COLUMNS`; a line without a kind is a model's."""
    rows = []
    for line, scores in lines.items():
        for score in scores:
            low, high = score["interval"] or (None, None)
            more = [score[key] for key in ("chance", "pool_size", "num_images", "higher_is_better")]
            rows.append([line, kinds.get(line, "model"), score["name"], score["value"], low, high, *more])
    return rows
