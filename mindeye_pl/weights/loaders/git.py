"""The published captioner: the released token converter and GIT as its hub repository holds it (spec section 8)."""

from pathlib import Path

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.captioner import Captioner


def load_git_captioner(converter: str | Path, git: str | Path) -> Captioner:
    """The captioner on the CPU in eval mode.

    Args:
        converter: the released `bigG_to_L` checkpoint.
        git: GIT's weights; `config.json` and the tokenizer's files lie beside them, as in its repository.

    Raises:
        UserError: if a file is missing, broken or does not belong to the others.
    """
    from transformers import AutoTokenizer, GitForCausalLM

    from mindeye_pl.weights.registry import load_published

    folder = Path(git).parent
    two_matrices = load_published("bigg_to_l", converter)
    fix = "hf download microsoft/git-large-coco, all of its files"
    if not (folder / "config.json").is_file():  # transformers would go on with sizes of its own
        raise UserError(f"{folder} is no whole GIT", got="no config.json", fix=fix)
    try:
        model = GitForCausalLM.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{folder} is no whole GIT", got=str(error).splitlines()[0], fix=fix) from error
    reads = model.git.visual_projection.visual_projection[0].in_features
    gives = two_matrices.over_channels.out_features
    if reads != gives:
        raise UserError("converter and GIT do not fit", got=f"features of {gives}", expected=reads, fix=fix)

    def text(numbers: Tensor) -> list[str]:
        return [sentence.strip() for sentence in tokenizer.batch_decode(numbers, skip_special_tokens=True)]

    return Captioner(two_matrices, model.float(), text)
