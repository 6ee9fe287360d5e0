"""Inventory of a dataset's folder: what is there, whether it is sound, and what it is for."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mindeye_pl.errors import UserError

State = Literal["present", "missing", "damaged"]


@dataclass(frozen=True)
class Part:
    """One file, or files of one kind.

    Attributes:
        name: of the part, in words.
        state: damaged files are there and cannot be used.
        what_for: what needs it.
        files: number of files.
        size: bytes of all files.
        note: what was found, or what is wrong.
    """

    name: str
    state: State
    what_for: str
    files: int = 0
    size: int = 0
    note: str = ""


@dataclass(frozen=True)
class SubjectFacts:
    """Facts of one subject; statistics are of some trials of each session.

    Attributes:
        name: of the subject.
        voxels: V.
        sessions: number of scan sessions with training trials.
        training: training trials and images.
        tested: test trials and images.
        repetitions: fewest and most presentations of an image.
        mean: lowest and highest mean of a session's betas.
        deviation: lowest and highest standard deviation of a session's betas.
    """

    name: str
    voxels: int
    sessions: int
    training: tuple[int, int]
    tested: tuple[int, int]
    repetitions: tuple[int, int]
    mean: tuple[float, float]
    deviation: tuple[float, float]


@dataclass
class Inventory:
    """Contents of a folder.

    Attributes:
        title: the layout that was recognised.
        agreement: licence or data agreement.
        parts: in the order of a table.
        subjects: whose files are sound.
        remarks: what a user should know, a sentence each.
        commands: that come next.
    """

    title: str
    agreement: str
    parts: list[Part] = field(default_factory=list)
    subjects: list[SubjectFacts] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def add(
        self, name: str, what_for: str, paths: Sequence[Path], look: Callable[[], str] = str, *, wanted: int = 1
    ) -> bool:
        """Add a part and return whether it is present: at least `wanted` files, and a `look` that raises nothing.

        `look` returns the note of a sound part; a UserError of it is the note of a damaged one.
        """
        there = [path for path in paths if path.is_file()]
        facts = {"files": len(there), "size": sum(path.stat().st_size for path in there)}
        if len(there) < wanted:
            some = f"{len(there)} of {wanted} files" if there else ""
            self.parts.append(Part(name, "missing", what_for, **facts, note=some))
            return False
        try:
            note = look()
        except UserError as error:
            self.parts.append(Part(name, "damaged", what_for, **facts, note=str(error)))
            return False
        self.parts.append(Part(name, "present", what_for, **facts, note=note))
        return True

    @contextmanager
    def examining(self, name: str, what_for: str) -> Iterator[None]:
        """Add a damaged part if what is examined raises a UserError."""
        try:
            yield
        except UserError as error:
            self.parts.append(Part(name, "damaged", what_for, note=str(error)))
