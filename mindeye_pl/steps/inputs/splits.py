"""What `data.split` leaves out of a run's trainings, and what that depends on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_warn

from mindeye_pl.data.nsd.splits import (
    ClusterName,
    ImageWiseName,
    LeftOut,
    LeftOutCluster,
    LeftOutLast,
    kept_clusters,
    read_split,
)
from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.data.nsd.trials import load_test_trials
from mindeye_pl.engine.step import Run
from mindeye_pl.steps.inputs.simulate import data_inputs, layout
from mindeye_pl.steps.inputs.targets import made_from, pooled_embeddings
from mindeye_pl.store.fingerprint import fingerprint


def left_out_images(run: Run) -> LeftOut | None:
    """The images that `data.split` leaves out of every training; None for the standard split.

    Raises:
        UserError: for an unknown split, or one without a test image of `data.subject`, before anything is trained.
    """
    name = read_split(run.config.data.split)
    if name is None:
        return None
    for checkpoint in ("finetune.checkpoint", "evaluate.checkpoint"):
        if run.plain(checkpoint)[checkpoint] is not None:
            rank_zero_warn(f"data.split={name}: whether {checkpoint} was trained without its images is not known")
    return _cluster(run, name) if isinstance(name, ClusterName) else _last(run, name)


def _cluster(run: Run, name: ClusterName) -> LeftOutCluster:
    """Clusters are those of CLIP's own pooled embedding of all images of the images file.

    So they depend neither on the subject nor on the sessions. Of NSD's 73,000 images, ViT-bigG's pooled embeddings
    take 187 MB; its tokens, which CLIP's training does not compare, would take 62 GB.
    """
    data, by = layout(run), made_from(run, "embedder")
    folder = Path(run.config.paths.artifacts) / "clusters"  # there as long as what was trained without them
    name_of = f"{run.config.embedder.name}-k{name.k}-{fingerprint(by)[:16]}"
    count = len(Stimuli(data.stimuli))
    clusters = kept_clusters(folder / name_of, name.k, count, lambda: pooled_embeddings(run, count), description=by)
    left_out = LeftOutCluster(name, clusters)
    subject, split = run.config.data.subject, run.config.data.test_split
    if data.shard(subject, split).is_file():  # pretraining alone does without
        tested = load_test_trials(data, subject, split, Path(run.config.paths.cache)).stimulus_ids
        left_out.check_tested(tested, f"subject {subject}")
    return left_out


def _last(run: Run, name: ImageWiseName) -> LeftOutLast:
    settings, cache = run.config.data, Path(run.config.paths.cache)
    return LeftOutLast.of_subject(
        name,
        layout(run),
        settings.subject,
        settings.num_sessions,
        test_split=settings.test_split,
        cache_dir=cache,
    )


def is_image_wise(run: Run) -> bool:
    """Whether the sessions in use of `data.subject` say which images are tested."""
    return isinstance(read_split(run.config.data.split), ImageWiseName)


def split_identity(run: Run) -> dict[str, Any]:
    """What a split's images depend on besides its name and the embedder; nothing for splits of all images."""
    return run.plain("data.subject", "data.num_sessions", "data.test_split") if is_image_wise(run) else {}


def training_inputs(run: Run, subjects: Sequence[int]) -> dict[str, str]:
    """The fingerprint of the data that a training on these subjects reads, those of the tested one among them."""
    if not is_image_wise(run):
        return data_inputs(run, subjects)
    tested = run.config.data.subject
    return data_inputs(run, sorted({*subjects, tested}), ("train", run.config.data.test_split))
