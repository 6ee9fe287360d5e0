"""Text towers from their hub repositories, for the scores of captions (MindEye2, spec section 10)."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mindeye_pl.errors import UserError
from mindeye_pl.nn.clip.text_embedders import CLIPTextEmbedder, SentenceEmbedder
from mindeye_pl.weights.registry import check_weights
from mindeye_pl.weights.sized_safetensors import fill

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
CLIP_B32, CLIP_L14 = "openai/clip-vit-base-patch32", "openai/clip-vit-large-patch14"

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
#: Needed files of each repository.
FILES = (CONFIG, WEIGHTS, TOKENIZER)

#: Maximum number of word pieces of a caption in the published evaluation, with start and end.
_MINILM_LENGTH = 256
#: Wrong id of the end token in older CLIP configurations; the model then looks for the highest id.
_OLD_END = 2

#: Position ids, which the model computes itself, and weights for images and other tasks.
_UNUSED_BY_BERT = ("pooler.", "embeddings.position_ids")
_UNUSED_BY_CLIP = ("vision_model.", "visual_projection.", "text_model.embeddings.position_ids")
#: Logarithm of the factor of the cosines; missing in a text tower without CLIP.
_LOGIT_SCALE = "logit_scale"


def load_sentence_embedder(
    files: str | Path | Iterable[str | Path], *, repository: str = MINILM, batch_size: int = 64
) -> SentenceEmbedder:
    """Load Sentence-BERT on the CPU, frozen and in eval mode.

    Args:
        files: folder of `FILES`, one of them, or the paths of all.
        repository: source of missing files, for error messages.
        batch_size: sentences per forward pass.

    Raises:
        UserError: if a file is missing, damaged or does not fit the others.
    """
    from transformers import BertConfig, BertModel

    paths = _paths(files, repository)
    plain = _read_config(paths[CONFIG], ("bert",), repository)
    config = _build_config(BertConfig, plain, paths[CONFIG], repository)
    with torch.device("meta"):
        tower = BertModel(config, add_pooling_layer=False)
    _fill(tower, _tensors(paths[WEIGHTS], _UNUSED_BY_BERT, repository), paths[WEIGHTS])
    tokenizer = _read_tokenizer(paths[TOKENIZER], config.vocab_size, repository)
    length = min(_MINILM_LENGTH, config.max_position_embeddings)
    return SentenceEmbedder(tower, tokenizer, max_length=length, batch_size=batch_size)


def load_clip_text(
    files: str | Path | Iterable[str | Path], *, repository: str = CLIP_B32, batch_size: int = 64
) -> CLIPTextEmbedder:
    """Load CLIP's text tower from files of a whole CLIP or of the tower; otherwise as `load_sentence_embedder`."""
    from transformers import CLIPConfig, CLIPTextConfig, CLIPTextModelWithProjection

    paths = _paths(files, repository)
    plain = _read_config(paths[CONFIG], ("clip", "clip_text_model"), repository)
    whole = plain["model_type"] == "clip"
    config = _build_config(CLIPConfig if whole else CLIPTextConfig, plain, paths[CONFIG], repository)
    config = config.text_config if whole else config
    with torch.device("meta"):
        tower = CLIPTextModelWithProjection(config)
    weights = _tensors(paths[WEIGHTS], _UNUSED_BY_CLIP, repository)
    scale = {"logit_scale": float(weights.pop(_LOGIT_SCALE).exp())} if _LOGIT_SCALE in weights else {}
    _fill(tower, weights, paths[WEIGHTS])
    tokenizer = _read_tokenizer(paths[TOKENIZER], config.vocab_size, repository)
    end = tokenizer.encode("a").ids[-1]
    if config.eos_token_id not in (_OLD_END, end):  # the tower would read the start token instead
        raise UserError(
            f"{paths[TOKENIZER]} and {paths[CONFIG]} do not fit",
            got=f"sentences end with {end}",
            expected=config.eos_token_id,
            fix=_command(repository, TOKENIZER),
        )
    length = config.max_position_embeddings
    return CLIPTextEmbedder(tower, tokenizer, max_length=length, batch_size=batch_size, **scale)


def _command(repository: str, *names: str) -> str:
    return f"hf download {repository} {' '.join(names)}"


def _paths(files: str | Path | Iterable[str | Path], repository: str) -> dict[str, Path]:
    """Return the path of each of `FILES`."""
    if isinstance(files, str | Path):
        folder = Path(files).parent if Path(files).is_file() else Path(files)
        found = {name: folder / name for name in FILES}
    else:
        found = {Path(path).name: Path(path) for path in files}
    missing = [name for name in FILES if name not in found or not found[name].is_file()]
    if not missing:
        return found
    where = found.get(missing[0], Path(missing[0]))
    pickled = where.with_name("pytorch_model.bin")
    fix = _command(repository, *missing)
    if missing == [WEIGHTS] and pickled.is_file():
        fix = f"python -m mindeye_pl.weights.convert {pickled} {where}"
    raise UserError(f"{where} is missing", expected=f"{', '.join(FILES)} of {repository}", fix=fix)


def _read_config(path: Path, kinds: tuple[str, ...], repository: str) -> dict[str, Any]:
    """Return the configuration of a model of one of some kinds."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is no json", got=error, fix=_command(repository, CONFIG)) from error
    kind = plain.get("model_type") if isinstance(plain, dict) else None
    if kind not in kinds:
        fix = _command(repository, *FILES)
        expected = " or ".join(kinds)
        raise UserError(f"{path} is of another kind of model", got=f"model_type {kind}", expected=expected, fix=fix)
    return plain


def _build_config(kind: Any, plain: dict[str, Any], path: Path, repository: str) -> Any:
    try:
        return kind(**plain)
    except Exception as error:  # transformers raises errors of many classes
        got = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is not whole", got=got, fix=_command(repository, CONFIG)) from error


def _tensors(path: Path, unused: tuple[str, ...], repository: str) -> dict[str, Tensor]:
    """Return the used weights in float32."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            keys = [key for key in file.keys() if not key.startswith(unused)]  # noqa: SIM118 (no mapping)
            return {key: file.get_tensor(key).float() for key in keys}
    except SafetensorError as error:
        fix = f"rm {path}, then {_command(repository, WEIGHTS)}"
        raise UserError(f"{path} is no whole safetensors file", got=error, fix=fix) from error


def _fill(tower: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load the weights of a tower on the meta device, and compute the position ids, which are not stored."""
    check_weights(tower.state_dict(), weights, path)
    fill(tower, weights)
    for part in tower.modules():
        for name, buffer in list(part.named_buffers(recurse=False)):
            indices = torch.arange(buffer.shape[-1]).expand(buffer.shape)
            part.register_buffer(name, indices if name == "position_ids" else torch.zeros_like(indices), False)


def _read_tokenizer(path: Path, vocabulary_size: int, repository: str) -> "Tokenizer":
    from tokenizers import Tokenizer

    fix = _command(repository, TOKENIZER)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises no narrower class
        raise UserError(f"{path} is no tokenizer", got=error, fix=fix) from error
    if (size := tokenizer.get_vocab_size()) > vocabulary_size:
        raise UserError(f"{path} has more words than its model", got=size, expected=vocabulary_size, fix=fix)
    tokenizer.no_padding()
    return tokenizer
