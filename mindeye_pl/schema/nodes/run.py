"""Nodes of the run: training, evaluation, retrieval, sweeps, export, artifacts."""

from typing import Annotated, Any, Literal, get_args

from annotated_types import MinLen

from mindeye_pl.data.layout.trials import NumSessions
from mindeye_pl.gallery.coarse import VECTORS
from mindeye_pl.gallery.files import AUTO, KINDS
from mindeye_pl.metrics.voxel_clusters import Covariance
from mindeye_pl.schema.settings import Settings, key, optional
from mindeye_pl.store.inventory import DAMAGED, OTHER_SCHEMA, REMOVED, UNFINISHED
from mindeye_pl.store.locks import NO_LOCKS, REQUIRED
from mindeye_pl.types import (
    Fraction,
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    OneOf,
    PositiveFloat,
    PositiveInt,
    ProperFraction,
    PublishedOrCorrected,
)

#: Weights that fine-tuning starts from.
Start = Literal["pretrained", "scratch"]

#: Noise of synthetic trials.
SyntheticNoise = Literal["none", "independent", "residuals"]

#: Epoch whose weights are kept.
Keep = Literal["last", "best_validation"]

#: Scores on validation images that every system logs; the loss is better where it is lower.
ValidationScore = Literal["loss", "image_retrieval", "brain_retrieval"]

#: States of an artifact that `artifacts.action=prune` removes.
Prunable = Annotated[str, OneOf((UNFINISHED, REMOVED, DAMAGED, OTHER_SCHEMA))]

Action = Literal["list", "verify", "prune"]
Unreadable = Literal["refuse", "skip"]
Locks = Annotated[str, OneOf((REQUIRED, NO_LOCKS))]

#: Weights of a new subject's alignment before fine-tuning.
AlignmentStart = Literal["random", "closed_form"]

#: Correspondence of voxels by which a new subject's alignment gets a prior from those of the pretraining subjects.
AlignmentPrior = Literal["none", "anatomy", "tuning"]

#: Weights that the decay of a new subject's alignment pulls towards.
DecayTowards = Literal["zero", "start"]

LAST, BEST = get_args(Keep)
LOSS, *_ = get_args(ValidationScore)
_, SKIP = get_args(Unreadable)


class Pretrain(Settings):
    """Training on several subjects."""

    subjects: list[PositiveInt] = key("subjects to train on; all but `data.subject` by default.")
    num_sessions: NumSessions = key("first sessions of each subject that are used, or `all`.")
    epochs: PositiveInt = key("epochs of training.")
    max_steps: PositiveInt | None = key(
        "optimiser steps, in `epochs` equal parts; null: epochs are passes over the data."
    )
    batch_size: PositiveInt = key("trials of a batch, over all subjects together.")


class NewAlignment(Settings):
    """Functional alignment of a new subject (docs/one_hour.md)."""

    start: AlignmentStart = key("weights before fine-tuning; `closed_form`: ridge regression to the shared space.")
    decay_towards: DecayTowards = key("weights that the weight decay pulls towards: `zero`, or those of the `start`.")
    features: PositiveInt = key("features of an image at most, from which `closed_form` predicts its shared vector.")
    penalties: Annotated[list[PositiveFloat], MinLen(1)] = key("penalties that `closed_form` chooses from.")
    gains: Annotated[list[PositiveFloat], MinLen(1)] = key("factors that `closed_form` chooses from.")
    prior: AlignmentPrior = key(
        "weights that `closed_form` is penalised towards: zero, or those of pretraining voxels near in mask or tuning."
    )
    prior_scales: Annotated[list[NonNegativeFloat], MinLen(1)] = key("factors on these that it chooses from.")
    prior_neighbours: PositiveInt = key("voxels of each pretraining subject whose weights are averaged for a voxel.")
    prior_axes: PositiveInt = key("principal axes of the image features along which `tuning` compares voxels.")
    distillation: NonNegativeFloat = key("weight of the cosine distance of aligned trials to `closed_form`'s targets.")


class EpisodeTraining(Settings):
    """Training of the shared parts on alignments of an hour, before a closed-form start (docs/one_hour.md)."""

    per_subject: NonNegativeInt = key("episodes of each pretraining subject; 0: no such training.")
    epochs: PositiveInt = key("epochs of training.")
    max_steps: PositiveInt | None = key("optimiser steps, in `epochs` equal parts; null: epochs are passes over data.")
    batch_size: PositiveInt = key("trials of a batch, over all episodes together.")


