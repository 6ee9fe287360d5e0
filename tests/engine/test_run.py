"""Steps of a run, on toy steps with real files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from mindeye_pl.engine.run import Run, order
from mindeye_pl.engine.settings import Settings, UndeclaredKeyError
from mindeye_pl.engine.step import MISSING, FingerprintOf, Input, Inputs, Made, Step, Work
from mindeye_pl.store.fingerprint import fingerprint_file


@dataclass(frozen=True)
class Notes(Input):
    """An optional file."""

    def fingerprint(self, config: DictConfig) -> str:
        path = Path(config.notes)
        return fingerprint_file(path) if path.is_file() else MISSING

    def open(self, config: DictConfig, parts: Inputs) -> Path | None:
        path = Path(config.notes)
        return path if path.is_file() else None


class Write(Step):
    name = "write"
    title = "Writing"
    keys = ("text", "style")
    runtime_keys = ("style.colour", "speed")

    def label(self, config: DictConfig) -> str:
        return "text"

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        return {"notes": Notes()}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        notes = inputs["notes"]
        (work.folder / "text").write_text(settings.text + (notes.read_text() if notes else ""))


class Shout(Step):
    name = "shout"
    title = "Shouting"
    keys = ("volume",)
    reads = "volume"

    def label(self, config: DictConfig) -> str:
        return "loud"

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        return {"written": Both()}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        getattr(settings, self.reads)
        (work.folder / "loud").write_text((inputs["written"] / "text").read_text().upper())


WRITE = Write()


@dataclass(frozen=True)
class Both(Input):
    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        return {"text": Made(WRITE), "notes": Notes()}

    def open(self, config: DictConfig, parts: Inputs) -> Path:
        return parts["text"]


SHOUT = Shout()


@dataclass(frozen=True)
class Expected(Input):
    """The fingerprint of the text, as a part."""

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        return {"text": FingerprintOf(WRITE)}

    def open(self, config: DictConfig, parts: Inputs) -> str:
        return parts["text"]


@pytest.fixture
def config(tmp_path: Path) -> DictConfig:
    paths = {"artifacts": str(tmp_path / "artifacts"), "shared_artifacts": None}
    values = {"text": "a", "style": {"font": 1, "colour": 2}, "speed": 3, "volume": 4, "other": 5}
    plain = {"paths": paths, "artifacts": {"locks": "required"}, "notes": str(tmp_path / "notes"), **values}
    return OmegaConf.create(plain)


def changed(config: DictConfig, key: str, value: object) -> list[str]:
    """Names of the steps whose fingerprint a value changes."""
    other = OmegaConf.create(OmegaConf.to_container(config))
    OmegaConf.update(other, key, value)
    before, after = Run(config), Run(other)
    return [step.name for step in (WRITE, SHOUT) if before.spec(step).fingerprint != after.spec(step).fingerprint]


def test_a_step_and_its_inputs_are_built_once(config: DictConfig) -> None:
    run = Run(config)
    assert order(config, [SHOUT]) == [WRITE, SHOUT]
    assert (run.make(SHOUT).folder / "loud").read_text() == "A"
    assert run.made == ["write", "shout"]
    again = Run(config)
    again.make(SHOUT)
    assert again.made == []


@pytest.mark.parametrize(
    ("key", "steps"),
    [
        ("text", ["write", "shout"]),
        ("style.font", ["write", "shout"]),
        ("style.colour", []),
        ("speed", []),
        ("volume", ["shout"]),
        ("other", []),
    ],
)
def test_only_declared_keys_change_fingerprints(config: DictConfig, key: str, steps: list[str]) -> None:
    assert changed(config, key, "changed") == steps


def test_an_optional_file_that_is_added_later_is_noticed(config: DictConfig) -> None:
    before = Run(config).make(SHOUT)
    Path(config.notes).write_text("b")
    after = Run(config).make(SHOUT)
    assert before.fingerprint != after.fingerprint
    assert (after.folder / "loud").read_text() == "AB"


def test_every_input_is_named_in_the_manifest(config: DictConfig) -> None:
    run = Run(config)
    inputs = run.make(SHOUT).manifest["inputs"]
    assert inputs == {"written.text": run.spec(WRITE).fingerprint, "written.notes": MISSING}


def test_reading_an_undeclared_key_raises(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shout, "reads", "other")
    with pytest.raises(UndeclaredKeyError, match="other"):
        Run(config).make(SHOUT)


def test_an_undeclared_input_cannot_be_opened(config: DictConfig) -> None:
    with pytest.raises(AssertionError, match="captions is read but not declared"):
        Run(config).inputs(SHOUT)["captions"]


def test_a_fingerprint_is_read_without_making_the_step(config: DictConfig) -> None:
    run = Run(config)
    assert run.open(Expected()) == run.spec(WRITE).fingerprint
    assert run.made == []
    assert Expected().steps(config) == []


def test_a_step_is_simulated_if_an_input_is(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not SHOUT.is_simulated(config)
    monkeypatch.setattr(Write, "is_simulated", lambda self, config: True)
    assert SHOUT.is_simulated(config)


def test_a_steps_version_is_part_of_its_fingerprint(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = set()
    for version in (1, 2, 2, 1):
        monkeypatch.setattr(Write, "version", version)
        artifact = Run(config).make(WRITE)
        assert artifact.manifest["version"] == version
        folders.add(artifact.folder)
    assert len(folders) == 2
