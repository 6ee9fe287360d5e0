"""One number of an evaluation, with what is needed to judge it."""

from dataclasses import asdict, dataclass
from typing import Any

Interval = tuple[float, float]


@dataclass(frozen=True)
class Score:
    """A score that never stands alone.

    Attributes:
        name: of the metric, `image_retrieval` for instance.
        value: a share in [0, 1] for retrieval.
        chance: what guessing would score, None where that is no one number: null rows then stand for it.
        pool_size: candidates that the right answer is picked from, None where nothing is picked.
        num_images: images that the value is a mean over.
        interval: 95 % interval over images, None where it was not computed.
        higher_is_better: the direction of the metric.
    """

    name: str
    value: float
    chance: float | None
    pool_size: int | None
    num_images: int
    interval: Interval | None = None
    higher_is_better: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain data for json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Score":
        """The score of `to_dict`, also after json has made a list of the interval."""
        interval = plain.get("interval")
        return cls(**(plain | {"interval": None if interval is None else (interval[0], interval[1])}))


SCORES = "scores.json"
