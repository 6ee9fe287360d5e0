"""The best of several candidates, the blurry image alone, and systems that the unCLIP cannot tell apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.models.clock import Clock
from mindeye_pl.models.mindeye import MindEye, MindEye1, MindEye2
from mindeye_pl.models.neighbour_tokens import NeighbourTokens
from mindeye_pl.models.reconstructor import BrainQuery, Reconstructor, candidate_seed
from mindeye_pl.nn.clip.clip_embedder import random_embedder
from mindeye_pl.nn.diffusion.builders import random_unclip, random_vae
from mindeye_pl.nn.diffusion.seeds import image_seed
from mindeye_pl.nn.diffusion.solvers import Sampling
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.types import Prediction
from tests.models.tiny import alignment, mixer, prior, residual_mlp
from tests.nn.diffusion.test_unclip import UNET, VAE

VOXELS, TOKENS, WIDTH = 20, 4, 12
SEED, SAMPLING = 5, Sampling("dpm_multistep", steps=2, guidance=2.0, offset=0.0, strength=0.5)


@pytest.fixture(scope="module")
def unclip() -> UnCLIPModel:
    model = random_unclip(0, UNET, VAE)
    model.sampling = SAMPLING
    return model


@pytest.fixture(scope="module")
def embedder() -> torch.nn.Module:
    return random_embedder(image_size=32, num_tokens=TOKENS, token_dim=WIDTH, layers=1, heads=2)


def system(kind: type[MindEye] = MindEye1, *, seed: int = 0) -> MindEye:
    """Untrained, with a prior that samples in two steps."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = (residual_mlp if kind is MindEye1 else mixer)(8, TOKENS, WIDTH)
        options = {"target_scale": "sqrt_width", "renormalise": "first_token"} if kind is MindEye1 else {}
        sampled = prior(TOKENS, WIDTH, head_dim=32, heads=1, sample_steps=2, **options)
        return kind(alignment([VOXELS], 8), backbone, prior=sampled).eval()


def query(*ids: int) -> BrainQuery:
    """Two responses to each image; which, says its number."""
    voxels = [torch.randn(2, VOXELS, generator=torch.Generator().manual_seed(id_)) for id_ in ids]
    return BrainQuery(torch.tensor(ids), torch.stack(voxels), torch.full((len(ids), 2), 0.5))


@torch.no_grad()
def made(reconstructor: Reconstructor, batch: BrainQuery) -> dict[str, Tensor]:
    return reconstructor.eval().predict_step(batch)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_tokens_of_known_images_are_mixed_in(share: float) -> None:
    """They come with the query or are made of its retrieval embedding; alone they need no sample of the prior."""
    batch, rows = query(4, 5), np.random.default_rng(0).normal(size=(9, TOKENS, WIDTH)).astype(np.float32)
    alone = made(Reconstructor(system(), seed=SEED), batch)
    known = NeighbourTokens(rows, np.arange(9), 0.5)
    near = known(alone["retrieval"])
    mixed = Reconstructor(system(), seed=SEED, neighbour_weight=share, neighbours=known)
    expected = (1 - share) * alone["prior_tokens"] + share * near
    torch.testing.assert_close(made(mixed, batch)["prior_tokens"], expected, atol=1e-5, rtol=1e-5)
    mixed.neighbours = None
    given = made(mixed, replace(batch, neighbours=near))["prior_tokens"]
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-5)


def best_of(count: int, unclip: UnCLIPModel, embedder: torch.nn.Module) -> Reconstructor:
    return Reconstructor(system(), image_decoder=unclip, seed=SEED, candidates=count, embedder=embedder)


