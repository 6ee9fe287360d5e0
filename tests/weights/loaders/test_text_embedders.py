"""Text towers from files in the hub's format, made small by the test."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
)

from mindeye_pl.errors import UserError
from mindeye_pl.nn.clip.text_embedders import CLIPTextEmbedder, SentenceEmbedder
from mindeye_pl.weights.loaders.text_embedders import (
    CLIP_B32,
    CLIP_L14,
    FILES,
    MINILM,
    load_clip_text,
    load_sentence_embedder,
)

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
CAPTIONS = ["a red dog", "A dog runs on a red dog and a dog.", "", "dog", "a unicorn runs", "a red dog", "a " * 50]


def tokenizer(folder: Path, start: str, end: str) -> None:
    """Whole words, cut and padded by settings of its own, as MiniLM's file has them."""
    words = [
        "[PAD]",
        "[UNK]",
        start,
        "a",
        "and",
        "dog",
        "on",
        "red",
        "runs",
        ".",
        end,
    ]  # the end has the highest number
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [(mark, words.index(mark)) for mark in (start, end)]
    made.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=marks)
    made.enable_truncation(7)
    made.enable_padding(length=7)
    made.save(str(folder / "tokenizer.json"))


def bert(folder: Path) -> Path:
    """In the format of all-MiniLM-L6-v2, its pooler and word indices included."""
    folder.mkdir()
    torch.manual_seed(0)
    model = BertModel(BertConfig(vocab_size=11, max_position_embeddings=12, **SIZES))
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors") | {"embeddings.position_ids": torch.arange(12)[None]}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    tokenizer(folder, "[CLS]", "[SEP]")
    return folder


def clip(folder: Path, *, end: int = 2, whole: bool = True) -> Path:
    """In the format of openai/clip-vit-base-patch32, the wrong end mark of its configuration included."""
    folder.mkdir()
    torch.manual_seed(0)
    text = SIZES | {"vocab_size": 11, "max_position_embeddings": 12, "projection_dim": 6}
    text |= {"eos_token_id": end, "bos_token_id": 2, "pad_token_id": 1}
    vision = SIZES | {"image_size": 8, "patch_size": 4}
    if whole:
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)).save_pretrained(folder)
    else:
        CLIPTextModelWithProjection(CLIPTextConfig(**text)).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights |= {"text_model.embeddings.position_ids": torch.arange(12)[None]}
    save_file(
        {key: value.half() if value.is_floating_point() else value for key, value in weights.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    tokenizer(folder, "<start>", "<end>")
    return folder


def tokens_by_transformers(folder: Path, pad: str) -> dict[str, torch.Tensor]:
    fast = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token=pad)
    found = fast(CAPTIONS, padding=True, truncation=True, max_length=12, return_tensors="pt")
    return {name: found[name] for name in ("input_ids", "attention_mask")}


def test_sentence_embedder_against_transformers(tmp_path: Path) -> None:
    folder = bert(tmp_path / "minilm")
    embedder = load_sentence_embedder(folder)
    assert isinstance(embedder, SentenceEmbedder)
    found = embedder(CAPTIONS)
    inputs = tokens_by_transformers(folder, "[PAD]")
    with torch.no_grad():
        states = BertModel.from_pretrained(folder)(**inputs).last_hidden_state
    kept = inputs["attention_mask"].bool()
    wanted = torch.stack([own[words].mean(0) for own, words in zip(states, kept, strict=True)])
    torch.testing.assert_close(found, F.normalize(wanted, dim=-1), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(CAPTIONS)))
    assert not embedder.training
    assert not any(weight.requires_grad for weight in embedder.parameters())


@pytest.mark.parametrize(("end", "whole"), [(2, True), (10, True), (10, False)])
def test_clip_text_against_transformers(tmp_path: Path, end: int, whole: bool) -> None:
    folder = clip(tmp_path / "clip", end=end, whole=whole)
    embedder = load_clip_text([folder / name for name in FILES])
    assert isinstance(embedder, CLIPTextEmbedder)
    found = embedder(CAPTIONS)
    inputs = tokens_by_transformers(folder, "<end>")  # as CLIP pads
    kind = CLIPModel if whole else CLIPTextModelWithProjection
    model = kind.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        wanted = model.get_text_features(**inputs) if whole else model(**inputs).text_embeds
    wanted = getattr(wanted, "pooler_output", wanted)
    assert found.shape == (len(CAPTIONS), 6)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("whole", [True, False])
