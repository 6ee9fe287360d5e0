"""Every released file at its true size and in its true format, with random weights.

Names and shapes come from the libraries that define the architectures (open_clip, diffusers, transformers, torchvision)
and from the project's formats, which are tested against recorded files.
"""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from random_files import write_safetensors, write_torch
from torch import Tensor

from mindeye_pl.data.nsd.constants import VOXEL_COUNTS
from mindeye_pl.nn.diffusion.builders import build_unet, build_vae
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.weights.formats import bigg_to_l, convnext, gnet, unclip
from mindeye_pl.weights.loaders import sd_vae

State = dict[str, Tensor]
VISION_L14 = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
VISION_L14 |= {"patch_size": 14}
TEXT_L14 = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
BIGG, L14, B32 = "ViT-bigG-14", "ViT-L-14-quickgelu", "ViT-B-32-quickgelu"


def openclip(model_name: str) -> State:
    """Return the state dict of a model of open_clip, on the meta device as all in this module."""
    import open_clip

    config = open_clip.get_model_config(model_name)
    assert config is not None
    with torch.device("meta"):
        return open_clip.CLIP(**config).state_dict()


def unclip_checkpoint() -> dict[str, Any]:
    """Return a Lightning checkpoint of the SDXL unCLIP in sgm's names, with the CLIP tower of its training."""
    state = unclip.FORMAT.to_published(_sdxl(token_dim=1664, size_dim=1024))
    tower = {key: value for key, value in openclip(BIGG).items() if key.startswith("visual.")}
    state |= {f"{unclip.EMBEDDER}0.open_clip.model.{key}": value for key, value in tower.items()}
    # What Lightning writes beside the weights; the node is an object of another library.
    return {"epoch": 0, "global_step": 110000, "state_dict": state, "hyper_parameters": OmegaConf.create({"lr": 1e-5})}


def sdxl_state() -> State:
    """Return SDXL's state dict in half precision: UNet, VAE and two text towers."""
    from mindeye_pl.weights.formats import sdxl_base

    state = unclip.FORMAT.to_published(_sdxl(token_dim=2048, size_dim=2816))
    del state[unclip.SIGMAS]
    text = {key: value for key, value in openclip(BIGG).items() if not key.startswith(("visual.", "logit_scale"))}
    state |= {f"{sdxl_base.BIGG}{key}": value for key, value in text.items()}
    clip_l = _text_tower(width=768, layers=12, heads=12)
    state |= {f"{sdxl_base.CLIP_L}{key.removeprefix('text_model.')}": value for key, value in clip_l.items()}
    return {key: value.half() for key, value in state.items()}


def _sdxl(*, token_dim: int, size_dim: int) -> UnCLIPModel:
    vae = {"channels": (128, 256, 512, 512), "latent_channels": 4, "image_size": 768, "scaling_factor": 0.13025}
    with torch.device("meta"):
        unet = build_unet(
            channels=(320, 640, 1280),
            transformer_depth=(0, 2, 10),
            head_dim=64,
            token_dim=token_dim,
            size_dim=size_dim,
            latent_channels=4,
            latent_size=96,
        )
        return UnCLIPModel(unet, build_vae(**vae))


def _text_tower(*, width: int, layers: int, heads: int) -> State:
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "projection_dim": width}
    with torch.device("meta"):
        config = CLIPTextConfig(**sizes, num_hidden_layers=layers, num_attention_heads=heads)
        return CLIPTextModel(config).state_dict()


def sd_vae_state() -> State:
    """Return the state dict of Stable Diffusion's VAE with the attention's older names."""
    with torch.device("meta"):
        state = build_vae(**sd_vae.SIZES).state_dict()
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    older: State = {}
    for key, value in state.items():
        if "attentions" in key:
            for new, old in names.items():
                key = key.replace(f".{new}.", f".{old}.")
        older[key] = value
    return older


def convnext_checkpoint() -> dict[str, Any]:
    """Return VICRegL's checkpoint: ConvNeXt-XL with its map projector and a head that nothing reads."""
    from mindeye_pl.nn.features.convnext import ConvNextMaps

    with torch.device("meta"):
        state = convnext.FORMAT.renaming.to_published(ConvNextMaps().state_dict())
        state["classifier.weight"] = torch.empty(1000, 2048)
    return {"epoch": 300, "model": {f"module.{key}": value for key, value in state.items()}}


