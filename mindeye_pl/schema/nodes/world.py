"""Nodes of the data: paths, brains and images, the scale, published or corrected behaviour."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, MinLen

from mindeye_pl.data.layout.betas import NORMALISATIONS, BetaDtype
from mindeye_pl.data.layout.test_set import REPETITION_WEIGHTS
from mindeye_pl.data.layout.trials import NumSessions, TestImages, ValidateOn
from mindeye_pl.data.mindeye1.index import REPEATED_SLOTS
from mindeye_pl.data.nsd.release import BetaVersion
from mindeye_pl.data.nsd.zscore import ZScore
from mindeye_pl.data.nsd_tests.imagery import OrderInRuns
from mindeye_pl.data.own.images import Squaring
from mindeye_pl.data.own.preparation import SessionZScore
from mindeye_pl.data.own.split import Rule
from mindeye_pl.data.sampling import SAMPLERS
from mindeye_pl.models.gan.objective import Latents
from mindeye_pl.nn.stylegan2.discriminator import ProjectionReduction
from mindeye_pl.nn.stylegan2.networks import NetworkSizes
from mindeye_pl.schema.nodes.run import Keep
from mindeye_pl.schema.settings import Settings, key, optional
from mindeye_pl.types import (
    Averaging,
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


class Paths(Settings):
    """Folders."""

    outputs: str = key("everything below.")
    results: str = key("runs, sweeps, artifacts and reports; those of `debug` are in a folder of their own.")
    artifacts: str = key("finished results of steps.")
    shared_artifacts: str | None = key("artifacts of a laboratory, looked into next and never written.")
    targets: str = key("embeddings of images.")
    reports: str = key("report pages.")
    cache: str = key("indices of tar shards.")
    nsd: str | None = key(
        "NSD: MindEye2's files, MindEye1's, or NSD's own release; `data=simulated` simulates its own where null."
    )
    data: str | None = key("files of another dataset.")
    weights: str | None = key("foundation weights, looked into before the hub's cache.")


class Shards(Settings):
    """Tar files of each subject of MindEye1's NSD."""

    train: PositiveInt = key("of the training split.")
    val: PositiveInt = key("of the validation split.")
    test: PositiveInt = key("of the test split.")


class Data(Settings):
    """Brains and images."""

    source: Name = key("where they come from; the papers' rows stand beside measured data of NSD.")
    root: str | None = key("folder of the files; null for the data of a step.")
    subject: PositiveInt = key("subject that is fine-tuned and scored.")
    subjects: Annotated[list[PositiveInt], MinLen(1)] = key("all subjects.")
    num_sessions: NumSessions = key("first sessions of `data.subject` that are used, a fraction of one too, or `all`.")
    betas: Annotated[str, OneOf(NORMALISATIONS)] = key("normalisation of the betas.")
    sampling: Annotated[str, OneOf(SAMPLERS)] = key("how an epoch's trials are drawn.")
    repetitions: Annotated[str, OneOf(REPETITION_WEIGHTS)] = key("weights of the test responses to one image.")
    averaging: Averaging = key("averages the model's outputs for the test responses, or their voxels before the model.")
    max_repetitions: PositiveInt | None = key("most presentations of one test image; null takes what the data have.")
    test_split: Name = key("test images; NSD's `test` leaves out the last three sessions.")
    split: Name = key("images left out of training and tested: `standard`, `cluster_k5_0`, `image_wise_85`.")
    validation_fraction: ProperFraction = key("fraction of the training images held out for the curves.")
    validation_images: NonNegativeInt = key("images of a subject held out at least, where the fraction is fewer.")
    validate_on: ValidateOn = key("images that fine-tuning is validated on; `tested` are the test images.")
    trials_per_session: PositiveInt = key("presentations of a session.")
    hours_per_session: PositiveFloat = key("hours in the scanner of a session.")
    regions: list[Name] | None = key("regions that are scored by themselves; null takes all that the data have.")
    labels: dict[PositiveInt, Name] | None = optional("the dataset's own names of its subjects.")
    test_images_in_training: TestImages = key("trials of shared1000 images in training shards.")
    num_workers: NonNegativeInt = key("worker processes of a data loader.")
    beta_dtype: BetaDtype = key("type of the training betas in memory.")
    made_by: str | None = optional("full name of the step that makes the files where `root` is null.")
    source_dir: str | None = optional("folder of the files that the step `made_by` converts.")
    listed_splits: list[str] | None = optional("patterns of the dataset's own splits, which win over other meanings.")
    image_size: PositiveInt | None = optional("side of the square images that a preparation writes.")
    voxel_regions: list[str] | None = optional("regions whose voxels a preparation keeps; null takes the usual ones.")
    training_dir: str | None = optional("folder of NSD in the working layout that `source_dir` adds test splits to.")
    order_in_runs: OrderInRuns | None = optional("order of NSD-imagery's betas within a run.")
    shards: Shards | None = optional("tar files of MindEye1's splits.")
    repeated_slots: Annotated[str, OneOf(REPEATED_SLOTS)] | None = optional(
        "which of an image's slots are repetitions."
    )
    first_trial: NonNegativeInt | None = optional("number of a subject's first trial in `trial.npy`.")
    beta_version: BetaVersion | None = optional("estimate of the responses in NSD's release: GLMsingle's b3, b2 or b1.")
    zscore: ZScore | None = optional("trials whose mean and deviation z-score NSD's betas; `none` keeps percent.")
    zscore_sessions: list[PositiveInt] | None = optional("sessions of `zscore=train_sessions_only`.")
    mask: str | Annotated[list[str], MinLen(1)] | None = optional(
        "voxels of NSD's release: names of its masks, NIfTI files, or `all_finite`."
    )
    max_sessions: PositiveInt | None = optional("first sessions of NSD's release that are prepared; null for all.")
    voxel_counts: dict[PositiveInt, PositiveInt] | None = optional("voxels of each subject's files; null accepts any.")


