"""MindEye1's target tokens against transformers' CLIP with the same weights, and images that are not square."""

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mindeye_pl.nn.clip.clip_embedder import CLIP_MEAN, CLIP_STD, CLIPImageEmbedder

WIDTH, PROJECTED, SIDE, PATCH, LAYERS = 32, 12, 32, 8, 2
MINDEYE1 = {"input_range": "corrected", "resizing": "published"}


@pytest.fixture(scope="module")
def theirs() -> CLIPVisionModelWithProjection:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=PROJECTED,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
    )
    model = CLIPVisionModelWithProjection(config).eval()
    for parameter in model.parameters():  # norms and biases count too
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(scope="module")
def visual(theirs: CLIPVisionModelWithProjection) -> torch.nn.Module:
    """open_clip's tower with the weights of transformers'."""
    vision = {"image_size": SIDE, "patch_size": PATCH, "width": WIDTH, "head_width": WIDTH // 2, "layers": LAYERS}
    text = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
    tower = open_clip.CLIP(embed_dim=PROJECTED, vision_cfg=vision, text_cfg=text, quick_gelu=True).visual
    state = {key.removeprefix("vision_model."): value for key, value in theirs.state_dict().items()}
    own = {
        "class_embedding": state["embeddings.class_embedding"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "conv1.weight": state["embeddings.patch_embedding.weight"],
        "proj": state["visual_projection.weight"].T,
    }
    for kind in ("weight", "bias"):
        own |= {f"ln_pre.{kind}": state[f"pre_layrnorm.{kind}"], f"ln_post.{kind}": state[f"post_layernorm.{kind}"]}
        for layer in range(LAYERS):
            block, other = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
            qkv = [state[f"{other}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            own |= {
                f"{block}.attn.in_proj_{kind}": torch.cat(qkv),
                f"{block}.attn.out_proj.{kind}": state[f"{other}.self_attn.out_proj.{kind}"],
                f"{block}.ln_1.{kind}": state[f"{other}.layer_norm1.{kind}"],
                f"{block}.ln_2.{kind}": state[f"{other}.layer_norm2.{kind}"],
                f"{block}.mlp.c_fc.{kind}": state[f"{other}.mlp.fc1.{kind}"],
                f"{block}.mlp.c_proj.{kind}": state[f"{other}.mlp.fc2.{kind}"],
            }
    tower.load_state_dict(own)
    return tower


def published_pixels(images: Tensor) -> Tensor:
    """Shorter side to 32 without smoothing, the middle square, CLIP's mean and deviation; images of 48x80."""
    resized = F.interpolate(images, size=(32, 53), mode="bicubic", align_corners=False)
    middle = resized[..., 10:42]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (middle - mean) / std


@torch.no_grad()
def test_hidden_tokens_are_transformers(theirs: CLIPVisionModelWithProjection, visual: torch.nn.Module) -> None:
    images = torch.rand(3, 3, 48, 80)
    last = theirs.vision_model(published_pixels(images)).last_hidden_state
    projected = theirs.visual_projection(theirs.vision_model.post_layernorm(last))
    expected = projected / projected[:, :1].norm(dim=-1, keepdim=True)
    embedder = CLIPImageEmbedder(visual, tokens="hidden", **MINDEYE1)
    tokens = embedder(images)
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)
    assert tokens.shape[1:] == (embedder.num_tokens, embedder.token_dim) == (17, PROJECTED)
    torch.testing.assert_close(tokens[:, 0].norm(dim=-1), torch.ones(3))
    assert (tokens[:, 1:].norm(dim=-1) - 1).abs().max() > 0.01


@torch.no_grad()
def test_the_class_token_is_clips_own_embedding(theirs: CLIPVisionModelWithProjection, visual: torch.nn.Module) -> None:
    images = torch.rand(3, 3, 48, 80)
    embedder = CLIPImageEmbedder(visual, tokens="class", **MINDEYE1)
    tokens = embedder(images)
    assert tokens.shape[1:] == (embedder.num_tokens, embedder.token_dim) == (1, PROJECTED)
    torch.testing.assert_close(tokens[:, 0], theirs(published_pixels(images)).image_embeds, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tokens[:, 0], embedder.pooled(images))
    hidden = CLIPImageEmbedder(visual, tokens="hidden", **MINDEYE1)(images)
    torch.testing.assert_close(F.normalize(tokens[:, 0], dim=-1), hidden[:, 0], rtol=1e-4, atol=1e-5)


def test_published_resizing_does_not_smooth_and_corrected_does(visual: torch.nn.Module) -> None:
    stripes = torch.zeros(1, 3, 96, 96)
    stripes[..., ::2] = 1.0
    published, corrected = (
        CLIPImageEmbedder(visual, tokens="hidden", input_range="corrected", resizing=resizing).preprocess(stripes)
        for resizing in ("published", "corrected")
    )
    assert published.shape == corrected.shape == (1, 3, SIDE, SIDE)
    inside = slice(4, -4)
    assert corrected[..., inside].std(dim=(2, 3)).max() < 0.5 * published[..., inside].std(dim=(2, 3)).min()


def test_gradients_reach_the_image(visual: torch.nn.Module) -> None:
    for tokens in ("hidden", "class"):
        images = torch.rand(1, 3, 48, 80, requires_grad=True)
        CLIPImageEmbedder(visual, tokens=tokens, **MINDEYE1)(images).square().sum().backward()
        assert images.grad is not None
        assert images.grad[..., 40].abs().sum() > 0
