"""Scores of the reconstructions, beside what is scored without a brain and what no brain could better.

Legend: n test images, H and W image size.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindeye_pl.engine.step import Run, Step
from mindeye_pl.metrics.images import TableMetric, summarise_scores
from mindeye_pl.metrics.statistics.intervals import difference_over_images
from mindeye_pl.metrics.statistics.score import SCORES
from mindeye_pl.steps.evaluation.brain_scores import RIDGE, brain_metrics, score_brains
from mindeye_pl.steps.evaluation.caption_scores import CaptionScores, lacking_text, score_captions
from mindeye_pl.steps.evaluation.encoder import FIT_ENCODER
from mindeye_pl.steps.evaluation.image_scores import EMBEDDER, Lines, lacking_network, protocol_metrics, score_images
from mindeye_pl.steps.evaluation.image_sets import MODEL, NULL_LINES, gather
from mindeye_pl.steps.evaluation.scored_images import (
    scored_captions,
    scored_identity,
    scored_images,
    scored_steps,
    test_brains,
)
from mindeye_pl.steps.evaluation.test_set_log import count_evaluation
from mindeye_pl.steps.inputs.frozen_models import identity, is_there
from mindeye_pl.steps.inputs.simulate import is_simulated
from mindeye_pl.store.artifacts import Artifact, ArtifactSpec
from mindeye_pl.store.atomic import write_text

#: Which brains and images the scores are of.
_DATA = tuple(
    f"data.{key}"
    for key in ("subject", "num_sessions", "betas", "repetitions", "test_split", "split", "validation_fraction")
)

#: What is done of a killed evaluation lies here.
PARTS = "parts"


def _spec(run: Run) -> ArtifactSpec:
    label, inputs = scored_identity(run)
    protocol = run.config.protocol
    # The unCLIP's VAE and the captioner of true images are ceilings.
    optional = [group for group in ("unclip", "captioner") if is_there(run, group)]
    by = identity(run, "embedder", *optional) | run.plain("protocol", "metrics.bootstrap_resamples", "seed", *_DATA)
    by.get("unclip", {}).pop("batch_size", None)  # changes nothing
    # A file that is fetched later fills the metrics that it was lacking for.
    networks = {network.network for network in protocol.networks.values()} | set(protocol.encoders)
    networks |= {"lpips"} if protocol.lpips else set()
    by["networks"] = sorted(name for name in networks - {EMBEDDER, RIDGE} if lacking_network(run, name) is None) + [
        name for name in protocol.text if lacking_text(run, name) is None
    ]
    if RIDGE in protocol.encoders:
        inputs |= {"fit_encoder": run.spec(FIT_ENCODER).fingerprint}
    return ArtifactSpec("evaluate_reconstructions", f"{label}-{protocol.name}", by, inputs)


def _build(run: Run, folder: Path) -> None:
    sets = gather(run, scored_images(run))
    count_evaluation(run, EVALUATE_RECONSTRUCTIONS, folder)
    metrics = [*protocol_metrics(run.config.protocol, len(sets.stimulus_ids)), *brain_metrics(run)]
    scores = score_images(run, sets, folder / PARTS)
    ceilings = score_brains(run, sets, test_brains(run), folder / PARTS, scores)
    said = scored_captions(run)
    captions = score_captions(run, said, sets.stimulus_ids) if said else CaptionScores()
    resamples = run.config.metrics.bootstrap_resamples
    content = {
        "subject": run.config.data.subject,
        "num_sessions": run.config.data.num_sessions,
        "simulated": is_simulated(run),
        "protocol": run.config.protocol.name,
        "embedder": run.config.embedder.name,
        "stimulus_ids": sets.stimulus_ids.tolist(),
        "metrics": [vars(metric) for metric in metrics],
        "rows": {
            line: [
                score.to_dict()
                for score in (
                    *summarise_scores(values, metrics, num_resamples=resamples, seed=run.config.seed),
                    *scores.of_sets.get(line, ()),
                )
            ]
            for line, values in scores.values.items()
        },
        "needs": scores.needs | captions.needs,
        "brain_ceilings": vars(ceilings),
        "captions": {line: [score.to_dict() for score in row] for line, row in captions.lines.items()},
        "above_null": _above_null(scores.values, metrics),
        "of_each_image": {
            line: {name: scored.each.round(6).tolist() for name, scored in row.items()}
            for line, row in scores.values.items()
        },
    }
    write_text(folder / SCORES, json.dumps(content, indent=1))
    shutil.rmtree(folder / PARTS)


def _above_null(values: Lines, metrics: Sequence[TableMetric]) -> dict[str, dict[str, list[float]]]:
    """Model minus each null line on the same images, positive where better: mean, and ends of its 95 % interval."""
    found: dict[str, dict[str, list[float]]] = {}
    for null in NULL_LINES:
        found[null] = {}
        for metric in metrics:
            if metric.name in values[MODEL]:
                sign = 1 if metric.higher_is_better else -1
                pair = (sign * values[line][metric.name].influence for line in (MODEL, null))
                difference = difference_over_images(*pair)
                found[null][metric.name] = [difference.value, *difference.interval]
    return found


def read_image_scores(artifact: Artifact) -> dict[str, Any]:
    """All that an evaluation of images found, as `scores.json` holds it."""
    return json.loads((artifact.folder / SCORES).read_text())


def _needs(run: Run) -> Sequence[Step]:
    return (*scored_steps(run), *((FIT_ENCODER,) if RIDGE in run.config.protocol.encoders else ()))


EVALUATE_RECONSTRUCTIONS = Step("evaluate_reconstructions", _spec, _needs, _build)
