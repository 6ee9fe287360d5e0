"""The project's own weight files: sizes inside, whole or refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.builders import build_vae, random_unclip
from mindeye_pl.weights import load_published
from mindeye_pl.weights.files import read_own, save_own
from mindeye_pl.weights.loaders.bundled import UNCLIP, VAE, load_unclip
from tests.nn.diffusion.test_unclip import UNET
from tests.nn.diffusion.test_unclip import VAE as VAE_SIZES
from tests.weights.test_mindeye1_golden import published_state as mindeye1_state


def test_unclip_round_trip(tmp_path: Path) -> None:
    model = random_unclip(3, UNET, VAE_SIZES)
    save_own(tmp_path / VAE, model.vae.state_dict(), VAE_SIZES)
    kept = {key: value for key, value in model.state_dict().items() if not key.startswith("vae.")}
    save_own(tmp_path / UNCLIP, kept, UNET)
    again = load_unclip(tmp_path)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, atol=0, rtol=0)
    assert again.latent_shape == model.latent_shape


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    save_own(tmp_path / "a.safetensors", {"x": torch.tensor([0.1])}, {"n": 1}, half=True)
    weights, sizes = read_own(tmp_path / "a.safetensors")
    assert weights["x"].dtype == torch.float32
    assert sizes == {"n": 1}


def test_a_file_without_sizes_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(dict(build_vae(**VAE_SIZES).state_dict()), str(tmp_path / VAE))
    with pytest.raises(UserError, match="sizes of its model"):
        read_own(tmp_path / VAE)


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_loaded_model_survives_another_file_in_its_place(kind: str, tmp_path: Path) -> None:
    """A re-download writes in place; a tensor of the mapped file would end the process with SIGBUS."""
    path = tmp_path / f"mindeye1.{kind}"
    state = mindeye1_state()
    if kind == "pth":
        torch.save({"model_state_dict": state}, path)
    else:
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    model = load_published("mindeye1", path)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path.write_bytes(b"")  # the pages of the mapping are gone
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    mapped = Path("/proc/self/maps").read_text()
    starts = [
        tuple(int(end, 16) for end in line.split()[0].split("-")) for line in mapped.splitlines() if path.name in line
    ]
    addresses = [value.data_ptr() for value in model.state_dict().values()]
    assert not any(low <= address < high for low, high in starts for address in addresses)
