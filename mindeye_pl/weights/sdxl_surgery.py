"""From SDXL base to an untrained unCLIP: what the published fine-tuning changes before it starts (MindEye2, spec 7.2).

Legend: D token width, E length of the vector of sizes.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from mindeye_pl.errors import UserError
from mindeye_pl.weights.unclip import UNET, VAE

#: Cross-attention's keys and values, 70 of each in SDXL.
KEY_VALUE = re.compile(rf"{re.escape(UNET)}.*\.attn2\.to_[kv]\.weight")
LABEL = f"{UNET}label_emb.0.0.weight"


def unclip_start(
    sdxl: Mapping[str, Tensor], path: Path, *, token_dim: int = 1664, size_dim: int = 1024
) -> dict[str, Tensor]:
    """The published state dict that fine-tuning starts from; SDXL's text towers are left behind.

    Keys and values are made anew for the other token width, by PyTorch's default initialisation. Of the vector's
    columns the first E are kept, as published; in SDXL they belong to the pooled text, not to the sizes.

    Args:
        sdxl: SDXL base in sgm's format.
        path: its file, for the words of an error.
        token_dim: D.
        size_dim: E.

    Raises:
        UserError: if it is no SDXL base.
    """
    if LABEL not in sdxl or sdxl[LABEL].shape[1] < size_dim:
        seen = tuple(sdxl[LABEL].shape) if LABEL in sdxl else f"keys like {sorted(sdxl)[0]}"
        raise UserError(f"{path} is no SDXL base", seen=seen, wanted=f"{LABEL} with {size_dim} columns or more")
    start = {}
    for key, value in sdxl.items():
        if not key.startswith((UNET, VAE)):
            continue
        if key == LABEL:
            start[key] = value[:, :size_dim].clone()
        elif KEY_VALUE.fullmatch(key):
            start[key] = nn.Linear(token_dim, value.shape[0], bias=False, device=value.device).weight.detach()
        else:
            start[key] = value
    return start
