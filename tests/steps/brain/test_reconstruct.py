"""Images from brains: whole files whenever it is stopped, and the same images in whatever batches."""

import json
import os
import re
import shutil
import signal
import weakref
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule
from safetensors import safe_open
from safetensors.torch import load_file

import mindeye_pl
from mindeye_pl.config import compose_config
from mindeye_pl.models.image_refiner import ImageRefiner
from mindeye_pl.models.reconstructor import Reconstructor
from mindeye_pl.steps.brain import reconstruct
from mindeye_pl.steps.brain.reconstruct import NEIGHBOURS, REFINED, _ImageWriter, read_reconstructions
from mindeye_pl.steps.brain.reconstructor import ImageModels, build_reconstructor
from mindeye_pl.store.own_files import read_tensors
from tests.conftest import CommandLine
from tests.forked import Forked

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "pipeline=reconstruct", "unclip=tiny", "logger=none")


def made(outputs: Path) -> dict[str, torch.Tensor]:
    (path,) = (outputs / "artifacts" / "reconstruct").glob("subj*/reconstructions.safetensors")
    return read_reconstructions(path.parent)


def test_reconstruct_killed_and_started_again(
    cli: CommandLine, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the first batch and before the captions, it ends as one left alone does, bit for bit."""
    alone = made(cli.outputs)
    (folder,) = (cli.outputs / "artifacts" / "reconstruct").glob("subj*")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()

    write = _ImageWriter.on_predict_batch_end

    def write_and_die(*args: Any, **options: Any) -> None:
        write(*args, **options)
        os.kill(os.getpid(), signal.SIGKILL)  # as an operator's `kill -9`

    def killed_in(owner: Any, name: str, function: Any) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, function)
            killed = Forked(*COMMAND, f"paths.outputs={cli.outputs}")
            out, errors = killed.communicate()
        assert killed.returncode == -signal.SIGKILL, errors
        return out

    killed_in(_ImageWriter, "on_predict_batch_end", write_and_die)
    (work,) = (cli.outputs / "artifacts" / "reconstruct").glob(".*.work")
    images = sorted(work.glob("reconstructions-*.safetensors"))
    assert len(images) == 4
    images[1].unlink()  # as a kill in the middle of the batch
    images[2].write_bytes(images[2].read_bytes()[:-20])

    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    assert "are done" not in killed_in(reconstruct, "write_json", die), "the batch is made again as it was"
    drawn = work / "reconstructions.safetensors"
    whole = drawn.read_bytes()
    drawn.write_bytes(whole[:-20])
    assert "reconstructing" in killed_in(reconstruct, "write_json", die), "all are made again"
    assert drawn.read_bytes() == whole
    code, out, _ = cli(*COMMAND)
    assert code == 0
    assert "images" not in out.partition("reconstruct:")[2].partition("reconstruct:")[0], "all were there"
    again = made(cli.outputs)
    assert again.keys() == alone.keys()
    for name, rows in alone.items():
        assert torch.equal(again[name], rows), name
    assert not list((cli.outputs / "artifacts" / "reconstruct").glob("subj*/reconstructions-*"))


class _Draws(LightningModule):
    """Images of 768 pixels, 3.5 MB each as they are stored, from nothing."""

    def predict_step(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"stimulus_ids": rows, "images": torch.rand(len(rows), 3, _SIDE, _SIDE)}


_SIDE = 768


def _peak_growth(folder: Path, count: int) -> float:
    """Bytes by which the process's peak memory grows while `count` images are made and stacked."""

    def resident(key: str) -> int:
        return 1024 * int(re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])  # type: ignore[index]

    folder.mkdir()
    settings = compose_config(["+experiment=scratch", "scale=tiny", "unclip=tiny", "unclip.batch_size=1"])
    before = resident("VmRSS")
    reconstruct.make_images(torch.arange(count), lambda rows: rows, _Draws, folder / "images.safetensors", settings)
    with safe_open(str(folder / "images.safetensors"), framework="pt") as file:
        assert file.get_slice("images").get_shape() == [count, 3, _SIDE, _SIDE]
    return resident("VmHWM") - before


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    """36 images more are 127 MB as they are stored; the growth is below the size of six of them."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        few, many = (processes.submit(_peak_growth, tmp_path / str(count), count).result() for count in (12, 48))
    assert many - few < 6 * 2 * 3 * _SIDE**2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_by_a_signal_while_drawing(
    number: signal.Signals, code: int, cli: CommandLine, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a batch, with one line, an exit code that is no success, and the images that were made."""
    (folder,) = (cli.outputs / "artifacts" / "reconstruct").glob("subj*")
    shutil.rmtree(folder)
    write = _ImageWriter.on_predict_batch_end

    def write_and_stop(*args: Any, **options: Any) -> None:
        write(*args, **options)
        os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(_ImageWriter, "on_predict_batch_end", write_and_stop)
        stopped = Forked(*COMMAND, f"paths.outputs={cli.outputs}")
        _, errors = stopped.communicate()
    assert stopped.returncode == code, errors
    assert len(errors.splitlines()) == 1, errors
    assert "the same command resumes" in errors
    (work,) = (cli.outputs / "artifacts" / "reconstruct").glob(".*.work")
    assert len(list(work.glob("reconstructions-*.safetensors"))) == 4


