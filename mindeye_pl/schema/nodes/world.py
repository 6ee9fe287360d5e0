"""Nodes of the data: paths, brains and images, the scale, published or corrected behaviour."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import MinLen

from mindeye_pl.data.mindeye1.samples import REPEATED_SLOTS
from mindeye_pl.data.nsd.betas import NORMALISATIONS
from mindeye_pl.data.nsd.test_set import REPETITION_WEIGHTS
from mindeye_pl.data.nsd.trials import NumSessions, TestSplit
from mindeye_pl.data.sampling import SAMPLERS
from mindeye_pl.models.gan.objective import Latents
from mindeye_pl.nn.stylegan2.discriminator import ProjectionReduction
from mindeye_pl.nn.stylegan2.networks import NetworkSizes
from mindeye_pl.schema.nodes.run import Keep
from mindeye_pl.schema.settings import Settings
from mindeye_pl.types import (
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    OneOf,
    PositiveFloat,
    PositiveInt,
    ProperFraction,
    PublishedOrCorrected,
    Seed,
)


@dataclass(frozen=True, kw_only=True)
class Paths(Settings):
    """Folders.

    Attributes:
        outputs: everything below.
        results: runs, sweeps, artifacts and reports; those of `debug` are in a folder of their own.
        artifacts: finished results of steps.
        shared_artifacts: artifacts of a laboratory, looked into next and never written.
        targets: embeddings of images.
        reports: report pages.
        cache: indices of tar shards.
        nsd: MindEye2's or MindEye1's prepared NSD; `data=simulated` simulates its own where null.
        weights: foundation weights, looked into before the hub's cache.
    """

    outputs: str
    results: str
    artifacts: str
    shared_artifacts: str | None
    targets: str
    reports: str
    cache: str
    nsd: str | None
    weights: str | None


@dataclass(frozen=True, kw_only=True)
class Shards(Settings):
    """Tar files of each subject of MindEye1's NSD.

    Attributes:
        train: of the training split.
        val: of the validation split.
        test: of the test split.
    """

    train: PositiveInt
    val: PositiveInt
    test: PositiveInt


@dataclass(frozen=True, kw_only=True)
class Data(Settings):
    """Brains and images.

    Attributes:
        source: where they come from; the papers' rows stand beside measured `simulated`, `nsd` or `nsd_mindeye1` data.
        root: folder of the files; null for the data of a step.
        made_by: full name of the step that makes the files where `root` is null.
        source_dir: folder of the files that the step `made_by` converts.
        subject: subject that is fine-tuned and scored.
        subjects: all subjects.
        num_sessions: first sessions of `data.subject` that are used, a fraction of one too, or `all`.
        betas: normalisation of the betas.
        sampling: how an epoch's trials are drawn.
        repetitions: how test responses to one image are averaged.
        test_split: test images; `test` leaves out the last three sessions.
        split: images left out of training and tested: `standard`, `cluster_k5_0`, `image_wise_85`.
        validation_fraction: fraction of the training images held out for the curves.
        trials_per_session: presentations of a session.
        num_workers: worker processes of a data loader.
        shards: tar files of MindEye1's splits.
        repeated_slots: rule that tells which of an image's slots are repetitions.
        first_trial: number of a subject's first trial in `trial.npy`.
        voxel_counts: voxels that each subject's files must have; null takes what is there.
    """

    source: Name
    root: str | None
    subject: PositiveInt
    subjects: Annotated[list[PositiveInt], MinLen(1)]
    num_sessions: NumSessions
    betas: Annotated[str, OneOf(NORMALISATIONS)]
    sampling: Annotated[str, OneOf(SAMPLERS)]
    repetitions: Annotated[str, OneOf(REPETITION_WEIGHTS)]
    test_split: TestSplit
    split: Name
    validation_fraction: ProperFraction
    trials_per_session: PositiveInt
    num_workers: NonNegativeInt
    made_by: str | None = None
    source_dir: str | None = None
    shards: Shards | None = None
    repeated_slots: Annotated[str, OneOf(REPEATED_SLOTS)] | None = None
    first_trial: NonNegativeInt | None = None
    voxel_counts: dict[PositiveInt, PositiveInt] | None = None


@dataclass(frozen=True, kw_only=True)
class Fidelity(Settings):
    """Differences between the published code and its paper, or good practice (docs/configuration.md).

    Attributes:
        mixer: mixer blocks of the backbone.
        mixco_permutation: MixCo's permutation of several subjects.
        mixco_diagonal: MixCo's targets at fixed points of the permutation.
        inherit_bias: alignment bias of a new subject.
        gain_decay: parameters that weight decay applies to.
        input_range: range of the images that CLIP sees.
        sampling: how an epoch's trials are drawn.
        repetitions: average over one or two repetitions.
        betas: normalisation of the betas.
        retrieval_names: meaning of "fwd" and "bwd".
        latents: main latent of Mind Reader's generator.
        projection: match of Mind Reader's discriminator with embeddings.
        mapper_outputs: outputs of Mind Reader's mappers.
    """

    mixer: PublishedOrCorrected
    mixco_permutation: PublishedOrCorrected
    mixco_diagonal: PublishedOrCorrected
    inherit_bias: PublishedOrCorrected
    gain_decay: PublishedOrCorrected
    input_range: PublishedOrCorrected
    sampling: Annotated[str, OneOf(SAMPLERS)]
    repetitions: Annotated[str, OneOf(REPETITION_WEIGHTS)]
    betas: Annotated[str, OneOf(NORMALISATIONS)]
    retrieval_names: PublishedOrCorrected
    latents: Latents
    projection: ProjectionReduction
    mapper_outputs: PublishedOrCorrected


@dataclass(frozen=True, kw_only=True)
class ScaleSweep(Settings):
    """Values that the sweeps of `conf/experiment/sweeps` go through.

    Attributes:
        hours: sessions, separated by commas.
        seeds: seeds, separated by commas.
        hidden_dims: widths of the shared space, separated by commas, in systems that have one.
    """

    hours: str | PositiveFloat
    seeds: str | Seed
    hidden_dims: str | PositiveInt | None = None


@dataclass(frozen=True, kw_only=True)
class Scale(Settings):
    """Sizes that the other groups read; a system has those that it uses.

    Attributes:
        name: name of the scale.
        sweep: values of the shipped sweeps.
        hidden_dim: width of the shared space.
        alignment_weight_decay: weight decay of the functional alignment.
        num_blocks: blocks of the backbone.
        retrieval_dim: width of MindEye1's retrieval head.
        backbone_dropout: dropout inside the backbone's blocks.
        low_level_widths: channels of the low-level decoder's levels.
        mapper_channels: channels of Mind Reader's mappers.
        mapper_blocks: residual blocks of the mappers.
        mapper_hidden_dim: hidden width of the mappers.
        mapper_pad_multiple: voxels are padded to a multiple of this.
        mapper_weight_decay: weight decay of the mappers.
        mapper_learning_rate: learning rate of mappers that learn with the generator.
        prior_depth: layers of the prior.
        prior_head_dim: width of an attention head of the prior.
        prior_heads: attention heads of the prior.
        prior_condition: how the prior sees the brain's tokens.
        prior_timesteps: steps of the prior's noise schedule.
        prior_sample_steps: steps of sampling from the prior.
        prior_samples: samples that are averaged.
        max_lr: highest learning rate.
        pretrain_epochs: epochs of pretraining.
        pretrain_batch_size: trials of a pretraining batch.
        finetune_epochs: epochs of fine-tuning.
        finetune_batch_size: trials of a fine-tuning batch.
        finetune_keep: epoch whose weights are kept.
        generator_epochs: epochs of the generator's fine-tuning.
        generator_steps_per_epoch: steps of each.
        generator_batch_size: images of a step.
        generator_sizes: sizes of a generator that starts from scratch.
        generator_head_scale: weight of the match of the discriminator's heads with the embeddings.
        generator_clip_scale: weight of the match of CLIP's view with the embeddings.
        generator_r1_gamma: weight of R1; null for StyleGAN2-ADA's heuristic.
        checkpoint_every_n_epochs: epochs between two checkpoints.
        embed_batch_size: images that are embedded at once.
    """

    name: Name
    sweep: ScaleSweep | None = None
    hidden_dim: PositiveInt | None = None
    alignment_weight_decay: NonNegativeFloat | None = None
    num_blocks: PositiveInt | None = None
    retrieval_dim: PositiveInt | None = None
    backbone_dropout: ProperFraction | None = None
    low_level_widths: list[PositiveInt] | None = None
    mapper_channels: PositiveInt | None = None
    mapper_blocks: PositiveInt | None = None
    mapper_hidden_dim: PositiveInt | None = None
    mapper_pad_multiple: PositiveInt | None = None
    mapper_weight_decay: NonNegativeFloat | None = None
    mapper_learning_rate: PositiveFloat | None = None
    prior_depth: PositiveInt | None = None
    prior_head_dim: PositiveInt | None = None
    prior_heads: PositiveInt | None = None
    prior_condition: Literal["sequence", "residual"] | None = None
    prior_timesteps: PositiveInt | None = None
    prior_sample_steps: PositiveInt | None = None
    prior_samples: PositiveInt | None = None
    max_lr: PositiveFloat | None = None
    pretrain_epochs: PositiveInt | None = None
    pretrain_batch_size: PositiveInt | None = None
    finetune_epochs: PositiveInt | None = None
    finetune_batch_size: PositiveInt | None = None
    finetune_keep: Keep | None = None
    generator_epochs: PositiveInt | None = None
    generator_steps_per_epoch: PositiveInt | None = None
    generator_batch_size: PositiveInt | None = None
    generator_sizes: NetworkSizes | None = None
    generator_head_scale: NonNegativeFloat | None = None
    generator_clip_scale: NonNegativeFloat | None = None
    generator_r1_gamma: NonNegativeFloat | None = None
    checkpoint_every_n_epochs: PositiveInt | None = None
    embed_batch_size: PositiveInt | None = None
