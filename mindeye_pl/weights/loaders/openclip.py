"""Vision towers in open_clip's whole-model format (MindEye2, spec section 5; MindEye1 and Mind Reader, section 3)."""

from pathlib import Path

import torch

from mindeye_pl.errors import UserError
from mindeye_pl.nn.clip.clip_embedder import CLIPImageEmbedder, Resizing, TokenKind
from mindeye_pl.nn.clip.embeddings import ClampThenNormalise
from mindeye_pl.sharing.folder import assign
from mindeye_pl.types import Clamp, PublishedOrCorrected
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.registry import check_weights

VISUAL = "visual."


def load_openclip(
    model_name: str,
    path: str | Path | None = None,
    *,
    tokens: TokenKind = "patches",
    input_range: PublishedOrCorrected = "published",
    resizing: Resizing = "stretched",
    clamp: Clamp | None = None,
) -> CLIPImageEmbedder:
    """Load the vision tower of an open_clip model in float32; the text tower is not read.

    ViT-bigG-14 has 256 patches of width 1664, ViT-L-14 256 of 1024 and 257 hidden tokens of 768; the class token of
    ViT-B-32 has width 512.

    Args:
        model_name: name in open_clip.
        path: weights of the whole model, `.safetensors` or a `torch.save` of tensors; None is allowed only under
            `torch.device("meta")`, to get sizes.
        tokens: see `CLIPImageEmbedder`.
        input_range: see `CLIPImageEmbedder`.
        resizing: see `CLIPImageEmbedder`.
        clamp: maximum of a token's elements before L2-normalisation; None leaves the tokens unchanged.

    Raises a UserError if open_clip has no such model, or the file is missing, damaged, a pickle with code in it, or of
    another model.
    """
    import open_clip

    config = open_clip.get_model_config(model_name)
    if config is None:
        raise UserError("open_clip has no such model", got=model_name, expected="one of open_clip.list_models()")
    if path is None and torch.get_default_device().type != "meta":
        raise UserError(f"{model_name} without its weights would give meaningless tokens", expected="a weight file")
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        visual = open_clip.CLIP(**config).visual
    if path is not None:
        path = Path(path)
        whole = {key.removeprefix("module."): value for key, value in read_state(path).items()}  # of data parallel
        weights = {key: value for key, value in whole.items() if key.startswith(VISUAL)}
        check_weights({VISUAL + key: value for key, value in visual.state_dict().items()}, weights, path)
        assign(visual, {k.removeprefix(VISUAL): v.float() for k, v in weights.items()})
    ends = None if clamp is None else ClampThenNormalise(clamp)
    return CLIPImageEmbedder(visual, tokens=tokens, input_range=input_range, resizing=resizing, standardise=ends)