class Adapters(Settings):
    """Low-rank adapters, which learn in place of the weights of some parts and are merged into them at the end."""

    parts: Annotated[list[str], MinLen(1)] = key(
        "parts whose shared linear layers get adapters; all else in them is frozen."
    )
    rank: PositiveInt = key("rank of an adapter; of a layer with fewer inputs or outputs their number.")
    alpha: PositiveFloat = key("an adapter is multiplied by `alpha / rank`.")
    dropout: ProperFraction = key("dropout probability of an adapter's input.")


class Finetune(Settings):
    """Training on `data.subject`."""

    start: Start = key("starting weights, those of the pretrain step or random ones.")
    checkpoint: str | None = key("published or exported checkpoint to start from, in place of the pretrain step.")
    trainable: str | Annotated[list[str], MinLen(1)] = key(
        "`all`, `per_subject` for what belongs to single subjects, or the parts that learn; the rest is frozen."
    )
    alignment: NewAlignment = key("functional alignment of the new subject.")
    episodes: EpisodeTraining = key("training on episodes before it.")
    adapters: Adapters | None = key("null, or as chosen by `adaptation=[lora]`.")
    inherit_bias: PublishedOrCorrected = key("`published` starts with the bias of the first pretraining subject.")
    epochs: PositiveInt = key("epochs of training.")
    max_steps: PositiveInt | None = key(
        "optimiser steps for one session or less, in `epochs` equal parts; null: epochs are passes over the data."
    )
    steps_exponent: NonNegativeFloat = key(
        "power of the number of sessions, from one on, that multiplies `max_steps`; 0: as many for every amount."
    )
    batch_size: PositiveInt = key("trials of a batch.")
    synthetic_fraction: ProperFraction = key("fraction of every batch that is synthetic trials; 0 for none.")
    synthetic_noise: SyntheticNoise = key(
        "noise of synthetic trials: independent by voxel, or whole patterns of errors."
    )
    keep: Keep = key("epoch whose weights are kept.")
    validation_score: ValidationScore = key("score by which `keep=best_validation` chooses the epoch.")


class VoxelClusters(Settings):
    """Functional clusters of voxels, of `alignment=clusters`."""

    count: PositiveInt = key("clusters; 128 in Brain-IT.")
    axes: PositiveInt = key("principal axes of the image features that voxels are compared along.")
    covariance: Covariance = key("of a cluster: `full` as in Brain-IT, or without correlations.")
    dim: PositiveInt = key("width of a voxel's embedding and of a cluster's token.")
    layers: PositiveInt = key("transformer layers of `backbone=clusters`.")
    heads: PositiveInt = key("attention heads of these.")
    neighbours: PositiveInt = key("nearest pretraining voxels that a new voxel's embedding starts as the mean of.")


class Evaluate(Settings):
    """Results of others that are scored."""

    checkpoint: str | None = key("checkpoint to score, in place of the finetune step.")
    low_level_checkpoint: str | None = key("checkpoint of MindEye1's low-level model, beside `checkpoint`.")
    reconstructions: str | None = key("PNG folder or published `.pt` file to score, in place of the reconstruct step.")


class Neighbours(Settings):
    """Known images near the retrieval embedding, whose tokens images are drawn from (docs/one_hour.md)."""

    weight: Fraction = key("share of their tokens; 0: the prior's alone.")
    temperature: PositiveFloat = key("of their weights, in standard deviations of the similarities to all images.")
    spread: PositiveFloat = key("factor on their tokens' difference from the mean; 1 leaves the mean of several.")


class LinearBlur(Settings):
    """Blurry images by ridge regression from voxels to pixels, not by the low-level branch (docs/one_hour.md)."""

    size: PositiveInt | None = key("pixels along a side of its targets; null: the low-level branch's blurry images.")
    contrast: PositiveFloat = key("as a share of the seen images' contrast.")
    strength: Fraction = key("fraction of steps that start from them, in place of `unclip.strength`.")
    penalties: Annotated[list[PositiveFloat], MinLen(1)] = key("that one is chosen from, on left-out training images.")


