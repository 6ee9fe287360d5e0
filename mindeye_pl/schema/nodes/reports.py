"""Nodes of scores, reports and tracking."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from mindeye_pl.metrics.captions.pairs import SEVERAL
from mindeye_pl.schema.settings import Component, Settings
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


@dataclass(frozen=True, kw_only=True)
class Metrics(Settings):
    """Retrieval among the test images, and intervals.

    Attributes:
        pool_size: images of a pool.
        num_pools: pools that are averaged.
        top_k: ranks that count as found.
        names: meaning of "fwd" and "bwd".
        bootstrap_resamples: resamples of an interval.
        ridge_alphas: penalties of the ridge encoder that are tried.
    """

    pool_size: PositiveInt
    num_pools: PositiveInt
    top_k: Annotated[list[PositiveInt], MinLen(1)]
    names: PublishedOrCorrected
    bootstrap_resamples: PositiveInt
    ridge_alphas: Annotated[list[PositiveFloat], MinLen(1)]


@dataclass(frozen=True, kw_only=True)
class ScoredLayer(Settings):
    """Features of a protocol.

    Attributes:
        network: `embedder`, or a network of the group `features`.
        layer: layer of the network.
        title: name in tables.
    """

    network: Name
    layer: Name
    title: str


@dataclass(frozen=True, kw_only=True)
class NWay(Settings):
    """A question among n images.

    Attributes:
        network: features that are compared.
        n: number of images; null for all.
        top_k: rank that counts as found.
    """

    network: Name
    n: PositiveInt | None
    top_k: PositiveInt


@dataclass(frozen=True, kw_only=True)
class Protocol(Settings):
    """Sizes, networks and questions of the evaluation (docs/evaluate.md).

    Attributes:
        name: name in reports.
        size: side that every image is first resized to, in pixels; null for the reconstructions' own.
        pixel_size: side that PixCorr and SSIM resize to after that, in pixels; null for none.
        antialias: antialiasing of both resizings.
        blend: fraction of the blurry image in the refined one.
        networks: features by the name of their scores.
        two_way: features of two-way identification.
        n_way: questions among n images.
        distance: features of the correlation distance.
        lpips: computes LPIPS.
        fid: features of FID.
        encoders: encoding models of brain correlation.
        meteor: computes METEOR of captions, which needs WordNet.
        text: text towers of the captions' similarity.
        several_captions: reference of an image that has several captions.
        metrics: functions of your own by the name of their scores (docs/extending.md).
    """

    name: Name
    size: PositiveInt | None
    pixel_size: PositiveInt | None
    antialias: bool
    blend: Fraction
    networks: dict[Name, ScoredLayer]
    two_way: list[Name]
    n_way: list[NWay]
    distance: list[Name]
    lpips: bool
    fid: Name | None
    encoders: list[Literal["ridge", "gnet"]]
    meteor: bool
    text: list[Name]
    several_captions: Annotated[str, OneOf(SEVERAL)]
    metrics: dict[Name, Annotated[Component, CalledWith(("reconstructions", "images"))]]


@dataclass(frozen=True, kw_only=True)
class Report(Settings):
    """The report page.

    Attributes:
        compare: experiments whose rows stand in the table.
        images: first test images by id that are shown.
        gallery: first test images by id of the retrieval gallery.
        export: writes figures as PNG and PDF, tables as CSV, Markdown and LaTeX.
        published: shows the papers' rows beside scores on real NSD.
    """

    compare: list[str]
    images: NonNegativeInt
    gallery: NonNegativeInt
    export: bool
    published: bool


@dataclass(frozen=True, kw_only=True)
class Wandb(Settings):
    """The project's record in W&B (docs/tracking.md); it is no logger of Lightning's.

    Attributes:
        project: W&B project.
        entity: W&B user or team; null for the default one.
        mode: W&B's mode.
        folder: folder of W&B's files.
        upload: files that W&B gets: references and small files, all files, or none.
        upload_below_mb: size of small files, in MB.
        checksums: reads large files, so that W&B sees when one changes.
        num_images: reconstructions that are shown.
    """

    project: str
    entity: str | None
    mode: Literal["online", "offline", "disabled", "shared"]
    folder: str
    upload: Upload
    upload_below_mb: NonNegativeFloat
    checksums: bool
    num_images: NonNegativeInt


@dataclass(frozen=True, kw_only=True)
class Dashboard(Settings):
    """Saved view of the W&B project (docs/dashboards.md).

    Attributes:
        name: name among the saved views.
        x_axis: horizontal axis of every curve.
        runs: which runs it shows, and how they are grouped.
        sections: sections and their panels.
    """

    name: str
    x_axis: str
    runs: dict[str, Any]
    sections: dict[str, Any]
