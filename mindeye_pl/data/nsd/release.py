"""File layout of NSD's own release, and the commands that download it.

Source: NSD data manual (cvnlab.slite.page), "Functional data (NSD)", "ROIs", "Behavioral data" and "Experiments".
"""

import csv
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mindeye_pl.data.layout.paths import subject_name
from mindeye_pl.errors import UserError
from mindeye_pl.store.regular_files import check_regular

#: Estimates of the single-trial responses, the value of `data.beta_version`: GLMsingle's b3, b2 and b1.
BetaVersion = Literal["betas_fithrf_GLMdenoise_RR", "betas_fithrf", "betas_assumehrf"]

#: Mask of the published preparations, and map of the early visual areas.
NSD_GENERAL, VISUAL_AREAS = "nsdgeneral", "prf-visualrois"

#: Splits of COCO that NSD's images come from.
COCO_SPLITS = ("train2017", "val2017")

_BUCKET = "s3://natural-scenes-dataset"
_SPACE = "func1pt8mm"


@dataclass(frozen=True)
class NsdRelease:
    """Paths below the folder that holds `nsddata`, `nsddata_betas` and `nsddata_stimuli`.

    Attributes:
        root: the folder.
        beta_version: the estimate of the responses that is read.
    """

    root: Path
    beta_version: BetaVersion = "betas_fithrf_GLMdenoise_RR"

    @property
    def stimuli(self) -> Path:
        """Path of the images: hdf5 dataset `imgBrick`, (73000, 425, 425, 3) uint8 RGB, row = 73K id from 0."""
        return self.root / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"

    @property
    def design(self) -> Path:
        """Path of the design: MATLAB arrays `masterordering`, `subjectim` and `sharedix`, all from 1."""
        return self.root / "nsddata" / "experiments" / "nsd" / "nsd_expdesign.mat"

    @property
    def stimulus_info(self) -> Path:
        """Path of the table that names COCO's image of each 73K id; only captions need it."""
        return self.design.with_name("nsd_stim_info_merged.csv")

    def coco_captions(self, split: str) -> Path:
        """Return the path of COCO's captions of a split, where the package nsd_access looks for it."""
        return self.stimuli.parent / "annotations" / f"captions_{split}.json"

    def responses(self, subject: int) -> Path:
        """Return the path of the behaviour: a table with one row per trial, divided by tabs."""
        return self.root / "nsddata" / "ppdata" / subject_name(subject) / "behav" / "responses.tsv"

    def roi(self, subject: int, name: str) -> Path:
        """Return the path of a volume of integer labels; a voxel above 0 belongs to a region."""
        return self.root / "nsddata" / "ppdata" / subject_name(subject) / _SPACE / "roi" / f"{name}.nii.gz"

    def ncsnr(self, subject: int) -> Path:
        """Return the path of the volume of noise-ceiling signal-to-noise ratios of this estimate."""
        return self._betas(subject) / "ncsnr.nii.gz"

    def betas(self, subject: int, session: int) -> Path:
        """Return the path of the responses of a session from 1: the hdf5 file if it is there, else the NIfTI file."""
        path = self._betas(subject) / f"betas_session{session:02d}.hdf5"
        return path if path.is_file() else path.with_suffix(".nii.gz")

    def _betas(self, subject: int) -> Path:
        return self.root / "nsddata_betas" / "ppdata" / subject_name(subject) / _SPACE / self.beta_version

    def num_sessions(self, subject: int) -> int:
        """Return the number of sessions in the subject's table of responses; a UserError if there is no such table."""
        path = self.required(self.responses(subject))
        try:
            with path.open(newline="") as file:
                return max(int(float(row["SESSION"])) for row in csv.DictReader(file, delimiter="\t"))
        except (KeyError, TypeError, ValueError) as error:  # no such column, a row too short, no number, no row
            what = f"{path} has no column SESSION of numbers"
            raise UserError(what, got=error, fix=self.fetch_command(path)) from error

    def caption_files(self) -> list[Path]:
        """Return the files that captions are made from; none unless all are there."""
        files = [self.stimulus_info, *map(self.coco_captions, COCO_SPLITS)]
        return files if all(path.is_file() for path in files) else []

    def files_of(self, subject: int, sessions: int, masks: tuple[str, ...]) -> Iterator[Path]:
        """Yield the files of one subject below the root that are read: its first `sessions`, and masks by name."""
        yield self.responses(subject)
        yield self.ncsnr(subject)
        for name in dict.fromkeys((NSD_GENERAL, VISUAL_AREAS, *masks)):
            yield self.roi(subject, name)
        for session in range(1, sessions + 1):
            yield self.betas(subject, session)

    def required(self, path: Path) -> Path:
        """Return the path; a UserError with the command that downloads it if there is no file."""
        if not check_regular(path).is_file():
            raise UserError(f"{path} is missing", expected="a file of NSD's release", fix=self.fetch_command(path))
        return path

    def fetch_command(self, path: Path) -> str:
        """Return the command that downloads a file; NSD's bucket is public, its terms must be agreed to first."""
        name = path.relative_to(self.root).as_posix()
        return f"aws s3 cp --no-sign-request {_BUCKET}/{name} {shlex.quote(str(path))}"
