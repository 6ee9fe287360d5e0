"""The evaluation of reconstructions: every line beside null rows, images of anybody, and nothing lost when killed."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mindeye_pl.data.nsd import constants as nsd
from tests.conftest import CommandLine

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none")
EVALUATE = (*COMMAND, "pipeline=evaluate")


def scores(outputs: Path, name: str = "*") -> dict:
    (path,) = (outputs / "artifacts" / "evaluate_reconstructions").glob(f"{name}/scores.json")
    return json.loads(path.read_text())


def value(content: dict, line: str, metric: str) -> float:
    return next(score["value"] for score in content["rows"][line] if score["name"] == metric)


def reconstructions(outputs: Path) -> dict[str, torch.Tensor]:
    (path,) = (outputs / "artifacts" / "reconstruct").glob("subj*/reconstructions.safetensors")
    return load_file(path)


def test_every_line_has_every_score(finished: Path) -> None:
    content = scores(finished)
    lines = {"model", "grey", "mean_image", "other_image", "shuffled", "nearest", "true_tokens", "vae"}
    lines |= {"ridge_latents", "ridge_unclip", "ridge_blur_unclip"}
    assert set(content["rows"]) == lines | {"true_image", "other_images"}
    metrics = {metric["name"]: metric for metric in content["metrics"]}
    assert {"pixcorr", "ssim", "clip_two_way", "clip_two_way_paper", "clip_10_way", "fid", "kid"} <= set(metrics)
    for line in lines:
        found = {score["name"] for score in content["rows"][line]}
        permuted = line in ("other_image", "shuffled")
        assert found == set(metrics) - ({"fid", "kid"} if permuted else set()), line
    for score in content["rows"]["model"]:
        metric = metrics[score["name"]]
        assert (score["chance"], score["pool_size"]) == (metric["chance"], metric["pool_size"])
        assert score["higher_is_better"] == metric["higher_is_better"]
        assert score["name"] in ("fid", "kid") or score["interval"][0] <= score["value"] <= score["interval"][1]
    assert content["needs"] == {}


def test_null_lines_score_what_nothing_scores(finished: Path) -> None:
    content = scores(finished)
    for line in ("grey", "mean_image"):
        assert value(content, line, "clip_two_way") == pytest.approx(0.5)
        assert value(content, line, "clip_10_way") == pytest.approx(0.1)
    assert value(content, "grey", "pixcorr") == 0


def test_the_floor_of_fid_is_of_other_images(finished: Path) -> None:
    content = scores(finished)
    floor = {score["name"]: score for score in content["rows"]["other_images"]}
    assert set(floor) == {"fid", "kid"}
    assert floor["fid"]["num_images"] == len(content["stimulus_ids"])
    for line in ("model", "grey", "mean_image"):
        assert floor["fid"]["value"] < value(content, line, "fid")


def test_brain_correlations_and_their_ceilings(finished: Path) -> None:
    content = scores(finished)
    ceilings = content["brain_ceilings"]["across_voxels"]
    assert set(ceilings) <= set(nsd.ROIS)
    for region, ceiling in ceilings.items():
        assert value(content, "true_image", f"brain_ridge_{region}") < ceiling <= 1
    normalised = content["brain_ceilings"]["normalised"]["ridge"]
    assert normalised["true_image"]["nsd_general"] > normalised["shuffled"]["nsd_general"]
    assert normalised["grey"]["nsd_general"] == 0, "the same image for all tells no voxel anything"


def test_captions_in_the_published_comparisons(finished: Path) -> None:
    content = scores(finished)
    assert set(content["captions"]) == {
        "predicted_reference",
        "predicted_true_image",
        "ceiling",
        "relative",
        "shuffled",
    }
    names = [score["name"] for score in content["captions"]["ceiling"]]
    bleus = [f"brainhub_bleu{n}" for n in range(1, 5)]
    own = ["rougeL", "rouge1", "laptop_text", "word_overlap", "distinct"]
    assert names == [*own, *bleus, "brainhub_rouge", "brainhub_cider", "clip_s", "refclip_s"]


@pytest.mark.slow
def test_the_manifest_counts_evaluations_of_the_test_set(cli: CommandLine, finished: Path) -> None:
    def count() -> list[int]:
        manifests = (cli.outputs / "artifacts" / "evaluate_reconstructions").glob("subj*/manifest.json")
        return sorted(json.loads(path.read_text())["facts"]["test_evaluations"] for path in manifests)

    assert count() == [1]
    assert cli(*EVALUATE, "unclip.steps=2")[0] == 0
    assert count() == [1, 2]
    shutil.rmtree(next((cli.outputs / "artifacts" / "evaluate_reconstructions").glob("subj*")))
    assert cli(*EVALUATE, "unclip.steps=2")[0] == 0
    assert cli(*EVALUATE)[0] == 0
    assert count() == [1, 2], "the same evaluation made again is no further look"


@pytest.fixture
def images(finished: Path, tmp_path: Path) -> Path:
    """The run's own reconstructions as somebody else's PNG files."""
    made, folder = reconstructions(finished), tmp_path / "others"
    folder.mkdir()
    for id_, image in zip(made["stimulus_ids"].tolist(), made["images"].float(), strict=True):
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"stimulus_{id_}.png")
    return folder


def test_a_folder_of_images_has_the_same_scores(cli: CommandLine, finished: Path, images: Path) -> None:
    own = scores(finished)
    code, out, err = cli(*EVALUATE, f"evaluate.reconstructions={images}")
    assert code == 0, err
    assert str(images.name) in out
    theirs = scores(finished, "subj01-others-*")
    assert theirs["stimulus_ids"] == own["stimulus_ids"]
    for metric in ("pixcorr", "ssim", "clip_two_way"):
        assert value(theirs, "model", metric) == pytest.approx(value(own, "model", metric), abs=0.02), metric
    assert "nearest" not in theirs["rows"]
    assert theirs["captions"] == {}
    page = (cli.outputs / "reports" / "finetune_subj01_1h" / "index.html").read_text()
    assert "Brain correlation" in page


def test_a_published_tensor_is_scored(cli: CommandLine, finished: Path, tmp_path: Path) -> None:
    torch.save(reconstructions(finished)["images"], tmp_path / "mine_all_recons.pt")
    code, _, err = cli(*EVALUATE, f"evaluate.reconstructions={tmp_path / 'mine_all_recons.pt'}")
    assert code == 0, err
    assert value(scores(finished, "subj01-mine*"), "model", "pixcorr") == pytest.approx(
        value(scores(finished, "subj01-1h*"), "model", "pixcorr"), abs=1e-3
    )


def test_images_that_do_not_fit_are_refused(cli: CommandLine, finished: Path, images: Path) -> None:
    first = sorted(images.iterdir())[0]
    broken = first.read_bytes()[:40]
    first.unlink()
    cli.refuses(*EVALUATE, f"evaluate.reconstructions={images}", says=("9", "10"))
    first.write_bytes(broken)
    cli.refuses(*EVALUATE, f"evaluate.reconstructions={images}", says=(first.name,))
    cli.refuses(*EVALUATE, "evaluate.reconstructions=/nowhere", says=("evaluate.reconstructions", "/nowhere"))


@pytest.mark.slow
def test_a_published_protocol_says_what_it_needs(cli: CommandLine, finished: Path) -> None:
    code, out, err = cli(*EVALUATE, "protocol=mindeye2")
    assert code == 0, err
    content = scores(finished, "*mindeye2-*")
    assert content["needs"]["alexnet2_two_way"].startswith("needs alexnet-owt-7be5be79.pth: python -c")
    assert "hf download" in content["needs"]["brain_gnet_V1"]
    assert {score["name"] for score in content["rows"]["model"]} >= {"pixcorr", "ssim", "brain_ridge_V1"}
    assert not any(score["name"].startswith(("alexnet", "clip_")) for score in content["rows"]["model"])
    assert "AlexNet(2) 2-way needs alexnet-owt-7be5be79.pth" in " ".join(out.split())
    page = (cli.outputs / "reports" / "finetune_subj01_1h" / "index.html").read_text()
    assert "alexnet-owt-7be5be79.pth" in page
    assert "protocol mindeye2" in page.lower()


#: Evaluates and kills itself, as an operator's `kill -9` would, once the pixels are scored.
KILLED = """
import os, signal
from mindeye_pl import cli
from mindeye_pl.steps.evaluation import image_scores as image_scores
score = image_scores._feature_scores
def die(*args, **kwargs):
    score(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
image_scores._feature_scores = die
cli.main()
"""


@pytest.mark.slow
def test_a_killed_evaluation_resumes(cli: CommandLine, finished: Path) -> None:
    alone = scores(finished)
    shutil.rmtree(next((finished / "artifacts" / "evaluate_reconstructions").glob("subj*")))
    arguments = [sys.executable, "-c", KILLED, *EVALUATE, f"paths.outputs={cli.outputs}"]
    killed = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (work,) = (finished / "artifacts" / "evaluate_reconstructions").glob(".*.work")
    kept = {path: path.stat().st_mtime_ns for path in (work / "parts").rglob("*.*")}
    assert work / "parts" / "scored-pixels.json" in kept
    assert any(path.suffix == ".safetensors" for path in kept)
    assert cli(*EVALUATE)[0] == 0
    again = scores(finished)
    for line, row in alone["of_each_image"].items():
        for metric, each in row.items():
            np.testing.assert_allclose(again["of_each_image"][line][metric], each, atol=1e-5)
    assert not list((finished / "artifacts" / "evaluate_reconstructions").glob("subj*/parts"))


def test_repetitions_and_effective_rank(finished: Path) -> None:
    (path,) = (finished / "artifacts" / "evaluate").glob("subj*/scores.json")
    content = json.loads(path.read_text())
    named = {name: {s["name"]: s["value"] for s in row} for name, row in content["rows"].items()}
    assert {"repetitions_1", "repetitions_2", "repetitions_3"} <= set(named)
    assert named["repetitions_3"] == named["model"], "all test images of this world were shown three times"
    assert "image_retrieval_full_top5" in named["model"]
    ranks = content["effective_rank"]
    assert 1 <= ranks["predicted"] <= ranks["most"]
    assert 1 <= ranks["true"] <= ranks["most"]
