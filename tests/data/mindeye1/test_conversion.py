"""MindEye1's files, made from a world that is known, come back as that world."""

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

from mindeye_pl.data.datamodule import NSDDataModule
from mindeye_pl.data.mindeye1 import conversion as mindeye1_conversion
from mindeye_pl.data.mindeye1.conversion import convert_mindeye1
from mindeye_pl.data.mindeye1.index import ConversionSettings
from mindeye_pl.data.mindeye1.layout import MindEye1Layout
from mindeye_pl.data.nsd.constants import Behaviour
from mindeye_pl.data.nsd.layout import NSDLayout
from mindeye_pl.data.nsd.shards import read_behaviour
from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.errors import UserError
from tests.data.small_mindeye1 import SHARDS, encoded, read_members, write_avg_split, write_samples
from tests.data.small_nsd import StubTokens

SUBJECTS = (1, 2)


@pytest.fixture(scope="module")
def avg_split(tiny_nsd, tmp_path_factory) -> MindEye1Layout:
    """Subjects 1 and 2 of the tiny world; not to be changed."""
    return write_avg_split(NSDLayout(tiny_nsd), SUBJECTS, tmp_path_factory.mktemp("mindeye1"))


@pytest.fixture
def copy(avg_split, tmp_path) -> MindEye1Layout:
    """The same, to be spoilt."""
    shutil.copytree(avg_split.source_dir, tmp_path / "source")
    return MindEye1Layout(tmp_path / "source", SHARDS)


@pytest.fixture
def sure(tiny_settings) -> ConversionSettings:
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


def module(root: Path, cache: Path, test_split: str, per_session: int, **settings) -> NSDDataModule:
    return NSDDataModule(
        root,
        SUBJECTS,
        cache_dir=cache,
        tokens=StubTokens(),
        test_split=test_split,
        batch_size=8,
        trials_per_session=per_session,
        validation_fraction=0.1,
        **settings,
    )


@pytest.mark.parametrize("settings", [{}, {"num_sessions": 2, "sampling": "by_image", "repetition_slots": 3}])
def test_the_real_reader_sees_the_same_world(tiny_nsd, tiny_settings, converted, tmp_path, settings):
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
        tested, wanted = read.test_set(subject), known.test_set(subject)
        for field in ("voxels", "stimulus_ids", "weights", "num_repetitions"):
            assert torch.equal(getattr(tested, field), getattr(wanted, field))


def test_every_beta_and_every_image_is_in_its_row(tiny_nsd, tiny_settings, converted):
    world, mine = NSDLayout(tiny_nsd), NSDLayout(converted)
    seen = set()
    for subject in SUBJECTS:
        with h5py.File(mine.betas(subject)) as file, h5py.File(world.betas(subject)) as known:
            np.testing.assert_array_equal(file["betas"][:], known["betas"][:])
            assert file["betas"].dtype == np.float32
        shards = sorted((converted / "wds" / f"subj0{subject}").rglob("*.tar"))
        behaviour = np.concatenate(list(map(read_behaviour, shards)))
        seen |= set(behaviour[:, Behaviour.STIMULUS].astype(int))
        assert (behaviour[:, Behaviour.SUBJECT] == subject).all()
        assert (behaviour[:, [Behaviour.REACTION_TIME, Behaviour.IS_OLD, Behaviour.RUN]] == -1).all(), "not known"
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


