"""The images that `data.split` leaves out of every training."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_warn

from mindeye_pl.data.layout.listed_splits import LeftOutListed
from mindeye_pl.data.layout.splits import (
    ClusterName,
    ImageWiseName,
    LeftOut,
    LeftOutCluster,
    LeftOutLast,
    ListedName,
    SplitName,
    kept_clusters,
    read_split,
)
from mindeye_pl.data.layout.trials import load_test_trials
from mindeye_pl.distributed.ranks import main_process_first
from mindeye_pl.engine.step import Input, Inputs
from mindeye_pl.steps.inputs.dataset import SPLITS, Data, DataFile, Dataset, Images
from mindeye_pl.steps.inputs.embeddings import EmbeddingCache, Embeddings
from mindeye_pl.steps.inputs.frozen_models import Frozen, FrozenModel
from mindeye_pl.steps.inputs.image_embeddings import pooled_embeddings
from mindeye_pl.store.fingerprint import fingerprint


def split_name(config: DictConfig) -> SplitName | None:
    """Return the parsed name of `data.split`, None for the standard split."""
    return read_split(config.data.split, config.data.get("listed_splits") or ())


def is_image_wise(config: DictConfig) -> bool:
    """Return whether the sessions in use of `data.subject` say which images are tested."""
    return isinstance(split_name(config), ImageWiseName)


def divides_all_trials(config: DictConfig) -> bool:
    """Return whether training and test trials are taken from the shards of both."""
    return isinstance(split_name(config), ImageWiseName | ListedName)


def training_data(config: DictConfig, subjects: list[int]) -> Data:
    """Return the data of a training on these subjects, with the tested subject's where the split needs them."""
    if not divides_all_trials(config):
        return Data(tuple(subjects))
    # Listed images are the same for all subjects; those of an image-wise split come from the tested subject's trials.
    also = {config.data.subject} if is_image_wise(config) else set()
    return Data(tuple(sorted({*subjects, *also})), ("train", config.data.test_split))


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
        name = split_name(config)
        if isinstance(name, ListedName):
            return {"images": Images(), "lists": DataFile(SPLITS, required=True)}
        if isinstance(name, ClusterName):
            return {"images": Images(), "embedder": Frozen("embedder"), "embeddings": Embeddings()}
        return {"data": test_data(config)} if isinstance(name, ImageWiseName) else {}

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of the split's settings."""
        return fingerprint(split_settings(config))

    def open(self, config: DictConfig, parts: Inputs) -> LeftOut | None:
        """Return the images that are left out; a split without a test image of `data.subject` is refused."""
        name, settings = split_name(config), config.data
        if name is None:
            return None
        for checkpoint in ("finetune.checkpoint", "evaluate.checkpoint"):
            if OmegaConf.select(config, checkpoint) is not None:
                rank_zero_warn(f"data.split={name}: {checkpoint} may have been trained on the images that are left out")
        if isinstance(name, ListedName):
            dataset, lists = parts["images"], parts["lists"]
            path = dataset.layout.splits if lists is None else lists
            return LeftOutListed.read(name, path, len(dataset.stimuli), settings.test_split)
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
    keys += ("test_split",) if isinstance(split_name(config), ListedName) else ()
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
