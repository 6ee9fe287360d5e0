"""The images that `data.split` leaves out of every training."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_warn

from mindeye_pl.data.layout.splits import (
    ClusterName,
    ImageWiseName,
    LeftOut,
    LeftOutCluster,
    LeftOutLast,
    kept_clusters,
    read_split,
)
from mindeye_pl.data.layout.trials import load_test_trials
from mindeye_pl.distributed.ranks import main_process_first
from mindeye_pl.engine.step import Input, Inputs
from mindeye_pl.steps.inputs.dataset import Data, Dataset, Images
from mindeye_pl.steps.inputs.embeddings import EmbeddingCache, Embeddings
from mindeye_pl.steps.inputs.frozen_models import Frozen, FrozenModel
from mindeye_pl.steps.inputs.image_embeddings import pooled_embeddings
from mindeye_pl.store.fingerprint import fingerprint


def is_image_wise(config: DictConfig) -> bool:
    """Return whether the sessions in use of `data.subject` say which images are tested."""
    return isinstance(read_split(config.data.split), ImageWiseName)


def training_data(config: DictConfig, subjects: list[int]) -> Data:
    """Return the data of a training on these subjects, with the tested subject's where the split needs them."""
    if not is_image_wise(config):
        return Data(tuple(subjects))
    return Data(tuple(sorted({*subjects, config.data.subject})), ("train", config.data.test_split))


def test_data(config: DictConfig) -> Data:
    """Return the training and test data of the subject that is tested."""
    return Data((config.data.subject,), ("train", config.data.test_split))


@dataclass(frozen=True)
class Split(Input):
    """The images that the split leaves out; opened, `LeftOut`, or None for the standard split.

    Clusters are k-means clusters of CLIP's own pooled embeddings of all images, so they depend neither on the subject
    nor on the sessions. ViT-bigG's pooled embeddings of NSD's 73,000 images take 187 MB.
    """

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return what the choice of images depends on."""
        name = read_split(config.data.split)
        if isinstance(name, ClusterName):
            return {"images": Images(), "embedder": Frozen("embedder"), "embeddings": Embeddings()}
        return {"data": test_data(config)} if isinstance(name, ImageWiseName) else {}

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of the split's settings."""
        return fingerprint(split_settings(config))

    def open(self, config: DictConfig, parts: Inputs) -> LeftOut | None:
        """Return the images that are left out; a split without a test image of `data.subject` is refused."""
        name, settings = read_split(config.data.split), config.data
        if name is None:
            return None
        for checkpoint in ("finetune.checkpoint", "evaluate.checkpoint"):
            if OmegaConf.select(config, checkpoint) is not None:
                rank_zero_warn(f"data.split={name}: {checkpoint} may have been trained on the images that are left out")
        with main_process_first():  # it clusters, and the other ranks read the file
            if isinstance(name, ClusterName):
                return _left_out_cluster(name, config, parts["images"], parts["embedder"], parts["embeddings"])
            return LeftOutLast.of_subject(
                name,
                parts["data"].layout,
                settings.subject,
                settings.num_sessions,
                test_split=settings.test_split,
                cache_dir=parts["data"].cache,
                test_images=settings.test_images_in_training,
            )


def split_settings(config: DictConfig) -> dict[str, Any]:
    """Return the split's name, and the sessions that choose its images."""
    keys = ("split", *(("subject", "num_sessions", "test_split") if is_image_wise(config) else ()))
    return {key: config.data[key] for key in keys}


def _left_out_cluster(
    name: ClusterName, config: DictConfig, dataset: Dataset, embedder: FrozenModel, embeddings: EmbeddingCache
) -> LeftOutCluster:
    by = {"embedder": embedder.identity, "images": dataset.images_fingerprint}
    # Sixteen digits: the inventory takes folders that end in twelve for artifacts.
    folder = Path(config.paths.artifacts) / "clusters" / f"{embedder.name}-k{name.k}-{fingerprint(by)[:16]}"
    count = len(dataset.stimuli)
    pooled = partial(pooled_embeddings, embedder, dataset, embeddings, count)
    left_out = LeftOutCluster(name, kept_clusters(folder, name.k, count, pooled, description=by))
    subject, split = config.data.subject, config.data.test_split
    if dataset.layout.shard(subject, split).is_file():  # a pretraining alone does without
        tested = load_test_trials(dataset.layout, subject, split, dataset.cache).stimulus_ids
        left_out.check_tested(tested, f"subject {subject}")
    return left_out