def test_a_killed_conversion_goes_on_and_ends_in_the_same_files(avg_split, converted, sure, tmp_path, monkeypatch):
    real, root = mindeye1_conversion._put_image, tmp_path / "killed"
    put = []

    def kill_in_the_middle(*args, **kwargs):
        real(*args, **kwargs)
        put.append(args)
        if len(put) == 90:
            os.kill(os.getpid(), signal.SIGKILL)

    def convert():
        monkeypatch.setattr(mindeye1_conversion, "_put_image", kill_in_the_middle)
        convert_mindeye1(avg_split, SUBJECTS, root, sure, progress=False)

    process = multiprocessing.get_context("fork").Process(target=convert)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    done = json.loads((root / "progress.json").read_text())
    assert 0 < len(done) < 2 * sum(SHARDS.values())
    copied = []
    real_copy = mindeye1_conversion._copy

    def copy_and_note(layout, source, one, part, written):
        copied.append(part.path.name)
        real_copy(layout, source, one, part, written)

    monkeypatch.setattr(mindeye1_conversion, "_copy", copy_and_note)
    convert_mindeye1(avg_split, SUBJECTS, root, sure, progress=False)
    assert len(copied) == 2 * sum(SHARDS.values()) - len(done)
    assert not set(copied) & set(done)
    assert checksums(root) == checksums(converted)


def convert(source: MindEye1Layout, root: Path, settings: ConversionSettings, subjects=(1,)) -> NSDLayout:
    convert_mindeye1(source, subjects, root, settings, progress=False)
    return NSDLayout(root)


def train_shard(source: MindEye1Layout, index: int = 0) -> Path:
    return next(path for _, path in list(source.shards_of(1))[index:])


def spoil(source: MindEye1Layout, index: int = 0, number: int = 1, **changed) -> None:
    """Writes a shard again with other members of one sample."""
    samples = read_members(train_shard(source, index))
    for ending, change in changed.items():
        name = {"voxels": "nsdgeneral.npy", "trial": "trial.npy", "image": "png", "coco": "coco73k.npy"}.get(
            ending, "num_uniques.npy"
        )
        samples[number][name] = change(samples[number][name])
    write_samples(train_shard(source, index), samples)


def test_a_missing_shard_is_named_with_the_command_that_brings_it(copy, sure, tmp_path):
    path = train_shard(copy, 2)
    path.unlink()
    says = (
        f"{path} is missing .*seen: 5 of 6 shards .*Fix: hf download pscotti/naturalscenesdataset "
        rf"webdataset_avg_split/train/train_subj01_2\.tar --repo-type dataset --local-dir {copy.source_dir}"
    )
    with pytest.raises(UserError, match=says):
        convert(copy, tmp_path / "root", sure)
    with pytest.raises(UserError, match=r"MindEye1 prepared NSD for four subjects .got: subject 3;"):
        convert(copy, tmp_path / "root", sure, subjects=(1, 3))


@pytest.mark.parametrize("share", [0.1, 0.5, 1])
def test_a_shard_that_is_cut_off(copy, sure, tmp_path, share):
    path = train_shard(copy, 1)
    with tarfile.open(path) as tar:
        tar.getmembers()
        end = tar.offset
    path.write_bytes(path.read_bytes()[: int(share * end) // 512 * 512])
    with pytest.raises(UserError, match=r"train_subj01_1\.tar is truncated.*Fix: rm .*, then hf download "):
        convert(copy, tmp_path / "root", sure)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"voxels": lambda v: v[:2]}, r"nsdgeneral\.npy: another array \(got: \(2, 40\) float32; expected: \(3, 40\)"),
        ({"voxels": lambda v: v[:, :-1]}, r"another number of voxels \(got: \(3, 39\) float32; expected: \(3, 40\)"),
        ({"voxels": lambda v: np.where(np.arange(40) == 7, np.nan, v)}, r"a beta that is not finite \(got: nan"),
        ({"voxels": lambda v: np.full((3, 40), "a")}, r"another array \(got: <U1"),
        ({"coco": lambda c: np.array(73_000)}, r"no such image \(got: 73000; expected: 0 to 72999"),
        ({"coco": lambda c: np.array([1, 2])}, r"coco73k\.npy: another array .*expected: a whole number"),
        ({"trial": lambda t: t + 0.5}, r"trial\.npy: no trials"),
        ({"trial": lambda t: t + 40_000}, r"no trials .*at most 29999"),
        ({"image": lambda p: p[:60]}, r"png is no whole image"),
        ({"image": lambda p: encoded(np.zeros((3, 8, 8)))}, r"its image has another size \(got: \(8, 8\)"),
    ],
)
def test_samples_that_are_refused(copy, sure, tmp_path, change, says):
    spoil(copy, **change)
    with pytest.raises(UserError, match=r"train_subj01_0\.tar, member sample000000001.*" + says):
        convert(copy, tmp_path / "root", sure)


