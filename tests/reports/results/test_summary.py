"""The summary of a run, and what made it."""

import json
from pathlib import Path

import pytest

from mindeye_pl.errors import UserError
from mindeye_pl.reports.results.summary import provenance, summarise

CLEAN = {"commit": "aaaaaaaaaaaa", "mindeye_pl": "0.1.0"}


def test_results_of_one_commit() -> None:
    assert provenance([CLEAN, CLEAN], Path("x"), ()) == {
        "revisions": ["aaaaaaaaaaaa"],
        "changes": False,
        "version": "0.1.0",
    }


def test_changed_code_and_several_commits_are_refused_unless_allowed() -> None:
    dirty, later = CLEAN | {"commit": "aaaaaaaaaaaa + changes"}, CLEAN | {"commit": "bbbbbbbbbbbb"}
    with pytest.raises(UserError, match="code that differs from its commit"):
        provenance([CLEAN, dirty], Path("x"), ["mixed"])
    assert provenance([CLEAN, dirty], Path("x"), ["changes"])["changes"]
    with pytest.raises(UserError, match=r"several commits \(got: aaaaaaaaaaaa, bbbbbbbbbbbb"):
        provenance([CLEAN, later], Path("x"), ["changes"])
    assert provenance([CLEAN, later], Path("x"), ["mixed"])["revisions"] == ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]


def test_the_summary_of_a_run(finished: Path) -> None:
    (folder,) = (finished / "runs" / "finetune_subj01_1h").iterdir()
    found = summarise(folder, allow=("changes", "mixed"))
    assert found["command"].startswith("python -m mindeye_pl +experiment=finetune_subj01_1h scale=tiny")
    assert "paths." not in found["command"]
    assert (found["simulated"], found["seeds"], found["findings"]) == (True, [42], [])
    assert {"model", "ridge", "ridge, blurry", "shuffled", "mean_image", "true_tokens", "vae"} <= found["rows"].keys()
    assert {"image_retrieval", "pixcorr"} <= found["rows"]["ridge"].keys(), "its tokens are retrieved and drawn"
    model = found["rows"]["model"]
    assert model["image_retrieval"].keys() >= {"value", "interval", "chance", "pool_size", "num_images"}
    assert found["columns"]["pixcorr"] == {"title": "PixCorr", "form": "number", "higher_is_better": True}
    assert "pixcorr" in model
    assert json.loads(json.dumps(found)) == found
