"""The top of a configuration."""

from dataclasses import dataclass

from mindeye_pl.schema.nodes.foundation import Foundation
from mindeye_pl.schema.nodes.models import (
    Captioner,
    Embedder,
    FeatureNetwork,
    Generator,
    IndexGroup,
    Maps,
    Refine,
    TextEmbedder,
    Unclip,
    Vae,
    WeightFile,
)
from mindeye_pl.schema.nodes.reports import Dashboard, Metrics, Protocol, Report, Wandb
from mindeye_pl.schema.nodes.run import (
    Ablation,
    Artifacts,
    Debug,
    Evaluate,
    Export,
    Finetune,
    Pipeline,
    Pretrain,
    Reconstruct,
    Retrieve,
    Sweep,
)
from mindeye_pl.schema.nodes.world import Data, Fidelity, Paths, Scale
from mindeye_pl.schema.settings import Component, Settings
from mindeye_pl.types import Seed


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """A composed configuration.

    Attributes:
        seed: seed of training; the simulated world has its own.
        plan: prints the steps with "cached" or "will run", and stops.
        scale: the dial of size, which the other groups read.
        data: brains and images.
        simulation: the simulated world.
        paths: folders.
        fidelity: published or corrected behaviour.
        pretrain: training on several subjects.
        finetune: training on `data.subject`.
        evaluate: results of others that are scored.
        reconstruct: reconstruction of the test images.
        retrieve: retrieval from a large gallery.
        model: composition of the parts.
        alignment: voxels to the shared space.
        backbone: shared space to tokens and retrieval embedding.
        prior: tokens to clean tokens.
        low_level: the blurry reconstruction.
        image_mapper: Mind Reader's voxels to the image's embedding.
        caption_mapper: Mind Reader's voxels to the caption's embedding.
        objective: losses and their weights.
        optimizer: optimiser.
        scheduler: schedule of the learning rate.
        trainer: Lightning's `Trainer`.
        callbacks: callbacks of Lightning's by a name of your choice; null leaves one out.
        logger: records and loggers of Lightning's by a name of your choice; `wandb` is the project's record.
        embedder: images to target tokens.
        text_embedder: captions to embeddings.
        vae: latents that a low-level branch learns.
        maps: feature maps that a low-level branch is compared with.
        unclip: tokens to images.
        generator: fine-tuning of Mind Reader's generator.
        captioner: tokens to words.
        refine: a reconstruction and its caption to a better image.
        features: networks that a protocol may name.
        foundation: training of foundation models.
        weights: released files.
        metrics: retrieval and intervals.
        protocol: sizes, networks and questions of the evaluation.
        report: the report page.
        tracking: the dashboard of the W&B project.
        index: vector index of a large gallery.
        sweep: report of a multirun.
        export: the trained model as a folder or a hub repository.
        artifacts: finished results on disk.
        pipeline: ordered steps.
        ablation: part that is taken out.
        debug: short runs that look for mistakes.
    """

    seed: Seed
    plan: bool
    scale: Scale
    data: Data
    simulation: Component
    paths: Paths
    fidelity: Fidelity
    pretrain: Pretrain
    finetune: Finetune
    evaluate: Evaluate
    reconstruct: Reconstruct
    retrieve: Retrieve
    model: Component
    optimizer: Component
    scheduler: Component
    trainer: Component
    callbacks: dict[str, Component | None]
    logger: dict[str, Wandb | Component | None]
    embedder: Embedder
    foundation: Foundation
    weights: dict[str, WeightFile]
    metrics: Metrics
    protocol: Protocol
    report: Report
    tracking: Dashboard
    index: IndexGroup
    sweep: Sweep
    export: Export
    artifacts: Artifacts
    pipeline: Pipeline
    features: dict[str, FeatureNetwork] | None = None
    objective: Component | None = None
    alignment: Component | None = None
    backbone: Component | None = None
    prior: Component | None = None
    low_level: Component | None = None
    image_mapper: Component | None = None
    caption_mapper: Component | None = None
    text_embedder: TextEmbedder | None = None
    vae: Vae | None = None
    maps: Maps | None = None
    unclip: Unclip | None = None
    generator: Generator | None = None
    captioner: Captioner | None = None
    refine: Refine | None = None
    ablation: Ablation | None = None
    debug: Debug | None = None
