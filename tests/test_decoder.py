"""`mindeye_pl.load`: from betas to images without a word of configuration."""

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import mindeye_pl
from mindeye_pl.decoder import Decoder
from mindeye_pl.errors import UserError
from mindeye_pl.models.mindeye import MindEye1, MindEye2
from tests.conftest import CommandLine
from tests.weights.test_mindeye1_golden import published_state as mindeye1_state
from tests.weights.test_mindeye2_golden import published_state as mindeye2_state

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none", "pipeline.steps=[finetune]")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decoder")


@pytest.fixture
def finetuned(outputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Trained by the first test that asks; the others find the artifact."""
    cli = CommandLine(outputs, capsys, monkeypatch)
    assert cli(*COMMAND, "low_level=vae_blur", "fidelity=corrected")[0] == 0
    return cli


@pytest.fixture
def decoder(finetuned: CommandLine) -> Decoder:
    (folder,) = (finetuned.outputs / "artifacts" / "finetune").glob("subj*")
    return mindeye_pl.load(folder)


def betas(cli: CommandLine, decoder: Decoder, count: int) -> np.ndarray:
    (path,) = cli.outputs.rglob("betas_all_subj01*.hdf5")
    with h5py.File(path) as file:
        found = file["betas"][:count]
    assert found.shape[1] == decoder.num_voxels
    return found


def test_images_tokens_and_retrieval(finetuned: CommandLine, decoder: Decoder, tmp_path: Path) -> None:
    asked = betas(finetuned, decoder, 5)
    before = asked.copy()
    result = decoder.reconstruct(asked)
    np.testing.assert_array_equal(asked, before)  # the caller's array is the caller's
    assert result.tokens.shape == result.retrieval.shape == (5, 4, 16)
    assert result.images is not None
    assert result.blurry_images is not None
    assert result.images.shape == result.blurry_images.shape == (5, 3, 32, 32)
    assert result.captions is not None
    assert len(result.captions) == 5
    assert 0 <= result.images.min() <= result.images.max() <= 1
    assert len(result.save(tmp_path)) == len(list(tmp_path.glob("*.png"))) == 5

    one = decoder.reconstruct(asked[:1])
    torch.testing.assert_close(one.images, result.images[:1], atol=1e-4, rtol=0)
    in_small_batches = decoder.reconstruct(torch.from_numpy(asked), batch_size=2)
    torch.testing.assert_close(in_small_batches.images, result.images, atol=1e-4, rtol=0)

    gallery = torch.rand(9, 3, 32, 32)
    found = result.retrieve(gallery, top_k=3)
    assert found.indices.shape == found.similarities.shape == (5, 3)
    assert (found.similarities.diff(dim=1) <= 0).all()
    own = torch.cat([torch.randn(3, 4, 16), result.retrieval[2:3]])
    assert result.retrieve(own, top_k=1).indices[2] == 3


def test_repetitions_are_averaged_as_outputs_or_as_voxels(finetuned: CommandLine, decoder: Decoder) -> None:
    asked = betas(finetuned, decoder, 6).reshape(2, 3, -1)
    of_voxels = dataclasses.replace(decoder, averaging="voxels").reconstruct(asked)
    torch.testing.assert_close(of_voxels.retrieval, decoder.reconstruct(asked.mean(1)).retrieval)
    of_outputs = decoder.reconstruct(asked)
    each = decoder.reconstruct(asked.reshape(6, -1)).retrieval.unflatten(0, (2, 3))
    torch.testing.assert_close(of_outputs.retrieval, each.mean(1))
    assert not torch.allclose(of_voxels.retrieval, of_outputs.retrieval), "the retrieval head is not affine"


def test_a_run_folder_and_its_artifact_are_the_same_decoder(finetuned: CommandLine, decoder: Decoder) -> None:
    runs = sorted(finetuned.outputs.glob("runs/finetune_subj01_1h/*/.hydra/config.yaml"))
    again = mindeye_pl.load(runs[-1].parent.parent, images=False)
    asked = betas(finetuned, decoder, 2)
    result = again.reconstruct(asked)
    assert result.images is None
    torch.testing.assert_close(result.tokens, decoder.reconstruct(asked).tokens, atol=1e-5, rtol=0)
    with pytest.raises(UserError, match="no images to save"):
        result.save("nowhere")


def test_betas_are_scaled_as_in_training(finetuned: CommandLine, decoder: Decoder) -> None:
    """Under fidelity=corrected the scaling is fitted on training trials; it comes with the model."""
    (folder,) = (finetuned.outputs / "artifacts" / "finetune").glob("subj*")
    assert (folder / "betas.safetensors").exists()
    asked = betas(finetuned, decoder, 3)
    raw = decoder.model.predict(torch.from_numpy(asked)).retrieval
    assert not torch.allclose(decoder.reconstruct(asked).retrieval, raw, atol=1e-3)


def test_repetitions_are_averaged_after_the_backbone(finetuned: CommandLine, decoder: Decoder) -> None:
    asked = betas(finetuned, decoder, 6).reshape(2, 3, -1)
    result = decoder.reconstruct(asked)
    singles = decoder.reconstruct(asked.reshape(6, -1))
    torch.testing.assert_close(result.retrieval, singles.retrieval.unflatten(0, (2, 3)).mean(1), atol=1e-5, rtol=0)


def test_mistakes_in_one_line(finetuned: CommandLine, decoder: Decoder, tmp_path: Path) -> None:
    asked = betas(finetuned, decoder, 3)
    broken = asked.copy()
    broken[1, 4] = np.nan
    voxels = decoder.num_voxels
    for wrong, says in (
        (asked[0], f"({voxels},)"),
        (asked[:0], "(0, "),
        (asked[:, :-1], f"(n, {voxels})"),
        (broken, "row 1"),
    ):
        with pytest.raises(UserError, match=re.escape(says)) as found:
            decoder.reconstruct(wrong)
        assert "\n" not in str(found.value)
    result = decoder.reconstruct(asked)
    with pytest.raises(UserError, match="gallery"):
        result.retrieve(torch.rand(4, 4, 15))
    with pytest.raises(UserError, match="nothing to load"):
        mindeye_pl.load(tmp_path)
    with pytest.raises(AttributeError, match="no attribute"):
        mindeye_pl.lead  # noqa: B018


def test_a_foreign_configuration_calls_nothing(finetuned: CommandLine, tmp_path: Path) -> None:
    (folder,) = (finetuned.outputs / "artifacts" / "finetune").glob("subj*")
    copy, trace = tmp_path / "downloaded", tmp_path / "executed"
    shutil.copytree(folder, copy)
    config = OmegaConf.load(copy / "config.yaml")
    config.model.prior = {
        "_target_": "pathlib.Path.touch",
        "_args_": [{"_target_": "pathlib.Path", "_args_": [str(trace)]}],
    }
    OmegaConf.save(config, copy / "config.yaml")
    with pytest.raises(UserError, match=r"model\.prior\._target_=pathlib\.Path\.touch"):
        mindeye_pl.load(copy)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("state", "system"), [(mindeye2_state, MindEye2), (mindeye1_state, MindEye1)], ids=["mindeye2", "mindeye1"]
)
def test_a_published_checkpoint_gives_tokens(tmp_path: Path, state: Callable, system: type) -> None:
    path = tmp_path / "last.pth"
    torch.save({"model_state_dict": state()}, path)
    decoder = mindeye_pl.load(path)
    assert isinstance(decoder.model, system)
    assert decoder.averaging == ("voxels" if system is MindEye1 else "outputs"), "as its published code"
    result = decoder.reconstruct(torch.randn(2, decoder.num_voxels))
    assert result.images is None
    assert torch.isfinite(result.tokens).all()
    if system is MindEye1:  # its samples are renormalised before anything is made of them
        torch.testing.assert_close(result.tokens[:, 0].norm(dim=-1), torch.ones(2), rtol=1e-3, atol=0)


def test_a_stream_gives_what_all_trials_at_once_give(finetuned: CommandLine, decoder: Decoder) -> None:
    asked, gallery = betas(finetuned, decoder, 6), torch.rand(9, 3, 32, 32)
    at_once = decoder.reconstruct(asked)
    stream = decoder.stream(normalise="none", gallery=gallery, top_k=2)
    trials = [stream(row) for row in asked]
    for index, trial in enumerate(trials):
        assert trial is not None
        assert trial.index == index
        torch.testing.assert_close(trial.reconstruction.tokens[0], at_once.tokens[index], atol=1e-4, rtol=0)
        assert trial.reconstruction.images is not None
        assert at_once.images is not None
        torch.testing.assert_close(trial.reconstruction.images[0], at_once.images[index], atol=1e-4, rtol=0)
        assert trial.retrieved is not None
        assert torch.equal(trial.retrieved.indices, trial.reconstruction.retrieve(gallery, top_k=2).indices)
    latencies = stream.latencies()
    assert list(latencies) == ["z-score", "brain", "blurry image", "prior", "image", "caption", "retrieval", "trial"]
    assert {one.count for one in latencies.values()} == {5}, "all but the first"
    parts = sum(one.median_ms for name, one in latencies.items() if name != "trial")
    assert parts <= 1.2 * latencies["trial"].p99_ms
    assert len(stream.table().splitlines()) == 1 + len(latencies)


def test_a_stream_of_raw_betas_warms_up_or_begins_with_a_baseline(finetuned: CommandLine, decoder: Decoder) -> None:
    asked = betas(finetuned, decoder, 8) * 300 + 50
    stream = decoder.stream(warm_up=5)
    assert [trial is None for trial in map(stream, asked)] == [True] * 4 + [False] * 4
    based = decoder.stream(warm_up=5, baseline=asked[:7])
    last, wanted = based(asked[7]), (asked[7:] - asked.mean(0)) / asked.std(0)
    assert last is not None
    assert (last.index, based.latencies(skip=0)["trial"].count) == (0, 1)
    repeated = decoder.stream(baseline=asked[:6].reshape(3, 2, -1))  # repetitions are trials
    assert repeated.zscore is not None
    np.testing.assert_allclose(repeated.zscore.mean, asked[:6].astype(np.float64).mean(0))
    torch.testing.assert_close(last.reconstruction.tokens, decoder.reconstruct(wanted).tokens, atol=1e-3, rtol=0)


def test_a_stream_refuses_a_trial_and_does_not_count_it(finetuned: CommandLine, decoder: Decoder) -> None:
    asked = betas(finetuned, decoder, 3)
    stream = decoder.stream(warm_up=2)
    stream(asked[0])
    for wrong, told in ((asked[0, :3], "another shape"), (asked[:2], "another shape"), (asked[1] * np.nan, "finite")):
        with pytest.raises(UserError, match=told):
            stream(wrong)
    trial = stream(asked[1])
    assert trial is not None
    assert trial.index == 1
    with pytest.raises(UserError, match="no such normalisation"):
        decoder.stream(normalise="session")
    with pytest.raises(UserError, match="another shape"):
        decoder.stream(baseline=asked[:, :3])
