"""Time and memory of preparing one subject of NSD's release at its real size, with random numbers in place of brains.

    python benchmarks/prepare_nsd.py FOLDER [--formats hdf5 nii.gz] [--sessions 40] [--workers 2] [--output FILE.json]

One session of func1pt8mm is written per format, in the volume of subject 1, and linked under the names of all sessions;
the folder needs 6 GB and is emptied afterwards. Sessions are read from the system's cache, so that the rate is that of
the preparation; a disk that is slower is what a preparation waits for. For scale, the session's file is read once from
the disk, with large reads.
"""

import argparse
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
from scipy.io import savemat

from mindeye_pl.data.nsd.inspection import PreparationSettings
from mindeye_pl.data.nsd.preparation import prepare_nsd
from mindeye_pl.data.nsd.release import NSD_GENERAL, VISUAL_AREAS, NsdRelease
from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.results.benchmarks import benchmark_summary
from mindeye_pl.reports.results.summary import write_summary

#: Of subject 1: volume, voxels of nsdgeneral, trials of a session.
SHAPE, NUM_VOXELS, NUM_TRIALS = (81, 104, 83), 15_724, 750
NUM_IMAGES = 512

COLUMNS = (
    Column("Files, GB", "size", form="number"),
    Column("Seconds", "seconds", form="number", higher_is_better=False),
    Column("Processor s", "processor", form="number", higher_is_better=False),
    Column("Files, MB/s", "rate", form="number"),
    Column("Voxels, MB/s", "voxel_rate", form="number"),
    Column("Disk, MB/s", "disk_rate", form="number"),
    Column("Peak, GB", "peak", form="number", higher_is_better=False),
)


def main() -> None:
    """Prepare the subject from each format, and print times, rates and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--formats", nargs="+", default=["hdf5", "nii.gz"])
    parser.add_argument("--sessions", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rows = {}
    for suffix in arguments.formats:
        root = arguments.folder / "release"
        try:
            session = write_release(NsdRelease(root), suffix, arguments.sessions)
            title = f"{arguments.sessions} sessions of {suffix}"
            found = measure(root, session, arguments)
            rows[title] = {column.score: {"value": found[column.score]} for column in COLUMNS}
            print(title, *(f"{column.title} {found[column.score]:,.4g}" for column in COLUMNS), sep=", ", flush=True)
        finally:
            shutil.rmtree(root, ignore_errors=True)
            shutil.rmtree(arguments.folder / "prepared", ignore_errors=True)
    write_summary(arguments.output, benchmark_summary("prepare_nsd", "python benchmarks/prepare_nsd.py", COLUMNS, rows))


def measure(root: Path, session: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Prepare a release whose sessions are links to one file, and return the columns."""
    size = session.stat().st_size
    os.sync()
    with session.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    cold = timed(lambda: read_whole(session))
    settings = PreparationSettings(zscore="all_trials")
    with PeakMemory() as memory:
        began = sum(os.times()[:4])  # of children too
        seconds = timed(lambda: prepare(root, arguments, settings))
        processor = sum(os.times()[:4]) - began
    volumes = NUM_TRIALS * np.prod(SHAPE) * np.dtype(np.int16).itemsize
    megabytes = arguments.sessions / seconds / 1e6
    return {
        "size": arguments.sessions * size / 1e9,
        "seconds": seconds,
        "processor": processor,
        "rate": size * megabytes,
        "voxel_rate": float(volumes * megabytes),
        "disk_rate": size / cold / 1e6,
        "peak": memory.peak / 1e9,
    }


def prepare(root: Path, arguments: argparse.Namespace, settings: PreparationSettings) -> None:
    folder = arguments.folder / "prepared"
    shutil.rmtree(folder, ignore_errors=True)
    prepare_nsd(NsdRelease(root), [1], folder, settings, workers=arguments.workers, progress=False)


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds of some work."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def read_whole(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(16 * 2**20):
            pass


class PeakMemory:
    """Largest sum of the memory of this process and its children; memory that they share counts once."""

    peak = 0

    def __enter__(self) -> "PeakMemory":
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            processes = ["self", *(child.pid for child in active_children())]
            self.peak = max(self.peak, sum(map(proportional_bytes, processes)))


