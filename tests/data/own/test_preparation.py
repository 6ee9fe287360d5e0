"""A study in the working layout: what is kept, dropped, chosen, and normalised."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from mindeye_pl.data.layout.betas import read_betas
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.regions import read_ncsnr
from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.data.layout.trials import load_test_trials, load_training_trials
from mindeye_pl.data.own.folder import StudyFolder
from mindeye_pl.data.own.preparation import PreparationSettings, prepare_own
from mindeye_pl.data.own.study import plan_study
from mindeye_pl.errors import UserError
from tests.data.own.made_study import nibabel, write_events, write_study

DEFAULTS = {"split": "shared", "test_fraction": 0.25, "zscore": "session", "image_size": 32, "squaring": "crop"}


def prepare(study: Path, root: Path, image_column: str = "stim_file", **changed: object) -> tuple[DataLayout, dict]:
    root.mkdir()
    plan = plan_study(StudyFolder(study), image_column=image_column)
    settings = PreparationSettings(**{**DEFAULTS, **changed})  # type: ignore[arg-type]
    return DataLayout(root), prepare_own(plan, settings, root)


def raw(study: Path, session: int, label: str = "01") -> np.ndarray:
    """The betas `(t, V)` of the mask's voxels, read without the package."""
    inside = np.asarray(nibabel.load(study / f"sub-{label}_mask.nii.gz").dataobj) > 0
    with h5py.File(study / f"sub-{label}_ses-{session:02}_betas.hdf5") as file:
        return file["betasmd"][:][inside].T


def shown(study: Path, session: int, label: str = "01") -> np.ndarray:
    lines = []
    for path in sorted(study.glob(f"sub-{label}_ses-{session:02}_*events.tsv")):
        lines += [line.split("\t")[3] for line in path.read_text().splitlines()[1:]]
    return np.array([int(name.split(".")[0]) for name in lines if name != "n/a"])


