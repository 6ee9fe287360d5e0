"""A simulated NSD with known ground truth, written in MindEye2's file layout and read by the same reader.

The data are a function of the settings only: each unit of work has its own generator, seeded by the seed, its purpose
and its index, so that the number of workers does not change a bit.

Legend: N images that a subject saw, T trials, V voxels, n images of one task.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
from annotated_types import Le

from mindeye_pl.console import console
from mindeye_pl.data.layout.brain_mask import write_brain_mask
from mindeye_pl.data.layout.hdf5 import open_hdf5
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.nsd.shards import write_shards
from mindeye_pl.data.parallel import available_cores, run_tasks
from mindeye_pl.data.simulated.betas import TrialNoise, write_betas, write_noise_free
from mindeye_pl.data.simulated.brain import Percepts, SimulatedBrain
from mindeye_pl.data.simulated.design import draw_design
from mindeye_pl.data.simulated.geometry import place_voxels
from mindeye_pl.data.simulated.identity import Identity
from mindeye_pl.data.simulated.scene_source import DRAWN, Scene, SceneSource
from mindeye_pl.data.simulated.visual_features import RETINA_SIZE, visual_features
from mindeye_pl.errors import UserError
from mindeye_pl.types import Fraction, Name, NonNegativeFloat, PositiveInt, Seed

#: Version of the files, written to `simulation.json`.
FORMAT_VERSION = 4

_IMAGES_PER_TASK = 128
_REFERENCE_SCENES = 256
#: In smaller worlds, starting processes takes longer than the work itself.
_MIN_IMAGES_FOR_PROCESSES = 1000


class _Purpose(IntEnum):
    """Purpose of a random generator."""

    SCENE = 0
    REFERENCE = 1
    STIMULUS_IDS = 2
    DESIGN = 3
    VOXELS = 4
    NOISE_PATTERNS = 5
    NOISE = 6
    IDENTITY = 7


@dataclass(frozen=True)
class SimulationSettings:
    """Size and difficulty of a simulated NSD.

    Attributes:
        name: name in the artifact and in the log.
        seed: seed of all random draws.
        voxel_counts: number of voxels by subject; the keys, 1 to 8, are the simulated subjects.
        num_sessions: scan sessions, of all subjects or of each. The experiment is designed for the maximum; a subject
            with fewer sessions lacks the final ones, as in NSD.
        trials_per_session: presentations per session.
        repetitions: presentations per image.
        num_shared: images that every subject sees, the test set.
        image_size: side of a stored image in pixels. Voxels see scenes at their own resolution.
        figure_gain: factor of the voxels' response to objects relative to the ground; 1 treats both alike.
        noise_level: standard deviation of the noise over that of the signal, of the median voxel: 1 / ncsnr.
        noise_spread: standard deviation of the logarithm of that ratio over voxels.
        correlated_noise: fraction of the noise variance in a few patterns over all voxels.
        session_drift: standard deviation, over sessions, of a voxel's offset and of the logarithm of its gain, removed
            by z-scoring per session.
        subjects: those of `voxel_counts` that are simulated; all, where none is named.

    Raises a UserError if the numbers are inconsistent.
    """

    name: Name
    seed: Seed
    voxel_counts: Mapping[PositiveInt, PositiveInt]
    num_sessions: PositiveInt | Mapping[PositiveInt, PositiveInt]
    trials_per_session: PositiveInt
    repetitions: Annotated[PositiveInt, Le(nsd.REPETITIONS)]
    num_shared: PositiveInt
    image_size: PositiveInt
    figure_gain: NonNegativeFloat
    noise_level: NonNegativeFloat
    noise_spread: NonNegativeFloat
    correlated_noise: Fraction
    session_drift: NonNegativeFloat
    subjects: Sequence[PositiveInt] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        wanted = tuple(self.subjects or self.voxel_counts)
        if unknown := [subject for subject in wanted if subject not in self.voxel_counts]:
            expected, fix = f"some of {list(self.voxel_counts)}", f"+simulation.voxel_counts.{unknown[0]}=VOXELS"
            raise UserError("simulation.subjects names an unknown subject", got=unknown[0], expected=expected, fix=fix)
        object.__setattr__(self, "subjects", wanted)
        for name in ("voxel_counts", "num_sessions"):
            if isinstance(numbers := getattr(self, name), Mapping):  # any kind of mapping from the configuration
                kept = {int(key): int(numbers[key]) for key in numbers if key in wanted}
                object.__setattr__(self, name, kept)
        self._check()

    def _check(self) -> None:
        def refuse(option: str, got: object, expected: str) -> NoReturn:
            raise UserError(f"invalid simulation.{option}", got=got, expected=expected)

        if not self.voxel_counts or not set(self.subjects) <= set(nsd.SUBJECTS):
            refuse("voxel_counts", list(self.voxel_counts), f"subjects among {list(nsd.SUBJECTS)}")
        if isinstance(self.num_sessions, Mapping) and set(self.num_sessions) != set(self.voxel_counts):
            refuse("num_sessions", list(self.num_sessions), f"one number, or one for each of {list(self.voxel_counts)}")
        designed = self.designed_sessions * self.trials_per_session
        if designed % self.repetitions:
            refuse("trials_per_session", self.trials_per_session, f"trials in multiples of {self.repetitions}")
        # At most half, so that every session keeps trials to fit its z-scores on.
        if not 0 < self.num_shared <= self.stimuli_per_subject // 2:
            refuse("num_shared", self.num_shared, f"1 to {self.stimuli_per_subject // 2}")

    @property
    def source(self) -> SceneSource:
        """The kind of scenes that the subjects see."""
        return DRAWN

    @property
    def designed_sessions(self) -> int:
        """Number of sessions that the experiment is designed for."""
        return max(self.num_sessions.values()) if isinstance(self.num_sessions, Mapping) else self.num_sessions

    def sessions_of(self, subject: int) -> int:
        """Return the number of sessions that a subject completed."""
        return self.num_sessions[subject] if isinstance(self.num_sessions, Mapping) else self.num_sessions

    @property
    def stimuli_per_subject(self) -> int:
        """Number of images designed for a subject, shared ones included."""
        return self.designed_sessions * self.trials_per_session // self.repetitions

    @property
    def num_stimuli(self) -> int:
        """Number of images in the file: the shared ones, and each subject's own."""
        return self.num_shared + len(self.subjects) * (self.stimuli_per_subject - self.num_shared)


