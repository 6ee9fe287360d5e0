"""The contracts of brain decoders and image decoders, and a system of a user's own that is used through them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.models.mind_reader import MindReader
from mindeye_pl.models.mindeye import MindEye1, MindEye2
from mindeye_pl.models.parts.alignment import FunctionalAlignment
from mindeye_pl.models.parts.backbone import Backbone
from mindeye_pl.models.parts.part import Part
from mindeye_pl.models.reconstructor import BrainQuery, Reconstructor
from mindeye_pl.nn.brain.cluster_backbone import ClusterBackbone
from mindeye_pl.nn.brain.cluster_pooling import ClusterPooling
from mindeye_pl.nn.diffusion.builders import random_unclip, random_vae
from mindeye_pl.nn.diffusion.seeds import image_seed, normal_draws
from mindeye_pl.nn.diffusion.solvers import Sampling
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.nn.image_decoder import ImageDecoder
from mindeye_pl.nn.recorded import Recorded
from mindeye_pl.nn.stylegan2.networks import ImageGenerator, build_generator
from mindeye_pl.training.checkpoints import load_shared_weights
from mindeye_pl.types import BrainBatch, PartLoss, Prediction
from tests.models.tiny import alignment, low_level, mapper, mixer, prior, residual_mlp, separate_low_level
from tests.nn.diffusion.test_unclip import UNET, VAE
from tests.weights.formats.test_versatile_diffusion import unet

VOXELS = (9, 7)
TOKENS, WIDTH = 4, 16


class Halves(Recorded):
    """A toy network: one linear map to all tokens."""

    def __init__(self, hidden_dim: int, num_tokens: int, token_dim: int):
        super().__init__()
        self.linear = nn.Linear(hidden_dim, num_tokens * token_dim)
        self.shape = (num_tokens, token_dim)

    def forward(self, aligned: Tensor) -> Tensor:
        return self.linear(aligned).unflatten(-1, self.shape)


class Reader(Part):
    """The toy system's one part beside the alignment."""

    def __init__(self, network: Halves):
        super().__init__(network, weight_decay=0.0, gain_decay="published")


class Toy(BrainDecoder):
    """A system of a user's own whose prior adds noise to the tokens; it derives from no other system."""

    def __init__(self, alignment: FunctionalAlignment, reader: Reader, amplitude: float = 0.5):
        super().__init__(None, None)
        self.alignment, self.reader, self.amplitude = alignment, reader, amplitude

    def forward(self, voxels: Sequence[Tensor], subject_index: Sequence[int]) -> Prediction:
        aligned = torch.cat([self.alignment(v, index) for v, index in zip(voxels, subject_index, strict=True)])
        tokens = self.reader.network(aligned)
        return Prediction(aligned, tokens, tokens)

    def compute_loss(self, batch: BrainBatch, *, epoch: int, num_epochs: int) -> PartLoss:
        tokens = self(batch.voxels, batch.subject_index).tokens
        loss = F.mse_loss(tokens, batch.targets["tokens"].float()) + F.mse_loss(
            tokens.mean((1, 2)), batch.targets["brightness"][:, 0]
        )
        return PartLoss(loss, {"mse": loss.detach()}, {"retrieval": tokens})

    def sample_tokens(self, tokens: Tensor, seeds: Sequence[int] | None = None, *, samples: int = 1) -> Tensor:
        noise = iter(lambda: torch.randn_like(tokens), None) if seeds is None else normal_draws(seeds, tokens)
        return tokens + self.amplitude * torch.stack([next(noise) for _ in range(samples)]).mean(0)


def toy(voxels: Sequence[int]) -> Toy:
    return Toy(alignment(voxels), Reader(Halves(12, TOKENS, WIDTH)))


def mindeye2(voxels: Sequence[int]) -> BrainDecoder:
    return MindEye2(alignment(voxels), mixer(), low_level(latent_size=8), prior(sample_steps=3))


def mindeye1(voxels: Sequence[int]) -> BrainDecoder:
    sampled = prior(sample_steps=3, target_scale="sqrt_width", renormalise="first_token")
    return MindEye1(alignment(voxels), residual_mlp(), separate_low_level(voxels), sampled)


def pooled(voxels: Sequence[int]) -> BrainDecoder:
    network = ClusterPooling(voxels, 3, 4, attention="embeddings")
    backbone = ClusterBackbone(3, 4, 12, TOKENS, WIDTH, num_layers=1, heads=2)
    return MindEye2(FunctionalAlignment(network), Backbone(backbone), low_level(latent_size=8), prior(sample_steps=3))


def without_prior(voxels: Sequence[int]) -> BrainDecoder:
    return MindEye2(alignment(voxels), mixer())


def mind_reader(voxels: Sequence[int]) -> BrainDecoder:
    return MindReader(mapper(voxels, WIDTH), mapper(voxels, WIDTH))


