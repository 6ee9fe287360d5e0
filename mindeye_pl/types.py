"""Data that the parts exchange, and the bounded numbers and choices of their constructors.

`mindeye_pl.schema` validates a configuration against these annotations; a constructor does not check them itself.

Legend: B batch, b trials of one subject in it, V voxels, R slots for repetitions, h hidden width, S tokens, D token
width, C latent channels.
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
Name = Annotated[
    str, StringConstraints(pattern=r"^[\w][\w.+-]*$", max_length=80), "up to 80 letters, digits and any of _ . + -"
]

#: A difference between published code and its paper, or good practice (docs/fidelity.md).
PublishedOrCorrected = Literal["published", "corrected"]

#: Averaging of an image's responses: a model's outputs for each of them (MindEye2), or the voxels (MindEye1).
Averaging = Literal["outputs", "voxels"]


class ArgumentsOf:
    """Mark of a mapping of keyword arguments: `Annotated[Mapping[str, Any], ArgumentsOf(build_vae)]`.

    Args:
        targets: classes or functions among which they are shared out; the caller knows which are required.
    """

    def __init__(self, *targets: Callable[..., Any]):
        self.targets = targets


@dataclass(frozen=True)
class CalledWith:
    """Mark of a node whose function the project calls with some positional arguments, beside those of the node.

    Attributes:
        arguments: the positional arguments in words.
    """

    arguments: tuple[str, ...]


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
    """Equal numbers of trials of one or more subjects, concatenated in subject order.

    Attributes:
        voxels: one `(b, V_s)` float tensor per subject; subjects differ in V.
        subject_index: the index of each subject's functional alignment.
        stimulus_ids: `(B,)` int64, rows in the images file.
        targets: learning targets of the images by kind, `(B, ...)` float16 or float32. Every batch has `tokens`
            `(B, S, D)`. The systems here also read `latents` `(B, C, h * w)`, scaled VAE latents; `maps`
            `(B, K * M, 512)`, feature maps of K views of the image, the image itself first; `shared` `(B, h)`, vectors
            that aligned trials are pulled towards; `captions` `(B, C, D)`, embeddings of C captions, zeros where an
            image has fewer; and `views` `(B, K, D)`, embeddings of K augmented views. A system may ask for more kinds.
        repetitions: one `(b, R, V_s)` float tensor per subject, the responses in use to each trial's image, for a
            low-level model that mixes them (MindEye1, spec section 7.3); fewer than R are repeated from the first.
    """

    voxels: list[Tensor]
    subject_index: list[int]
    stimulus_ids: Tensor
    targets: dict[str, Tensor]
    repetitions: list[Tensor] | None = None

    def to(self, *args: Any, **kwargs: Any) -> "BrainBatch":
        """Return the batch with every tensor moved as by `Tensor.to`; pinned ones while the device goes on."""
        return self._mapped(lambda tensor: _moved(tensor, *args, **kwargs))

    def pin_memory(self) -> "BrainBatch":
        """Return the batch in pinned memory, from which copies to a GPU are asynchronous; a DataLoader calls it."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, function: Callable[[Tensor], Tensor]) -> "BrainBatch":
        return BrainBatch(
            list(map(function, self.voxels)),
            self.subject_index,
            function(self.stimulus_ids),
            {name: function(target) for name, target in self.targets.items()},
            None if self.repetitions is None else list(map(function, self.repetitions)),
        )

    def __len__(self) -> int:
        return len(self.stimulus_ids)


@dataclass
class ImageBatch:
    """Data of some images, `(B, ...)` float32 or int64 by name."""

    rows: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.rows[name]

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    def to(self, *args: Any, **kwargs: Any) -> "ImageBatch":
        """Return the batch with every tensor moved as by `Tensor.to`; pinned ones while the device goes on."""
        return ImageBatch({name: _moved(rows, *args, **kwargs) for name, rows in self.rows.items()})

    def pin_memory(self) -> "ImageBatch":
        """Return the batch in pinned memory, as `BrainBatch.pin_memory`."""
        return ImageBatch({name: rows.pin_memory() for name, rows in self.rows.items()})


def _moved(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return tensor.to(*args, **{"non_blocking": tensor.is_pinned(), **kwargs})


@dataclass
class PartLoss:
    """Loss of a part in one training step.

    Attributes:
        total: the scalar loss.
        parts: named, weighted, detached addends of `total`, for the log.
        outputs: tensors that other parts need.
    """

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def __add__(self, other: "PartLoss") -> "PartLoss":
        """Return the sum of both losses with the parts and outputs of both."""
        return PartLoss(self.total + other.total, self.parts | other.parts, self.outputs | other.outputs)

    def named(self, prefix: str) -> dict[str, Tensor]:
        """Return the detached loss and its parts for the log, as `PREFIX/loss` and `PREFIX/PART`."""
        return {f"{prefix}/{name}": value for name, value in {"loss": self.total.detach(), **self.parts}.items()}


@dataclass
class Prediction:
    """A brain decoder's output for some voxels.

    Attributes:
        aligned: `(B, h)` voxels in the shared space.
        tokens: `(B, S, D)` backbone tokens.
        retrieval: `(B, S, D)` retrieval embedding.
        latents: `(B, C, h, w)` latents of the blurry reconstruction; None without a low-level part.
        maps: `(B, 49, 512)` auxiliary feature maps of the low-level part.
    """

    aligned: Tensor
    tokens: Tensor
    retrieval: Tensor
    latents: Tensor | None = None
    maps: Tensor | None = None


@dataclass(frozen=True)
class BatchGrowth:
    """Growth of the batches during a training.

    Attributes:
        from_epoch: first epoch, counted from 0, with the larger batches.
        factor: ratio of the larger batch size to the smaller one.
    """

    from_epoch: int
    factor: int


Subjects = Sequence[int]
