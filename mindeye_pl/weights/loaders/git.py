"""The published captioner: the released token converter, and GIT from its hub repository (MindEye2, spec section 8)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.captioner import Captioner
from mindeye_pl.weights.registry import load_published


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bar and its report of missing weights, an error here, from the terminal."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def load_git_captioner(converter: str | Path, git: str | Path) -> Captioner:
    """Load the captioner on the CPU in eval mode.

    Args:
        converter: the released `bigG_to_L` checkpoint.
        git: GIT's weights, with `config.json` and the tokenizer's files in the same folder, as in its repository.

    Raises a UserError if a file is missing, damaged or does not fit the others.
    """
    from transformers import AutoTokenizer, GitForCausalLM

    folder = Path(git).parent
    matrices = load_published("bigg_to_l", converter)
    fix = "hf download microsoft/git-large-coco, all of its files"
    if not (folder / "config.json").is_file():  # transformers would use default sizes
        raise UserError(f"{folder} is no whole GIT", got="no config.json", fix=fix)
    try:
        with _quiet():
            loaded: Any = GitForCausalLM.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        # Without the option it would ask the user whether code in the folder may run.
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{folder} is no whole GIT", got=str(error).splitlines()[0], fix=fix) from error
    model, found = loaded
    if missing := sorted(found["missing_keys"]):  # transformers would draw them at random
        raise UserError(f"{folder} is no whole GIT", got=f"no {missing[0]}", fix=fix)
    expected = model.git.visual_projection.visual_projection[0].in_features
    width = matrices.over_channels.out_features
    if width != expected:
        raise UserError("converter and GIT do not fit", got=f"features of {width}", expected=expected, fix=fix)

    def text(numbers: Tensor) -> list[str]:
        return [sentence.strip() for sentence in tokenizer.batch_decode(numbers, skip_special_tokens=True)]

    return Captioner(matrices, model.float(), text)