def test_a_missing_member_and_an_empty_split(copy, sure, tmp_path):
    samples = read_members(train_shard(copy))
    del samples[2]["trial.npy"]
    write_samples(train_shard(copy), samples)
    with pytest.raises(UserError, match=r"member sample000000002\.trial\.npy: it is missing"):
        convert(copy, tmp_path / "root", sure)
    for index in range(3):
        write_samples(train_shard(copy, index), [])
    with pytest.raises(UserError, match=r"other shards of train hold no sample"):
        convert(copy, tmp_path / "root", sure)


def test_the_totals_of_the_metadata_count(copy, sure, tmp_path):
    write_samples(train_shard(copy), read_members(train_shard(copy))[1:])
    with pytest.raises(UserError, match=r"shards of train of subject 1 are not those of .*metadata_subj01\.json"):
        convert(copy, tmp_path / "root", sure)
    copy.metadata(1).write_text("[]")
    with pytest.raises(UserError, match=r"metadata_subj01\.json does not tell the totals"):
        convert(copy, tmp_path / "root", sure)
    copy.metadata(1).unlink()
    convert(copy, tmp_path / "root", sure)


def test_an_image_or_a_trial_that_is_named_twice(copy, sure, tmp_path):
    first, second = read_members(train_shard(copy))[:2]
    spoil(copy, coco=lambda c: first["coco73k.npy"])
    with pytest.raises(UserError, match=rf"two samples of subject 1 have image {first['coco73k.npy']}"):
        convert(copy, tmp_path / "root", sure)
    spoil(copy, coco=lambda c: second["coco73k.npy"], trial=lambda t: first["trial.npy"])
    settings = ConversionSettings(trials_per_session=sure.trials_per_session, repeated_slots="trial")
    with pytest.raises(UserError, match=r"trial \d+ of subject 1 showed another image"):
        convert(copy, tmp_path / "root", settings)


def test_two_subjects_with_different_images_of_one_name(copy, sure, tmp_path):
    (path, *_) = (path for split, path in copy.shards_of(2) if split == "test")
    samples = read_members(path)
    true = samples[0]["png"]
    samples[0]["png"] = encoded(np.random.default_rng(0).random((3, 32, 32)))
    write_samples(path, samples)
    says = rf"test_subj02_0\.tar, member sample000000000: image {samples[0]['coco73k.npy']} is another one here"
    with pytest.raises(UserError, match=says):
        convert(copy, tmp_path / "root", sure, SUBJECTS)
    samples[0]["png"] = true
    write_samples(path, samples)
    convert(copy, tmp_path / "root", sure, SUBJECTS)  # goes on


def with_two_repetitions(source: MindEye1Layout) -> tuple[int, np.ndarray]:
    """Place and trials of a sample of the first shard whose third slot repeats the first."""
    for number, sample in enumerate(read_members(train_shard(source))):
        if sample["num_uniques.npy"].item() == 3:
            trials = sample["trial.npy"]
            spoil(
                source,
                number=number,
                trial=lambda t: t[[0, 1, 0]],
                voxels=lambda v: v[[0, 1, 0]],
                num_uniques=lambda n: n - 1,
            )
            return number, trials
    raise AssertionError("no image has three repetitions")