def token_converter() -> dict[str, Any]:
    """Return the converter from bigG's tokens to those of CLIP ViT-L."""
    from mindeye_pl.nn.diffusion.captioner import TokenConverter

    with torch.device("meta"):
        model = TokenConverter(256, 1664, num_features=257, feature_dim=1024)
    return {"epoch": 8, "model_state_dict": bigg_to_l.FORMAT.renaming.to_published(model.state_dict())}


def gnet_checkpoint(voxel_counts: Mapping[int, int]) -> dict[str, Any]:
    """Return GNet with the read-outs of all subjects."""
    from mindeye_pl.nn.features.gnet import MAP_SIZES, GNet

    with torch.device("meta"):
        sizes: dict[str, Any] = {"prefilter": (64, 192), "early": 128, "width": 256, "trunk": 64}
        model = GNet(dict(voxel_counts), **sizes, map_sizes=MAP_SIZES)
    nested: dict[Any, Any] = {"enc": {}, "fwrfs": {subject: {} for subject in voxel_counts}}
    for key, value in gnet.FORMAT.renaming.to_published(model.state_dict()).items():
        part, name = key.split(".", 1)
        if part == "enc":
            nested["enc"][name] = value
        else:
            subject, name = name.split(".", 1)
            nested["fwrfs"][int(subject)][name] = value
    return {"best_params": nested, "best_epoch": 30}


def write_git(folder: Path, seed: int) -> None:
    """Write GIT-large, its configuration and a tokenizer of made-up words."""
    from transformers import GitConfig, GitForCausalLM

    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    config = GitConfig(vision_config=vision | {"patch_size": 14, "image_size": 224})
    config.save_pretrained(folder)
    with torch.device("meta"):
        state = GitForCausalLM(config).state_dict()
    write_safetensors(folder / "model.safetensors", state, seed)
    _write_tokenizer(folder, config.vocab_size, ("[CLS]", "[SEP]"))


def _write_tokenizer(folder: Path, size: int, ends: tuple[str, str]) -> None:
    """Write a tokenizer of whole, made-up words; the mark of the end has the highest number."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    start, end = ends
    words = ["[PAD]", "[UNK]", start, *(f"word{i}" for i in range(size - 4)), end]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [(start, 2), (end, size - 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=marks)
    named = {"pad_token": "[PAD]", "cls_token": start, "sep_token": end, "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)


def write_sentence_embedder(folder: Path, seed: int) -> None:
    """Write MiniLM, its configuration and a tokenizer of made-up words."""
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12}
    config = BertConfig(**sizes)
    with torch.device("meta"):
        state = BertModel(config).state_dict()
    config.save_pretrained(folder)
    write_safetensors(folder / "model.safetensors", state, seed)
    _write_tokenizer(folder, config.vocab_size, ("[CLS]", "[SEP]"))


def write_clip_text(folder: Path, seed: int, vision: Mapping[str, int], text: Mapping[str, int], width: int) -> None:
    """Write a whole CLIP of transformers, its configuration and a tokenizer of made-up words."""
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(text_config=dict(text), vision_config=dict(vision), projection_dim=width)
    with torch.device("meta"):
        state = CLIPModel(config).state_dict()
    config.save_pretrained(folder)
    write_safetensors(folder / "model.safetensors", state, seed)
    _write_tokenizer(folder, config.text_config.vocab_size, ("<|startoftext|>", "<|endoftext|>"))


def torchvision_state(name: str) -> State:
    """Return the state dict of an architecture of torchvision."""
    import torchvision

    options = {"init_weights": False} if name == "inception_v3" else {}
    with torch.device("meta"):
        return getattr(torchvision.models, name)(**options).state_dict()


def swav_state() -> State:
    """Return SwAV's ResNet-50 with the prefix of parallel training and its training heads."""
    state = {key: value for key, value in torchvision_state("resnet50").items() if not key.startswith("fc.")}
    with torch.device("meta"):
        heads = {"projection_head.0.weight": torch.empty(2048, 2048), "prototypes.weight": torch.empty(3000, 128)}
    return {f"module.{key}": value for key, value in (state | heads).items()}


