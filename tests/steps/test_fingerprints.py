"""The guard of the cache: every key and every optional file changes the fingerprints of the steps that use it."""

import shutil
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from mindeye_pl.config import compose_config
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.engine.run import Run
from mindeye_pl.engine.settings import UndeclaredKeyError
from mindeye_pl.steps.brain.finetune import FINETUNE, Finetune
from mindeye_pl.steps.brain.pretrain import PRETRAIN
from mindeye_pl.steps.evaluation import optional
from mindeye_pl.steps.evaluation.encoder import FIT_ENCODER
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS
from mindeye_pl.steps.registry import STEPS
from tests.steps.fingerprints import SYSTEMS, composed, fingerprints, leaves, read, row_of, steps_by_key, table


@pytest.fixture(autouse=True)
def _fresh_hydra() -> None:
    GlobalHydra.instance().clear()


def assert_table(system: str, found: dict[str, list[str]]) -> None:
    expected = read(system)
    different = {
        key: (expected.get(key), found.get(key)) for key in {*found, *expected} if found.get(key) != expected.get(key)
    }
    assert not different, "read the difference, then `python -m tests.steps.fingerprints`"


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_key_changes_the_steps_that_use_it(system: str) -> None:
    assert_table(system, table(steps_by_key(composed(system))))


def test_every_key_changes_the_steps_that_use_it_and_the_others_none_at_once() -> None:
    config, rows = composed(SYSTEMS[0]), read(SYSTEMS[0])
    unused = {key for key, *_ in leaves(config) if row_of(key, rows) == []}
    assert len(unused) > 300
    assert_table(SYSTEMS[0], table(steps_by_key(config, together=unused)))


def test_a_declared_key_that_is_removed_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the table, and by the step itself as soon as it reads the key."""
    monkeypatch.chdir(tmp_path)  # where the inputs of the step are made
    config = composed(SYSTEMS[0])
    config.finetune.start = "scratch"
    monkeypatch.setattr(Finetune, "keys", tuple(key for key in Finetune.keys if key != "data.sampling"))
    before = fingerprints(config)["finetune"]
    config.fidelity.sampling = "corrected"
    assert fingerprints(config)["finetune"] == before
    assert "finetune" in read(SYSTEMS[0])["fidelity.sampling"], "with which the table no longer agrees"
    with pytest.raises(UndeclaredKeyError, match=r"data\.sampling is read but not declared"):
        Run(config).make(FINETUNE)


@pytest.fixture
def own_data(tiny_nsd: Path, tmp_path: Path) -> Path:
    """The tiny world as a folder of the user's, without its optional files."""
    root = tmp_path / "nsd"
    shutil.copytree(tiny_nsd, root, copy_function=lambda source, target: Path(target).symlink_to(source))
    for path in (DataLayout(root).captions, DataLayout(root).region_masks, DataLayout(root).ncsnr):
        path.unlink()
    return root


def run_on(root: Path, *more: str) -> Run:
    return Run(compose_config(["+experiment=finetune_subj01_1h", "scale=tiny", f"paths.nsd={root}", *more]))


@pytest.mark.parametrize("name", ["captions", "region_masks", "ncsnr"])
def test_an_optional_file_of_the_data_that_is_added_later_is_scored(own_data: Path, tiny_nsd: Path, name: str) -> None:
    before = run_on(own_data)
    fixed = {step.name: before.spec(step).fingerprint for step in (PRETRAIN, FINETUNE, FIT_ENCODER)}
    scored = before.spec(EVALUATE_RECONSTRUCTIONS)
    assert scored.inputs[name] == "missing"
    getattr(DataLayout(own_data), name).symlink_to(getattr(DataLayout(tiny_nsd), name))
    GlobalHydra.instance().clear()
    after = run_on(own_data)
    assert after.spec(EVALUATE_RECONSTRUCTIONS).fingerprint != scored.fingerprint
    assert {name: after.spec(STEPS[name]).fingerprint for name in fixed} == fixed


def test_wordnet_that_is_installed_later_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    prints = set()
    for lacking in ("needs WordNet", None):
        GlobalHydra.instance().clear()
        monkeypatch.setattr(optional, "missing_wordnet_message", lambda lacking=lacking: lacking)
        run = Run(compose_config(["+experiment=finetune_subj01_1h", "scale=tiny", "protocol.meteor=true"]))
        prints.add(run.spec(EVALUATE_RECONSTRUCTIONS).fingerprint)
    assert len(prints) == 2