def simulate_nsd(
    settings: SimulationSettings, root: Path, *, workers: int | None = None, progress: bool = True
) -> None:
    """Write a simulated NSD, every file of `DataLayout`, to an empty or missing folder.

    Workers are processes; 0 or 1 uses this process, None one per core if the world is large enough.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    if workers is None:
        workers = available_cores() if settings.num_stimuli >= _MIN_IMAGES_FOR_PROCESSES else 0
    layout = DataLayout(root)
    root.mkdir(parents=True, exist_ok=True)
    subjects = settings.subjects
    # Subjects take longest and therefore come first.
    tasks: list[partial] = [partial(_write_subject, settings, root, subject) for subject in subjects]
    tasks += _painting_tasks(settings.seed, settings.num_stimuli, settings.image_size, settings.source)
    brains: dict[int, SimulatedBrain] = {}
    described: list[list[str]] = [[]] * settings.num_stimuli
    columns = (TextColumn("simulating NSD"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with open_hdf5(layout.stimuli, "w") as file, Progress(*columns, console=console, disable=not progress) as bar:
        size = settings.image_size
        stored = file.create_dataset("images", (settings.num_stimuli, 3, size, size), np.float16)
        for index, result in bar.track(run_tasks(tasks, workers), total=len(tasks)):
            if index < len(subjects):
                brains[subjects[index]] = result
            else:
                start, images, words = result
                stored[start : start + len(images)] = images
                described[start : start + len(words)] = words
    with open_hdf5(layout.region_masks, "w") as masks, open_hdf5(layout.ncsnr, "w") as ncsnr:
        for subject in subjects:
            for region, mask in brains[subject].regions().items():
                masks[f"subj{subject:02d}/{region}"] = mask
            with np.errstate(divide="ignore"):  # without noise the ncsnr is infinite
                ncsnr[f"subj{subject:02d}"] = 1 / brains[subject].noise
    layout.captions.write_text(json.dumps(described))
    facts = {"simulated": True, "format_version": FORMAT_VERSION, "settings": asdict(settings)}
    layout.simulation.write_text(json.dumps(facts, indent=2) + "\n")


def _write_subject(settings: SimulationSettings, root: Path, subject: int) -> SimulatedBrain:
    """Write the files of one subject and return its voxels."""
    layout, seed, source = DataLayout(root), settings.seed, settings.source
    reference = _reference(seed, settings.figure_gain, source)
    design = draw_design(
        _rng(seed, _Purpose.DESIGN, subject),
        subject,
        *stimulus_ids(settings, subject),
        repetitions=settings.repetitions,
        trials_per_session=settings.trials_per_session,
        num_sessions=settings.sessions_of(subject),
    )
    brain = SimulatedBrain.sample(
        _rng(seed, _Purpose.VOXELS, subject),
        settings.voxel_counts[subject],
        reference,
        noise_level=settings.noise_level,
        noise_spread=settings.noise_spread,
    )
    rng = _rng(seed, _Purpose.NOISE_PATTERNS, subject)
    shared = brain.responses(reference)
    how = {"correlated": settings.correlated_noise, "drift": settings.session_drift}
    noise = TrialNoise.sample(rng, brain.noise, shared, **how)
    path, ids = layout.noise_free(subject), np.unique(design.stimulus_ids)

    def perceive_stimuli(ids: np.ndarray) -> Percepts:
        scenes = [stimulus_scene(seed, int(id_), source) for id_ in ids]
        return perceive(scenes, seed, settings.figure_gain, source)

    write_noise_free(path, brain, noise.signal_scale, ids, perceive_stimuli)
    rngs = [_rng(seed, _Purpose.NOISE, subject, session) for session in range(design.num_sessions)]
    write_betas(layout.betas(subject), path, design, noise, rngs)
    write_shards(layout, subject, design)
    write_brain_mask(layout.brain_mask(subject), place_voxels(brain.regions()))
    return brain


def paint_scenes(seed: int, count: int, size: int) -> Iterator[tuple[int, np.ndarray, list[list[str]]]]:
    """Yield `count` drawn images of `size` pixels without brains, in blocks (first index, images, captions).

    A world's own seed yields its stimuli.
    """
    yield from (block for _, block in run_tasks(_painting_tasks(seed, count, size, DRAWN), 0))


def _painting_tasks(seed: int, count: int, size: int, source: SceneSource) -> list[partial]:
    blocks = [range(count)[start : start + _IMAGES_PER_TASK] for start in range(0, count, _IMAGES_PER_TASK)]
    return [partial(_paint, seed, ids, size, source) for ids in blocks]


def _paint(seed: int, ids: range, size: int, source: SceneSource) -> tuple[int, np.ndarray, list[list[str]]]:
    """Return the first id, the images `(n, 3, H, W)` float16, and their captions."""
    scenes = [stimulus_scene(seed, id_, source) for id_ in ids]
    images = np.stack([source.render(scene, size) for scene in scenes]).astype(np.float16)
    return ids[0], images, [source.captions(scene) for scene in scenes]


def stimulus_scene(seed: int, stimulus_id: int, source: SceneSource = DRAWN) -> Any:
    """Return the scene of a stimulus, a function of the world's seed and the id."""
    return source.draw(_rng(seed, _Purpose.SCENE, stimulus_id))


