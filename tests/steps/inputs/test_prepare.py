"""Public datasets through the command line: from files in their released format to a report, at a tiny scale."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.data.bold5000 import small_bold5000
from tests.data.laion_fmri import small_laion
from tests.data.mosaic import small_mosaic
from tests.data.things import small_things

SMALL = ("scale=tiny", "logger=none", "data.num_workers=0", "data.validation_fraction=0.2", "data.image_size=32")


@dataclass(frozen=True)
class Case:
    data: str
    write: Callable[[Path], None]
    subjects: tuple[int, ...]
    trials_per_session: int
    test_images: int
    overrides: tuple[str, ...] = ()

    def arguments(self, folder: Path) -> tuple[str, ...]:
        where = (f"data={self.data}", f"paths.data={folder}", f"data.subjects={list(self.subjects)}".replace(" ", ""))
        subject = (f"data.subject={self.subjects[0]}", f"data.trials_per_session={self.trials_per_session}")
        return ("+experiment=finetune", *where, *subject, *SMALL, *self.overrides)


CASES = (
    Case("bold5000", partial(small_bold5000.write_bold5000, as_arrays=True), (3, 4), 20, small_bold5000.NUM_REPEATED),
    Case("things", small_things.write_things, small_things.SUBJECTS, 13, small_things.NUM_TESTED),
    Case(
        "laion_fmri",
        small_laion.write_laion,
        (1, 3),
        21,
        4,
        ("data.split=tau_sub-01", "data.num_sessions=all", "fidelity.sampling=corrected"),
    ),
    Case("mosaic", small_mosaic.write_mosaic, small_mosaic.SUBJECTS, 42, small_mosaic.NUM_TESTED),
)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.data)
def test_from_released_files_to_a_report(case: Case, tmp_path: Path, cli: CommandLine) -> None:
    pytest.importorskip("nibabel")
    case.write(tmp_path / "files")
    code, out, err = cli(*case.arguments(tmp_path / "files"))
    assert code == 0, err
    assert "simulated" not in out
    scores = json.loads((cli.made("evaluate_reconstructions") / "scores.json").read_text())
    assert len(scores["stimulus_ids"]) == case.test_images
    assert {"model", "grey", "other_image"} <= set(scores["rows"])
    assert list((cli.outputs / "reports").rglob("index.html"))
    assert len(list((cli.outputs / "artifacts" / f"prepare_{case.data}").glob("[!.]*"))) == 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.data)
def test_a_folder_is_asked_for(case: Case, tmp_path: Path, cli: CommandLine) -> None:
    run = [one for one in case.arguments(tmp_path) if not one.startswith("paths.data")]
    cli.refuses(*run, says=(f"data={case.data} needs its files", "paths.data=FOLDER"))