def fid_state() -> State:
    """Return the Inception of torch-fidelity."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Unfilled(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: Any, **__: Any) -> None: ...

    with torch.device("meta"):
        empty = BytesIO()
        torch.save({}, empty)
        empty.seek(0)
        return Unfilled("fid", ["2048"], feature_extractor_weights_path=empty).state_dict()


def write_versatile_diffusion(folder: Path, seed: int) -> None:
    """Write the image flow of Versatile Diffusion: UNet and VAE in the folder of its pipeline."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    channels = (128, 256, 512, 512)
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)  # otherwise Stable Diffusion's
        vae = AutoencoderKL(
            block_out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            sample_size=512,
        )
    for name, model in {"image_unet": unet, "vae": vae}.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        model.save_config(folder / name)
        write_torch(folder / name / "diffusion_pytorch_model.bin", model.state_dict(), seed)


def mindeye2_checkpoint(voxel_count: int) -> dict[str, Any]:
    """Return MindEye2's `last.pth` for one subject at the paper's size, without the optimiser's state."""
    from mindeye_pl.config import compose_config
    from mindeye_pl.training.build import build_model
    from mindeye_pl.weights.formats import mindeye2

    config = compose_config(["scale=paper", "model=mindeye2"])
    with torch.device("meta"):
        state = mindeye2.FORMAT.to_published(build_model(config, [voxel_count]))
    small = compose_config(["scale=paper", "model=mindeye2", "scale.hidden_dim=8", "embedder.token_dim=16"])
    computed = mindeye2.FORMAT.to_published(build_model(small, [4]))  # schedule and rotary frequencies are the same
    names = [key for key in state if "noise_scheduler." in key or key.endswith("freqs")]
    return {"epoch": 149, "model_state_dict": state | {key: computed[key] for key in names}, "train_losses": [1.0]}


#: Writers by the entry of `conf/weights`, called with the path of the file and a seed.
WRITERS: dict[str, Callable[[Path, int], None]] = {
    "openclip_bigg": lambda path, seed: write_safetensors(path, openclip(BIGG), seed),
    "openclip_l": lambda path, seed: write_safetensors(path, openclip(L14), seed),
    "openclip_b32": lambda path, seed: write_safetensors(path, openclip(B32), seed),
    "unclip": lambda path, seed: write_torch(path, unclip_checkpoint(), seed),
    "sd_vae": lambda path, seed: write_torch(path, sd_vae_state(), seed),
    "convnext": lambda path, seed: write_torch(path, convnext_checkpoint(), seed),
    "bigg_to_l": lambda path, seed: write_torch(path, token_converter(), seed),
    "git_large_coco": lambda path, seed: write_git(path.parent, seed),
    "sdxl_base": lambda path, seed: write_safetensors(path, sdxl_state(), seed),
    "zavychromaxl": lambda path, seed: write_safetensors(path, sdxl_state(), seed),
    "alexnet": lambda path, seed: write_torch(path, torchvision_state("alexnet"), seed),
    "inception_v3": lambda path, seed: write_torch(path, torchvision_state("inception_v3"), seed),
    "efficientnet_b1": lambda path, seed: write_torch(path, torchvision_state("efficientnet_b1"), seed),
    "swav_resnet50": lambda path, seed: write_torch(path, swav_state(), seed),
    "fid_inception": lambda path, seed: write_torch(path, fid_state(), seed),
    "gnet": lambda path, seed: write_torch(path, gnet_checkpoint(VOXEL_COUNTS), seed),
    "minilm": lambda path, seed: write_sentence_embedder(path.parent, seed),
    "clip_text_b32": lambda path, seed: write_clip_text(path.parent, seed, {}, {}, 512),  # sizes are the defaults
    "clip_text_l14": lambda path, seed: write_clip_text(path.parent, seed, VISION_L14, TEXT_L14, 768),
    "versatile_diffusion_unet": lambda path, seed: write_versatile_diffusion(path.parent.parent, seed),
}
