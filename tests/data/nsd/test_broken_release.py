"""Broken files of NSD's release: each is one line that names the file, and nothing is finished."""

import gzip
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from mindeye_pl.data.nsd.inspection import PreparationSettings, inspect_release
from mindeye_pl.data.nsd.preparation import prepare_nsd
from mindeye_pl.data.nsd.release import NsdRelease
from mindeye_pl.errors import UserError
from tests.data.small_nsd_release import AFFINE, SHAPE, SmallRelease, write_images, write_nifti

Break = Callable[[SmallRelease], None]


def edit_responses(change: Callable[[list[list[str]]], None]) -> Break:
    """Change the table's cells."""

    def edit(release: SmallRelease) -> None:
        path = release.responses(1)
        cells = [line.split("\t") for line in path.read_text().splitlines()]
        change(cells)
        path.write_text("".join("\t".join(row) + "\n" for row in cells))

    return edit


def edit_design(change: Callable[[dict], None]) -> Break:
    def edit(release: SmallRelease) -> None:
        arrays = {name: value for name, value in loadmat(release.design).items() if not name.startswith("__")}
        change(arrays)
        savemat(release.design, arrays)

    return edit


def edit_betas(change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray = AFFINE, session: int = 3) -> Break:
    def edit(release: SmallRelease) -> None:
        path = release.betas(1, session)
        write_nifti(path, change(np.asarray(nibabel.load(path).dataobj)), affine)

    return edit


def as_scaled_floats(release: SmallRelease) -> None:
    """Store percent signal change as int16 with a slope, as nibabel does with floats."""
    path = release.betas(1, 3)
    image = nibabel.Nifti1Image(np.asarray(nibabel.load(path).dataobj) / 300, AFFINE)
    image.set_data_dtype(np.int16)
    nibabel.save(image, path)


def as_hdf5(name: str = "betas", change: Callable[[np.ndarray], np.ndarray] = lambda betas: betas) -> Break:
    """Replace a session by an hdf5 file, changed."""

    def edit(release: SmallRelease) -> None:
        volumes = np.asarray(nibabel.load(release.betas(1, 3)).dataobj)
        with h5py.File(release.betas(1, 3, "hdf5"), "w") as file:
            file[name] = change(np.transpose(volumes))

    return edit


def without_column(cells: list[list[str]]) -> None:
    for row in cells:
        del row[17]  # BUTTON


def matlab_7_3(release: SmallRelease) -> None:
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\x00\x02IM"
    release.design.write_bytes(header.ljust(512, b"\0"))


def other_stimuli(release: SmallRelease) -> None:
    release.stimuli.unlink()
    write_images(release, np.zeros((2, 3, 8, 8)), size=224)


def few_stimuli(release: SmallRelease) -> None:
    release.stimuli.unlink()
    write_images(release, np.zeros((5, 3, 8, 8)))


def truncate(path: Path, fraction: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])


