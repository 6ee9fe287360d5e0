"""The transformer over voxels: its start, its symmetries, that it learns, and its size."""

import numpy as np
import pytest
import torch

from mindeye_pl.config import compose_config
from mindeye_pl.models.in_context import InContextTraining, episode_loss
from mindeye_pl.nn.in_context.episodes import KnownSubject
from mindeye_pl.nn.in_context.inversion import infer_features
from mindeye_pl.nn.in_context.support import estimate_voxels
from mindeye_pl.nn.in_context.transformer import VoxelTransformer
from mindeye_pl.steps.brain.in_context.transformer import build_transformer
from mindeye_pl.types import ImageBatch
from tests.nn.in_context.planted import FEATURES, planted_prior, planted_subject, planted_support


def network(seed: int = 0, *, trained: bool = True) -> VoxelTransformer:
    """A small network; `trained` draws its last layer, which starts at zero."""
    torch.manual_seed(seed)
    made = VoxelTransformer(FEATURES, width=16, heads=4, depth=2, latents=3)
    if trained:
        torch.nn.init.normal_(made.correction.weight)
    return made


def test_an_untrained_network_is_the_closed_form() -> None:
    support, _, responses = planted_support(0, 8, 4)
    voxels = estimate_voxels(planted_prior(), *vars(support).values())
    found = network(trained=False)(voxels, responses, pseudo_count=10)
    assert torch.equal(found, infer_features(voxels, responses, pseudo_count=10).float())


def test_order_changes_nothing() -> None:
    support, _, responses = planted_support(1, 8, 4)
    rng, made = np.random.default_rng(1), network()
    voxels = estimate_voxels(planted_prior(), *vars(support).values())
    images, order = (torch.from_numpy(rng.permutation(count)) for count in support.responses.shape)
    other = estimate_voxels(
        planted_prior(), support.features[images], support.responses[images][:, order], support.counts[images]
    )
    found = made(voxels, responses, pseudo_count=10)
    assert not torch.allclose(found, infer_features(voxels, responses, pseudo_count=10).float(), atol=1e-2)
    torch.testing.assert_close(found, made(other, responses[:, order], pseudo_count=10), atol=1e-4, rtol=1e-4)
    # Queries do not see each other.
    torch.testing.assert_close(found[2:3], made(voxels, responses[2:3], pseudo_count=10), atol=1e-4, rtol=1e-4)


def test_episodes_have_disjoint_images_and_the_same_voxels() -> None:
    features = torch.arange(10.0)[:, None].expand(-1, 2)
    image = torch.arange(30) % 10
    voxels = torch.arange(7.0)
    subject = KnownSubject.of(features, 100 * voxels + image[:, None], image)
    episode = subject.draw(np.random.default_rng(0), 4, 5, 3)
    shown, asked = episode.support.features[:, 0], episode.features[:, 0]
    assert len(set(shown.tolist()) | set(asked.tolist())) == 9
    chosen = episode.support.responses[0] - shown[0]
    assert torch.equal(episode.support.responses, chosen + shown[:, None])
    torch.testing.assert_close(episode.responses, chosen + asked[:, None])


def test_training_lowers_the_loss() -> None:
    subjects = []
    for seed in (0, 1):
        _, features, responses = planted_subject(seed, 80, voxels=60)
        bent = torch.nn.functional.softplus(3 * responses)  # a code that no linear inversion reads
        subjects.append(KnownSubject.of(features.float(), bent.float(), torch.arange(80)))
    how = {"pseudo_count": 50.0, "support": (5, 20), "queries": 30, "voxels": 40, "temperature": 0.1, "max_lr": 1e-3}
    model = InContextTraining(network(trained=False), subjects, planted_prior(), torch.ones(FEATURES), **how)
    optimizer, losses = torch.optim.AdamW(model.network.parameters(), lr=3e-3), []
    for step in range(40):
        loss = model.compute_loss(ImageBatch({"episode": torch.tensor([[step % 4]])})).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])


def test_the_loss_of_perfect_features_is_the_lowest() -> None:
    true = torch.randn(9, FEATURES, generator=torch.Generator().manual_seed(0))
    scale = torch.linspace(2, 1, FEATURES)
    perfect = episode_loss(3 * true, true, scale, 0.1)
    assert perfect[1] == pytest.approx(0, abs=1e-6)
    assert episode_loss(true.roll(1, 0), true, scale, 0.1).sum() > perfect.sum() + 1


@pytest.mark.parametrize(("scale", "millions"), [("laptop", (0.1, 0.5)), ("small", (2, 8)), ("paper", (10, 60))])
def test_sizes_without_memory(scale: str, millions: tuple[float, float]) -> None:
    data = ["data=nsd"] if scale == "paper" else []
    config = compose_config(["pipeline=decode_in_context", f"scale={scale}", *data])
    with torch.device("meta"):
        made = build_transformer(config.in_context.features, config.in_context.transformer)
    count = sum(each.numel() for each in made.parameters()) / 1e6
    assert millions[0] < count < millions[1]
