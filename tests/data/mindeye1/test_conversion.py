"""Conversion of MindEye1 files that were written from a known world."""

import json
import multiprocessing
import os
import shutil
import signal
import tarfile
from hashlib import sha256
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.data.layout.behaviour import Behaviour
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.shards import read_behaviour
from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.data.mindeye1 import conversion as mindeye1_conversion
from mindeye_pl.data.mindeye1.conversion import convert_mindeye1
from mindeye_pl.data.mindeye1.index import ConversionSettings
from mindeye_pl.data.mindeye1.layout import MindEye1Layout
from mindeye_pl.errors import UserError
from tests.data.small_mindeye1 import SHARDS, encoded, read_members, write_avg_split, write_samples
from tests.data.small_nsd import StubTokens

SUBJECTS = (1, 2)


@pytest.fixture(scope="module")
def avg_split(tiny_nsd, tmp_path_factory) -> MindEye1Layout:
    """Subjects 1 and 2 of the tiny world; read-only."""
    return write_avg_split(DataLayout(tiny_nsd), SUBJECTS, tmp_path_factory.mktemp("mindeye1"))


@pytest.fixture
def writable_split(avg_split, tmp_path) -> MindEye1Layout:
    """Copy of `avg_split` that a test may modify."""
    shutil.copytree(avg_split.source_dir, tmp_path / "source")
    return MindEye1Layout(tmp_path / "source", SHARDS)


@pytest.fixture
def conversion_settings(tiny_settings) -> ConversionSettings:
    return ConversionSettings(trials_per_session=tiny_settings.trials_per_session)