class Own(Settings):
    """A laboratory's own recordings, which `prepare_own` prepares (docs/tutorials/your_own_scanner.md)."""

    path: str | None = key("folder of the study.")
    betas: str | None = key("file or pattern of the betas; null for `sub-*_betas.*`.")
    dataset: str | None = key("name of the betas in an hdf5 or MATLAB file; null for `betasmd`, `modelmd` or `betas`.")
    events: str | None = key("file or pattern of the events tables; null for `*events.tsv`.")
    images: str | None = key("folder of the images; null for `stimuli` or `images`.")
    image_column: str = key("column of the events tables that names the image.")
    mask: str | None = key("NIfTI file or pattern of the masks; null for `*mask.nii.gz`, if there is one.")
    split: Rule = key("test images: those presented most often, a fraction, or a cluster of similar ones.")
    test_fraction: Annotated[float, Gt(0), Le(0.5)] = key("fraction of the images, where `split` takes one.")
    zscore: SessionZScore = key("betas by mean and deviation of the training trials of their session, or unchanged.")
    image_size: Annotated[int, Ge(16)] = key("side of the stored images in pixels.")
    squaring: Squaring = key("images become square by their middle, or are stretched.")


class Fidelity(Settings):
    """Differences between the published code and its paper, or good practice (docs/fidelity.md)."""

    mixer: PublishedOrCorrected = key("mixer blocks of the backbone.")
    mixco_permutation: PublishedOrCorrected = key("MixCo's permutation of several subjects.")
    mixco_diagonal: PublishedOrCorrected = key("MixCo's targets at fixed points of the permutation.")
    inherit_bias: PublishedOrCorrected = key("alignment bias of a new subject.")
    gain_decay: PublishedOrCorrected = key("parameters that weight decay applies to.")
    low_level_norms: PublishedOrCorrected = key("normalisation in the decoder of the low-level branch.")
    input_range: PublishedOrCorrected = key("range of the images that CLIP sees.")
    sampling: Annotated[str, OneOf(SAMPLERS)] = key("how an epoch's trials are drawn.")
    repetitions: Annotated[str, OneOf(REPETITION_WEIGHTS)] = key("average over one or two repetitions.")
    betas: Annotated[str, OneOf(NORMALISATIONS)] = key("normalisation of the betas.")
    retrieval_names: PublishedOrCorrected = key('meaning of "fwd" and "bwd".')
    latents: Latents = key("main latent of Mind Reader's generator.")
    projection: ProjectionReduction = key("match of Mind Reader's discriminator with embeddings.")
    mapper_outputs: PublishedOrCorrected = key("outputs of Mind Reader's mappers.")
    moments: PublishedOrCorrected = key("Adam's moments where the learning rate falls in steps.")
    precision: Literal["16-mixed", "bf16-mixed"] = key("numbers of a training on a GPU.")
    restart: PublishedOrCorrected = key("learning rate at the start of Mind Reader's stage b.")
    refine_input: PositiveInt | None = key("side in pixels of the image before it is enlarged and refined.")
    refiner: Literal["zavychromaxl", "sdxl_base"] = key("weights of `refine=sdxl_img2img`.")
    validation_fraction: ProperFraction = key("fraction of the training images held out, at `scale=paper`.")
    validate_on: ValidateOn = key("images that Mind Reader is validated on, at `scale=paper`.")
    split: Name = key("images that Mind Reader leaves out and tests, at `scale=paper`.")
    test_responses: Annotated[str, OneOf(REPETITION_WEIGHTS)] = key(
        "weights of Mind Reader's test responses, at `scale=paper`."
    )
    beta_dtype: BetaDtype = key("type of MindEye2's training betas in memory, at `scale=paper`.")
    target_size: PositiveInt | None = key("side of the seen images that MindEye2 retrieves, at `scale=paper`.")