@pytest.mark.parametrize("rule", ["both", "trial", "num_uniques"])
def test_slots_that_are_filled_again_are_no_trials(copy, sure, tmp_path, rule):
    _, trials = with_two_repetitions(copy)
    settings = ConversionSettings(trials_per_session=sure.trials_per_session, repeated_slots=rule)
    layout = convert(copy, tmp_path / "root", settings)
    shards = sorted(layout.shard(1, "train").parent.iterdir())
    rows = np.concatenate(list(map(read_behaviour, shards)))[:, Behaviour.BETA_ROW].tolist()
    assert trials[0] in rows
    assert trials[1] in rows
    assert trials[2] not in rows
    assert len(rows) == len(set(rows))


def test_what_fills_a_slot_may_be_told_otherwise(copy, sure, tmp_path):
    number, trials = with_two_repetitions(copy)
    spoil(copy, number=number, trial=lambda t: trials)  # a number of its own for the filled slot
    with pytest.raises(UserError, match=r"its slots do not tell the repetitions .*num_uniques 2.*data\.repeated_slots"):
        convert(copy, tmp_path / "both", sure)
    by_number = ConversionSettings(trials_per_session=sure.trials_per_session, repeated_slots="num_uniques")
    rows = np.concatenate(
        [read_behaviour(p) for p in convert(copy, tmp_path / "number", by_number).shard(1, "train").parent.iterdir()]
    )[:, Behaviour.BETA_ROW]
    assert trials[2] not in rows
    spoil(copy, number=number, trial=lambda t: np.where(np.arange(3) == 2, np.nan, t))  # or none
    convert(copy, tmp_path / "none", sure)
    spoil(copy, number=number, trial=lambda t: t[[0, 1, 0]], voxels=lambda v: v + np.arange(3)[:, None])
    with pytest.raises(UserError, match=r"slots 0 and 2 have one trial's number and different responses"):
        convert(copy, tmp_path / "different", sure)


def test_trials_counted_from_one(tiny_nsd, copy, sure, tmp_path, capsys):
    for index in range(sum(SHARDS.values())):
        samples = read_members(train_shard(copy, index))
        for sample in samples:
            sample["trial.npy"] = sample["trial.npy"] + 1
        write_samples(train_shard(copy, index), samples)
    convert(copy, tmp_path / "unnoticed", sure)
    assert "if the files count from 1, use data.first_trial=1" in " ".join(capsys.readouterr().out.split())
    settings = ConversionSettings(trials_per_session=sure.trials_per_session, first_trial=1)
    layout = convert(copy, tmp_path / "root", settings)
    with h5py.File(layout.betas(1)) as file, h5py.File(NSDLayout(tiny_nsd).betas(1)) as known:
        np.testing.assert_array_equal(file["betas"][:], known["betas"][:])


def test_voxel_counts_that_are_known_are_held_to(copy, sure, tmp_path):
    settings = ConversionSettings(trials_per_session=sure.trials_per_session, voxel_counts={1: 41})
    with pytest.raises(UserError, match=r"another number of voxels \(got: \(3, 40\) float32; expected: \(3, 41\)"):
        convert(copy, tmp_path / "root", settings)


def test_too_little_room(copy, sure, tmp_path, monkeypatch):
    class Usage:
        free = 1000

    monkeypatch.setattr(mindeye1_conversion.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(UserError, match=r"too little room for the converted files .*paths\.artifacts=FOLDER"):
        convert(copy, tmp_path / "root", sure)


def test_files_beside_the_folder_come_along(tiny_nsd, copy, sure, tmp_path):
    for path in (NSDLayout(tiny_nsd).region_masks, NSDLayout(tiny_nsd).captions):
        (copy.source_dir / path.name).write_bytes(path.read_bytes())
    layout = convert(copy, tmp_path / "root", sure)
    assert layout.region_masks.read_bytes() == NSDLayout(tiny_nsd).region_masks.read_bytes()
    assert layout.captions.is_file()
    assert not layout.ncsnr.exists()
