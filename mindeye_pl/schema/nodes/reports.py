"""Nodes of scores, reports and tracking."""

from typing import Annotated, Any, Literal, get_args

from annotated_types import MinLen

from mindeye_pl.metrics.captions.pairs import SEVERAL
from mindeye_pl.metrics.identification import Ties
from mindeye_pl.schema.settings import Component, Settings, key, optional
from mindeye_pl.tracking.wandb_artifact import Upload
from mindeye_pl.types import (
    CalledWith,
    Fraction,
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    OneOf,
    PositiveFloat,
    PositiveInt,
    PublishedOrCorrected,
)

#: Image baselines by ridge regression: latents decoded, tokens drawn by the unCLIP, and drawn from the decoded latents;
#: and tokens that are predicted from a support set, drawn.
Baseline = Literal["ridge_latents", "ridge_unclip", "ridge_blur_unclip", "in_context_unclip"]

RIDGE_LATENTS, RIDGE_UNCLIP, RIDGE_BLUR_UNCLIP, IN_CONTEXT_UNCLIP = get_args(Baseline)


class Metrics(Settings):
    """Retrieval among the test images, and intervals."""

    pool_size: PositiveInt = key("images of a pool.")
    num_pools: PositiveInt = key("pools that are averaged.")
    top_k: Annotated[list[PositiveInt], MinLen(1)] = key("ranks that count as found.")
    target_size: PositiveInt | None = key("side in pixels that seen images take before they are embedded.")
    names: PublishedOrCorrected = key('meaning of "fwd" and "bwd".')
    bootstrap_resamples: PositiveInt = key("resamples of an interval.")
    ridge_alphas: Annotated[list[PositiveFloat], MinLen(1)] = key("penalties of the ridge baselines that are tried.")


class ScoredLayer(Settings):
    """Features of a protocol."""

    network: Name = key("`embedder`, or a network of the group `features`.")
    layer: Name = key("layer of the network.")
    title: str = key("name in tables.")
    silent: bool | None = optional("leaves the network out without a message if its package is not installed.")


class NWay(Settings):
    """A question among n images."""

    network: Name = key("features that are compared.")
    n: PositiveInt | None = key("number of images; null for all.")
    top_k: PositiveInt = key("rank that counts as found.")
    others: bool = key("other images of the data set are candidates too, where the test set has fewer than n.")


class ClipScore(Settings):
    """The two towers of one CLIP, for CLIP-S."""

    image: Name = key("network of the group `features`.")
    text: Name = key("text tower.")
    prompt: str = key("text in front of every caption.")


class Seed(Settings):
    """The parts of SEED that are networks; the run's captioner is the third."""

    distance: Name = key("features of the protocol whose correlation distance counts.")
    text: Name = key("embedder of the captions.")


class Protocol(Settings):
    """Sizes, networks and questions of the evaluation (docs/evaluate.md).

    Attributes:
        name: name in reports.
        size: side that every image is first resized to, in pixels; null for the reconstructions' own.
        pixel_size: side that PixCorr and SSIM resize to after that, in pixels; null for none.
        antialias: antialiasing of both resizings.
        blend: fraction of the blurry image in the refined one.
        networks: features by the name of their scores.
        target_as_judge: refuses a feature network that is the training target, or allows it as published.
        two_way: features of two-way identification.
        n_way: questions among n images.
        ties: what a tie of two similarities counts in identification; the published code counts it as lost.
        distance: features of the correlation distance.
        lpips: computes LPIPS.
        fid: features of FID.
        encoders: encoding models of brain correlation.
        meteor: computes METEOR of captions, which needs WordNet.
        text: text towers of the captions' similarity.
        several_captions: reference of an image that has several captions.
        coco_captions: computes BLEU, ROUGE-L and CIDEr of captions as BrainHub does.
        clip_score: towers of CLIP-S and RefCLIP-S of captions; null for none.
        seed: computes SEED and its parts, for which all images are captioned; null for none.
        baselines: image baselines by ridge regression, as far as the configured models allow them.
        metrics: functions of your own by the name of their scores (docs/extending.md).
    """

    name: Name
    size: PositiveInt | None
    pixel_size: PositiveInt | None
    antialias: bool
    blend: Fraction
    networks: dict[Name, ScoredLayer]
    target_as_judge: Literal["refused", "published"]
    two_way: list[Name]
    n_way: list[NWay]
    ties: Ties
    distance: list[Name]
    lpips: bool
    fid: Name | None
    encoders: list[Literal["ridge", "gnet"]]
    meteor: bool
    text: list[Name]
    several_captions: Annotated[str, OneOf(SEVERAL)]
    coco_captions: bool
    clip_score: ClipScore | None
    seed: Seed | None
    baselines: list[Baseline]
    metrics: dict[Name, Annotated[Component, CalledWith(("reconstructions", "images"))]]


class Report(Settings):
    """The report page."""

    compare: list[str] = key("experiments whose rows stand in the table.")
    images: NonNegativeInt = key("first test images by id that are shown.")
    gallery: NonNegativeInt = key("first test images by id of the retrieval gallery.")
    export: bool = key("writes figures as PNG and PDF, tables as CSV, Markdown and LaTeX.")
    published: bool = key("shows the papers' rows beside scores on real NSD.")


class Wandb(Settings):
    """The project's record in W&B (docs/tracking.md); it is no logger of Lightning's."""

    project: str = key("W&B project.")
    entity: str | None = key("W&B user or team; null for the default one.")
    mode: Literal["online", "offline", "disabled", "shared"] = key("W&B's mode.")
    folder: str = key("folder of W&B's files.")
    upload: Upload = key("files that W&B gets: references and small files, all files, or none.")
    upload_below_mb: NonNegativeFloat = key("size of small files, in MB.")
    checksums: bool = key("reads large files, so that W&B sees when one changes.")
    num_images: NonNegativeInt = key("reconstructions that are shown.")


class Dashboard(Settings):
    """Saved view of the W&B project (docs/dashboards.md)."""

    name: str = key("name among the saved views.")
    x_axis: str = key("horizontal axis of every curve.")
    runs: dict[str, Any] = key("which runs it shows, and how they are grouped.")
    sections: dict[str, Any] = key("sections and their panels.")