SYSTEMS = [mindeye2, mindeye1, pooled, without_prior, mind_reader, toy]
Build = Callable[[Sequence[int]], BrainDecoder]


def batch(num_tokens: int) -> BrainBatch:
    """A batch with targets of all kinds, of which every system takes its own."""
    rng = torch.Generator().manual_seed(1)
    voxels = [torch.randn(3, count, generator=rng) for count in VOXELS]
    targets = {
        "tokens": (num_tokens, WIDTH),
        "latents": (4, 64),
        "maps": (2 * 4, 512),
        "captions": (3, WIDTH),
        "views": (2, WIDTH),
        "brightness": (1,),
    }
    drawn = {kind: torch.randn(6, *shape, generator=rng) for kind, shape in targets.items()}
    return BrainBatch(voxels, [0, 1], torch.arange(6), drawn)


@pytest.mark.parametrize("build", SYSTEMS)
def test_a_system_reads_and_learns(build: Build) -> None:
    torch.manual_seed(0)
    model = build(VOXELS).eval()
    out = model.predict(torch.randn(5, VOXELS[1]), subject_index=1)
    assert out.tokens.ndim == out.retrieval.ndim == 3
    assert len(out.aligned) == len(out.tokens) == len(out.retrieval) == 5
    assert out.tokens.shape[-1] == out.retrieval.shape[-1] == WIDTH
    assert not out.tokens.requires_grad

    data = batch(out.retrieval.shape[1])
    joined = model(data.voxels, data.subject_index)
    for index, rows in enumerate(joined.tokens.split(3)):
        torch.testing.assert_close(rows, model.predict(data.voxels[index], index).tokens)

    for training in (True, False):
        loss = model.train(training).compute_loss(data, epoch=3, num_epochs=4)
        assert loss.total.ndim == 0
        torch.testing.assert_close(sum(loss.parts.values()), loss.total.detach())
        assert not any(part.requires_grad for part in loss.parts.values())
        scores = model.retrieval_scores(data, loss)
        assert scores["pool_size"] == len(data)
        assert {"image_retrieval", "brain_retrieval"} <= scores.keys()
    loss.total.backward()
    assert all(any(p.grad is not None for p in part.parameters()) for part in model.parts().values())


@pytest.mark.parametrize("build", SYSTEMS)
def test_weights_of_single_voxels_move_the_shared_space(build: Build) -> None:
    torch.manual_seed(0)
    model = build(VOXELS).eval()
    for index, count in enumerate(VOXELS):
        weights = model.voxel_weights(index)
        if build is mind_reader:
            assert weights is None
            continue
        at_zero = model.predict(torch.zeros(1, count), index).aligned
        moved = model.predict(torch.eye(count), index).aligned - at_zero  # (V, h)
        torch.testing.assert_close(moved.T, weights)


@pytest.mark.parametrize("build", SYSTEMS)
def test_sampled_tokens_depend_on_the_seed_of_the_image_alone(build: Build) -> None:
    torch.manual_seed(0)
    model, tokens = build(VOXELS).eval(), torch.randn(3, TOKENS, WIDTH)
    for samples in (1, 2):
        drawn = model.sample_tokens(tokens, [4, 5, 6], samples=samples)
        assert drawn.shape == tokens.shape
        assert torch.equal(drawn, model.sample_tokens(tokens, [4, 5, 6], samples=samples))
        alone = torch.cat([model.sample_tokens(tokens[i : i + 1], [4 + i], samples=samples) for i in range(3)])
        torch.testing.assert_close(alone, drawn, rtol=1e-4, atol=1e-4)
    if build in (without_prior, mind_reader):
        assert torch.equal(drawn, tokens)
    else:
        assert not torch.equal(drawn, model.sample_tokens(tokens, [7, 8, 9], samples=samples))
    torch.manual_seed(1)
    assert model.sample_tokens(tokens).shape == tokens.shape


@pytest.mark.parametrize("build", SYSTEMS)
def test_a_new_subject_inherits_all_parameters_but_the_subjects_own(build: Build) -> None:
    torch.manual_seed(0)
    pretrained, model = build(VOXELS), build((5,))
    assert (pretrained.voxel_counts, model.voxel_counts) == (list(VOXELS), [5])
    assert type(model).voxel_counts_in(pretrained.state_dict()) == list(VOXELS)
    own = {key: value.clone() for key, value in model.state_dict().items()}
    prefixes = model.subject_parameters()
    assert prefixes
    assert all(prefix.endswith(".") for prefix in prefixes)
    load_shared_weights(model, pretrained.state_dict(), Path("pretrained"), inherit_bias="corrected")
    for key, value in model.state_dict().items():
        expected = own if key.startswith(prefixes) else pretrained.state_dict()
        assert torch.equal(value, expected[key]), key
    changed = {key for key, value in pretrained.state_dict().items() if value.shape != own.get(key, value).shape}
    assert all(key.startswith(prefixes) for key in changed), "what depends on the voxel count is the subject's own"


