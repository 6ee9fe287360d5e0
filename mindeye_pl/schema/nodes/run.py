"""Nodes of the run: training, evaluation, retrieval, sweeps, export, artifacts."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from annotated_types import MinLen

from mindeye_pl.data.nsd.trials import NumSessions
from mindeye_pl.gallery.coarse import VECTORS
from mindeye_pl.gallery.opening import AUTO, KINDS
from mindeye_pl.schema.settings import Settings
from mindeye_pl.store.inventory import DAMAGED, OTHER_SCHEMA, REMOVED, UNFINISHED
from mindeye_pl.store.locks import NO_LOCKS, REQUIRED
from mindeye_pl.types import Name, NonNegativeInt, OneOf, PositiveInt, PublishedOrCorrected

#: Weights that fine-tuning starts from.
Start = Literal["pretrained", "scratch"]

#: Epoch whose weights are kept.
Keep = Literal["last", "lowest_validation_loss"]

#: States of an artifact that `artifacts.action=prune` removes.
Prunable = Annotated[str, OneOf((UNFINISHED, REMOVED, DAMAGED, OTHER_SCHEMA))]

Action = Literal["list", "verify", "prune"]
Unreadable = Literal["refuse", "skip"]
Locks = Annotated[str, OneOf((REQUIRED, NO_LOCKS))]

LAST, LOWEST = get_args(Keep)
REFUSE, SKIP = get_args(Unreadable)


@dataclass(frozen=True, kw_only=True)
class Pretrain(Settings):
    """Training on several subjects.

    Attributes:
        subjects: subjects to train on; all but `data.subject` by default.
        num_sessions: first sessions of each subject that are used, or `all`.
        epochs: epochs of training.
        batch_size: trials of a batch, over all subjects together.
    """

    subjects: list[PositiveInt]
    num_sessions: NumSessions
    epochs: PositiveInt
    batch_size: PositiveInt


@dataclass(frozen=True, kw_only=True)
class Finetune(Settings):
    """Training on `data.subject`.

    Attributes:
        start: starting weights, those of the pretrain step or random ones.
        checkpoint: published or exported checkpoint to start from, in place of the pretrain step.
        trainable: `all`, or the parts that learn while the rest is frozen.
        inherit_bias: `published` starts with the alignment bias of the first pretraining subject.
        epochs: epochs of training.
        batch_size: trials of a batch.
        keep: epoch whose weights are kept.
    """

    start: Start
    checkpoint: str | None
    trainable: str | Annotated[list[str], MinLen(1)]
    inherit_bias: PublishedOrCorrected
    epochs: PositiveInt
    batch_size: PositiveInt
    keep: Keep


@dataclass(frozen=True, kw_only=True)
class Evaluate(Settings):
    """Results of others that are scored.

    Attributes:
        checkpoint: checkpoint to score, in place of the finetune step.
        low_level_checkpoint: checkpoint of MindEye1's low-level model, beside `checkpoint`.
        reconstructions: folder of PNG files or published `.pt` file to score, in place of the reconstruct step.
    """

    checkpoint: str | None
    low_level_checkpoint: str | None
    reconstructions: str | None


@dataclass(frozen=True, kw_only=True)
class Reconstruct(Settings):
    """Reconstruction of the test images.

    Attributes:
        candidates: images of which the nearest to the brain's retrieval embedding is kept; 16 published for MindEye1.
        prior_samples: samples of the diffusion prior that are averaged, in systems that have one; 1 as published.
    """

    candidates: PositiveInt
    prior_samples: PositiveInt | None = None


@dataclass(frozen=True, kw_only=True)
class Retrieve(Settings):
    """Retrieval from a large gallery, of `pipeline=retrieve` (docs/retrieval.md).

    Attributes:
        gallery: folder of images or tar shards, tar shard, hdf5 file or table of vectors; null for the data's images.
        source: kind of the gallery, where its path does not tell.
        unreadable: images that cannot be read are refused, or skipped and counted.
        with_seen: adds the seen images to a gallery of your own.
        vector: vector of an image for the coarse search.
        width: width of the vector, where it is projected.
        projection_seed: seed of the projection.
        coarse: overrides that make another model of this one for the coarse search.
        top_k: images that the coarse search finds.
        rerank: the token model reorders the found images.
        at: ranks at which recall is computed, beside `top_k`.
        batch_size: images that are embedded at once.
    """

    gallery: str | None
    source: Annotated[str, OneOf((AUTO, *KINDS))]
    unreadable: Unreadable
    with_seen: bool
    vector: Annotated[str, OneOf(VECTORS)]
    width: PositiveInt
    projection_seed: NonNegativeInt
    coarse: list[str]
    top_k: PositiveInt
    rerank: bool
    at: list[PositiveInt]
    batch_size: PositiveInt


@dataclass(frozen=True, kw_only=True)
class Sweep(Settings):
    """Report of a multirun.

    Attributes:
        metric: score of the curve and of the finding.
        agent_metric: score that W&B's agent gets.
        columns: scores of the table; the terminal shows three.
        compare: parameter whose values are compared; null for the last one that is swept.
        baseline: its value that the others are compared with; null for the first one.
        pages: writes a page for each job too.
        stop_at_first_failure: starts no further job after one has failed.
        wandb_folder: folder that `pipeline=wandb_sweeps` writes into.
    """

    metric: str
    agent_metric: str
    columns: Annotated[list[str], MinLen(1)]
    compare: str | None
    baseline: Any
    pages: bool
    stop_at_first_failure: bool
    wandb_folder: str


@dataclass(frozen=True, kw_only=True)
class Export(Settings):
    """The trained model as a folder or a hub repository, of `pipeline=export`.

    Attributes:
        folder: folder to write.
        repository: `owner/name` of the hub repository.
        private: a repository that does not exist yet becomes private.
        parts: writes each part alone too, in a folder of its name.
    """

    folder: str | None
    repository: str | None
    private: bool
    parts: bool


@dataclass(frozen=True, kw_only=True)
class Artifacts(Settings):
    """Finished results on disk (docs/artifacts.md).

    Attributes:
        action: of `pipeline=artifacts`.
        step: only this step's artifacts; null for all.
        checksums: list and prune read every file, as verify does.
        dry_run: prune says what it would remove, and removes nothing.
        prune: states of artifacts that prune removes.
        keep_used_by: experiments whose artifacts are kept; others are removed too.
        locks: `none` on a file system without locks, for one job at a time.
    """

    action: Action
    step: Name | None
    checksums: bool
    dry_run: bool
    prune: list[Prunable]
    keep_used_by: str | list[str] | None
    locks: Locks


@dataclass(frozen=True, kw_only=True)
class Pipeline(Settings):
    """Ordered steps.

    Attributes:
        steps: steps to make, or one command alone; missing steps before them are made first.
    """

    steps: Annotated[list[str], MinLen(1)]


@dataclass(frozen=True, kw_only=True)
class Debug(Settings):
    """Short runs that look for mistakes.

    Attributes:
        name: kind of run; `none` is a run as configured.
    """

    name: Name


@dataclass(frozen=True, kw_only=True)
class Ablation(Settings):
    """Part that is taken out.

    Attributes:
        name: name in tables.
    """

    name: Name