def test_report_shows_the_same_first_images(cli: CommandLine, finished: Path) -> None:
    assert cli(*COMMAND, "report.images=3")[0] == 0
    page = (cli.outputs / "reports" / "finetune_subj01_1h" / "index.html").read_text()
    assert page.count("data:image/png") == 18  # three of each column: seen, true tokens, reconstructed, three by ridge
    assert page.count('<span class="predicted-caption">') == 3
    sections = re.findall(r'<section id="([\w-]+)"', page)
    assert sections[0] == "seen-and-reconstructed", "the page leads with images"
    assert re.findall(r'<th scope="col" class="\w+">([^<]+)', page)[:3] == ["Seen", "From true tokens", "Reconstructed"]
    ids = made(cli.outputs)["stimulus_ids"][:3].tolist()
    assert all(f"Reconstructed, stimulus {id_}" in page for id_ in ids)
    assert 'src="http' not in page


@pytest.mark.slow
def test_blurry_reconstruction_from_the_low_level_branch(cli: CommandLine) -> None:
    code, out, _ = cli(*COMMAND, "low_level=vae_blur", "vae=tiny", "report.images=2", "finetune.start=scratch")
    assert code == 0
    assert "+ low_level 0." in out
    images = made(cli.outputs)
    assert images["latents"].shape == (10, 4, 16, 16)
    assert images["blurry_images"].shape == images["images"].shape == (10, 3, 32, 32)
    page = (cli.outputs / "reports" / "finetune_subj01_1h" / "index.html").read_text()
    assert page.count('alt="Blurry, stimulus') == 2


def test_captions_of_every_image(cli: CommandLine, finished: Path) -> None:
    (path,) = (cli.outputs / "artifacts" / "reconstruct").glob("subj*/captions.json")
    captions, words = json.loads(path.read_text()), made(cli.outputs)["caption_words"]
    assert len(captions) == len(words) == 10
    assert set(" ".join(captions).lower().split()) <= {"a", "red", "circle"}
    assert cli(*COMMAND, "captioner=none")[0] == 0
    assert len(list((cli.outputs / "artifacts" / "reconstruct").glob("subj*/captions.json"))) == 1


@pytest.mark.slow
def test_refined_reconstructions(cli: CommandLine) -> None:
    choices = ("low_level=vae_blur", "refine=tiny", "report.images=2", "finetune.start=scratch")
    assert cli(*COMMAND, *choices)[0] == 0
    plain = made(cli.outputs)
    assert plain["refined_images"].shape == (10, 3, 32, 32)
    page = (cli.outputs / "reports" / "finetune_subj01_1h" / "index.html").read_text()
    assert page.count('alt="Refined, stimulus') == 2
    first = next((cli.outputs / "artifacts" / "reconstruct").glob("subj*"))
    first.rename(first.with_name(".kept"))
    assert cli(*COMMAND, *choices, "refine.blend=0.25")[0] == 0
    blended = made(cli.outputs)
    wanted = 0.75 * plain["refined_images"].float() + 0.25 * plain["blurry_images"].float()
    torch.testing.assert_close(blended["refined_images"].float(), wanted, atol=2e-3, rtol=0)
    cli.refuses(*COMMAND, "refine=tiny", "captioner=none", says=("refine=tiny", "captioner"))
    cli.refuses(*COMMAND, "refine=tiny", "refine.blend=0.25", says=("refine.blend", "low_level=none"))


