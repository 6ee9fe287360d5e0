"""Sweeps through the command line: one table, failures that stay alone, a new ablation in one small file."""

import json
import re
from pathlib import Path

import pytest

from mindeye_pl.conf_files import conf_dir
from mindeye_pl.reports.results.summary import summarise
from mindeye_pl.reports.results.tables import fill_tables
from tests import forked
from tests.conftest import CommandLine

QUICK = ("scale=tiny", "logger=none", "unclip=none", "pretrain.epochs=1", "finetune.epochs=1", "report.export=false")
SWEEP = ("-m", "+experiment=sweeps/hours_subj01", "scale.sweep.hours='0.5,1'", "scale.sweep.seeds='1'")


def table_of(out: str) -> str:
    """The output after the last job."""
    return out[out.index("Sweep (simulated)") :].split("report:")[0]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Outputs and words of one sweep over hours, made once; not to be changed."""
    outputs = tmp_path_factory.mktemp("swept")
    return outputs, forked.run(*SWEEP, *QUICK, f"paths.outputs={outputs}", folder=outputs)


def test_pretraining_is_made_once(swept: tuple[Path, str]) -> None:
    outputs, out = swept
    assert len(re.findall("^pretraining on ", out, re.MULTILINE)) == 1
    assert len(list((outputs / "artifacts" / "pretrain").glob("subj*"))) == 1
    assert len(list((outputs / "artifacts" / "finetune").glob("subj*"))) == 4
    assert len(list((outputs / "artifacts" / "simulate").glob("tiny*"))) == 1


def test_the_table_has_a_row_for_each_setting(swept: tuple[Path, str]) -> None:
    _, out = swept
    table = table_of(out)
    for hours in ("0.5 h", "1 h"):
        for start in ("scratch", "pretrained"):
            assert f"{hours}, {start}" in table
    assert re.search(
        r"By image retrieval pretraining is worth .* times the data at 1 h \(1 seed: without an interval", table
    )
    assert "Paired differences (simulated)" in table


def test_the_page(swept: tuple[Path, str]) -> None:
    outputs, _ = swept
    page = (outputs / "reports" / "sweeps" / "hours_subj01" / "index.html").read_text()
    for words in ("Scores against hours", "Paired differences", "0.5 h, pretrained", "shared: pretrain", "simulated"):
        assert words in page


def test_the_summary_of_the_sweep(swept: tuple[Path, str]) -> None:
    outputs, out = swept
    (folder,) = (outputs / "sweeps" / "sweeps" / "hours_subj01").iterdir()
    found = summarise(folder, allow=("changes", "mixed"))
    assert found["command"].startswith("python -m mindeye_pl -m +experiment=sweeps/hours_subj01 'scale.sweep.hours=")
    assert (found["simulated"], found["seeds"], found["experiment"]) == (True, [1], "sweeps/hours_subj01")
    assert list(found["rows"])[:2] == ["0.5 h, scratch", "0.5 h, pretrained"]
    ridge = found["rows"]["1 h, pretrained: ridge"]["image_retrieval"]
    assert 0 <= ridge["value"] <= 1 < ridge["pool_size"]
    assert found["rows"]["1 h, ridge"]["image_retrieval"]["value"] == ridge["value"], "all jobs of 1 h share it"
    assert found["rows"].keys() >= {"1 h, pretrained: ceiling", "1 h, pretrained: shuffled", "0.5 h, ridge"}
    assert "image_retrieval" in found["differences"]["1 h: pretrained − scratch"]
    assert "image_retrieval" in found["differences"]["1 h, pretrained − ridge"]
    assert all(sentence in " ".join(out.split()) for sentence in found["findings"])
    page = "<!-- table: {from: hours, columns: [image_retrieval], allow: [changes, mixed]} -->\n<!-- /table -->\n"
    table = fill_tables(page, {"hours": json.loads(json.dumps(found))})
    value = found["rows"]["1 h, pretrained"]["image_retrieval"]["value"]
    assert f"| 1 h, pretrained | {100 * value:.1f} % (" in table


@pytest.mark.slow
def test_the_same_command_again_makes_nothing(swept: tuple[Path, str], cli: CommandLine) -> None:
    outputs, out = swept
    cli.outputs = outputs
    before = cli.artifacts()
    code, again, err = cli(*SWEEP, *QUICK)
    assert code == 0, err
    assert cli.artifacts() == before
    assert table_of(again) == table_of(out)


def test_a_failed_job_stops_no_other(finished: Path, cli: CommandLine) -> None:
    """The second of three has a batch that is larger than its data."""
    command = ("-m", "+experiment=finetune_subj01_1h", "scale=tiny", "logger=none", "unclip=none")
    code, out, err = cli(*command, "finetune.batch_size=6,500,8")
    assert code == 2
    assert err.splitlines()[-1].startswith("mindeye_pl: 1 of 3 jobs have not finished (got: job 1: ")
    table = table_of(out)
    assert "finetune.batch_size=6 " in table
    assert re.search(r"finetune\.batch_size=500 +failed", table)
    assert "failed: the batch is larger than an epoch" in " ".join(table.split())
    jobs = [json.loads(path.read_text()) for path in sorted(cli.outputs.glob("sweeps/*/*/*/job.json"))]
    assert [job["status"] for job in jobs] == ["finished", "failed", "finished"]
    assert "pretrain" not in jobs[2]["made"], "the finished run's pretraining was found"


def test_a_sweep_can_stop_at_its_first_failure(finished: Path, cli: CommandLine) -> None:
    command = ("-m", "+experiment=finetune_subj01_1h", "scale=tiny", "logger=none", "unclip=none")
    code, out, err = cli(*command, "finetune.batch_size=500,6,8", "sweep.stop_at_first_failure=true")
    assert code == 2
    assert err.splitlines()[-1].startswith("mindeye_pl: 3 of 3 jobs have not finished (got: job 0: the batch is larger")
    assert "job 1 skipped: job 0 failed" in out
    assert "not started: job 0 failed" in " ".join(out.split())
    jobs = [json.loads(path.read_text()) for path in sorted(cli.outputs.glob("sweeps/*/*/*/job.json"))]
    assert [job["status"] for job in jobs] == ["failed", "skipped", "skipped"]


@pytest.mark.slow
def test_a_bug_is_in_the_table_and_its_traceback_in_the_log(
    finished: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mindeye_pl.steps.brain import finetune

    def breaks(*args: object) -> None:
        raise RuntimeError("a tensor of the\nwrong shape")

    monkeypatch.setattr(finetune, "build_model", breaks)
    code, out, err = cli("-m", "+experiment=finetune_subj01_1h", *QUICK, "seed=5,6")
    assert code == 2
    assert "2 of 2 jobs have not finished" in err
    assert "failed: RuntimeError: a tensor of the wrong shape" in " ".join(out.split())
    (log, _) = sorted(cli.outputs.glob("sweeps/*/*/*/*.log"))
    assert "Traceback" in log.read_text()


ABLATION = """\
# @package _global_
# Without weight decay.
ablation: {name: no_decay}
prior: {weight_decay: 0.0}
"""


@pytest.mark.slow
def test_a_new_ablation_is_one_small_file(cli: CommandLine, tmp_path: Path) -> None:
    """It stands in the user's own folder, which the command line adds, and is in the table with the others."""
    folder = tmp_path / "mine" / "ablation"
    folder.mkdir(parents=True)
    (folder / "no_decay.yaml").write_text(ABLATION)
    assert len(ABLATION.splitlines()) <= 10
    asked = ("ablation=no_mixco,no_decay,none", f"hydra.searchpath=[file://{folder.parent}]")
    code, out, err = cli("-m", "+experiment=sweeps/ablate_parts", *QUICK, *asked)
    assert code == 0, err
    table = table_of(out)
    assert re.search(r"^no decay: image retrieval .* against whole model", table, re.MULTILINE)
    places = [table.index(words) for words in ("whole model", "no mixco", "no decay")]
    assert places == sorted(places), "what the others are compared with comes first"
    decays = {
        json.loads(path.read_text())["determined_by"]["model"]["prior"]["weight_decay"]
        for path in (cli.outputs / "artifacts" / "finetune").glob("*/manifest.json")
    }
    assert decays == {0.0, 0.01}


@pytest.mark.slow
def test_the_sweep_takes_up_every_file_of_the_projects_folder(cli: CommandLine) -> None:
    code, out, err = cli("-m", "+experiment=sweeps/ablate_parts", *QUICK, "plan=true")
    assert code == 0, err
    for path in (conf_dir() / "ablation").glob("*.yaml"):
        assert f"ablation={path.stem} " in out


def test_a_typo_in_an_ablation_is_refused(cli: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "ablation"
    folder.mkdir(parents=True)
    (folder / "typo.yaml").write_text(ABLATION.replace("weight_decay", "weigth_decay"))
    command = ("+experiment=finetune_subj01_1h", *QUICK, "ablation=typo", f"hydra.searchpath=[file://{folder.parent}]")
    cli.refuses(*command, says=("unknown key", "prior.weigth_decay", "prior.weight_decay"))


@pytest.mark.slow
def test_a_sweep_that_only_plans_makes_nothing(cli: CommandLine) -> None:
    code, out, err = cli(*SWEEP, *QUICK, "plan=true")
    assert code == 0, err
    assert "will run" in out
    assert "Sweep" not in out
    assert not cli.artifacts()
