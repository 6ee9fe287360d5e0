"""The captions that a training learns: those that fit the images as they were shown, embedded once and kept.

Legend: N images in the images file, n images asked for, C captions of an image at most, D width of an embedding.
"""

import json
import math
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.data.caption_screening import RULES, ScreeningRule
from mindeye_pl.data.nsd.captions import LAYOUT, read_captions
from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.metrics.captions.similarity import TextEmbedder
from mindeye_pl.nn.clip.embeddings import clamp_then_normalise, mean_caption
from mindeye_pl.steps.inputs.frozen_models import SCREEN_STEP, has_part, identity, load_model
from mindeye_pl.steps.inputs.simulate import captions_fingerprint, data_steps, images_fingerprint, layout
from mindeye_pl.steps.inputs.targets import filled_rows, pooled_embeddings, target_tokens
from mindeye_pl.store.artifacts import FACTS, ArtifactSpec
from mindeye_pl.store.atomic import write_text
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.store.fingerprint import fingerprint_file

#: The kept captions of every image, in the layout of the data's own file.
CAPTIONS = "captions.json"

_IMAGES_AT_ONCE = 256


def learns_captions(run: Run) -> bool:
    """Whether the run's model learns embeddings of captions.

    Raises:
        UserError: if it does, and there is no text embedder to make them.
    """
    if not has_part(run.config, "caption_mapper"):
        return False
    _text_embedder(run)
    return True


def caption_steps(run: Run) -> tuple[Step, ...]:
    """The step whose captions are embedded; none where the user names a file of screened ones."""
    return (SCREEN_CAPTIONS,) if _text_embedder(run).captions is None else ()


def captions_identity(run: Run) -> dict[str, Any]:
    """What determines the caption targets: the text embedder, and the captions that it reads."""
    return identity(run, "text_embedder") | {"captions": _kept_fingerprint(run)}


def target_captions(run: Run, stimulus_ids: np.ndarray) -> TokenStore | None:
    """The store of the embeddings of the images' kept captions; None where there is no text embedder.

    Rows are `(C, D)` float16, clamped and then of length one, and zeros where an image has fewer than C captions
    (`nn.embeddings.is_caption`). C is the most that any image of the images file has.

    Args:
        run: its `text_embedder` says what embeds which captions.
        stimulus_ids: `(n,)` of the images; those whose rows are missing are embedded now.

    Raises:
        UserError: if there are no captions of the data, or none of one of these images.
    """
    if run.config.get("text_embedder") is None:
        return None
    config, kept = run.config.text_embedder, kept_captions(run)
    if len(bare := [id_ for id_ in np.unique(stimulus_ids).tolist() if not kept[id_]]):
        raise UserError(
            f"{len(bare)} images that are learnt from have no caption", got=f"stimulus {bare[0]}", expected=LAYOUT
        )
    most = max(map(len, kept))

    def build(device: torch.device) -> Callable[[np.ndarray], Tensor]:
        embedder = load_model(run, "text_embedder").to(device)

        def embed(ids: np.ndarray) -> Tensor:
            return embedded_captions(run, embedder, [kept[id_] for id_ in ids.tolist()], most)

        return embed

    shape, what = (most, config.width), f"images' captions with text_embedder={config.name}"
    return filled_rows(
        run, f"captions-{config.name}", len(kept), stimulus_ids, shape, build, by=captions_identity(run), what=what
    )


def true_tokens(run: Run, stimulus_ids: np.ndarray) -> Tensor:
    """What a perfect reading of the images' brains would give, `(n, S, D)` float16; missing rows are made now.

    The target tokens, and behind them the mean embedding of the captions where the run's model learns that.
    """
    tokens = torch.from_numpy(target_tokens(run, stimulus_ids)[stimulus_ids])
    if not learns_captions(run):
        return tokens
    store = target_captions(run, stimulus_ids)
    assert store is not None
    captions = mean_caption(torch.from_numpy(store[stimulus_ids]))  # (n, D)
    return torch.cat([tokens, captions[:, None].to(tokens)], 1)


def kept_captions(run: Run) -> list[list[str]]:
    """The captions of every image that are learnt, N lists: those that the step kept, or the user's.

    Raises:
        UserError: as `data.captions.read_captions`.
    """
    given, count = _text_embedder(run).captions, len(Stimuli(layout(run).stimuli))
    path = run.make(SCREEN_CAPTIONS).folder / CAPTIONS if given is None else Path(given).expanduser()
    return read_captions(path, count)


