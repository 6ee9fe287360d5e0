"""Data that parts hand to each other, and the bounded numbers and choices of their constructors.

`mindeye_pl.schema` validates a configuration against these annotations; a constructor does not check them itself.

Legend: B batch, b one subject's share of it, V voxels, R slots for repetitions, h hidden width, S tokens, D token
width, C captions, K augmented views.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AllowInfNan, GetCoreSchemaHandler, StringConstraints
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from torch import Tensor

PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
#: From 0 to 1, both included.
Fraction = Annotated[float, Ge(0), Le(1)]
#: Above 0 up to 1: of what must not vanish.
PositiveFraction = Annotated[float, Gt(0), Le(1)]
#: From 0 up to but without 1: of what must not be all, such as a dropout probability.
ProperFraction = Annotated[float, Ge(0), Lt(1)]
#: A seed as numpy and torch take it.
Seed = Annotated[int, Ge(0), Lt(2**32)]
#: Above 0; infinity is allowed and means that nothing is clamped.
Clamp = Annotated[float, Gt(0), AllowInfNan(True)]
#: Part of a file's name. The words are what an error message says of it.
Name = Annotated[str, StringConstraints(pattern=r"^[\w][\w.+-]*$"), "letters, digits and any of _ . + -"]

#: A difference between published code and its paper, or good practice (docs/configuration.md).
PublishedOrCorrected = Literal["published", "corrected"]


class ArgumentsOf:
    """Mark of a mapping of keyword arguments: `Annotated[Mapping[str, Any], ArgumentsOf(build_vae)]`.

    Args:
        targets: classes or functions among which they are shared out; the caller knows which are required.
    """

    def __init__(self, *targets: Callable[..., Any]):
        self.targets = targets


@dataclass(frozen=True, eq=False)
class OneOf:
    """Bound of text that names an entry of a registry: `Annotated[str, OneOf(SOLVERS)]`.

    Attributes:
        choices: the registry; entries that are added later count too.
    """

    choices: Collection[str]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return pydantic's schema of such a text."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: str) -> str:
        if value not in self.choices:
            raise PydanticCustomError("one_of", "no such choice")
        return value


@dataclass
class BrainBatch:
    """Equal shares of trials of one or more subjects, concatenated in subject order.

    Attributes:
        voxels: one `(b, V_s)` float tensor for each subject; subjects differ in V.
        subject_index: for each of them, the index of its functional alignment.
        stimulus_ids: `(B,)` int64, rows in the images file.
        tokens: `(B, S, D)` target tokens, float16 or float32.
        latents: `(B, C, h * w)` scaled VAE latents of the images, where a low-level branch learns them.
        maps: `(B, K * M, 512)` feature maps of the images and, behind each, of its K - 1 augmented views.
        repetitions: one `(b, R, V_s)` float tensor for each subject, the responses in use to each trial's image,
            where a low-level model mixes them (MindEye1, spec section 7.3); fewer than R come again from the first.
        captions: `(B, C, D)` embeddings of the images' captions, where a caption mapper learns them; zeros where a
            image has fewer than C.
        views: `(B, K, D)` image embeddings of augmented views of the images, where an image mapper learns them.
    """

    voxels: list[Tensor]
    subject_index: list[int]
    stimulus_ids: Tensor
    tokens: Tensor
    latents: Tensor | None = None
    maps: Tensor | None = None
    repetitions: list[Tensor] | None = None
    captions: Tensor | None = None
    views: Tensor | None = None

    def to(self, *args, **kwargs) -> "BrainBatch":  # type: ignore[no-untyped-def]
        """The batch with every tensor moved as by `Tensor.to`."""
        return BrainBatch(
            [voxels.to(*args, **kwargs) for voxels in self.voxels],
            self.subject_index,
            self.stimulus_ids.to(*args, **kwargs),
            self.tokens.to(*args, **kwargs),
            None if self.latents is None else self.latents.to(*args, **kwargs),
            None if self.maps is None else self.maps.to(*args, **kwargs),
            None if self.repetitions is None else [slots.to(*args, **kwargs) for slots in self.repetitions],
            None if self.captions is None else self.captions.to(*args, **kwargs),
            None if self.views is None else self.views.to(*args, **kwargs),
        )

    def __len__(self) -> int:
        return len(self.stimulus_ids)


@dataclass
class ImageBatch:
    """What was made from some images, `(B, ...)` float32 or int64 by name."""

    rows: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.rows[name]

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    def to(self, *args: Any, **kwargs: Any) -> "ImageBatch":
        """The batch with every tensor moved as by `Tensor.to`."""
        return ImageBatch({name: rows.to(*args, **kwargs) for name, rows in self.rows.items()})


@dataclass
class PartLoss:
    """What a stage returns from a training step.

    Attributes:
        total: the scalar to descend.
        parts: named, weighted, detached addends of `total`, for the log.
        outputs: tensors that the stages after this one need.
    """

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def __add__(self, other: "PartLoss") -> "PartLoss":
        """Both losses in one."""
        return PartLoss(self.total + other.total, self.parts | other.parts, self.outputs | other.outputs)


@dataclass
class Prediction:
    """What a composite reads from voxels.

    Attributes:
        aligned: `(B, h)` voxels in the shared space.
        tokens: `(B, S, D)` backbone tokens.
        retrieval: `(B, S, D)` retrieval embedding.
        latents: `(B, C, h, w)` latents of the blurry reconstruction, where the low-level branch is present.
        maps: `(B, 49, 512)` auxiliary feature maps of the same branch.
    """

    aligned: Tensor
    tokens: Tensor
    retrieval: Tensor
    latents: Tensor | None = None
    maps: Tensor | None = None


@dataclass(frozen=True)
class BatchGrowth:
    """When batches grow in a training.

    Attributes:
        from_epoch: the first epoch, counted from 0, with the larger ones.
        factor: how many times larger they are.
    """

    from_epoch: int
    factor: int


Subjects = Sequence[int]
