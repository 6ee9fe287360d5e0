"""Scores of the reconstructions, beside what is scored without a brain and what no brain could better.

Legend: n test images, H and W image size.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from omegaconf import DictConfig, OmegaConf

from mindeye_pl.data.simulated.objects import CATEGORIES
from mindeye_pl.engine.records import Record
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import SCORES as SCORES_TYPE
from mindeye_pl.engine.step import Input, Inputs, Made, Work
from mindeye_pl.errors import UserError
from mindeye_pl.metrics.captions.scores import PREDICTED_REFERENCE, CLIPTowers
from mindeye_pl.metrics.images import TableMetric, summarise_scores
from mindeye_pl.metrics.named_objects import COCO_CATEGORIES
from mindeye_pl.metrics.statistics.differences import difference_over_images
from mindeye_pl.metrics.statistics.score import COLUMNS, SCORES, is_hit_rate, score_summary, score_table
from mindeye_pl.schema.nodes.reports import IN_CONTEXT_UNCLIP, RIDGE_BLUR_UNCLIP, RIDGE_LATENTS, RIDGE_UNCLIP, Baseline
from mindeye_pl.steps.baselines.images import baseline_steps, read_images
from mindeye_pl.steps.baselines.ridge import describe_choices, read_choices
from mindeye_pl.steps.brain.bottleneck import EvaluationStep
from mindeye_pl.steps.brain.reconstruct import read_reconstructions
from mindeye_pl.steps.brain.reconstructor import unclip_input
from mindeye_pl.steps.brain.trials import TEST_RUNTIME, TEST_TRIALS, subject_trials
from mindeye_pl.steps.evaluation import image_sets
from mindeye_pl.steps.evaluation.brain_scores import (
    GNET,
    RIDGE,
    TRUE_IMAGE,
    BrainReference,
    Encoder,
    brain_metrics,
    gnet_encoder,
    ridge_encoder,
    score_brains,
    scored_regions,
)
from mindeye_pl.steps.evaluation.caption_scores import (
    CaptionReference,
    CaptionScores,
    captions_of_true_images,
    clip_score_names,
    score_captions,
    text_towers,
)
from mindeye_pl.steps.evaluation.encoder import FIT_ENCODER
from mindeye_pl.steps.evaluation.image_scores import (
    ImageScores,
    Lines,
    kept,
    protocol_networks,
    score_images,
    seen_features,
)
from mindeye_pl.steps.evaluation.image_sets import MODEL, NULL_LINES, ImageSets, collect_sets
from mindeye_pl.steps.evaluation.judges import check_judges, training_of_judges
from mindeye_pl.steps.evaluation.optional import FeatureNetwork, Lacking, TextNetwork, WordNetFiles
from mindeye_pl.steps.evaluation.own_metrics import OwnMetricInput
from mindeye_pl.steps.evaluation.protocol_columns import protocol_metrics
from mindeye_pl.steps.evaluation.scored_images import Scored, ScoredImages, scored_label
from mindeye_pl.steps.evaluation.seed_scores import SEED, ImageCaptioner, score_seed, seed_metrics, seed_needs
from mindeye_pl.steps.evaluation.test_set_log import TestSetLog
from mindeye_pl.steps.evaluation.true_tokens import DRAW_TRUE_TOKENS
from mindeye_pl.steps.inputs.dataset import CAPTIONS, NCSNR, REGION_MASKS, DataFile
from mindeye_pl.steps.inputs.frozen_models import Frozen
from mindeye_pl.steps.inputs.splits import Split, test_data
from mindeye_pl.steps.inputs.targets import Targets
from mindeye_pl.store.artifacts import Artifact
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.own_files import read_json

#: Folder of what a killed evaluation has done.
PARTS = "parts"

#: Begins the names of the inputs that are linear baselines.
_BASELINE = "baseline."


Kind = Literal["null", "baseline", "model", "ceiling"]

#: Lines of the table in its order: title, kind and note of each.
LINES: dict[str, tuple[str, Kind, str]] = {
    image_sets.GREY: ("grey image", "null", ""),
    image_sets.MEAN_IMAGE: ("mean image", "null", "of the training images"),
    image_sets.OTHER_IMAGE: ("another image", "null", "of the test set"),
    image_sets.SHUFFLED: ("shuffled brains", "null", ""),
    image_sets.FLOOR: ("other images", "null", "two samples of the data set without the test images: the floor of FID"),
    image_sets.NEAREST: ("nearest image", "baseline", "of the training ones, by predicted tokens; nothing is drawn"),
    RIDGE_LATENTS: ("ridge, blurry", "baseline", "to VAE latents, decoded"),
    RIDGE_UNCLIP: ("ridge, drawn", "baseline", "to tokens, drawn by the unCLIP"),
    RIDGE_BLUR_UNCLIP: ("ridge, drawn from its blur", "baseline", "to tokens and latents, drawn by the unCLIP"),
    IN_CONTEXT_UNCLIP: ("support set, drawn", "baseline", "without fine-tuning, drawn by the unCLIP"),
    image_sets.BLURRY: ("blurry alone", "baseline", "of the low-level branch"),
    image_sets.REFINED: ("refined", "model", ""),
    image_sets.TRUE_TOKENS: ("true tokens", "ceiling", "drawn from the image's own tokens"),
    image_sets.VAE: ("through the VAE", "ceiling", "the image encoded and decoded"),
    TRUE_IMAGE: ("the image itself", "ceiling", "through the encoder"),
}


class EvaluateReconstructions(EvaluationStep):
    """Scores reconstructions by the metrics of a protocol."""

    name = "evaluate_reconstructions"
    title = "Evaluation of reconstructions"
    keys = (*TEST_TRIALS, "data.regions", "protocol", "metrics.bootstrap_resamples")
    runtime_keys = (*TEST_RUNTIME, "embedder.name")
    artifact_type = SCORES_TYPE

    def label(self, config: DictConfig) -> str:
        """Return the reconstructions' label and the protocol."""
        return f"{scored_label(config)}-{config.protocol.name}"

    def check(self, config: DictConfig) -> None:
        """Check that metrics have names of their own, the blurry image is blended once, and no target is a judge."""
        blends = {"refine.blend": OmegaConf.select(config, "refine.blend"), "protocol.blend": config.protocol.blend}
        if config.evaluate.reconstructions is None and all(blends.values()):
            got = " and ".join(f"{key}={weight}" for key, weight in blends.items())
            raise UserError("the blurry image would be blended in twice", got=got, fix="refine.blend=0")
        protocol = config.protocol
        regions = config.data.regions or []
        known = (*protocol_metrics(protocol, 2), *seed_metrics(protocol), *brain_metrics(protocol.encoders, regions))
        if taken := {metric.name for metric in known} & set(protocol.metrics):
            raise UserError("protocol.metrics has a name that is taken", got=taken.pop(), expected="another name")
        check_judges(config)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the reconstructions, the test set, and the optional files: a file added later fills its columns."""
        data, protocol = test_data(config), config.protocol
        found: dict[str, Input] = {
            "scored": Scored(),
            "data": data,
            "split": Split(),
            "targets": Targets(),
            "test_set": TestSetLog(),
            "captions": DataFile(CAPTIONS),
            "region_masks": DataFile(REGION_MASKS),
            "ncsnr": DataFile(NCSNR),
        }
        if config.get("unclip") is not None:  # whose VAE is a ceiling
            found["unclip"] = Frozen("unclip", optional=True, without=unclip_input(config).without)
            if config.evaluate.reconstructions is None:  # else it is not known what drew them
                found[image_sets.TRUE_TOKENS] = Made(DRAW_TRUE_TOKENS)
        if config.get("captioner") is not None:  # of the true images' tokens
            found["captioner"] = Frozen("captioner", optional=True)
        if RIDGE in protocol.encoders:
            found["ridge"] = Made(FIT_ENCODER)
        found |= {f"{_BASELINE}{step.name}": Made(step) for step in baseline_steps(config)}
        networks = protocol_networks(protocol) | {name for name in protocol.encoders if name != RIDGE}
        found |= {f"features.{name}": FeatureNetwork(name) for name in sorted(networks)}
        texts = [*text_towers(protocol), *([] if protocol.seed is None else [protocol.seed.text])]
        found |= {f"text.{name}": TextNetwork(name) for name in texts}
        found |= {f"metrics.{name}": OwnMetricInput(name) for name in protocol.metrics}
        return found | ({"wordnet": WordNetFiles()} if protocol.meteor else {})

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Score every line of the table."""
        protocol, resamples, subject = settings.protocol, settings.metrics.bootstrap_resamples, settings.data.subject
        dataset, targets = inputs["data"], inputs["targets"]
        scored = inputs["scored"]
        trials = subject_trials(dataset, settings, inputs["split"])
        training_ids = np.unique(trials.train_trials[0].stimulus_ids)
        unclip = inputs.get("unclip")
        baselines = baseline_folders(inputs)
        images = {line: read_images(folder) for line, folder in baselines.items()}
        if (true_tokens := inputs.get(image_sets.TRUE_TOKENS)) is not None:
            images[image_sets.TRUE_TOKENS] = read_reconstructions(true_tokens)["images"]
        sets = collect_sets(scored, targets, training_ids, unclip, protocol, settings.seed, images)
        inputs["test_set"].count(work)
        own = [inputs[f"metrics.{name}"] for name in protocol.metrics]
        columns = [metric.column for metric in own]
        regions = scored_regions(dataset.layout, subject, settings.data.regions, inputs["region_masks"])
        asked = protocol_metrics(protocol, len(sets.stimulus_ids), sets.num_others)
        metrics = [*asked, *seed_metrics(protocol), *columns, *brain_metrics(protocol.encoders, regions)]
        networks = {name: inputs[f"features.{name}"] for name in protocol_networks(protocol)}
        scores = score_images(sets, networks, targets.embedder, own, protocol, work.folder / PARTS)
        if protocol.seed is not None:
            _add_seed(inputs, protocol, sets, scores, work.folder / PARTS)
        reference = BrainReference(dataset, subject, regions, trials.test_set(subject))
        encoders = _encoders(inputs, list(protocol.encoders), subject, sets)
        ceilings = score_brains(sets, reference, encoders, work.folder / PARTS, scores)
        captions = _score_captions(inputs, scored, settings, sets, work.folder / PARTS)
        how: dict[str, Any] = {"num_resamples": resamples, "seed": settings.seed}
        rows = {line: summarise_scores(values, metrics, **how) for line, values in scores.values.items()}
        for line, of_set in scores.of_sets.items():
            rows.setdefault(line, []).extend(of_set)
        content = {
            "subject": subject,
            "num_sessions": settings.data.num_sessions,
            "simulated": dataset.is_simulated,
            "protocol": protocol.name,
            "embedder": settings.embedder.name,
            "stimulus_ids": sets.stimulus_ids.tolist(),
            "metrics": [vars(metric) for metric in metrics if metric.name not in scores.absent],
            "rows": {line: [score.to_dict() for score in row] for line, row in rows.items()},
            "needs": scores.needs | captions.needs,
            "judges": training_of_judges(protocol, networks),
            "baselines": {line: describe_choices(read_choices(folder)) for line, folder in baselines.items()},
            "brain_ceilings": vars(ceilings),
            "captions": {line: [score.to_dict() for score in row] for line, row in captions.lines.items()},
            "above_null": above_null(scores.values, metrics),
            "of_each_image": {
                line: {name: each.each.round(6).tolist() for name, each in row.items()}
                for line, row in scores.values.items()
            },
        }
        write_json(work.folder / SCORES, content)
        shutil.rmtree(work.folder / PARTS)

    def record(self, inputs: Inputs, artifact: Artifact, record: Record, num_images: int) -> None:
        """Log scores, ceilings, captions and differences from the null rows."""
        content = read_image_scores(artifact)
        captions, across = content["captions"], content["brain_ceilings"]["across_voxels"]
        record.summarise(
            score_summary(content["rows"][MODEL])
            | score_summary(captions.get(PREDICTED_REFERENCE, ()), "caption_")
            | {f"ceiling/brain_{region}": value for region, value in across.items()}
        )
        kinds = {line: kind for line, (_, kind, _) in LINES.items()}
        record.log_table("reconstruction_scores", COLUMNS, score_table(content["rows"], kinds))
        if captions:
            record.log_table("caption_scores", COLUMNS, score_table(captions, CAPTION_KINDS))
        rows = [[null, metric, *ends] for null, row in content["above_null"].items() for metric, ends in row.items()]
        record.log_table("above_null", ("null line", "metric", "difference", "low", "high"), rows)


