"""Stable Diffusion's VAE as MindEye2 distributes it: a plain state dict (MindEye2, spec sections 1.1 and 6.4)."""

from pathlib import Path
from typing import Annotated, Any

from mindeye_pl.nn.diffusion.builders import build_vae
from mindeye_pl.types import ArgumentsOf
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.formats.renaming import Renaming, older_attention_names
from mindeye_pl.weights.registry import build_filled

SIZES: dict[str, Any] = {
    "channels": (128, 256, 512, 512),
    "latent_channels": 4,
    "image_size": 256,
    "scaling_factor": 0.18215,
}

#: Older names of the attention; today's stay as they are.
RENAMING = Renaming(older_attention_names("encoder.", "encoder.") | older_attention_names("decoder.", "decoder."))


def load_sd_vae(path: str | Path, **sizes: Annotated[Any, ArgumentsOf(build_vae)]) -> Any:
    """Load the VAE on the CPU, frozen and in eval mode.

    Args:
        path: of the file.
        sizes: arguments of `build_vae` that differ from the published ones.

    Raises a UserError if the file is missing, damaged, a pickle with code in it, or of another architecture.
    """
    path = Path(path)
    own = {RENAMING.to_own(key) or key: value.float() for key, value in read_state(path).items()}
    return build_filled(lambda: build_vae(**(SIZES | sizes)), own, path)