def test_betas_trials_and_images_are_those_of_the_study(tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_study(study, num_images=16, sessions=2, num_voxels=30, bad_fraction=0.2, seed=3)
    layout, record = prepare(study, tmp_path / "made")
    assert record["subjects"]["subj01"]["voxels"] == {"considered": 30, "not_finite": 2, "constant": 4, "kept": 24}
    training = load_training_trials(layout, 1, "all", tmp_path / "cache")
    tested = load_test_trials(layout, 1, "new_test", tmp_path / "cache")
    assert not set(training.stimulus_ids) & set(tested.stimulus_ids)
    assert len(set(tested.stimulus_ids)) == record["test_images"] == 4
    ids = np.concatenate([shown(study, 1), shown(study, 2)])
    for trials in (training, tested):
        np.testing.assert_array_equal(ids[trials.beta_rows], trials.stimulus_ids)
    for session in (1, 2):
        values, images = raw(study, session), shown(study, session)
        values = values[:, np.isfinite(values).all(0)]
        values = values[:, values.std(0) > 1e-6]
        train = ~np.isin(images, tested.stimulus_ids)
        expected = (values - values[train].mean(0)) / values[train].std(0)
        rows = np.arange(16) + 16 * (session - 1)
        np.testing.assert_allclose(read_betas(layout, 1, rows), expected, atol=2e-4)
    assert Stimuli(layout.stimuli).shape == (16, 3, 32, 32)
    mask = np.asarray(nibabel.load(layout.brain_mask(1)).dataobj)
    assert mask.sum() == 24
    assert (mask <= np.asarray(nibabel.load(study / "sub-01_mask.nii.gz").dataobj)).all()


def test_betas_stay_as_they_are_without_z_scores(tmp_path: Path) -> None:
    write_study(tmp_path / "study", num_images=8)
    layout, _ = prepare(tmp_path / "study", tmp_path / "made", zscore="none")
    np.testing.assert_array_equal(read_betas(layout, 1, np.arange(16)), raw(tmp_path / "study", 1))


def test_reliability_follows_the_planted_noise(tmp_path: Path) -> None:
    medians = []
    for noise in (0.5, 2.0):
        write_study(tmp_path / f"study{noise}", num_images=200, repetitions=3, noise=noise)
        layout, _ = prepare(tmp_path / f"study{noise}", tmp_path / f"made{noise}")
        medians.append(float(np.median(read_ncsnr(layout, 1))))
    np.testing.assert_allclose(medians, [2.0, 0.5], rtol=0.15)


def test_without_repetitions_there_is_no_noise_ceiling(tmp_path: Path) -> None:
    write_study(tmp_path / "study", num_images=20, repetitions=1)
    layout, record = prepare(tmp_path / "study", tmp_path / "made")
    assert not layout.ncsnr.exists()
    assert record["subjects"]["subj01"]["repeated_images"] == 0
    assert len(load_test_trials(layout, 1, "new_test", tmp_path / "cache")) == 5


def test_repeated_images_are_tested(tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_study(study, num_images=40, repetitions=1)
    rng = np.random.default_rng(1)
    trials = rng.permutation(np.concatenate([np.arange(40), np.arange(6), np.arange(6)]))
    for path in study.glob("*run-02_events.tsv"):
        path.unlink()
    write_events(study / "sub-01_ses-01_task-images_run-01_events.tsv", trials)
    (study / "sub-01_ses-01_betas.hdf5").unlink()
    np.save(study / "sub-01_ses-01_betas.npy", rng.normal(size=(52, 60)))
    layout, record = prepare(study, tmp_path / "made")
    tested = load_test_trials(layout, 1, "new_test", tmp_path / "cache")
    assert set(tested.stimulus_ids) == set(range(6))
    assert len(tested) == 18
    assert record["split"] == "the 6 images with the most presentations, 3 or more"


@pytest.mark.parametrize("split", ["held_out", "cluster"])
def test_other_rules_test_about_the_fraction(tmp_path: Path, split: str) -> None:
    write_study(tmp_path / "study", num_images=40, repetitions=1)
    layout, record = prepare(tmp_path / "study", tmp_path / "made", split=split)
    tested = np.unique(load_test_trials(layout, 1, "new_test", tmp_path / "cache").stimulus_ids)
    assert len(tested) == record["test_images"]
    assert 2 <= len(tested) <= 20
    if split == "held_out":
        assert len(tested) == 10


def test_the_choice_follows_the_content_of_the_images(tmp_path: Path) -> None:
    """Renamed images and another order of the trials leave the choice."""
    chosen = []
    for name in ("one", "other"):
        study = tmp_path / name
        write_study(study, num_images=20, repetitions=1)
        if name == "other":
            for path in study.glob("*events.tsv"):
                path.write_text(path.read_text().replace(".png", "_renamed.png"))
            for path in (study / "stimuli").iterdir():
                path.rename(path.with_name(f"{path.stem}_renamed.png"))
        layout, _ = prepare(study, tmp_path / f"made_{name}", split="held_out")
        chosen.append(np.unique(load_test_trials(layout, 1, "new_test", tmp_path / "cache").stimulus_ids).tolist())
    assert chosen[0] == chosen[1]


def test_copies_of_an_image_are_one_image(tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_study(study, num_images=10)
    (study / "stimuli" / "0004.png").write_bytes((study / "stimuli" / "0003.png").read_bytes())
    layout, record = prepare(study, tmp_path / "made")
    assert (record["images"], record["other_names_of_an_image"]) == (9, 1)
    assert len(Stimuli(layout.stimuli)) == 9


def test_several_subjects_are_numbered_in_the_order_of_their_labels(tmp_path: Path) -> None:
    write_study(tmp_path / "study", num_images=16, subjects=("10", "9", "pilot"))
    assert StudyFolder(tmp_path / "study").subject_labels() == ["9", "10", "pilot"]
    layout, record = prepare(tmp_path / "study", tmp_path / "made")
    assert layout.subjects() == [1, 2, 3]
    assert [facts["label"] for facts in record["subjects"].values()] == ["9", "10", "pilot"]
    tested = [set(load_test_trials(layout, one, "new_test", tmp_path / "cache").stimulus_ids) for one in (1, 2, 3)]
    assert tested[0] == tested[1] == tested[2]
    assert [len(read_ncsnr(layout, one)) for one in (1, 2, 3)] == [60, 60, 60]


def test_one_table_of_all_subjects_and_sessions(tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_study(study, num_images=12, sessions=2, subjects=("01", "02"))
    expected, _ = prepare(study, tmp_path / "expected")
    lines = ["onset\tduration\tstim_file\tsubject\tsession\trun"]
    for path in sorted(study.glob("sub-*events.tsv")):
        subject, session, _, run = (part.split("-")[1] for part in path.name.split("_")[:4])
        for row in path.read_text().splitlines()[1:]:
            onset, duration, _, image = row.split("\t")
            lines.append("\t".join((onset, duration, image, f"sub-{subject}", str(int(session)), run)))
        path.unlink()
    (study / "events.tsv").write_text("\n".join(lines))
    made, _ = prepare(study, tmp_path / "made")
    for subject in (1, 2):
        assert made.betas(subject).read_bytes() == expected.betas(subject).read_bytes()
        assert made.shard(subject, "train", 1).read_bytes() == expected.shard(subject, "train", 1).read_bytes()


def test_one_array_of_all_sessions(tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_study(study, num_images=12, sessions=2)
    expected, _ = prepare(study, tmp_path / "expected")
    betas = [raw(study, session) for session in (1, 2)]
    for path in study.glob("*betas.hdf5"):
        path.unlink()
    np.save(study / "sub-01_betas.npy", np.concatenate(betas))
    made, record = prepare(study, tmp_path / "made")
    assert record["subjects"]["subj01"]["sessions"] == {"01": 12, "02": 12}
    np.testing.assert_array_equal(read_betas(made, 1, np.arange(24)), read_betas(expected, 1, np.arange(24)))


def test_images_can_be_named_by_another_column_without_a_suffix(tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_study(study, num_images=12)
    for path in study.glob("*events.tsv"):
        path.write_text(path.read_text().replace("stim_file", "image_id").replace(".png", ""))
    _, record = prepare(study, tmp_path / "made", image_column="image_id")
    assert record["images"] == 12


def test_a_session_of_too_few_training_trials_is_refused(tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_study(study, num_images=12, sessions=1, repetitions=1)
    np.save(study / "sub-01_ses-02_betas.npy", np.random.default_rng(0).normal(size=(2, 336)))
    (study / "sub-01_ses-01_betas.hdf5").unlink()
    np.save(study / "sub-01_ses-01_betas.npy", np.random.default_rng(0).normal(size=(12, 336)))
    chosen = prepare(study_without(study, tmp_path / "one"), tmp_path / "first", split="held_out")[0]
    tested = np.unique(load_test_trials(chosen, 1, "new_test", tmp_path / "cache").stimulus_ids)
    write_events(study / "sub-01_ses-02_task-images_run-01_events.tsv", tested[:2])
    with pytest.raises(UserError, match=r"sub-01 ses-02 has too few training trials.*own\.zscore=none"):
        prepare(study, tmp_path / "made", split="held_out")


def study_without(study: Path, copy: Path) -> Path:
    """A copy without the second session."""
    copy.mkdir()
    for path in study.iterdir():
        if "ses-02" not in path.name:
            (copy / path.name).symlink_to(path)
    return copy
