"""Text towers from their hub repositories, for the scores of captions (MindEye2, spec section 10)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.clip.text_embedders import CLIPTextEmbedder, SentenceEmbedder
from mindeye_pl.store.json_files import read_json
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.registry import build_filled

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
CLIP_B32, CLIP_L14 = "openai/clip-vit-base-patch32", "openai/clip-vit-large-patch14"

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
#: Name of the weights in repositories that have no safetensors.
PICKLED = "pytorch_model.bin"
#: Needed files of each repository.
FILES = (CONFIG, WEIGHTS, TOKENIZER)

#: Maximum number of word pieces of a caption in the published evaluation, with start and end.
_MINILM_LENGTH = 256


#: Position ids, which the model computes itself, and weights for images and other tasks.
_UNUSED_BY_BERT = ("pooler.", "embeddings.position_ids")
_UNUSED_BY_CLIP = ("vision_model.", "visual_projection.", "text_model.embeddings.position_ids")


#: Folder of `FILES`, one of them, or the paths of all.
Files = str | Path | Iterable[str | Path]


def load_sentence_embedder(files: Files, *, repository: str = MINILM, batch_size: int = 64) -> SentenceEmbedder:
    """Load Sentence-BERT on the CPU, frozen and in eval mode.

    Args:
        files: folder of `FILES`, one of them, or the paths of all.
        repository: source of missing files, for error messages.
        batch_size: sentences per forward pass.

    Raises a UserError if a file is missing, damaged or does not fit the others.
    """
    from transformers import BertModel

    paths = _paths(files, repository)
    config = _read_config(paths[CONFIG], ("bert",), repository)
    weights = _read_weights(paths[WEIGHTS], _UNUSED_BY_BERT, repository)
    tower = _build(lambda: BertModel(config, add_pooling_layer=False), weights, paths[WEIGHTS])
    tokenizer = _read_tokenizer(paths[TOKENIZER], config.vocab_size, repository)
    length = min(_MINILM_LENGTH, config.max_position_embeddings)
    return SentenceEmbedder(tower, tokenizer, max_length=length, batch_size=batch_size)


def load_clip_text(files: Files, *, repository: str = CLIP_B32, batch_size: int = 64) -> CLIPTextEmbedder:
    """Load CLIP's text tower from files of a whole CLIP or of the tower; otherwise as `load_sentence_embedder`."""
    from transformers import CLIPTextModelWithProjection

    paths = _paths(files, repository)
    whole = _read_config(paths[CONFIG], ("clip", "clip_text_model"), repository)
    config = whole.get_text_config()
    config.projection_dim = whole.projection_dim  # of a whole CLIP; its text tower's own is only a default
    weights = _read_weights(paths[WEIGHTS], _UNUSED_BY_CLIP, repository)
    log_scale = weights.pop("logit_scale", None)  # missing in a text tower without CLIP
    scale = {} if log_scale is None else {"logit_scale": float(log_scale.exp())}
    tower = _build(lambda: CLIPTextModelWithProjection(config), weights, paths[WEIGHTS])
    tokenizer = _read_tokenizer(paths[TOKENIZER], config.vocab_size, repository)
    end, expected = tokenizer.encode("a").ids[-1], config.eos_token_id
    # 2 is a wrong id in older configurations, with which the tower looks for the highest id; with others it would read
    # the start token.
    if expected not in (2, end):
        what, fix = f"{paths[TOKENIZER]} and {paths[CONFIG]} do not fit", _command(repository, TOKENIZER)
        raise UserError(what, got=f"sentences end with {end}", expected=expected, fix=fix)
    length = config.max_position_embeddings
    return CLIPTextEmbedder(tower, tokenizer, max_length=length, batch_size=batch_size, **scale)


def _command(repository: str, *names: str) -> str:
    return f"hf download {repository} {' '.join(names)}"


def _paths(files: Files, repository: str) -> dict[str, Path]:
    """Return the path of each of `FILES`."""
    if isinstance(files, str | Path):
        folder = Path(files).parent if Path(files).is_file() else Path(files)
        found = {name: folder / name for name in FILES}
    else:
        found = {Path(path).name: Path(path) for path in files}
    if not found.get(WEIGHTS, Path()).is_file() and (beside := _folder(found) / PICKLED).is_file():
        found[WEIGHTS] = beside
    missing = [name for name in FILES if name not in found or not found[name].is_file()]
    if not missing:
        return found
    path, fix = found.get(missing[0], Path(missing[0])), _command(repository, *missing)
    raise UserError(f"{path} is missing", expected=f"{', '.join(FILES)} of {repository}", fix=fix)


def _folder(found: Mapping[str, Path]) -> Path:
    return next((path.parent for path in found.values()), Path())


@contextmanager
def _refusing(path: Path, what: str, repository: str) -> Iterator[None]:
    """Turn any error into a UserError; the libraries here raise errors of many classes."""
    try:
        yield
    except Exception as error:
        got = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is {what}", got=got, fix=_command(repository, path.name)) from error


def _read_config(path: Path, kinds: tuple[str, ...], repository: str) -> Any:
    """Return transformers' configuration of a model of one of some kinds."""
    from transformers import AutoConfig

    with _refusing(path, "no json", repository):
        plain = read_json(path)
    kind = plain.get("model_type") if isinstance(plain, dict) else None
    if kind not in kinds:
        expected, fix = " or ".join(kinds), _command(repository, *FILES)
        raise UserError(f"{path} is of another kind of model", got=f"model_type {kind}", expected=expected, fix=fix)
    with _refusing(path, "not whole", repository):
        return AutoConfig.for_model(**plain)


def _read_weights(path: Path, unused: tuple[str, ...], repository: str) -> dict[str, Tensor]:
    """Return the used weights in float32."""
    with _refusing(path, "no whole weight file", repository):
        state = read_state(path)
    return {key: value.float() for key, value in state.items() if not key.startswith(unused)}


def _build(build: Callable[[], Any], weights: dict[str, Tensor], path: Path) -> Any:
    """Build a tower with these weights; position ids, which are not stored, are computed."""
    tower = build_filled(build, weights, path)
    for part in tower.modules():
        for name, buffer in list(part.named_buffers(recurse=False)):
            indices = torch.arange(buffer.shape[-1]).expand(buffer.shape)
            part.register_buffer(name, indices if name == "position_ids" else torch.zeros_like(indices), False)
    return tower


def _read_tokenizer(path: Path, vocabulary_size: int, repository: str) -> "Tokenizer":
    from tokenizers import Tokenizer

    with _refusing(path, "no tokenizer", repository):
        tokenizer = Tokenizer.from_file(str(path))
    if (size := tokenizer.get_vocab_size()) > vocabulary_size:
        fix = _command(repository, TOKENIZER)
        raise UserError(f"{path} has more words than its model", got=size, expected=vocabulary_size, fix=fix)
    tokenizer.no_padding()
    return tokenizer