class ScaleSweep(Settings):
    """Values that the sweeps of `conf/experiment/sweeps` go through."""

    hours: str | PositiveFloat = key("sessions, separated by commas.")
    seeds: str | Seed = key("seeds, separated by commas.")
    max_steps: str | PositiveInt | None = optional("optimiser steps of fine-tuning, separated by commas.")
    hidden_dims: str | PositiveInt | None = optional("widths of the shared space, separated by commas.")


class VoxelTransformer(Settings):
    """Network of `in_context.decoder=transformer` and its training on episodes."""

    width: PositiveInt = key("width of latents and voxels.")
    heads: PositiveInt = key("attention heads, which divide the width.")
    depth: PositiveInt = key("blocks.")
    latents: PositiveInt = key("latents of a query.")
    voxels: PositiveInt = key("voxels of an episode.")
    queries: PositiveInt = key("queries of an episode.")
    batch_size: PositiveInt = key("episodes of a step.")
    epochs: PositiveInt = key("epochs of the training.")
    steps_per_epoch: PositiveInt = key("steps of an epoch.")
    max_lr: PositiveFloat = key("highest learning rate.")
    weight_decay: NonNegativeFloat = key("AdamW's weight decay.")
    temperature: PositiveFloat = key("temperature of the contrastive loss.")


class InContextSizes(Settings):
    """Sizes of decoding from a support set."""

    context: list[NonNegativeInt] = key("numbers of support images.")
    features: PositiveInt = key("principal components of the tokens.")
    images: PositiveInt = key("most images of a subject.")
    transformer: VoxelTransformer = key("the transformer.")


class InContext(Settings):
    """Decoding from a support set, of `pipeline=decode_in_context` (docs/in_context.md)."""

    decoder: Literal["bayesian", "transformer"] = key("closed form, or a transformer that corrects it.")
    context: Annotated[list[NonNegativeInt], MinLen(1)] = key("numbers of support images.")
    draws: PositiveInt = key("support sets of each size; scores are means over them.")
    correspondence: Literal["none", "positions"] = key(
        "prior mean of a voxel: all known voxels', or that of near ones."
    )
    neighbours: PositiveInt = key("known voxels that are near, for `correspondence=positions`.")
    features: PositiveInt = key("principal components of the tokens.")
    images: PositiveInt = key("most images of each subject of the training, and of the principal components.")
    pseudo_counts: Annotated[list[PositiveFloat], MinLen(1)] = key("candidates for the weight of independent noise.")
    transformer: VoxelTransformer = key("the transformer and its training.")


