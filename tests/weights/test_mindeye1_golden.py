"""The published MindEye1 at a small size, through the importers of its checkpoint formats."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mindeye_pl.errors import UserError
from mindeye_pl.models.mindeye import MindEye1
from mindeye_pl.models.parts.prior import DiffusionPrior
from mindeye_pl.nn.brain.diffusion_prior import CosineSchedule
from mindeye_pl.nn.brain.low_level import LowLevelModel
from mindeye_pl.nn.clip.embeddings import by_first_token
from mindeye_pl.weights.registry import load_published, save_published
from tests.golden import weights as golden
from tests.models.tiny import alignment, low_level, prior, residual_mlp
from tests.weights.test_convert import Malice
from tests.weights.test_mindeye2_golden import agree

CASE = Path(golden.__file__).parent / "mindeye1_small"

#: Names of the decoder's attention in the released low-level checkpoints, by today's.
OLDER = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}


def published_state(keys_file: str = "keys.json") -> dict[str, Tensor]:
    """The state dict that the case was recorded with."""
    keys = json.loads((CASE / keys_file).read_text())
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


def older(key: str) -> str:
    """A key of the low-level checkpoint as released."""
    for today, before in OLDER.items():
        key = key.replace(f"attentions.0.{today}", f"attentions.0.{before}")
    return key


def save(folder: Path, state: dict[str, Tensor]) -> Path:
    path = folder / "last.pth"
    torch.save({"epoch": 239, "model_state_dict": state, "train_losses": [1.0, 0.5], "lrs": [3e-4]}, path)
    return path


@pytest.fixture(scope="module")
def io() -> dict[str, Tensor]:
    return load_file(CASE / "io.safetensors")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> MindEye1:
    model = load_published("mindeye1", save(tmp_path_factory.mktemp("golden"), published_state()))
    assert isinstance(model, MindEye1)
    return model


@pytest.fixture(scope="module")
def low_level_state() -> dict[str, Tensor]:
    return published_state("low_level_keys.json")


def prior_of(model: MindEye1) -> DiffusionPrior:
    assert model.prior is not None
    return model.prior


def test_backbone_and_projector(model: MindEye1, io: dict[str, Tensor]) -> None:
    out = model.predict(io["voxels"])
    agree(out.tokens, io["backbone"])
    agree(out.retrieval, io["clip_voxels"])
    assert out.latents is None


def test_prior_loss(model: MindEye1, io: dict[str, Tensor]) -> None:
    with torch.no_grad():
        loss, prediction = prior_of(model).network.loss(
            io["clip_target"], io["backbone"], times=io["prior.times"], noise=io["prior.noise"], drop_probability=0.0
        )
    assert prior_of(model).network.scale == pytest.approx(io["prior.image_embed_scale"].item())
    agree(prediction, io["prior.pred"])
    agree(loss[None], io["prior.loss"])


def test_prior_sample(model: MindEye1, io: dict[str, Tensor]) -> None:
    sampled = prior_of(model).sample(io["backbone"][:2], steps=20, noise=io["prior.sample.20.noise"])
    agree(sampled, io["prior.sample.20.out"], 1e-3)


def test_reconstruction_is_the_renormalised_sample(model: MindEye1, io: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    reconstructed = model.sample_tokens(model.predict(io["voxels"]).tokens)
    torch.manual_seed(0)
    sampled = prior_of(model).sample(model.predict(io["voxels"]).tokens)
    torch.testing.assert_close(reconstructed, by_first_token(sampled))
    torch.testing.assert_close(reconstructed[:, 0].norm(dim=-1), torch.ones(3))


def test_round_trip(model: MindEye1, tmp_path: Path) -> None:
    published = published_state()
    save_published("mindeye1", model, tmp_path / "last.pth")
    written = torch.load(tmp_path / "last.pth", weights_only=True)["model_state_dict"]
    assert written.keys() == published.keys()
    assert all(torch.equal(written[key], value) for key, value in published.items())
    again = load_published("mindeye1", tmp_path / "last.pth").state_dict()
    assert all(torch.equal(again[key], value) for key, value in model.state_dict().items())


def test_a_published_checkpoint_is_shared_as_it_was_loaded(model: MindEye1, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "out")
    again = MindEye1.from_pretrained(tmp_path / "out")
    assert prior_of(again).renormalise == "first_token"
    assert prior_of(again).network.scale == prior_of(model).network.scale
    assert all(torch.equal(again.state_dict()[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("names", ["today", "older"])
def test_low_level_model(io: dict[str, Tensor], low_level_state: dict[str, Tensor], tmp_path: Path, names: str) -> None:
    state = {older(key) if names == "older" else key: value for key, value in low_level_state.items()}
    model = load_published("mindeye1_low_level", save(tmp_path, state))
    out = model.predict(io["voxels"])
    agree(out.latents, io["low_level.latents"])
    agree(out.maps, io["low_level.maps"])


def test_low_level_model_is_written_under_the_released_names(
    low_level_state: dict[str, Tensor], tmp_path: Path
) -> None:
    model = load_published("mindeye1_low_level", save(tmp_path, low_level_state))
    save_published("mindeye1_low_level", model, tmp_path / "epoch120.pth")
    written = torch.load(tmp_path / "epoch120.pth", weights_only=True)["model_state_dict"]
    assert written.keys() == {older(key) for key in low_level_state}
    assert "upsampler.mid_block.attentions.0.proj_attn.weight" in written
    assert all(torch.equal(written[older(key)], value) for key, value in low_level_state.items())


def test_low_level_model_without_its_maps(
    io: dict[str, Tensor], low_level_state: dict[str, Tensor], tmp_path: Path
) -> None:
    """The published class leaves the projection out by default, and then the maps are the grid."""
    state = {key: value for key, value in low_level_state.items() if not key.startswith("maps_projector.")}
    model = load_published("mindeye1_low_level", save(tmp_path, state))
    out = model.predict(io["voxels"])
    agree(out.latents, io["low_level.latents"])
    assert out.maps.shape == (3, 256, 64)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def paper_sized(num_tokens: int) -> MindEye1:
    with torch.device("meta"):
        return MindEye1(
            alignment([15724], 4096),
            residual_mlp(4096, num_tokens, 768, num_blocks=4, retrieval_dim=2048),
            prior=prior(257, 768, depth=6, head_dim=64, heads=12, target_scale="sqrt_width"),
        )


def test_parameters_at_paper_size() -> None:
    model = paper_sized(257)
    assert count(model.backbone.network.retrieval_head) == 7_354_624
    assert count(model.alignment) + count(model.backbone) == 947_579_904
    assert count(prior_of(model)) == 56_055_168
    assert sum(p.numel() for p in model.parameters()) == 947_579_904 + 56_055_168 + 16  # and the rotary frequencies


def test_the_class_token_model_is_the_same_but_for_its_last_map() -> None:
    whole, token = (paper_sized(num_tokens).backbone for num_tokens in (257, 1))
    assert count(whole) - count(token) == 256 * 768 * (4096 + 1)
    backbone = residual_mlp(8, 1, retrieval_dim=12).eval()
    tokens, retrieval = backbone(torch.randn(5, 8))
    assert tokens.shape == retrieval.shape == (5, 1, 16)


def test_low_level_parameters_at_paper_size() -> None:
    with torch.device("meta"):
        model = LowLevelModel([15724], 4096)
    maps = count(model.head.to_maps)
    assert maps == 64 * 512 + 2 * 512**2 + 512 + 4 * 512
    assert count(model) - maps == pytest.approx(205.5e6, rel=1e-3)


def test_a_class_token_checkpoint_without_a_prior(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MindEye1(alignment([7], 8), residual_mlp(8, 1, num_blocks=2, retrieval_dim=12)).eval()
    save_published("mindeye1", model, tmp_path / "last.pth")
    again, voxels = load_published("mindeye1", tmp_path / "last.pth"), torch.randn(4, 7)
    assert again.prior is None
    assert torch.equal(again.predict(voxels).retrieval, model.predict(voxels).retrieval)
    tokens = again.predict(voxels).tokens
    assert torch.equal(again.sample_tokens(tokens), model.predict(voxels).tokens)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"voxel2clip.lin9.weight": torch.zeros(2)}, "no MindEye1 checkpoint.*lin9"),
        ({"voxel2clip.lin1.weight": None}, "no MindEye1 checkpoint.*voxel2clip.lin1.weight"),
        ({"voxel2clip.mlp.2.1.bias": None}, "another architecture: backbone.*blocks.2.1.bias.*missing"),
        ({"voxel2clip.mlp.1.0.weight": torch.zeros(32, 31)}, r"another architecture.*\(32, 31\).*\(32, 32\)"),
        ({"net.null_brain_embeds": torch.zeros(6, 768)}, r"another architecture.*\(6, 768\).*\(5, 768\)"),
        ({"net.causal_transformer.layers.0.0.null_kv": None}, "no MindEye1 checkpoint.*null_kv"),
        ({"net.causal_transformer.layers.0.0.null_kv": torch.zeros(2, 0)}, r"null_kv of shape \(2, 0\)"),
        ({"voxel2clip.lin0.0.weight": torch.zeros(33)}, r"lin0.0.weight of shape \(33,\).*2 dimensions"),
        ({"net.causal_transformer.layers.1.0.rotary_emb.freqs": torch.zeros(16)}, "one table for all layers"),
        ({"ridge.linears.0.weight": torch.zeros(32, 33)}, "no MindEye1 checkpoint.*ridge"),
    ],
)
def test_another_content_is_refused(tmp_path: Path, change: dict[str, Tensor | None], words: str) -> None:
    state = {key: value for key, value in (published_state() | change).items() if value is not None}
    with pytest.raises(UserError, match=words) as found:
        load_published("mindeye1", save(tmp_path, state))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lin2.weight": torch.zeros(2)}, "no MindEye1 low-level checkpoint.*lin2.weight"),
        ({"lin0.0.weight": None}, "no MindEye1 low-level checkpoint.*lin0.0.weight"),
        ({"norm.weight": torch.zeros(256)}, "not supported.*256 channels"),
        ({"norm.weight": torch.tensor(1.0)}, r"norm.weight of shape \(\).*1 dimensions"),
        ({"maps_projector.6.bias": None}, "another architecture: head.to_maps.6.bias"),
        ({"upsampler.conv_in.bias": torch.zeros(3)}, r"another architecture.*\(3,\).*\(256,\)"),
        ({"upsampler.mid_block.attentions.0.query.bias": torch.zeros(256)}, "under two names"),
    ],
)
def test_another_low_level_content_is_refused(
    low_level_state: dict[str, Tensor], tmp_path: Path, change: dict[str, Tensor | None], words: str
) -> None:
    state = {key: value for key, value in (low_level_state | change).items() if value is not None}
    with pytest.raises(UserError, match=words) as found:
        load_published("mindeye1_low_level", save(tmp_path, state))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("kind", ["mindeye1", "mindeye1_low_level"])
def test_broken_and_unsafe_files_are_refused(tmp_path: Path, kind: str) -> None:
    path, trace = tmp_path / "last.pth", tmp_path / "trace"
    with pytest.raises(UserError, match="does not exist"):
        load_published(kind, path)
    torch.save({"model_state_dict": {"voxel2clip.lin0.0.weight": torch.zeros(2, 3)}, "args": Malice(trace)}, path)
    with pytest.raises(UserError, match="was not executed"):
        load_published(kind, path)
    assert not trace.exists()
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="is damaged"):
        load_published(kind, path)
    save_file({"something": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"no MindEye1 .*something"):
        load_published(kind, tmp_path / "other.safetensors")


def test_models_that_the_published_code_cannot_read_are_not_written(tmp_path: Path) -> None:
    def system(**changes: object) -> MindEye1:
        parts = {"alignment": alignment([7], 8), "backbone": residual_mlp(8, 3)}
        return MindEye1(**(parts | changes))  # type: ignore[arg-type]

    for model, words in (
        (system(alignment=alignment([7, 5], 8)), "2 subjects"),
        (system(low_level=low_level(8, latent_size=4)), "low-level branch"),
        (system(prior=prior(3, renormalise="first_token")), "prior.network.target_scale=one"),
        (system(prior=prior(3, target_scale="sqrt_width")), "prior.renormalise=none"),
        (
            system(prior=prior(3, target_scale="sqrt_width", renormalise="first_token", condition="residual")),
            "residual",
        ),
    ):
        with pytest.raises(UserError, match=words):
            save_published("mindeye1", model, tmp_path / "last.pth")
    with pytest.raises(UserError, match="one subject"):
        save_published("mindeye1_low_level", LowLevelModel([7, 5], 8, latent_size=4), tmp_path / "epoch120.pth")
    assert not list(tmp_path.iterdir())