@pytest.fixture(scope="module")
def converted(avg_split, tiny_settings, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("converted")
    settings = ConversionSettings(trials_per_session=tiny_settings.trials_per_session)
    facts = convert_mindeye1(avg_split, SUBJECTS, root, settings, progress=False)
    trials = tiny_settings.num_sessions * tiny_settings.trials_per_session
    assert facts["subj01"]["trials"] == trials
    assert facts["subj01"]["slots_filled_again"] == 3 * facts["subj01"]["images"] - trials
    return root


def module(root: Path, cache: Path, test_split: str, per_session: int, **settings) -> TrialDataModule:
    return TrialDataModule(
        root,
        SUBJECTS,
        cache_dir=cache,
        targets={"tokens": StubTokens()},
        test_split=test_split,
        batch_size=8,
        trials_per_session=per_session,
        validation_fraction=0.1,
        **settings,
    )


@pytest.mark.parametrize("settings", [{}, {"num_sessions": 2, "sampling": "by_image", "repetition_slots": 3}])
def test_reader_returns_the_same_world_after_conversion(tiny_nsd, tiny_settings, converted, tmp_path, settings):
    per_session = tiny_settings.trials_per_session
    known = module(tiny_nsd, tmp_path / "known", "new_test", per_session, **settings)
    read = module(converted, tmp_path / "read", "test", per_session, **settings)
    assert read.voxel_counts == known.voxel_counts
    for data in (known, read):
        data.setup()
    for mine, theirs in zip(read.trials, known.trials, strict=True):
        for column in ("stimulus_ids", "beta_rows", "sessions"):
            np.testing.assert_array_equal(getattr(mine, column), getattr(theirs, column))
    for loaders in (
        (data.train_dataloader() for data in (read, known)),
        (data.val_dataloader() for data in (read, known)),
    ):
        for batch, other in zip(*loaders, strict=True):
            assert torch.equal(batch.stimulus_ids, other.stimulus_ids)
            assert all(map(torch.equal, batch.voxels, other.voxels))
            assert all(map(torch.equal, batch.repetitions or [], other.repetitions or []))
    for subject in SUBJECTS:
        tested, expected = read.test_set(subject), known.test_set(subject)
        for field in ("voxels", "stimulus_ids", "weights", "num_repetitions"):
            assert torch.equal(getattr(tested, field), getattr(expected, field))


def test_every_beta_and_every_image_is_in_its_row(tiny_nsd, tiny_settings, converted):
    world, mine = DataLayout(tiny_nsd), DataLayout(converted)
    seen = set()
    for subject in SUBJECTS:
        with h5py.File(mine.betas(subject)) as file, h5py.File(world.betas(subject)) as known:
            np.testing.assert_array_equal(file["betas"][:], known["betas"][:])
            assert file["betas"].dtype == np.float32
        shards = sorted((converted / "wds" / f"subj0{subject}").rglob("*.tar"))
        behaviour = np.concatenate(list(map(read_behaviour, shards)))
        seen |= set(behaviour[:, Behaviour.STIMULUS].astype(int))
        assert (behaviour[:, Behaviour.SUBJECT] == subject).all()
        assert (behaviour[:, [Behaviour.REACTION_TIME, Behaviour.IS_OLD, Behaviour.RUN]] == -1).all(), "unknown columns"
    ids = np.array(sorted(seen))
    images = Stimuli(mine.stimuli).read(ids)
    eight_bits = np.round(255 * Stimuli(world.stimuli).read(ids).astype(np.float32))
    np.testing.assert_array_equal(images, (eight_bits / 255).astype(np.float16))
    absent = np.setdiff1d(np.arange(len(Stimuli(mine.stimuli))), ids)
    assert not Stimuli(mine.stimuli).read(absent).any()


def checksums(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("damaged", [False, True])
def test_killed_conversion_resumes_with_identical_files(
    damaged, avg_split, converted, conversion_settings, tmp_path, monkeypatch
):
    real, root = mindeye1_conversion._write_image, tmp_path / "killed"
    written = []

    def kill_in_the_middle(*args, **kwargs):
        real(*args, **kwargs)
        written.append(args)
        if len(written) == 90:
            os.kill(os.getpid(), signal.SIGKILL)

    def convert():
        monkeypatch.setattr(mindeye1_conversion, "_write_image", kill_in_the_middle)
        convert_mindeye1(avg_split, SUBJECTS, root, conversion_settings, progress=False)

    process = multiprocessing.get_context("fork").Process(target=convert)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    done = json.loads((root / "progress.json").read_text())
    assert 0 < len(done) < 2 * sum(SHARDS.values())
    if damaged:  # all shards are copied again
        (root / "progress.json").write_text(json.dumps(done)[:-2])
        done = []
    copied = []
    real_copy = mindeye1_conversion._copy

    def copy_and_record(layout, source, subject, shard, written):
        copied.append(shard.path.name)
        real_copy(layout, source, subject, shard, written)

    monkeypatch.setattr(mindeye1_conversion, "_copy", copy_and_record)
    convert_mindeye1(avg_split, SUBJECTS, root, conversion_settings, progress=False)
    assert len(copied) == 2 * sum(SHARDS.values()) - len(done)
    assert not set(copied) & set(done)
    assert checksums(root) == checksums(converted)


def convert(source: MindEye1Layout, root: Path, settings: ConversionSettings, subjects=(1,)) -> DataLayout:
    convert_mindeye1(source, subjects, root, settings, progress=False)
    return DataLayout(root)


def train_shard(source: MindEye1Layout, index: int = 0) -> Path:
    return next(path for _, path in list(source.shards_of(1))[index:])


def change_sample(source: MindEye1Layout, index: int = 0, number: int = 1, **changed) -> None:
    """Rewrite a shard with changed members of one sample."""
    samples = read_members(train_shard(source, index))
    for key, change in changed.items():
        name = {"voxels": "nsdgeneral.npy", "trial": "trial.npy", "image": "png", "coco": "coco73k.npy"}.get(
            key, "num_uniques.npy"
        )
        samples[number][name] = change(samples[number][name])
    write_samples(train_shard(source, index), samples)


def test_missing_shard_error_names_the_download_command(writable_split, conversion_settings, tmp_path):
    path = train_shard(writable_split, 2)
    path.unlink()
    message = (
        f"{path} is missing .*got: 5 of 6 shards .*Fix: hf download pscotti/naturalscenesdataset "
        rf"webdataset_avg_split/train/train_subj01_2\.tar --repo-type dataset --local-dir {writable_split.source_dir}"
    )
    with pytest.raises(UserError, match=message):
        convert(writable_split, tmp_path / "root", conversion_settings)
    with pytest.raises(UserError, match=r"MindEye1 has files of four subjects only .got: subject 3;"):
        convert(writable_split, tmp_path / "root", conversion_settings, subjects=(1, 3))


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1])
def test_truncated_shard_is_refused(writable_split, conversion_settings, tmp_path, fraction):
    path = train_shard(writable_split, 1)
    with tarfile.open(path) as tar:
        tar.getmembers()
        end = tar.offset
    path.write_bytes(path.read_bytes()[: int(fraction * end) // 512 * 512])
    with pytest.raises(UserError, match=r"train_subj01_1\.tar is truncated.*Fix: rm .*, then hf download "):
        convert(writable_split, tmp_path / "root", conversion_settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"voxels": lambda v: v[:2]},
            r"nsdgeneral\.npy: unexpected array \(got: \(2, 40\) float32; expected: \(3, 40\)",
        ),
        ({"voxels": lambda v: v[:, :-1]}, r"unexpected number of voxels \(got: \(3, 39\) float32; expected: \(3, 40\)"),
        ({"voxels": lambda v: np.where(np.arange(40) == 7, np.nan, v)}, r"a response is not finite \(got: nan"),
        ({"voxels": lambda v: np.full((3, 40), "a")}, r"unexpected array \(got: <U1"),
        ({"coco": lambda c: np.array(73_000)}, r"image id out of range \(got: 73000; expected: 0 to 72999"),
        ({"coco": lambda c: np.array([1, 2])}, r"coco73k\.npy: unexpected array .*expected: an integer"),
        ({"trial": lambda t: t + 0.5}, r"trial\.npy: invalid trials"),
        ({"trial": lambda t: t + 40_000}, r"invalid trials .*at most 29999"),
        ({"image": lambda p: p[:60]}, r"png is damaged or not an image"),
        ({"image": lambda p: encoded(np.zeros((3, 8, 8)))}, r"the image has another size \(got: \(8, 8\)"),
    ],
)
def test_invalid_samples_are_refused(writable_split, conversion_settings, tmp_path, change, message):
    change_sample(writable_split, **change)
    with pytest.raises(UserError, match=r"train_subj01_0\.tar, member sample000000001.*" + message):
        convert(writable_split, tmp_path / "root", conversion_settings)


