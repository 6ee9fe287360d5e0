"""The README's commands are commands that work."""

import re
import shlex
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from mindeye_pl.config import compose_config
from tests.conftest import PRINTED, CommandLine

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [README, *(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))]
COMMANDS = sorted(
    {
        match.strip()
        for text in DOCUMENTS
        for match in re.findall(r"python -m mindeye_pl ([^\n`#|]+)", text.replace("\\\n", " "))
        if "..." not in match
        and "=FOLDER" not in match
        and "--" not in match
        and "my_lab" not in match  # tests/test_extending.py runs these in that folder
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes(command: str) -> None:
    GlobalHydra.instance().clear()
    words = shlex.split(command)
    overrides = [word for word in words if word != "-m"]
    if "-m" in words:  # the first job of the sweep
        overrides = [re.sub(r"^([^=]+=[^,\[]+),.*", r"\1", word) for word in overrides]
    try:
        assert compose_config(overrides).pipeline.steps
    except Exception as error:
        if "finetune_subj01_2h" in command:  # the file that docs/extending.md tells to write
            return
        raise error


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {target for text in DOCUMENTS for target in re.findall(r"(?:^ *|`)make ([a-z-]+)", text, re.MULTILINE)}
    assert {"quickstart", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((docs/[^)]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_quickstart_command_runs_and_again_from_artifacts(cli: CommandLine, finished: Path) -> None:
    printed = (finished / PRINTED).read_text()
    for words in (
        "pretraining on",
        "fine-tuning subject 1",
        "Subject 1 (simulated)",
        "chance",
        "ridge, 1 h",
        "report:",
    ):
        assert words in printed
    page = cli.outputs / "reports" / "finetune_subj01_1h" / "index.html"
    html = page.read_text()
    assert "simulated" in html
    sections = re.findall(r'<section id="([\w-]+)"', html)
    assert sections[:3] == ["seen-and-reconstructed", "retrieval", "reconstructions"], "images first, then tables"
    assert sections.index("captions") < sections.index("retrieval-gallery")
    assert "Retrieval is named by its direction, not by the papers&#39; labels" in html
    before, cli.compares = cli.artifacts(), True
    code, again, err = cli("+experiment=finetune_subj01_1h", "scale=tiny", "logger=csv")
    assert code == 0, err
    assert "evaluate: cached" in again
    assert "scratch, 1 h" in again
    assert "pretraining on" not in again
    assert cli.artifacts() == before


@pytest.mark.slow
def test_the_report_fills_a_row_that_was_empty(cli: CommandLine, finished: Path) -> None:
    cli.compares = True
    options = ("scale=tiny", "logger=none")
    _, out, _ = cli("+experiment=finetune_subj01_1h", *options)
    assert re.search(r"scratch, 1 h +not run yet", out)
    (command,) = (
        line
        for line in out.splitlines()
        if line.startswith("python -m") and "+experiment=scratch data.subject=1 data.num_sessions=1 " in line
    )
    words = [word for word in shlex.split(command)[3:] if not word.startswith("paths.outputs=")]
    code, _, err = cli(*words)
    assert code == 0, err
    _, out, _ = cli("+experiment=finetune_subj01_1h", *options)
    assert re.search(r"scratch, 1 h +\d", out)


def test_plan_prints_and_makes_nothing(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINDEYE_ARTIFACTS")
    code, out, _ = cli("+experiment=finetune_subj01_1h", "scale=tiny", "plan=true")
    assert code == 0
    assert out.count("will run") == 13
    assert not (cli.outputs / "artifacts").exists()
    code, out, _ = cli("+experiment=finetune_subj01_1h", "scale=paper", "data=nsd", "plan=true")
    assert code == 0
    assert "alignment 64,409,600" in out
    assert "prior 259,865,216" in out
    assert "lacks" in out