class Scale(Settings):
    """Sizes that the other groups read; a system has those that it uses."""

    name: Name = key("name of the scale.")
    sweep: ScaleSweep | None = optional("values of the shipped sweeps.")
    hidden_dim: PositiveInt | None = optional("width of the shared space.")
    alignment_weight_decay: NonNegativeFloat | None = optional("weight decay of the functional alignment.")
    num_blocks: PositiveInt | None = optional("blocks of the backbone.")
    num_clusters: PositiveInt | None = optional("functional clusters of voxels.")
    cluster_axes: PositiveInt | None = optional("axes of image features that voxels are compared along.")
    cluster_dim: PositiveInt | None = optional("width of a voxel's embedding and of a cluster's token.")
    cluster_layers: PositiveInt | None = optional("transformer layers over the clusters.")
    cluster_heads: PositiveInt | None = optional("heads of its attention.")
    retrieval_dim: PositiveInt | None = optional("width of MindEye1's retrieval head.")
    backbone_dropout: ProperFraction | None = optional("dropout inside the backbone's blocks.")
    low_level_widths: list[PositiveInt] | None = optional("channels of the low-level decoder's levels.")
    mapper_channels: PositiveInt | None = optional("channels of Mind Reader's mappers.")
    mapper_blocks: PositiveInt | None = optional("residual blocks of the mappers.")
    mapper_hidden_dim: PositiveInt | None = optional("hidden width of the mappers.")
    mapper_pad_multiple: PositiveInt | None = optional("voxels are padded to a multiple of this.")
    mapper_weight_decay: NonNegativeFloat | None = optional("weight decay of the mappers.")
    mapper_learning_rate: PositiveFloat | None = optional("learning rate of mappers that learn with the generator.")
    prior_depth: PositiveInt | None = optional("layers of the prior.")
    prior_head_dim: PositiveInt | None = optional("width of an attention head of the prior.")
    prior_heads: PositiveInt | None = optional("attention heads of the prior.")
    prior_condition: Literal["sequence", "residual"] | None = optional("how the prior sees the brain's tokens.")
    prior_timesteps: PositiveInt | None = optional("steps of the prior's noise schedule.")
    prior_sample_steps: PositiveInt | None = optional("steps of sampling from the prior.")
    prior_samples: PositiveInt | None = optional("samples that are averaged.")
    prior_scale: NonNegativeFloat | None = optional("weight of the prior's loss.")
    low_level_scale: NonNegativeFloat | None = optional("weight of the low-level branch's loss.")
    bimixco_temperature: PositiveFloat | None = optional("temperature of BiMixCo.")
    softclip_temperature_start: PositiveFloat | None = optional("temperature of SoftCLIP at first.")
    softclip_temperature_end: PositiveFloat | None = optional("temperature of SoftCLIP in the last epoch.")
    max_lr: PositiveFloat | None = optional("highest learning rate.")
    pretrain_epochs: PositiveInt | None = optional("epochs of pretraining.")
    pretrain_max_steps: PositiveInt | None = optional("optimiser steps of pretraining; null for passes over the data.")
    pretrain_batch_size: PositiveInt | None = optional("trials of a pretraining batch.")
    finetune_epochs: PositiveInt | None = optional("epochs of fine-tuning.")
    finetune_max_steps: PositiveInt | None = optional(
        "optimiser steps of fine-tuning for one session; null for passes over the data."
    )
    finetune_steps_exponent: NonNegativeFloat | None = optional("power of the sessions that multiplies these steps.")
    finetune_batch_size: PositiveInt | None = optional("trials of a fine-tuning batch.")
    finetune_keep: Keep | None = optional("epoch whose weights are kept.")
    generator_epochs: PositiveInt | None = optional("epochs of the generator's fine-tuning.")
    generator_steps_per_epoch: PositiveInt | None = optional("steps of each.")
    generator_batch_size: PositiveInt | None = optional("images of a step.")
    generator_sizes: NetworkSizes | None = optional("sizes of a generator that starts from scratch.")
    generator_head_scale: NonNegativeFloat | None = optional(
        "weight of the discriminator heads' match with embeddings."
    )
    generator_clip_scale: NonNegativeFloat | None = optional("weight of CLIP's match with the embeddings.")
    generator_r1_gamma: NonNegativeFloat | None = optional("weight of R1; null for StyleGAN2-ADA's heuristic.")
    in_context: InContextSizes | None = optional("sizes of decoding from a support set.")
    checkpoint_every_n_epochs: PositiveInt | None = optional("epochs between two checkpoints.")
    embed_batch_size: PositiveInt | None = optional("images that are embedded at once.")
    report_export: bool = key("writes the report's figures and tables as files too.")