class Reconstruct(Settings):
    """Reconstruction of the test images."""

    candidates: PositiveInt = key("images of which the nearest to the brain is kept; 16 published for MindEye1.")
    neighbours: Neighbours = key("known images near the retrieval embedding.")
    linear_blur: LinearBlur = key("blurry images by ridge regression.")
    prior_samples: PositiveInt | None = optional("samples of the diffusion prior that are averaged; 1 as published.")


class Bottleneck(Settings):
    """Bottleneck between alignment and backbone in evaluate, reconstruct and retrieve (docs/evaluate.md)."""

    dimensions: NonNegativeInt | None = key(
        "principal directions of the aligned vectors that are kept; 0: their mean alone; null: no bottleneck."
    )


class Retrieve(Settings):
    """Retrieval from a large gallery, of `pipeline=retrieve` (docs/retrieval.md)."""

    gallery: str | None = key("folder of images or shards, tar shard, hdf5 file or vectors; null: the data's images.")
    source: Annotated[str, OneOf((AUTO, *KINDS))] = key("kind of the gallery, where its path does not tell.")
    unreadable: Unreadable = key("images that cannot be read are refused, or skipped and counted.")
    with_seen: bool = key("adds the seen images to a gallery of your own.")
    vector: Annotated[str, OneOf(VECTORS)] = key("vector of an image for the coarse search.")
    width: PositiveInt = key("width of the vector, where it is projected.")
    projection_seed: NonNegativeInt = key("seed of the projection.")
    coarse: list[str] = key("overrides that make another model of this one for the coarse search.")
    top_k: PositiveInt = key("images that the coarse search finds.")
    rerank: bool = key("the token model reorders the found images.")
    at: list[PositiveInt] = key("ranks at which recall is computed, beside `top_k`.")
    batch_size: PositiveInt = key("images that are embedded at once.")


class BrainMaps(Settings):
    """Values of voxels drawn back on the brain, of `pipeline=brain_maps` (docs/brain_maps.md)."""

    surfaces: Literal["fsaverage5"] | tuple[str, str] | None = key(
        "GIFTI files of the left and the right hemisphere in the mask's space, or `fsaverage5`; null: slices alone."
    )


class Sweep(Settings):
    """Report of a multirun."""

    metric: str = key("score of the curve and of the finding.")
    over: str = key("swept parameter along the horizontal axis of the curves.")
    agent_metric: str = key("score that W&B's agent gets.")
    columns: Annotated[list[str], MinLen(1)] = key("scores of the table; the terminal shows three.")
    compare: str | None = key("parameter whose values are compared; null for the last one that is swept.")
    baseline: Any = key("its value that the others are compared with; null for the first one.")
    choose: str | None = key("swept parameter of which the first value near the best is chosen; null for none.")
    tolerance: NonNegativeFloat = key("difference from the best mean that counts as near.")
    pages: bool = key("writes a page for each job too.")
    stop_at_first_failure: bool = key("starts no further job after one has failed.")
    wandb_folder: str = key("folder that `pipeline=wandb_sweeps` writes into.")


class Export(Settings):
    """The trained model as a folder or a hub repository, of `pipeline=export`."""

    folder: str | None = key("folder to write.")
    repository: str | None = key("`owner/name` of the hub repository.")
    private: bool = key("a repository that does not exist yet becomes private.")
    parts: bool = key("writes each part alone too, in a folder of its name.")


class Artifacts(Settings):
    """Finished results on disk (docs/artifacts.md)."""

    action: Action = key("of `pipeline=artifacts`.")
    step: Name | None = key("only this step's artifacts; null for all.")
    checksums: bool = key("list and prune read every file, as verify does.")
    dry_run: bool = key("prune says what it would remove, and removes nothing.")
    prune: list[Prunable] = key("states of artifacts that prune removes.")
    keep_used_by: str | list[str] | None = key("experiments whose artifacts are kept; others are removed too.")
    locks: Locks = key("`none` on a file system without locks, for one job at a time.")


class Pipeline(Settings):
    """Ordered steps."""

    steps: Annotated[list[str], MinLen(1)] = key("steps to run, or one command; missing steps before them run first.")


class Debug(Settings):
    """Short runs that look for mistakes."""

    name: Name = key("kind of run; `none` is a run as configured.")


class Ablation(Settings):
    """Part that is taken out."""

    name: Name = key("name in tables.")
    against: Name | None = optional("ablation that a sweep compares it with; `sweep.baseline` by default.")
    control: str | None = optional("what the comparison keeps equal, a sentence for the sweep's table.")