def test_missing_member_and_empty_split_are_refused(writable_split, conversion_settings, tmp_path):
    samples = read_members(train_shard(writable_split))
    del samples[2]["trial.npy"]
    write_samples(train_shard(writable_split), samples)
    with pytest.raises(UserError, match=r"member sample000000002\.trial\.npy: missing"):
        convert(writable_split, tmp_path / "root", conversion_settings)
    for index in range(3):
        write_samples(train_shard(writable_split, index), [])
    with pytest.raises(UserError, match=r"no shard of train contains a sample"):
        convert(writable_split, tmp_path / "root", conversion_settings)


def test_totals_of_the_metadata_are_checked(writable_split, conversion_settings, tmp_path):
    write_samples(train_shard(writable_split), read_members(train_shard(writable_split))[1:])
    with pytest.raises(
        UserError, match=r"number of samples in train of subject 1 differs from .*metadata_subj01\.json"
    ):
        convert(writable_split, tmp_path / "root", conversion_settings)
    writable_split.metadata(1).write_text("[]")
    with pytest.raises(UserError, match=r"metadata_subj01\.json has no totals"):
        convert(writable_split, tmp_path / "root", conversion_settings)
    writable_split.metadata(1).unlink()
    convert(writable_split, tmp_path / "root", conversion_settings)


def test_repeated_image_or_trial_is_refused(writable_split, conversion_settings, tmp_path):
    first, second = read_members(train_shard(writable_split))[:2]
    change_sample(writable_split, coco=lambda c: first["coco73k.npy"])
    with pytest.raises(UserError, match=rf"two samples of subject 1 have image {first['coco73k.npy']}"):
        convert(writable_split, tmp_path / "root", conversion_settings)
    change_sample(writable_split, coco=lambda c: second["coco73k.npy"], trial=lambda t: first["trial.npy"])
    settings = ConversionSettings(trials_per_session=conversion_settings.trials_per_session, repeated_slots="trial")
    with pytest.raises(UserError, match=r"trial \d+ of subject 1 already has another image"):
        convert(writable_split, tmp_path / "root", settings)


def test_different_images_with_the_same_id_are_refused(writable_split, conversion_settings, tmp_path):
    (path, *_) = (path for split, path in writable_split.shards_of(2) if split == "test")
    samples = read_members(path)
    true = samples[0]["png"]
    samples[0]["png"] = encoded(np.random.default_rng(0).random((3, 32, 32)))
    write_samples(path, samples)
    message = rf"test_subj02_0\.tar, member sample000000000: image {samples[0]['coco73k.npy']} differs from"
    with pytest.raises(UserError, match=message):
        convert(writable_split, tmp_path / "root", conversion_settings, SUBJECTS)
    samples[0]["png"] = true
    write_samples(path, samples)
    convert(writable_split, tmp_path / "root", conversion_settings, SUBJECTS)  # resumes


def make_sample_with_two_repetitions(source: MindEye1Layout) -> tuple[int, np.ndarray]:
    """Change a sample of the first shard so that slot 3 repeats slot 1; return its index and trials."""
    for number, sample in enumerate(read_members(train_shard(source))):
        if sample["num_uniques.npy"].item() == 3:
            trials = sample["trial.npy"]
            change_sample(
                source,
                number=number,
                trial=lambda t: t[[0, 1, 0]],
                voxels=lambda v: v[[0, 1, 0]],
                num_uniques=lambda n: n - 1,
            )
            return number, trials
    raise AssertionError("no image has three repetitions")


