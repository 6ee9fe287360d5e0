"""Builders of the foundation models from classes of open_clip, diffusers and transformers.

Legend: C latent channels, S tokens, D token width.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from mindeye_pl.nn.clip.clip_embedder import patch_size
from mindeye_pl.nn.diffusion.captioner import Captioner, TokenConverter, plain_text
from mindeye_pl.nn.diffusion.refiner import Refiner
from mindeye_pl.nn.diffusion.sdxl_text import SDXLText, text_tower
from mindeye_pl.nn.diffusion.seeds import seeded
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.types import ArgumentsOf, NonNegativeInt, PositiveFloat, PositiveInt, Seed

if TYPE_CHECKING:
    import open_clip
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel


def build_unet(
    *,
    channels: Sequence[PositiveInt],
    transformer_depth: Sequence[NonNegativeInt],
    head_dim: PositiveInt,
    token_dim: PositiveInt,
    size_dim: PositiveInt,
    latent_channels: PositiveInt,
    latent_size: PositiveInt,
    layers_per_block: PositiveInt = 2,
    groups: PositiveInt = 32,
) -> "UNet2DConditionModel":
    """Return a UNet of the SDXL unCLIP's architecture (MindEye2, spec section 7.4).

    Args:
        channels: per level, the finest first.
        transformer_depth: cross-attention blocks per level; 0 for none.
        head_dim: width of an attention head.
        token_dim: D.
        size_dim: length of the size vector.
        latent_channels: C.
        latent_size: side of the latents.
        layers_per_block: residual blocks per level.
        groups: groups of the group normalisations.
    """
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    crosses = [depth > 0 for depth in transformer_depth]
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=tuple("CrossAttnDownBlock2D" if cross else "DownBlock2D" for cross in crosses),
        up_block_types=tuple("CrossAttnUpBlock2D" if cross else "UpBlock2D" for cross in reversed(crosses)),
        block_out_channels=tuple(channels),
        layers_per_block=layers_per_block,
        norm_num_groups=groups,
        transformer_layers_per_block=[max(depth, 1) for depth in transformer_depth],
        attention_head_dim=[width // head_dim for width in channels],  # the library's name for the number of heads
        use_linear_projection=True,
        cross_attention_dim=token_dim,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=size_dim,
    )


def build_vae(
    *,
    channels: Sequence[PositiveInt],
    latent_channels: PositiveInt,
    image_size: PositiveInt,
    layers_per_block: PositiveInt = 2,
    scaling_factor: PositiveFloat = 0.13025,
    groups: PositiveInt = 32,
) -> "AutoencoderKL":
    """Return a variational autoencoder of images; each level but the last halves the side.

    Args:
        channels: per level, the finest first.
        latent_channels: C.
        image_size: side in pixels.
        layers_per_block: residual blocks of each level.
        scaling_factor: inverse of the latents' standard deviation.
        groups: of the group normalisations.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=tuple(channels),
        layers_per_block=layers_per_block,
        latent_channels=latent_channels,
        norm_num_groups=groups,
        sample_size=image_size,
        scaling_factor=scaling_factor,
    )


def build_unclip(sizes: Mapping[str, Any], vae: "AutoencoderKL", image_size: int) -> UnCLIPModel:
    """Return an unCLIP with learned null tokens, for images of `image_size` pixels.

    `sizes` are arguments of `build_unet`, with `num_tokens`, `packing` and `token_positions`.
    """
    own = {name: sizes[name] for name in ("num_tokens", "packing", "token_positions")}
    packing = own["packing"]
    unet = build_unet(
        **{name: size for name, size in sizes.items() if name not in own},
        latent_channels=vae.config["latent_channels"] * packing**2,
        latent_size=image_size // (2 ** (len(vae.config["block_out_channels"]) - 1) * packing),
    )
    own |= {"image_size": (image_size, image_size), "null_tokens": "learned", "output": "corrected"}
    return UnCLIPModel(unet, vae, **own)


#: Sizes as keyword arguments.
VaeSizes = Annotated[Mapping[str, Any], ArgumentsOf(build_vae)]
UnetSizes = Annotated[Mapping[str, Any], ArgumentsOf(build_unet)]
UnclipSizes = Annotated[Mapping[str, Any], ArgumentsOf(build_unet, UnCLIPModel)]