EVALUATE_RECONSTRUCTIONS = EvaluateReconstructions()

#: Kinds of the lines of the captions' table; the others are the model's.
CAPTION_KINDS = {"shuffled": "null", "ceiling": "ceiling"}


def baseline_folders(inputs: Inputs) -> dict[str, Path]:
    """Return the folders of the linear baselines that the evaluation has, by line."""
    return {line: inputs[name] for line in get_args(Baseline) if (name := f"{_BASELINE}{line}") in inputs}


def _encoders(inputs: Inputs, names: Sequence[str], subject: int, sets: ImageSets) -> dict[str, Encoder | Lacking]:
    """Return the encoders of a protocol by name."""
    encoders: dict[str, Encoder | Lacking] = {}
    for name in names:
        if name == RIDGE:
            encoders[name] = ridge_encoder(inputs["ridge"], inputs["targets"].embedder, sets)
        else:
            network = inputs[f"features.{GNET}"]
            encoders[name] = network if isinstance(network, Lacking) else gnet_encoder(network, subject)
    return encoders


def _score_captions(
    inputs: Inputs, scored: ScoredImages, settings: Settings, sets: ImageSets, folder: Path
) -> CaptionScores:
    """Return the scores of captions; empty where none were made."""
    if not scored.captions:
        return CaptionScores()
    protocol, targets, path = settings.protocol, inputs["targets"], inputs["captions"]
    captioner = inputs["captioner"] if "captioner" in inputs and path is not None else None
    true = None if captioner is None else captions_of_true_images(captioner, targets, scored.stimulus_ids)
    return score_captions(
        scored.captions,
        scored.stimulus_ids,
        CaptionReference(path, inputs["data"].layout.captions, true),
        {name: inputs[f"text.{name}"] for name in protocol.text},
        inputs.get("wordnet"),
        _clip_towers(inputs, protocol, sets, folder),
        protocol,
        num_resamples=settings.metrics.bootstrap_resamples,
        seed=settings.seed,
    )