@pytest.mark.parametrize("build", SYSTEMS)
def test_what_belongs_to_single_subjects_learns_alone(build: Build) -> None:
    torch.manual_seed(0)
    model = build((VOXELS[0],))
    model.freeze_all_but("per_subject")
    own = model.subject_parameters()
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learns == {name for name, _ in model.named_parameters() if name.startswith(own)}
    assert learns
    data = batch(TOKENS)
    data = BrainBatch(data.voxels[:1], [0], data.stimulus_ids[:3], {k: v[:3] for k, v in data.targets.items()})
    model.on_train_epoch_start()
    model.compute_loss(data, epoch=0, num_epochs=1).total.backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} <= learns


@pytest.mark.parametrize("build", SYSTEMS)
def test_a_system_is_frozen_saved_and_rebuilt(build: Build, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build(VOXELS).eval()
    first, *others = model.parts()
    learned = {name for name, p in model.named_parameters() if p.requires_grad}
    model.freeze_all_but(first)
    assert all(p.requires_grad for p in model.parts()[first].network.parameters())
    assert not any(p.requires_grad for name in others for p in model.parts()[name].parameters())
    model.freeze_all_but("all")
    assert {name for name, p in model.named_parameters() if p.requires_grad} == learned, "constants stay constants"
    model.save_pretrained(tmp_path / "out")
    again = BrainDecoder.from_pretrained(tmp_path / "out")
    assert type(again) is type(model)
    voxels = torch.randn(2, VOXELS[0])
    assert torch.equal(again.predict(voxels).tokens, model.predict(voxels).tokens)


def unclip() -> ImageDecoder:
    return random_unclip(0, UNET, VAE)


def versatile_diffusion() -> ImageDecoder:
    torch.manual_seed(0)
    vae = random_vae(0, **VAE)
    return UnCLIPModel(unet(), vae, image_size=(32, 32), null_tokens="zeros", output="corrected").eval()


def generator() -> ImageDecoder:
    torch.manual_seed(0)
    sizes = {"image_size": 16, "latent_dim": 8, "w_dim": 8, "channel_base": 64, "channel_max": 8, "mapping_layers": 2}
    return ImageGenerator(build_generator(sizes | {"image_dim": 12, "caption_dim": 12}), latents="random")


@pytest.mark.parametrize("build", [unclip, versatile_diffusion, generator])
def test_an_image_decoder_draws(build: Callable[[], ImageDecoder]) -> None:
    decoder, seeds = build(), [3, 8]
    assert decoder.sampling == Sampling()
    decoder.sampling = Sampling("unipc", steps=2, guidance=2.0, strength=0.5)
    tokens = torch.randn(2, 4, decoder.token_dim)
    images = decoder.draw(tokens, seeds)
    assert images.shape == (2, 3, *decoder.image_size)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert not images.requires_grad
    torch.testing.assert_close(decoder.draw(tokens[1:], seeds[1:]), images[1:], rtol=1e-4, atol=1e-4)
    assert not torch.equal(decoder.draw(tokens, [4, 9]), images)
    started = decoder.draw(tokens, seeds, torch.rand(2, 3, 8, 8))
    assert started.shape == images.shape
    with torch.no_grad():
        decoded = decoder.autoencode(images)
    if build is generator:
        assert decoded is None
        assert torch.equal(started, images)
    else:
        assert decoded is not None
        assert decoded.shape == images.shape
        assert not torch.equal(started, images)


class Copying(ImageDecoder):
    """A decoder that shows its tokens as pixels."""

    image_size, token_dim = (TOKENS, WIDTH), WIDTH

    def draw(self, tokens: Tensor, seeds: Sequence[int], init_images: Tensor | None = None) -> Tensor:
        return tokens.sigmoid()[:, None].expand(-1, 3, -1, -1)


def test_a_new_systems_own_prior_is_used_by_the_reconstructor() -> None:
    torch.manual_seed(0)
    model, voxels = toy(VOXELS).eval(), torch.randn(3, 2, VOXELS[0])
    reconstructor = Reconstructor(model, prior_samples=2, image_decoder=Copying(), seed=5).eval()
    made = reconstructor.predict_step(BrainQuery(torch.tensor([1, 4, 9]), voxels, torch.full((3, 2), 0.5)))
    tokens = model.predict(voxels.flatten(0, 1)).tokens.view(3, 2, TOKENS, WIDTH).mean(1)
    torch.testing.assert_close(made["backbone_tokens"], tokens)
    seeds = [image_seed(5, id_) for id_ in (1, 4, 9)]
    expected = model.sample_tokens(tokens, seeds, samples=2)
    torch.testing.assert_close(made["prior_tokens"], expected)
    assert not torch.allclose(made["prior_tokens"], tokens, atol=0.01)
    torch.testing.assert_close(made["images"], Copying().draw(expected, seeds))