def random_vae(seed: Seed, **sizes: Annotated[Any, ArgumentsOf(build_vae)]) -> "AutoencoderKL":
    """Return an untrained VAE, the same on every call.

    Args:
        seed: of the weights; the global random state is neither read nor changed.
        sizes: arguments of `build_vae`.
    """
    with seeded(seed):
        vae = build_vae(**sizes)
    return vae.requires_grad_(False).eval()


def random_unclip(seed: Seed, unet: UnclipSizes, vae: VaeSizes) -> UnCLIPModel:
    """Return an untrained unCLIP, the same on every call; its images are noise.

    Args:
        seed: of the weights; the global random state is neither read nor changed.
        unet: `sizes` of `build_unclip`.
        vae: arguments of `build_vae`.
    """
    with seeded(seed):
        model = build_unclip(unet, build_vae(**vae), vae["image_size"])
    return model.requires_grad_(False).eval()


def build_clip(
    *,
    image_size: PositiveInt,
    num_tokens: PositiveInt,
    token_dim: PositiveInt,
    layers: PositiveInt,
    heads: PositiveInt,
    vocabulary_size: PositiveInt,
    context_length: PositiveInt,
    text_layers: PositiveInt,
) -> "open_clip.CLIP":
    """Return a small CLIP; both towers and the shared space are `token_dim` wide.

    Args:
        image_size: side in pixels.
        num_tokens: S, a square number.
        token_dim: D.
        layers: layers of the vision tower.
        heads: attention heads of each tower.
        vocabulary_size: words of the text tower.
        context_length: maximal number of words of a caption.
        text_layers: layers of the text tower.

    Raises:
        ValueError: if the image cannot be divided into that many patches.
    """
    import open_clip

    return open_clip.CLIP(
        embed_dim=token_dim,
        vision_cfg={
            "image_size": image_size,
            "patch_size": patch_size(image_size, num_tokens),
            "width": token_dim,
            "layers": layers,
            "head_width": token_dim // heads,
        },
        text_cfg={
            "context_length": context_length,
            "vocab_size": vocabulary_size,
            "width": token_dim,
            "heads": heads,
            "layers": text_layers,
        },
    )


def build_captioner(
    *,
    num_tokens: PositiveInt,
    token_dim: PositiveInt,
    width: PositiveInt,
    layers: PositiveInt,
    heads: PositiveInt,
    context_length: PositiveInt,
    vocabulary: Sequence[str],
    marks: Sequence[str],
) -> Captioner:
    """Return a small captioner with a vocabulary of whole words: GIT with a converter that keeps the token count.

    Args:
        num_tokens: S.
        token_dim: D.
        width: GIT's hidden width.
        layers: GIT's layers.
        heads: GIT's attention heads.
        context_length: maximal number of words of a caption.
        vocabulary: words in the order of their token ids.
        marks: padding, start and end token, in this order.
    """
    from transformers import GitConfig, GitForCausalLM

    pad, start, end = (list(vocabulary).index(mark) for mark in marks)
    vision = {"hidden_size": width, "intermediate_size": width, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = GitConfig(
        vision_config=vision | {"image_size": 2, "patch_size": 1},  # removed by the captioner
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=context_length,
        pad_token_id=pad,
        bos_token_id=start,
        eos_token_id=end,
    )
    converter = TokenConverter(num_tokens, token_dim, num_features=num_tokens, feature_dim=width)
    return Captioner(converter, GitForCausalLM(config), plain_text(vocabulary, marks))


def random_captioner(seed: Seed, **sizes: Annotated[Any, ArgumentsOf(build_captioner)]) -> Captioner:
    """Return an untrained captioner, the same on every call.

    Args:
        seed: of the weights; the global random state is neither read nor changed.
        sizes: arguments of `build_captioner`.
    """
    with seeded(seed):
        return build_captioner(**sizes)


def random_refiner(seed: Seed, unet: UnetSizes, vae: VaeSizes, width: PositiveInt) -> Refiner:
    """Return an untrained refiner, the same on every call.

    Args:
        seed: of the weights; the global random state is neither read nor changed.
        unet: arguments of `build_unet`, with `token_dim` 2 * `width` and a `size_dim` larger than `width` by a
            multiple of 12.
        vae: arguments of `build_vae`.
        width: hidden width of both text towers.
    """
    with seeded(seed):
        towers = [text_tower(width=width, layers=1, heads=1, output_dim=width) for _ in range(2)]
        size = (vae["image_size"], vae["image_size"])
        return Refiner(build_unet(**unet), build_vae(**vae), SDXLText(*towers), image_size=size)
