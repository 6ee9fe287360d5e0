"""The published MindEye2 at a small size, through the importer of its checkpoint format."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.models.mindeye import MindEye2
from mindeye_pl.nn.brain.diffusion_prior import CosineSchedule
from mindeye_pl.weights.formats.mindeye2 import FORMAT
from mindeye_pl.weights.registry import load_published, save_published
from tests.golden import weights as golden
from tests.models.tiny import alignment, mixer

CASE = Path(golden.__file__).parent / "mindeye2_small"


def published_state() -> dict[str, Tensor]:
    """The state dict that the case was recorded with."""
    keys = json.loads((CASE / "keys.json").read_text())
    state = {
        key: torch.from_numpy(golden.tensor(keys["salt"], key, tuple(shape)))
        for key, shape in keys["keys"].items()
        if key not in keys["computed"]
    }
    schedule = CosineSchedule(100).state_dict()
    for key in keys["computed"]:
        name = key.split(".")[-1]
        state[key] = 10000.0 ** (-torch.arange(0, 32, 2).float() / 32) if name == "freqs" else schedule[name]
    return state


@pytest.fixture(scope="module")
def io() -> dict[str, Tensor]:
    return load_file(CASE / "io.safetensors")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("golden") / "last.pth"
    torch.save({"epoch": 149, "model_state_dict": published_state(), "train_losses": [1.0, 0.5]}, path)
    return path


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> MindEye2:
    model = load_published("mindeye2", checkpoint)
    assert isinstance(model, MindEye2)
    return model


def agree(seen: Tensor, wanted: Tensor, tolerance: float = 1e-4) -> None:
    """Relative to the largest value."""
    assert seen.shape == wanted.shape
    error = (seen - wanted).abs().max() / wanted.abs().max()
    assert error < tolerance, f"relative error {error:.2e}"


def test_schedule(io: dict[str, Tensor]) -> None:
    schedule = CosineSchedule(100)
    for name in (
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "betas",
        "posterior_log_variance_clipped",
        "posterior_variance",
    ):
        agree(getattr(schedule, name), io[f"prior.schedule.{name}"], 1e-6)
    assert schedule.alphas_cumprod[99].item() == pytest.approx(2.4286e-7, rel=1e-3)


def test_functional_alignment_backbone_and_retrieval(model: MindEye2, io: dict[str, Tensor]) -> None:
    for subject in (0, 1):
        out = model.predict(io[f"voxels.{subject}"][:, 0], subject_index=subject)
        rows = slice(3 * subject, 3 * subject + 3)
        agree(out.aligned, io[f"ridge.{subject}"][:, 0])
        agree(out.tokens, io["backbone"][rows])
        agree(out.retrieval, io["clip_voxels"][rows])
        assert out.latents is not None
        assert out.maps is not None
        agree(out.latents, io["blurry_latents"][rows])
        agree(out.maps, io["blurry_maps"][rows])


def test_prior_network(model: MindEye2, io: dict[str, Tensor]) -> None:
    assert model.prior is not None
    arguments = io["prior.noisy"], io["prior.times"], io["backbone"]
    with torch.no_grad():
        agree(model.prior.denoise(*arguments), io["prior.net_out"])
        agree(model.prior.denoise(*arguments, drop_conditions=True), io["prior.net_out_null"])


def test_prior_loss(model: MindEye2, io: dict[str, Tensor]) -> None:
    assert model.prior is not None
    with torch.no_grad():
        loss, prediction = model.prior.network.loss(
            io["clip_target"], io["backbone"], times=io["prior.times"], noise=io["prior.noise"], drop_probability=0.0
        )
    agree(prediction, io["prior.pred"])
    agree(loss[None], io["prior.loss"])


@pytest.mark.parametrize(("steps", "cond_scale"), [(20, 1.0), (20, 1.5), (100, 1.0)])
def test_prior_sampling(model: MindEye2, io: dict[str, Tensor], steps: int, cond_scale: float) -> None:
    assert model.prior is not None
    case = f"prior.sample.{steps}.{cond_scale}"
    sampled = model.prior.sample(io["backbone"][:2], steps=steps, cond_scale=cond_scale, noise=io[f"{case}.noise"])
    agree(sampled, io[f"{case}.out"], 1e-3)


def test_round_trip(model: MindEye2) -> None:
    published = published_state()
    back = FORMAT.to_published(model)
    assert back.keys() == published.keys()
    assert all(torch.equal(back[key], published[key]) for key in published)


def test_written_as_published_and_read_again(model: MindEye2, tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    save_published("mindeye2", model, path)
    assert [left.name for left in tmp_path.iterdir()] == ["last.pth"]
    published, written = published_state(), torch.load(path, weights_only=True)["model_state_dict"]
    assert written.keys() == published.keys()
    assert all(torch.equal(written[key], value) for key, value in published.items())
    again = load_published("mindeye2", path)
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_written_as_published_are_the_weights_alone(tmp_path: Path) -> None:
    """A weight that is a view of more is written without the rest."""
    model = MindEye2(alignment([5], 8), mixer(8))
    row = torch.randn(1000, 8, 5)[3]
    model.alignment.network.linears[0].weight.data = row
    save_published("mindeye2", model, tmp_path / "last.pth")
    assert (tmp_path / "last.pth").stat().st_size < 100_000
    again = load_published("mindeye2", tmp_path / "last.pth")
    assert torch.equal(again.alignment.network.linears[0].weight, row)


def test_models_with_another_published_function_are_refused(model: MindEye2, tmp_path: Path) -> None:
    corrected = MindEye2(alignment([5], 8), mixer(8, mixer="corrected"))
    with pytest.raises(UserError, match=r"fidelity\.mixer=published"):
        save_published("mindeye2", corrected, tmp_path / "last.pth")
    with pytest.raises(UserError, match="cannot be written"):
        save_published("mindeye2", model, tmp_path / "nowhere" / "last.pth")
    assert not list(tmp_path.iterdir())


def test_a_published_checkpoint_is_shared_as_it_was_loaded(model: MindEye2, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "out")
    again = MindEye2.from_pretrained(tmp_path / "out")
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