@pytest.mark.parametrize("rule", ["both", "trial", "num_uniques"])
def test_duplicated_slots_are_not_trials(writable_split, conversion_settings, tmp_path, rule):
    _, trials = make_sample_with_two_repetitions(writable_split)
    settings = ConversionSettings(trials_per_session=conversion_settings.trials_per_session, repeated_slots=rule)
    layout = convert(writable_split, tmp_path / "root", settings)
    shards = sorted(layout.shard(1, "train").parent.iterdir())
    rows = np.concatenate(list(map(read_behaviour, shards)))[:, Behaviour.BETA_ROW].tolist()
    assert trials[0] in rows
    assert trials[1] in rows
    assert trials[2] not in rows
    assert len(rows) == len(set(rows))


def test_rules_for_duplicated_slots(writable_split, conversion_settings, tmp_path):
    number, trials = make_sample_with_two_repetitions(writable_split)
    change_sample(
        writable_split, number=number, trial=lambda t: trials
    )  # the duplicated slot gets its own trial number
    with pytest.raises(
        UserError, match=r"its slots do not determine the repetitions .*num_uniques 2.*data\.repeated_slots"
    ):
        convert(writable_split, tmp_path / "both", conversion_settings)
    by_number = ConversionSettings(
        trials_per_session=conversion_settings.trials_per_session, repeated_slots="num_uniques"
    )
    rows = np.concatenate(
        [
            read_behaviour(p)
            for p in convert(writable_split, tmp_path / "number", by_number).shard(1, "train").parent.iterdir()
        ]
    )[:, Behaviour.BETA_ROW]
    assert trials[2] not in rows
    change_sample(
        writable_split, number=number, trial=lambda t: np.where(np.arange(3) == 2, np.nan, t)
    )  # or no trial number
    convert(writable_split, tmp_path / "none", conversion_settings)
    change_sample(
        writable_split, number=number, trial=lambda t: t[[0, 1, 0]], voxels=lambda v: v + np.arange(3)[:, None]
    )
    with pytest.raises(UserError, match=r"slots 0 and 2 have the same trial but different responses"):
        convert(writable_split, tmp_path / "different", conversion_settings)


def test_first_trial_may_be_one(tiny_nsd, writable_split, conversion_settings, tmp_path, capsys):
    for index in range(sum(SHARDS.values())):
        samples = read_members(train_shard(writable_split, index))
        for sample in samples:
            sample["trial.npy"] = sample["trial.npy"] + 1
        write_samples(train_shard(writable_split, index), samples)
    convert(writable_split, tmp_path / "unnoticed", conversion_settings)
    assert "if the files count from 1, set data.first_trial=1" in " ".join(capsys.readouterr().out.split())
    settings = ConversionSettings(trials_per_session=conversion_settings.trials_per_session, first_trial=1)
    layout = convert(writable_split, tmp_path / "root", settings)
    with h5py.File(layout.betas(1)) as file, h5py.File(DataLayout(tiny_nsd).betas(1)) as known:
        np.testing.assert_array_equal(file["betas"][:], known["betas"][:])


def test_known_voxel_counts_are_checked(writable_split, conversion_settings, tmp_path):
    settings = ConversionSettings(trials_per_session=conversion_settings.trials_per_session, voxel_counts={1: 41})
    with pytest.raises(UserError, match=r"unexpected number of voxels \(got: \(3, 40\) float32; expected: \(3, 41\)"):
        convert(writable_split, tmp_path / "root", settings)


def test_too_little_disk_space_is_refused(writable_split, conversion_settings, tmp_path, monkeypatch):
    class Usage:
        free = 1000

    monkeypatch.setattr(mindeye1_conversion.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(UserError, match=r"too little disk space .*paths\.artifacts=FOLDER"):
        convert(writable_split, tmp_path / "root", conversion_settings)


def test_companion_files_are_copied(tiny_nsd, writable_split, conversion_settings, tmp_path):
    (writable_split.source_dir / "masks").mkdir()
    for path in (DataLayout(tiny_nsd).region_masks, DataLayout(tiny_nsd).captions, DataLayout(tiny_nsd).brain_mask(1)):
        (writable_split.source_dir / path.relative_to(tiny_nsd)).write_bytes(path.read_bytes())
    layout = convert(writable_split, tmp_path / "root", conversion_settings)
    assert layout.region_masks.read_bytes() == DataLayout(tiny_nsd).region_masks.read_bytes()
    assert layout.captions.is_file()
    assert layout.brain_mask(1).read_bytes() == DataLayout(tiny_nsd).brain_mask(1).read_bytes()
    assert not layout.ncsnr.exists()