def _add_seed(inputs: Inputs, protocol: DictConfig, sets: ImageSets, scores: ImageScores, folder: Path) -> None:
    """Add SEED and its parts to the scores, as far as their networks are here."""
    captioner, text = inputs.get("captioner"), inputs[f"text.{protocol.seed.text}"]
    if needs := seed_needs(captioner, text):
        scores.needs |= {metric.name: needs for metric in seed_metrics(protocol)}
        return
    distance = f"{protocol.seed.distance}_distance"
    distances = {line: row[distance] for line, row in scores.values.items() if distance in row}
    if not distances:
        lacking = scores.needs.get(distance, f"needs protocol.networks.{protocol.seed.distance} and its distance")
        scores.needs |= {SEED: lacking}
    categories = CATEGORIES if inputs["data"].is_simulated else COCO_CATEGORIES
    images = ImageCaptioner(inputs["targets"].embedder, captioner)
    scores.add(kept(folder, SEED, lambda: score_seed(sets, images, text, categories, distances, folder)))


def _clip_towers(inputs: Inputs, protocol: DictConfig, sets: ImageSets, folder: Path) -> CLIPTowers | Lacking | None:
    """Return the towers of CLIP-S, None where the protocol asks for none."""
    if protocol.clip_score is None:
        return None
    network, embedder = inputs[f"features.{protocol.clip_score.image}"], inputs[f"text.{protocol.clip_score.text}"]
    for tower in (network, embedder):
        if isinstance(tower, Lacking):
            return tower
    seen = seen_features(sets, network, folder)
    return CLIPTowers(seen, embedder, protocol.clip_score.prompt, clip_score_names(protocol))


def above_null(values: Lines, metrics: Sequence[TableMetric]) -> dict[str, dict[str, list[float]]]:
    """Return model minus each null line on the same images, positive where better: mean, and its 95 % interval."""
    found: dict[str, dict[str, list[float]]] = {}
    for null in NULL_LINES:
        found[null] = {}
        for metric in metrics:
            if metric.name in values[MODEL]:
                sign = 1 if metric.higher_is_better else -1
                pair = (sign * values[line][metric.name].influence for line in (MODEL, null))
                hits = is_hit_rate(metric.pool_size)
                difference = difference_over_images(*pair, hits=hits)
                found[null][metric.name] = [difference.value, *difference.interval]
    return found


def read_image_scores(artifact: Artifact) -> dict[str, Any]:
    """Return all that an evaluation of images found, as `scores.json` holds it."""
    content: dict[str, Any] = read_json(artifact.folder / SCORES)
    return content
