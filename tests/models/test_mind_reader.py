"""Mind Reader: stages a and b, targets, outputs, and the weights that a new subject inherits."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mindeye_pl.errors import UserError
from mindeye_pl.losses.mapper import STAGE_A, STAGE_B, mapper_loss
from mindeye_pl.models.mind_reader import MindReader
from mindeye_pl.models.objectives import MapperObjective
from mindeye_pl.nn.clip.embeddings import mean_caption
from mindeye_pl.training.checkpoints import load_shared_weights
from mindeye_pl.types import BatchGrowth, BrainBatch
from tests.models.tiny import mapper

VOXELS = (11, 8)


def system(voxels: tuple[int, ...] = VOXELS, *, captions: bool = True, **objective: object) -> MindReader:
    torch.manual_seed(0)
    image, caption = mapper(voxels), mapper(voxels)
    return MindReader(image, caption if captions else None, MapperObjective(**objective))  # type: ignore[arg-type]


def batch(seed: int = 0) -> BrainBatch:
    generator = torch.Generator().manual_seed(seed)
    voxels = [torch.randn(4, count, generator=generator) for count in VOXELS]
    tokens, captions, views = (
        F.normalize(torch.randn(8, count, 6, generator=generator), dim=-1) for count in (1, 3, 2)
    )
    captions[:, 2] = 0  # an image with fewer captions than another
    targets = {"tokens": tokens, "captions": captions, "views": views}
    return BrainBatch(voxels, [0, 1], torch.arange(8), targets)


def test_validation_always_uses_stage_b() -> None:
    objective = MapperObjective(first_share=0.5)
    assert [objective.weights(epoch, 4, training=True) for epoch in range(4)] == [STAGE_A, STAGE_A, STAGE_B, STAGE_B]
    assert [objective.weights(epoch, 4, training=False) for epoch in range(4)] == [STAGE_B] * 4
    assert objective.growth(4) == BatchGrowth(2, 4)


def test_one_stage_alone() -> None:
    first, second = MapperObjective(contrastive=False), MapperObjective(first_share=0)
    assert {first.weights(epoch, 4, training=True) for epoch in range(4)} == {STAGE_A}
    assert first.growth(4) is None
    assert {second.weights(epoch, 4, training=True) for epoch in range(4)} == {STAGE_B}
    assert second.growth(4) == BatchGrowth(0, 4)
    assert MapperObjective(batch_growth=1).growth(4) is None


def test_validation_is_of_the_image_s_own_embedding_and_of_the_captions_mean() -> None:
    model, data = system().eval(), batch()
    loss = model.compute_loss(data, epoch=0, num_epochs=4)
    tokens = model(data.voxels, data.subject_index).tokens
    targets = data.targets["tokens"][:, 0], mean_caption(data.targets["captions"])
    expected = sum(mapper_loss(tokens[:, place], target, STAGE_B).total for place, target in enumerate(targets))
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(sum(loss.parts.values()), loss.total.detach())
    kinds = ("mse", "cosine", "contrastive")
    assert set(loss.parts) == {f"{name}_{kind}" for name in ("image", "caption") for kind in kinds}
    scores = model.retrieval_scores(data, loss)
    assert set(scores) == {"image_retrieval", "brain_retrieval", "caption_retrieval", "pool_size"}
    loss.outputs["caption"] = targets[1]
    assert model.retrieval_scores(data, loss)["caption_retrieval"] == 1


def test_training_draws_a_view_and_a_caption() -> None:
    model, data = system(), batch()
    drawn = {"image": set(), "caption": set()}
    for seed in range(20):
        torch.manual_seed(seed)
        for name, target in (("image", model._image_target(data)), ("caption", model._caption_target(data))):
            table = data.targets["views" if name == "image" else "captions"]
            places = (table == target[:, None]).all(-1)  # (B, K)
            assert places.any(1).all(), "one of its own"
            drawn[name] |= set(places.int().argmax(1).tolist())
    assert drawn == {"image": {0, 1}, "caption": {0, 1}}
    del data.targets["views"]
    assert torch.equal(model._image_target(data), data.targets["tokens"][:, 0])


def test_the_mappers_share_no_weights() -> None:
    model, data = system(), batch()
    model.compute_loss(data, epoch=3, num_epochs=4).total.backward()
    both = {name: p.grad for name, p in model.named_parameters()}
    assert all(gradient is not None for gradient in both.values())
    alone = system(captions=False)
    del data.targets["views"]
    alone.compute_loss(data, epoch=3, num_epochs=4).total.backward()
    model.zero_grad()
    model.compute_loss(data, epoch=3, num_epochs=4).total.backward()
    for name, parameter in alone.named_parameters():
        assert torch.equal(parameter.grad, model.get_parameter(name).grad), name


def test_without_captions_a_caption_mapper_is_refused() -> None:
    data = batch()
    del data.targets["captions"]
    with pytest.raises(UserError, match=r"no captions.*caption_mapper=none"):
        system().compute_loss(data, epoch=0, num_epochs=4)
    loss = system(captions=False).compute_loss(data, epoch=0, num_epochs=4)
    assert set(loss.parts) == {"image_mse", "image_cosine"}


def test_outputs_are_unchanged_or_transformed_like_the_targets() -> None:
    voxels = torch.randn(3, VOXELS[1])
    raw, alike = (system(outputs=outputs, clamp=0.01).eval() for outputs in ("published", "corrected"))
    tokens = raw.predict(voxels, 1).tokens
    assert tokens.shape == (3, 2, 6)
    assert torch.equal(tokens[:, 0], raw.image_mapper(voxels, 1))
    assert torch.equal(tokens[:, 1], raw.caption_mapper(voxels, 1))
    torch.testing.assert_close(alike.predict(voxels, 1).tokens, F.normalize(tokens.clamp(-0.01, 0.01), dim=-1))
    unclamped = system(outputs="corrected", clamp=None).eval()
    torch.testing.assert_close(unclamped.predict(voxels, 1).tokens, F.normalize(tokens, dim=-1))
    out = raw.predict(voxels, 1)
    assert torch.equal(out.retrieval, out.tokens[:, :1])
    assert torch.equal(raw.sample_tokens(out.tokens, [1, 2, 3]), out.tokens)
    assert system(captions=False).eval().predict(voxels, 1).tokens.shape == (3, 1, 6)


def test_a_new_subject_inherits_all_weights_but_those_that_read_voxels() -> None:
    pretrained, model = system().state_dict(), system((5,))
    pretrained = {key: value + 1 for key, value in pretrained.items()}
    own = {key: value.clone() for key, value in model.state_dict().items()}
    load_shared_weights(model, pretrained, Path("pretrained"), inherit_bias="corrected")
    for key, value in model.state_dict().items():
        of_one = ".over_positions." in key or key.endswith(".voxels.counts")
        assert torch.equal(value, own[key] if of_one else pretrained[key]), key
    assert model.voxel_counts == [5]


def test_voxel_counts_are_kept_in_a_shared_folder(tmp_path: Path) -> None:
    model = system().eval()
    model.save_pretrained(tmp_path / "shared")
    again = MindReader.from_pretrained(tmp_path / "shared")
    assert again.voxel_counts == list(VOXELS)
    voxels = torch.randn(2, VOXELS[0])
    assert torch.equal(again.predict(voxels).tokens, model.predict(voxels).tokens)