def test_clips_logit_scale_comes_from_the_file(tmp_path: Path, whole: bool) -> None:
    """A text tower alone has none: it is OpenAI's. One file stands for the folder that it lies in."""
    folder = clip(tmp_path / "clip", whole=whole)
    if whole:
        weights = load_file(folder / "model.safetensors") | {"logit_scale": torch.tensor(3.0)}
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    embedder = load_clip_text(folder / "model.safetensors")
    assert embedder.logit_scale == pytest.approx(20.0855 if whole else 100, rel=1e-4)


@pytest.mark.parametrize(("make", "load"), [(bert, load_sentence_embedder), (clip, load_clip_text)])
def test_neither_batch_nor_neighbours_change_an_embedding(tmp_path: Path, make: Callable, load: Callable) -> None:
    folder = make(tmp_path / "model")
    together = load(folder)(CAPTIONS)
    for batch_size in (1, 2, 5):
        torch.testing.assert_close(load(folder, batch_size=batch_size)(CAPTIONS), together, rtol=0, atol=1e-6)
    embedder = load(folder)
    for index, caption in enumerate(CAPTIONS):
        torch.testing.assert_close(embedder([caption])[0], together[index], rtol=0, atol=1e-6)
    assert torch.equal(together[0], together[5])
    assert (together[0] - together[1]).abs().max() > 1e-3
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(embedder(CAPTIONS), together)


@pytest.mark.parametrize(
    ("make", "load", "repository"),
    [(bert, load_sentence_embedder, MINILM), (clip, load_clip_text, CLIP_B32), (clip, load_clip_text, CLIP_L14)],
)
@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_broken_file_is_named(
    tmp_path: Path, make: Callable, load: Callable, repository: str, name: str
) -> None:
    folder = make(tmp_path / "model")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=f"{name} is no .*hf download {repository} {name}") as found:
        load(folder, repository=repository)
    assert "\n" not in str(found.value)
    (folder / name).unlink()
    for files in (folder, [folder / other for other in FILES if other != name]):
        with pytest.raises(UserError, match=f"{name} is missing .*hf download {repository} {name}$"):
            load(files, repository=repository)


def test_an_empty_folder_needs_all_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"hf download {MINILM} config.json model.safetensors tokenizer.json$"):
        load_sentence_embedder(tmp_path)


def test_the_width_of_a_whole_clip_stands_in_its_own_configuration(tmp_path: Path) -> None:
    folder = clip(tmp_path / "clip")
    wanted = load_clip_text(folder)(CAPTIONS)
    config = json.loads((folder / "config.json").read_text())
    del config["text_config"]["projection_dim"]
    (folder / "config.json").write_text(json.dumps(config))
    assert torch.equal(load_clip_text(folder)(CAPTIONS), wanted)


def test_weights_of_a_repository_without_safetensors(tmp_path: Path) -> None:
    folder = clip(tmp_path / "clip")
    wanted = load_clip_text(folder)(CAPTIONS)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    for files in (folder, folder / "pytorch_model.bin", [folder / "config.json", folder / "tokenizer.json"]):
        assert torch.equal(load_clip_text(files)(CAPTIONS), wanted)


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    sentence, text = bert(tmp_path / "minilm"), clip(tmp_path / "clip")
    with pytest.raises(UserError, match=r"another kind of model .got: model_type clip; expected: bert"):
        load_sentence_embedder(text)
    with pytest.raises(UserError, match=r"got: model_type bert; expected: clip or clip_text_model"):
        load_clip_text(sentence)
    with pytest.raises(UserError, match=r"another architecture"):
        load_clip_text([sentence / "model.safetensors", text / "config.json", text / "tokenizer.json"])
    plain = json.loads((text / "config.json").read_text())
    plain["text_config"]["eos_token_id"] = 9
    (text / "config.json").write_text(json.dumps(plain))
    with pytest.raises(UserError, match=r"do not fit .got: sentences end with 10; expected: 9"):
        load_clip_text(text)
    (sentence / "config.json").write_text('{"model_type": "bert", "hidden_size": "wide"}')
    with pytest.raises(UserError, match=r"config.json is not whole") as found:
        load_sentence_embedder(sentence)
    assert "\n" not in str(found.value)


def test_a_tokenizer_of_more_words_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = bert(tmp_path / "minilm")
    plain = json.loads((folder / "tokenizer.json").read_text())
    plain["model"]["vocab"]["zebra"] = 11
    (folder / "tokenizer.json").write_text(json.dumps(plain))
    with pytest.raises(UserError, match=r"has more words than its model .got: 12; expected: 11"):
        load_sentence_embedder(folder)


def test_the_random_state_is_left_alone(tmp_path: Path) -> None:
    folder = clip(tmp_path / "clip")
    before = torch.get_rng_state()
    load_clip_text(folder)
    assert torch.equal(torch.get_rng_state(), before)