def test_the_candidate_that_is_kept_is_the_nearest_of_all(unclip: UnCLIPModel, embedder: torch.nn.Module) -> None:
    """Every candidate by hand, as the single sample of its own seed."""
    ids, several = [3, 8, 21], 5
    kept = made(best_of(several, unclip, embedder), query(*ids))
    alone = [made(Reconstructor(system(), image_decoder=unclip, seed=SEED, candidates=1), query(id_)) for id_ in ids]
    chosen = []
    for row, (id_, single) in enumerate(zip(ids, alone, strict=True)):
        brain, similarities, images = single["retrieval"].flatten(1), [], []
        for index in range(several):
            seeds = [candidate_seed(image_seed(SEED, id_), index)]
            one = best_of(1, unclip, embedder)._candidate(single, seeds, 0, Clock(enabled=False))
            tokens = embedder(one["images"]).flatten(1)
            similarities.append(F.cosine_similarity(tokens, brain).item())
            images.append(one)
        best = max(range(several), key=similarities.__getitem__)
        chosen.append(best)
        assert kept["candidate"][row] == best
        assert kept["candidate_similarity"][row].item() == pytest.approx(similarities[best], abs=1e-4)
        for name in ("images", "prior_tokens"):
            torch.testing.assert_close(kept[name][row], images[best][name][0], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(images[0]["images"], single["images"])  # the first is the single sample
    assert len(set(chosen)) > 1


def test_more_candidates_come_nearer(unclip: UnCLIPModel, embedder: torch.nn.Module) -> None:
    ids = range(8)
    two, six = (made(best_of(count, unclip, embedder), query(*ids)) for count in (2, 6))
    assert (six["candidate_similarity"] >= two["candidate_similarity"]).all()
    assert six["candidate_similarity"].mean() > two["candidate_similarity"].mean()
    single = made(best_of(1, unclip, embedder), query(*ids))
    assert not {"candidate", "candidate_similarity"} & single.keys()
    assert torch.equal(single["images"][two["candidate"] == 0], two["images"][two["candidate"] == 0])


def test_candidates_do_not_depend_on_the_batch(unclip: UnCLIPModel, embedder: torch.nn.Module) -> None:
    ids, reconstructor = list(range(40, 48)), best_of(3, unclip, embedder)
    whole = made(reconstructor, query(*ids))
    for batch in (1, 4, 7):
        parts = [made(reconstructor, query(*ids[i : i + batch])) for i in range(0, 8, batch)]
        for name, rows in whole.items():
            torch.testing.assert_close(torch.cat([part[name] for part in parts]), rows, rtol=1e-3, atol=1e-3)


def test_the_unclip_never_makes_more_at_once(
    unclip: UnCLIPModel, embedder: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, sample = [], unclip.sample

    def counted(tokens: Tensor, **settings: object) -> Tensor:
        sizes.append(len(tokens))
        return sample(tokens, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(unclip, "sample", counted)
    made(best_of(4, unclip, embedder), query(1, 2, 3))
    assert sizes == [3, 3, 3, 3]


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_blurry_image_is_the_init_image_and_the_result_at_strength_0(
    unclip: UnCLIPModel, strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae, model = random_vae(3, **(VAE | {"image_size": 16})), system()  # images half the size
    latents = torch.randn(2 * 2, 4, 8, 8)
    predict = model.predict

    def with_latents(voxels: Tensor, subject_index: int = 0) -> Prediction:
        found = predict(voxels, subject_index)
        return Prediction(found.aligned, found.tokens, found.retrieval, latents)

    monkeypatch.setattr(model, "predict", with_latents)
    reconstructor = Reconstructor(model, image_decoder=unclip, seed=SEED, vae=vae)
    monkeypatch.setattr(unclip, "sampling", Sampling("unipc_published", 4, 2.0, 0.0, strength=strength))
    found = made(reconstructor, query(1, 2))
    blurry = F.interpolate(found["blurry_images"], (32, 32), mode="bilinear")
    assert found["blurry_images"].shape == (2, 3, 16, 16)
    assert torch.equal(found["images"], blurry) == (strength == 0)
    # The published range is that of the init image alone: the blurry image does not change.
    published = Sampling("unipc_published", 4, 2.0, 0.0, strength=strength, draft_range="published")
    monkeypatch.setattr(unclip, "sampling", published)
    other = made(reconstructor, query(1, 2))
    assert torch.equal(other["blurry_images"], found["blurry_images"])
    assert torch.equal(other["images"], found["images"]) == (strength == 0)


def test_the_same_tokens_give_the_same_image_whatever_the_system(
    unclip: UnCLIPModel, embedder: torch.nn.Module
) -> None:
    """Two systems that read the same from a brain, with the same prior, end in the same images."""
    one, other = (system(kind) for kind in (MindEye1, MindEye2))
    other.prior, other.predict = one.prior, one.predict  # type: ignore[method-assign]
    images = [
        made(Reconstructor(s, image_decoder=unclip, seed=SEED, candidates=2, embedder=embedder), query(1, 2))
        for s in (one, other)
    ]
    for name, rows in images[0].items():
        assert torch.equal(images[1][name], rows), name
    untouched = made(Reconstructor(system(MindEye2), image_decoder=unclip, seed=SEED), query(1, 2))
    assert not torch.allclose(untouched["images"], images[0]["images"], atol=1e-3)