def _kept_fingerprint(run: Run) -> str:
    given = _text_embedder(run).captions
    if given is None:
        return run.spec(SCREEN_CAPTIONS).fingerprint
    if not (path := Path(given).expanduser()).is_file():
        raise UserError("text_embedder.captions does not exist", got=path, expected=LAYOUT)
    return fingerprint_file(path)


def _text_embedder(run: Run) -> Any:
    config = run.config.get("text_embedder")
    if config is None:
        raise UserError(
            "captions need a text embedder", got="text_embedder=none", fix="text_embedder=laptop, or clip_b32"
        )
    return config


def screening_rule(run: Run) -> ScreeningRule:
    """Return the rule that says which captions are kept."""
    return RULES[_text_embedder(run).screening.rule]


def _spec(run: Run) -> ArtifactSpec:
    config = _text_embedder(run)
    screening_rule(run)
    inputs = {"captions": captions_fingerprint(run), "images": images_fingerprint(run)}
    label = f"{config.name}-{config.screening.rule}"
    return ArtifactSpec(SCREEN_STEP, label, identity(run, "embedder", "text_embedder"), inputs)


def _build(run: Run, folder: Path) -> None:
    config, stimuli = run.config.text_embedder, Stimuli(layout(run).stimuli)
    captions = read_captions(layout(run).captions, len(stimuli))
    pooled = pooled_embeddings(run, len(stimuli))  # (N, E)
    if pooled.shape[1] != config.width:
        raise UserError(
            f"text_embedder={config.name} and embedder={run.config.embedder.name} are of two CLIPs",
            got=f"embeddings of width {config.width} and {pooled.shape[1]}",
            expected="the text and the image side of one",
        )
    embedder = load_model(run, "text_embedder").to(run.device)
    rule, most = screening_rule(run), max(map(len, captions), default=0)
    how = {"logit_scale": embedder.logit_scale, "share": config.screening.share}
    kept: list[list[str]] = []
    parts = range(0, len(captions), _IMAGES_AT_ONCE)
    for start in track(parts, "screening captions", console=console, transient=True):
        part = captions[start : start + _IMAGES_AT_ONCE]
        rows = _embedded(embedder, part, most, config.width).cpu().numpy()  # (b, C, E)
        stays = rule(pooled[start : start + len(part)], rows, **how)  # (b, C)
        kept += [[text for text, stay in zip(*one, strict=False) if stay] for one in zip(part, stays, strict=True)]
    counts = {
        "kept": sum(map(len, kept)),
        "dropped": sum(map(len, captions)) - sum(map(len, kept)),
        "images_without": sum(not one for one in kept),
    }
    console.print(f"  {counts['kept']:,} captions kept, {counts['dropped']:,} dropped of {len(kept):,} images")
    write_text(folder / CAPTIONS, json.dumps(kept, ensure_ascii=False))
    write_text(folder / FACTS, json.dumps(counts))


def embedded_captions(run: Run, embedder: TextEmbedder, captions: Sequence[Sequence[str]], most: int) -> Tensor:
    """Embeddings of b images' captions, clamped and then of length one, `(b, C, D)`; zeros where there are fewer."""
    config = run.config.text_embedder
    limit = math.inf if config.clamp is None else config.clamp
    return clamp_then_normalise(_embedded(embedder, captions, most, config.width), limit=limit)  # zeros stay zeros


def _embedded(embedder: TextEmbedder, captions: Sequence[Sequence[str]], most: int, width: int) -> Tensor:
    """CLIP's own embeddings of b images' captions, `(b, C, D)` float32 on the CPU, zeros where there are fewer."""
    rows = torch.zeros(len(captions), most, width)
    if texts := list(chain.from_iterable(captions)):
        there = torch.arange(most) < torch.tensor([len(one) for one in captions])[:, None]  # (b, C)
        embeddings = embedder(texts)
        if embeddings.shape[1] != width:
            raise UserError(
                "text_embedder makes other embeddings than its configuration says",
                got=f"width {embeddings.shape[1]}",
                expected=f"width {width}",
                fix=f"text_embedder.width={embeddings.shape[1]}",
            )
        rows[there] = embeddings.float().cpu()
    return rows


SCREEN_CAPTIONS = Step(SCREEN_STEP, _spec, data_steps, _build)