def proportional_bytes(process: object) -> int:
    """Return the memory of a process, with its part of what is shared; 0 if it has ended. Linux only."""
    try:
        return 1024 * int(re.findall(r"^Pss:\s+(\d+)", Path(f"/proc/{process}/smaps_rollup").read_text(), re.M)[0])
    except (OSError, IndexError):
        return 0


def write_release(release: NsdRelease, suffix: str, num_sessions: int) -> Path:
    """Write all files, one session among them, and link it under the other names; return its path."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    brain = radius < 0.85  # 220,000 voxels; NSD's liberal mask zeroes the others
    cortex = np.flatnonzero((brain & (radius > 0.6)).ravel())
    general = np.full(SHAPE, -1, np.int16)
    general.ravel()[cortex[np.argsort(axes[1].ravel()[cortex])[:NUM_VOXELS]]] = 1  # the back of the head
    volumes = {
        release.roi(1, NSD_GENERAL): general,
        release.roi(1, VISUAL_AREAS): np.where(general > 0, 1, -1).astype(np.int16),
        release.ncsnr(1): rng.random(SHAPE, np.float32),
    }
    for path, values in volumes.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(values, np.diag([1.8, 1.8, 1.8, 1])), path)
    write_tables(release, num_sessions)
    release.stimuli.parent.mkdir(parents=True)
    with h5py.File(release.stimuli, "w") as file:
        file["imgBrick"] = rng.integers(0, 256, (NUM_IMAGES, 425, 425, 3), np.uint8)
    first = release.betas(1, 1).with_name(f"betas_session01.{suffix}")
    (write_hdf5 if suffix == "hdf5" else write_nifti)(first, brain, rng)
    for session in range(2, num_sessions + 1):
        first.with_name(f"betas_session{session:02d}.{suffix}").hardlink_to(first)
    return first


def write_tables(release: NsdRelease, num_sessions: int) -> None:
    trials = np.arange(num_sessions * NUM_TRIALS)
    release.design.parent.mkdir(parents=True)
    images = trials[None] % NUM_IMAGES + 1
    savemat(release.design, {"masterordering": trials[None] + 1, "subjectim": images, "sharedix": np.arange(50) + 1})
    columns = "SUBJECT SESSION RUN TRIAL 73KID TIME ISOLD ISCORRECT RT CHANGEMIND ISOLDCURRENT ISCORRECTCURRENT"
    lines = ["\t".join([*columns.split(), "TOTAL1", "TOTAL2", "BUTTON"])]
    rows = ([1, trial // NUM_TRIALS + 1, 1, 1, trial % NUM_IMAGES + 1, *[0] * 10] for trial in trials)
    lines += ["\t".join(map(str, row)) for row in rows]
    release.responses(1).parent.mkdir(parents=True)
    release.responses(1).write_text("\n".join(lines) + "\n")


def write_hdf5(path: Path, brain: np.ndarray, rng: np.random.Generator) -> None:
    """Write a session as MATLAB does, plane by plane: axes reversed, one voxel in a chunk."""
    with h5py.File(path, "w") as file:
        betas = file.create_dataset("betas", (NUM_TRIALS, *SHAPE[::-1]), np.int16, chunks=(NUM_TRIALS, 1, 1, 1))
        for plane in range(SHAPE[2]):
            betas[:, plane] = rng.normal(0, 400, (NUM_TRIALS, *SHAPE[1::-1])) * brain[:, :, plane].T


def write_nifti(path: Path, brain: np.ndarray, rng: np.random.Generator) -> None:
    """Write a session as NIfTI, trial by trial behind the header."""
    header = nibabel.Nifti1Image(np.zeros((1, 1, 1, 1), np.int16), np.diag([1.8, 1.8, 1.8, 1])).header
    header.set_data_shape((*SHAPE, NUM_TRIALS))
    header["vox_offset"] = 352
    with nibabel.openers.ImageOpener(str(path), "wb", compresslevel=1) as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(NUM_TRIALS):
            file.write((rng.normal(0, 400, SHAPE) * brain).astype(np.int16).tobytes(order="F"))


if __name__ == "__main__":
    main()