@pytest.mark.slow
def test_the_refiner_is_alone_in_memory(cli: CommandLine, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The models that draw and the refiner would be 24 GB at full size."""
    drawing, alive = [], []

    def build(*args: Any, **options: Any) -> Reconstructor:
        made = build_reconstructor(*args, **options)
        drawing.append(weakref.ref(made))
        return made

    def load(models: ImageModels, seed: int) -> ImageRefiner:
        alive.append(drawing[0]() is not None)
        return load_refiner(models, seed)

    load_refiner = ImageModels.load_refiner
    monkeypatch.setattr(reconstruct, "build_reconstructor", build)
    monkeypatch.setattr(ImageModels, "load_refiner", load)
    assert cli(*COMMAND, "refine=tiny")[0] == 0
    assert alive == [False]


@pytest.mark.slow
def test_killed_while_refining(cli: CommandLine, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The drawn images are kept, and the refined ones are those of a run left alone, bit for bit."""
    write = _ImageWriter.on_predict_batch_end

    def write_and_die(writer: _ImageWriter, *args: Any, **options: Any) -> None:
        write(writer, *args, **options)
        if writer.path.name == REFINED:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(_ImageWriter, "on_predict_batch_end", write_and_die)
        killed = Forked(*COMMAND, "refine=tiny", f"paths.outputs={cli.outputs}")
        out, errors = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, errors
    assert "reconstructing 10 images" in out
    code, out, _ = cli(*COMMAND, "refine=tiny")
    assert code == 0
    assert "reconstructing" not in out
    assert "refining 6 images, 4 are done" in out
    (again,) = (cli.outputs / "artifacts" / "reconstruct").glob("subj*/refined.safetensors")
    resumed = load_file(again)
    shutil.rmtree(again.parent)
    assert cli(*COMMAND, "refine=tiny")[0] == 0
    alone = load_file(next((cli.outputs / "artifacts" / "reconstruct").glob("subj*/refined.safetensors")))
    assert resumed.keys() == alone.keys() == {"stimulus_ids", "refined_images"}
    assert all(torch.equal(resumed[name], rows) for name, rows in alone.items())


@pytest.mark.slow
def test_the_best_of_several_candidates(cli: CommandLine, finished: Path) -> None:
    """One candidate is what there was before; of three the nearest is kept, and which one is written down."""
    before, steps = made(cli.outputs), "pipeline.steps=[reconstruct]"
    assert cli(*COMMAND, steps, "reconstruct.candidates=1")[0] == 0
    assert not {"candidate", "candidate_similarity"} & made(cli.outputs).keys()  # the same artifact
    first = next((cli.outputs / "artifacts" / "reconstruct").glob("subj*"))
    first.rename(first.with_name(".kept"))
    assert cli(*COMMAND, steps, "reconstruct.candidates=3", "unclip.batch_size=7")[0] == 0
    best = made(cli.outputs)
    chosen = best["candidate"]
    assert set(chosen.tolist()) <= {0, 1, 2}
    assert (chosen > 0).any()
    assert torch.isfinite(best["candidate_similarity"]).all()
    same = chosen == 0
    torch.testing.assert_close(best["images"][same], before["images"][same], atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(best["retrieval"], before["retrieval"], atol=2e-3, rtol=1e-3)
    cli.refuses(*COMMAND, steps, "reconstruct.candidates=0", says=("reconstruct.candidates", "at least 1"))
    cli.refuses(*COMMAND, steps, "unclip.solver=heun", says=("unclip.solver", "heun", "unipc_published"))


def test_images_from_the_tokens_of_known_images(cli: CommandLine, finished: Path) -> None:
    """The tokens are weighted means of training images' and those that a decoder of the same run makes."""
    code, out, err = cli(*COMMAND, "pipeline.steps=[reconstruct]", "adaptation=[neighbours]")
    assert code == 0, err
    assert "weighting the tokens of" in out
    (path,) = (cli.outputs / "artifacts/reconstruct").glob(f"subj*/{NEIGHBOURS}")
    folder = path.parent
    near, drawn = read_tensors(folder / NEIGHBOURS)["tokens"], read_reconstructions(folder)
    torch.testing.assert_close(drawn["prior_tokens"], near, atol=2e-3, rtol=1e-3)
    decoder = mindeye_pl.load(max((cli.outputs / "runs").rglob(".hydra")).parent, images=False)
    assert not set(drawn["stimulus_ids"].tolist()) & set(decoder.reconstructor.neighbours.ids.tolist())
    torch.testing.assert_close(
        decoder.reconstructor.neighbours(drawn["retrieval"].float()), near.float(), atol=2e-2, rtol=1e-2
    )


def test_settings_have_the_sampler_and_the_simulated_mark(cli: CommandLine, finished: Path) -> None:
    (path,) = (cli.outputs / "artifacts" / "reconstruct").glob("subj*/settings.json")
    settings = json.loads(path.read_text())
    assert settings["simulated"] is True
    assert settings["unclip"]["solver"] == "dpm_multistep"


def test_without_unclip_or_weights(cli: CommandLine, tmp_path: Path) -> None:
    cli.refuses(*COMMAND[:-2], "unclip=none", "logger=none", says=("reconstruct needs an unCLIP", "unclip=laptop"))
    missing = ("unclip=laptop", f"foundation.folder={tmp_path}")
    cli.refuses(*COMMAND, *missing, says=("unclip.safetensors", "vae.safetensors", "pipeline=pretrain_foundation"))


@pytest.mark.slow
def test_without_unclip_the_experiment_ends_in_retrieval(cli: CommandLine) -> None:
    code, out, _ = cli("+experiment=finetune_subj01_1h", "scale=tiny", "unclip=none", "logger=none")
    assert code == 0
    assert "unclip=none: no images are made" in out
    assert "Image retrieval" in out
    assert "PixCorr" not in out


def test_scores_of_reconstructions_stand_beside_their_null_rows(cli: CommandLine, finished: Path) -> None:
    code, out, _ = cli(*COMMAND)
    assert code == 0
    assert all(name in out for name in ("PixCorr", "SSIM", "CLIP 2-way", "mean image", "shuffled brains"))
    (path,) = (cli.outputs / "artifacts" / "evaluate_reconstructions").glob("subj*/scores.json")
    content = json.loads(path.read_text())
    images = made(cli.outputs)
    assert content["stimulus_ids"] == images["stimulus_ids"].tolist()
    null = {"grey", "mean_image", "other_image", "shuffled", "other_images"}
    linear = {"ridge_latents", "ridge_unclip", "ridge_blur_unclip"}
    assert set(content["rows"]) == null | linear | {"model", "nearest", "true_tokens", "vae", "true_image"}
    mean = {score["name"]: score["value"] for score in content["rows"]["mean_image"]}
    assert mean["clip_two_way"] == pytest.approx(0.5)  # the same answer to every image tells nothing apart
    each, null = (content["of_each_image"][row]["pixcorr"] for row in ("model", "shuffled"))
    above = content["above_null"]["shuffled"]["pixcorr"]
    assert above[0] == pytest.approx(sum(a - b for a, b in zip(each, null, strict=True)) / len(each), abs=1e-5)
    assert above[1] <= above[0] <= above[2]


@pytest.mark.slow
def test_low_level_branch_is_compared_with_feature_maps(cli: CommandLine) -> None:
    choices = ("low_level=vae_blur", "maps=tiny", "pipeline.steps=[finetune]", "finetune.start=scratch")
    code, out, _ = cli(*COMMAND, *choices)
    assert code == 0
    assert "low_level_maps" in out
    assert list((cli.outputs / "targets").glob("tiny-*"))
