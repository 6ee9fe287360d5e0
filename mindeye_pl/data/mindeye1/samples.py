"""What a shard of MindEye1 holds: for each image the responses to it, in three slots (MindEye1, spec section 2.2).

A first reading takes the names and numbers alone and passes over voxels and images.

Legend: R slots, three published; V voxels of the subject's nsdgeneral mask; H and W size of an image in pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tarfile import TarInfo

import numpy as np

from mindeye_pl.data.image_files import decoded_image
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.nsd.tar_files import TarShard

VOXELS, TRIALS, STIMULUS, NUM_UNIQUES = "nsdgeneral.npy", "trial.npy", "coco73k.npy", "num_uniques.npy"
IMAGES = ("jpg", "png")

#: Values of the option `data.repeated_slots`: what tells a repetition from a slot that was filled with another one.
BOTH, BY_TRIAL, BY_NUMBER = "both", "trial", "num_uniques"
REPEATED_SLOTS = (BOTH, BY_TRIAL, BY_NUMBER)
OTHER_RULE = "another data.repeated_slots (docs/data.md)"


@dataclass(frozen=True)
class Sample:
    """One image and the trials that showed it.

    Attributes:
        name: of the sample in its shard.
        stimulus_id: 0-based 73K id.
        slots: of those that hold a repetition, the first one of each.
        trials: the 0-based global trial of each of these.
        copies: slots that another one's trial fills again, each with the first slot of that trial; they should hold the
            same responses. None where trials are not asked.
    """

    name: str
    stimulus_id: int
    slots: tuple[int, ...]
    trials: tuple[int, ...]
    copies: tuple[tuple[int, int], ...] = ()


class Shard(TarShard):
    """A shard of MindEye1, open within a `with` block.

    Args:
        path: of the shard.
        fetch: the command that downloads it.
    """

    def __init__(self, path: Path, fetch: str):
        super().__init__(path, holds="brains and images", fix=f"rm {path}, then {fetch}")

    def grouped(self) -> Iterator[tuple[str, dict[str, TarInfo]]]:
        """Name and members of each sample: neighbours that share what stands before the first point.

        Raises:
            UserError: if a sample lacks a member.
        """
        samples: dict[str, dict[str, TarInfo]] = {}
        for member in self.members:
            folder, _, file = member.name.rpartition("/")
            name, _, ending = file.partition(".")
            samples.setdefault(f"{folder}/{name}".lstrip("/"), {})[ending] = member
        for name, members in samples.items():
            for ending in (VOXELS, TRIALS, STIMULUS, NUM_UNIQUES):
                if ending not in members:
                    raise self.refusal(f"{name}.{ending}", "it is missing", seen=sorted(members))
            if not any(ending in members for ending in IMAGES):
                raise self.refusal(f"{name}.jpg", "it is missing", seen=sorted(members), wanted="jpg or png")
            yield name, members

    def voxels(self, member: TarInfo, num_voxels: int | None) -> np.ndarray:
        """Responses `(R, V)` float32.

        Args:
            member: of this shard.
            num_voxels: V; None takes the number that is there.

        Raises:
            UserError: if they are others, or one is not finite.
        """
        wanted = f"({nsd.REPETITIONS}, {'V' if num_voxels is None else num_voxels}) numbers"
        voxels = self.read_array(member, wanted)
        seen = f"{voxels.shape} {voxels.dtype}"
        if voxels.ndim != 2 or len(voxels) != nsd.REPETITIONS or 0 in voxels.shape:
            raise self.refusal(member.name, "another array", seen=seen, wanted=wanted)
        if num_voxels is not None and voxels.shape[1] != num_voxels:
            raise self.refusal(member.name, "another number of voxels", seen=seen, wanted=wanted)
        if not np.isfinite(voxels).all():
            raise self.refusal(member.name, "a beta that is not finite", seen=voxels[~np.isfinite(voxels)][0])
        return voxels.astype(np.float32, copy=False)

    def image(self, members: dict[str, TarInfo]) -> np.ndarray:
        """The image of a sample, `(3, H, W)` uint8.

        Raises:
            UserError: if it is none, or not whole.
        """
        member = next(members[ending] for ending in IMAGES if ending in members)
        return decoded_image(self.read(member), f"{self.path}, member {member.name}")

    def number(self, member: TarInfo) -> int:
        """The one whole number that a member holds."""
        array = self.read_array(member, "a whole number")
        if array.size != 1 or not np.isfinite(array).all() or int(array.item()) != array.item():
            raise self.refusal(member.name, "another array", seen=array.tolist(), wanted="a whole number")
        return int(array.item())


def read_samples(shard: Shard, *, repeated_slots: str, first_trial: int) -> list[Sample]:
    """The samples of an open shard, without their voxels and images.

    Args:
        shard: an open one.
        repeated_slots: one of `REPEATED_SLOTS`.
        first_trial: number of a subject's first trial, 0 or 1.

    Raises:
        UserError: for a sample that lacks something, or does not say what it should.
    """
    samples = []
    for name, members in shard.grouped():
        stimulus_id = shard.number(members[STIMULUS])
        if not 0 <= stimulus_id < nsd.NUM_STIMULI:
            wanted = f"0 to {nsd.NUM_STIMULI - 1}"
            raise shard.refusal(members[STIMULUS].name, "no such image", seen=stimulus_id, wanted=wanted)
        trials = _trials(shard, members[TRIALS], first_trial)
        num_uniques = shard.number(members[NUM_UNIQUES])
        slots = _slots_of_repetitions(trials, num_uniques, repeated_slots)
        if not slots:
            raise shard.refusal(
                name,
                "its slots do not tell the repetitions",
                seen=f"trials {trials}, num_uniques {num_uniques}",
                wanted=_WANTED[repeated_slots],
                fix=OTHER_RULE,
            )
        again = [(slot, trials.index(trial)) for slot, trial in enumerate(trials) if trial in trials[:slot]]
        copies = tuple(pair for pair in again if pair[1] in slots) if repeated_slots == BOTH else ()
        samples.append(Sample(name, stimulus_id, slots, tuple(trials[slot] for slot in slots), copies))
    return samples


_WANTED = {
    BOTH: "as many different trials as num_uniques says",
    BY_TRIAL: "a trial",
    BY_NUMBER: f"1 to {nsd.REPETITIONS} repetitions, of different trials, in the first slots",
}


def _trials(shard: Shard, member: TarInfo, first_trial: int) -> list[int]:
    """The trial of each slot, 0-based, -1 where none is named."""
    wanted = f"1 to {nsd.REPETITIONS} trials"
    array = shard.read_array(member, wanted).ravel().astype(np.float64)
    named = np.where(np.isfinite(array), array, -1)
    last = first_trial + nsd.TRIALS_PER_SESSION * max(nsd.SESSION_COUNTS.values()) - 1
    if not 1 <= array.size <= nsd.REPETITIONS or (named != np.round(named)).any() or named.max() > last:
        raise shard.refusal(member.name, "no trials", seen=array.tolist(), wanted=f"{wanted}, at most {last}")
    return [int(trial) - first_trial if trial >= first_trial else -1 for trial in named]


def _slots_of_repetitions(trials: Sequence[int], num_uniques: int, rule: str) -> tuple[int, ...]:
    """The slots that hold a repetition, the first one of each; none where the rule is not kept."""
    different = tuple(slot for slot, trial in enumerate(trials) if trial >= 0 and trial not in trials[:slot])
    if rule == BOTH:
        return different if len(different) == num_uniques else ()
    if rule == BY_TRIAL:
        return different
    first = tuple(range(num_uniques))
    return first if set(first) <= set(different) else ()