def stimulus_ids(settings: SimulationSettings, subject: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of the shared images and of the subject's own, spread over the file, ascending int64."""
    ids = _rng(settings.seed, _Purpose.STIMULUS_IDS).permutation(settings.num_stimuli)
    own = ids[settings.num_shared :].reshape(len(settings.subjects), -1)
    return np.sort(ids[: settings.num_shared]), np.sort(own[settings.subjects.index(subject)])


def perceive(scenes: Sequence[Scene], seed: int, figure_gain: float = 1.0, source: SceneSource = DRAWN) -> Percepts:
    """Compute the voxels' input for some scenes in the world of a seed.

    The figure gain is the factor of the change that the objects make in the feature maps. Visual cortex responds more
    to a figure than to the same texture as ground (Lamme 1995, J. Neurosci. 15:1605; Poort et al. 2012, Neuron 75:143).
    """
    visual = _see(scenes, source)
    if figure_gain != 1:
        ground = _see([replace(scene, objects=()) for scene in scenes], source)  # type: ignore[type-var]
        visual = ground + np.float32(figure_gain) * (visual - ground)
    return Percepts(visual, _identity(seed, source)(scenes))


@cache
def _identity(seed: int, source: SceneSource) -> Identity:
    return Identity.sample(_rng(seed, _Purpose.IDENTITY), source.groups)


def _see(scenes: Sequence[Scene], source: SceneSource) -> np.ndarray:
    return visual_features(np.stack([source.render(scene, RETINA_SIZE) for scene in scenes]))


@cache
def _reference(seed: int, figure_gain: float, source: SceneSource) -> Percepts:
    """Return percepts of scenes that are not stimuli, which set the scale of every voxel's drive."""
    scenes = [source.draw(_rng(seed, _Purpose.REFERENCE, index)) for index in range(_REFERENCE_SCENES)]
    return perceive(scenes, seed, figure_gain, source)


def _rng(seed: int, purpose: _Purpose, *unit: int) -> np.random.Generator:
    """Return the generator of one unit of work."""
    return np.random.default_rng(np.random.SeedSequence((seed, purpose, *unit)))