def damage(path: Path) -> None:
    """Change one number; only the checksum tells."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    checksum = path.read_bytes()[-8:]
    content[400] ^= 1
    path.write_bytes(gzip.compress(bytes(content))[:-8] + checksum)


def other_affine() -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += 1.8
    return affine


#: What is broken, and words of the line.
FOUND_AT_ONCE: dict[str, tuple[Break, str]] = {
    "missing session": (
        lambda r: r.betas(1, 3).unlink(),
        r"betas_session03.nii.gz is missing .*Fix: aws s3 cp --no-sign-request s3://natural-scenes-dataset/nsddata_bet",
    ),
    "missing table": (lambda r: r.responses(1).unlink(), r"responses.tsv is missing .*Fix: aws s3 cp"),
    "missing mask": (lambda r: r.roi(1, "nsdgeneral").unlink(), "nsdgeneral.nii.gz is missing"),
    "missing design": (lambda r: r.design.unlink(), "nsd_expdesign.mat is missing"),
    "missing images": (lambda r: r.stimuli.unlink(), "nsd_stimuli.hdf5 is missing"),
    "mask of another shape": (
        lambda r: write_nifti(r.roi(1, "prf-visualrois"), np.ones((2, 3, 4), np.int16)),
        r"prf-visualrois.nii.gz has another shape than .*nsdgeneral.nii.gz .got: \(2, 3, 4\); expected: \(9, 8, 7\)",
    ),
    "mask of four axes": (
        lambda r: write_nifti(r.roi(1, "nsdgeneral"), np.ones((*SHAPE, 2), np.int16)),
        r"nsdgeneral.nii.gz is not a volume .got: \(9, 8, 7, 2\)",
    ),
    "empty mask": (
        lambda r: write_nifti(r.roi(1, "nsdgeneral"), np.full(SHAPE, np.nan)),
        "nsdgeneral.nii.gz has no voxel above 0",
    ),
    "no NIfTI": (lambda r: r.roi(1, "nsdgeneral").write_text("hello"), "nsdgeneral.nii.gz is truncated or no NIfTI"),
    "another affine": (
        edit_betas(lambda betas: betas, other_affine()),
        "betas_session03.nii.gz has another affine than .*nsdgeneral",
    ),
    "betas of another shape": (edit_betas(lambda betas: betas[1:]), "session03.nii.gz has another shape"),
    "trials missing": (edit_betas(lambda betas: betas[..., 1:]), "another number of trials .got: 47; expected: 48"),
    "one trial alone": (edit_betas(lambda betas: betas[..., 0]), r"does not hold betas .got: \(9, 8, 7\)"),
    "float betas": (
        edit_betas(lambda betas: (betas / 300).astype(np.float32)),
        "does not hold betas as NSD stores them .got: float32.*expected: int16, percent signal change times 300",
    ),
    "betas with a slope": (as_scaled_floats, "got: int16, slope"),
    "float hdf5": (as_hdf5(change=lambda betas: betas / 300), "session03.hdf5 does not hold betas .*got: float64"),
    "hdf5 of other axes": (as_hdf5(change=np.transpose), "session03.hdf5 has another shape"),
    "hdf5 of another name": (as_hdf5(name="data"), r"session03.hdf5 has no dataset betas .got: \['data'\]"),
    "missing column": (edit_responses(without_column), "responses.tsv has no column BUTTON"),
    "missing session column": (
        edit_responses(lambda cells: cells[0].__setitem__(1, "DAY")),
        "responses.tsv has no column SESSION",
    ),
    "missing row": (
        edit_responses(lambda cells: cells.pop(60)),
        "responses.tsv is incomplete .got: 47 rows of session 2; expected: 48 rows of each",
    ),
    "short row": (edit_responses(lambda cells: cells.__setitem__(60, cells[60][:3])), "line 61: TRIAL is missing"),
    "no number": (edit_responses(lambda cells: cells[9].__setitem__(9, "fast")), "responses.tsv is not a table .*fast"),
    "image id missing": (edit_responses(lambda cells: cells[9].__setitem__(4, "NaN")), "line 10: 73KID is missing"),
    "image ids from 0": (
        edit_responses(lambda cells: [row.__setitem__(4, str(int(row[4]) - 1)) for row in cells[1:]]),
        "line 2: 73KID is not the designed image",
    ),
    "rows exchanged": (
        edit_responses(lambda cells: cells.__setitem__(slice(5, 7), cells[6:4:-1])),
        "line 6: 73KID is not the designed image",
    ),
    "another subject": (
        edit_responses(lambda cells: [row.__setitem__(0, "2") for row in cells[1:]]),
        "responses.tsv is of another subject .got: subject 2; expected: subject 1",
    ),
    "image out of range": (few_stimuli, "names an image that .*nsd_stimuli.hdf5 does not have .*expected: 1 to 5"),
    "images of another size": (other_stimuli, r"does not hold NSD's images .got: \(2, 224, 224, 3\) uint8"),
    "no order": (
        edit_design(lambda arrays: arrays.pop("masterordering")),
        "has no array masterordering .got: ..shared",
    ),
    "order from 0": (
        edit_design(lambda arrays: arrays.update(masterordering=arrays["masterordering"] - 1)),
        "masterordering is no array of numbers from 1",
    ),
    "order beyond the images": (
        edit_design(lambda arrays: arrays.update(subjectim=arrays["subjectim"][:, :9])),
        "masterordering names images that subjectim does not have",
    ),
    "MATLAB 7.3": (matlab_7_3, "nsd_expdesign.mat is a file of MATLAB 7.3 .*Fix: .*-v7"),
    "no MATLAB file": (lambda r: r.design.write_text("hello" * 99), "nsd_expdesign.mat is damaged or no MATLAB file"),
    "truncated MATLAB file": (lambda r: truncate(r.design), "nsd_expdesign.mat is damaged or no MATLAB file"),
}

FOUND_BY_READING: dict[str, tuple[Break, str]] = {
    "truncated": (lambda r: truncate(r.betas(1, 3)), "betas_session03.nii.gz is truncated or no NIfTI file"),
    "another checksum": (lambda r: damage(r.betas(1, 3)), "betas_session03.nii.gz is truncated .*CRC"),
    "trials cut off": (
        lambda r: r.betas(1, 3).write_bytes(gzip.compress(gzip.decompress(r.betas(1, 3).read_bytes())[:-9])),
        "betas_session03.nii.gz is truncated .*ends within a trial",
    ),
    "not times 300": (
        edit_betas(lambda betas: np.rint(betas / 300).astype(np.int16)),
        "does not hold betas as NSD stores them .got: median standard deviation",
    ),
}


@pytest.mark.parametrize("name", FOUND_AT_ONCE)
def test_is_refused_before_anything_is_written(broken: SmallRelease, tmp_path: Path, name: str) -> None:
    change, says = FOUND_AT_ONCE[name]
    change(broken)
    settings = PreparationSettings(trials_per_session=48)
    with pytest.raises(UserError, match=says):
        prepare_nsd(NsdRelease(broken.root), (1,), tmp_path / "new", settings, progress=False)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", FOUND_BY_READING)
def test_is_refused_when_it_is_read(broken: SmallRelease, tmp_path: Path, name: str) -> None:
    change, says = FOUND_BY_READING[name]
    change(broken)
    settings, release = PreparationSettings(trials_per_session=48), NsdRelease(broken.root)
    inspect_release(release, (1,), settings)
    with pytest.raises(UserError, match=says):
        prepare_nsd(release, (1,), tmp_path / "new", settings, progress=False)


@pytest.mark.parametrize(
    ("subjects", "options", "says"),
    [
        ((1, 3), {}, "subj03/behav/responses.tsv is missing"),
        ((1,), {"mask": ("nowhere",)}, "roi/nowhere.nii.gz is missing"),
        ((1,), {"mask": ("/nowhere/{subject}.nii",)}, "/nowhere/subj01.nii is missing"),
        ((1,), {"zscore": "train_sessions_only", "zscore_sessions": (9,)}, "session 9; expected: some of 1 to 4"),
        ((1,), {"zscore": "train_sessions_only", "zscore_sessions": ()}, "data.zscore_sessions is empty"),
        ((1,), {"trials_per_session": 24}, "48 rows of session 1; expected: 24 rows"),
    ],
)
def test_settings_that_do_not_fit(release: SmallRelease, subjects, options, says: str) -> None:
    settings = PreparationSettings(**{"trials_per_session": 48} | options)
    with pytest.raises(UserError, match=says):
        inspect_release(NsdRelease(release.root), subjects, settings)
