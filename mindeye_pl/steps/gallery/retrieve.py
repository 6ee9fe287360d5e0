"""Retrieval from a gallery of any size: a coarse search by one vector, then a new order by all tokens.

Legend: n test images, k images found for each, S tokens, D token width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.data.layout.test_set import TestSet
from mindeye_pl.engine.records import Record
from mindeye_pl.engine.settings import Settings, declare, resolve, select
from mindeye_pl.engine.step import SCORES as SCORES_TYPE
from mindeye_pl.engine.step import Input, Inputs, Made, Work
from mindeye_pl.errors import UserError
from mindeye_pl.gallery.embedded import EmbeddedGallery, check_unreadable
from mindeye_pl.gallery.source import Gallery
from mindeye_pl.metrics.images import derangement
from mindeye_pl.metrics.retrieval import cosine_similarity, gallery_recall_scores
from mindeye_pl.metrics.statistics.score import COLUMNS, score_summary, score_table
from mindeye_pl.schema.nodes.run import SKIP
from mindeye_pl.steps.brain.bottleneck import Evaluated, EvaluationStep
from mindeye_pl.steps.brain.predictions import predict_retrieval
from mindeye_pl.steps.brain.trials import TEST_RUNTIME, TEST_TRIALS, subject_trials
from mindeye_pl.steps.evaluation.retrieval import SHUFFLED
from mindeye_pl.steps.evaluation.test_set_log import TestSetLog
from mindeye_pl.steps.gallery.index import (
    BUILD_INDEX,
    EMBED_GALLERY,
    GivenIndex,
    of_coarse_model,
    open_index,
    refine_factor,
    vector_of,
)
from mindeye_pl.steps.gallery.searched import RunGallery, given_table
from mindeye_pl.steps.inputs.dataset import Images
from mindeye_pl.steps.inputs.embeddings import Embeddings
from mindeye_pl.steps.inputs.frozen_models import Frozen, FrozenModel
from mindeye_pl.steps.inputs.image_embeddings import token_embedder, token_rows
from mindeye_pl.steps.inputs.splits import Split, test_data
from mindeye_pl.store.artifacts import Artifact
from mindeye_pl.store.atomic import write_arrays, write_json
from mindeye_pl.store.fingerprint import fingerprint
from mindeye_pl.store.own_files import read_arrays, read_json

RECALL = "recall.json"
FOUND = "found.safetensors"

#: The rows of `recall.json`: the coarse search's order, that of all tokens, and the coarse search by the vector of the
#: seen image itself.
COARSE, RERANKED, OWN_VECTOR = "coarse", "reranked", "own_vector"


@dataclass(frozen=True)
class ReadBrains(Input):
    """The brains of the test set, read; opened, the test set and its retrieval embeddings `(n, S, D)`."""

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the data and the trained model."""
        return {"data": test_data(config), "split": Split(), "model": Evaluated()}

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of the test set's settings."""
        return fingerprint(select(resolve(config, TEST_TRIALS), TEST_TRIALS))

    def open(self, config: DictConfig, parts: Inputs) -> tuple[TestSet, Tensor]:
        """Read the brains."""
        settings = declare(resolve(config, keys := (*TEST_TRIALS, *TEST_RUNTIME)), keys)
        data, subject = subject_trials(parts["data"], settings, parts["split"]), settings.data.subject
        brains = data.test_set(subject)
        model = parts["model"].load(data.voxel_counts[subject])
        return brains, predict_retrieval(model, brains, brains.weights)


class Retrieve(EvaluationStep):
    """Searches the gallery for the images that the brains of the test set saw."""

    name = "retrieve"
    title = "Retrieval from a gallery"
    keys = (
        *("seed", "data.subject", "index.search"),
        *(f"retrieve.{key}" for key in ("top_k", "rerank", "at", "unreadable")),
    )
    runtime_keys = ("index", "retrieve")
    artifact_type = SCORES_TYPE

    def label(self, config: DictConfig) -> str:
        """Return the model's label and the engine."""
        return f"{super().label(config)}-{config.index.name}"

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the index, the gallery, the brains as the models read them, and the embedders.

        The index comes first, so that a damaged gallery or an unreachable server is reported before a training.
        """
        index: Mapping[str, Input] = {"index": Made(BUILD_INDEX) if config.index.folder is None else GivenIndex()}
        if config.index.folder is None or refine_factor(config.index) > 1:
            index = {**index, "vectors": Made(EMBED_GALLERY)}
        models: Mapping[str, Input] = {"brains": ReadBrains(), "embedder": Frozen("embedder")}
        coarse = {f"coarse_{name}": of_coarse_model(config, one) for name, one in models.items()}
        return {
            "images": Images(),
            **index,
            "gallery": RunGallery(),
            **models,
            **(coarse if config.retrieve.coarse else {}),
            "embeddings": Embeddings(),
            "test_set": TestSetLog(),
        }

    def check(self, config: DictConfig) -> None:
        """Check that there are images to re-rank."""
        super().check(config)
        if config.retrieve.rerank and (table := given_table(config)) is not None:
            got, expected = f"a table of vectors, {table.path}", "a gallery of images"
            raise UserError("re-ranking reads images", got=got, expected=expected, fix="retrieve.rerank=false")

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Search, order anew, and score where the seen images are in the gallery."""
        wanted, dataset, searched = settings.retrieve, inputs["images"], inputs["gallery"]
        vectors = EmbeddedGallery(inputs["vectors"]) if "vectors" in inputs else None
        if vectors is not None:
            check_unreadable(vectors, wanted.unreadable == SKIP)
        index, manifest = open_index(inputs["index"], settings.index, vectors)
        try:
            brains, retrieval = inputs["brains"]  # (n, S, D)
            model = "coarse_" if wanted.coarse else ""
            coarse_retrieval = inputs[f"{model}brains"][1]
            ids = brains.stimulus_ids.numpy()
            evaluations = inputs["test_set"].count(work)
            console.print(f"  evaluation {evaluations} of this test set")
            top_k, reduce = min(wanted.top_k, len(index)), vector_of(wanted)
            console.print(f"  looking for {len(ids)} brains' images among {len(index):,}")
            similarity, places = index.search(reduce(coarse_retrieval).numpy(), top_k)  # (n, k) each
            found = {"stimulus_ids": ids, "coarse_places": places, "coarse_similarity": similarity}
            truth, listed = searched.true_places(ids), {COARSE: places}
            if truth is not None:
                rows = token_rows(inputs[f"{model}embedder"], dataset, inputs["embeddings"], ids)
                own = torch.from_numpy(rows[ids]).float()  # (n, S, D)
                listed[OWN_VECTOR] = index.search(reduce(own).numpy(), top_k)[1]
                found["truth"] = truth
        finally:
            index.close()
        if wanted.rerank:
            cosines = token_similarity(searched.gallery, inputs["embedder"], retrieval, places, wanted.batch_size)
            order = np.argsort(-cosines, axis=1, kind="stable")
            listed[RERANKED] = np.take_along_axis(places, order, 1)
            similarity = np.take_along_axis(cosines, order, 1).astype(np.float32)
            found |= {"places": listed[RERANKED], "similarity": similarity}
        scores = {}
        if truth is not None:
            at = sorted({k for k in (*wanted.at, top_k) if k <= top_k})
            if len(ids) > 1:
                listed[SHUFFLED] = places[derangement(len(ids), settings.seed).numpy()]
            for name, one in listed.items():
                of = gallery_recall_scores(one, truth, pool_size=manifest.count, top_k=at)
                scores[name] = [score.to_dict() for score in of]
        write_arrays(work.folder / FOUND, found)
        content = {
            "subject": settings.data.subject,
            "simulated": dataset.is_simulated,
            "pool_size": manifest.count,
            "top_k": top_k,
            "engine": manifest.engine,
            "embedder": manifest.embedder["name"],
            "vector": manifest.vector,
            "rows": scores,
        }
        write_json(work.folder / RECALL, content)

    def record(self, inputs: Inputs, artifact: Artifact, record: Record, num_images: int) -> None:
        """Log the recall."""
        rows = read_json(artifact.folder / RECALL)["rows"]
        record.summarise(score_summary(rows.get(RERANKED, rows.get(COARSE, ()))))
        record.log_table("gallery_recall", COLUMNS, score_table(rows, {SHUFFLED: "null", OWN_VECTOR: "ceiling"}))


RETRIEVE = Retrieve()


def token_similarity(
    gallery: Gallery, embedder: FrozenModel, retrieval: Tensor, places: np.ndarray, batch_size: int
) -> np.ndarray:
    """Return the cosine of all tokens, flattened, of brains `(n, S, D)` and their found images, `(n, k)` float64.

    Each image is read and embedded once, however many brains found it, and one batch is in memory at a time.

    Args:
        gallery: of images.
        embedder: of images.
        retrieval: embeddings of the brains.
        places: `(n, k)` indices of the images; -1, which has cosine -inf, where fewer were found.
        batch_size: images embedded at once.
    """
    embed = token_embedder(embedder, embedder.device)
    cosines = np.full(places.shape, -np.inf)
    wanted = np.unique(places[places >= 0])
    for start in range(0, len(wanted), batch_size):
        batch = wanted[start : start + batch_size]
        portion = gallery.read(batch)
        if portion.unreadable:
            name, why = next(iter(portion.unreadable.items()))
            raise UserError(f"{name} of the gallery cannot be read any more", got=why, expected="the indexed image")
        with torch.inference_mode():
            images = torch.from_numpy(portion.content).float().to(embedder.device)
            tokens = embed(images).float().cpu()  # (b, S, D)
        found = cosine_similarity(query=retrieval, gallery=tokens).numpy()  # (n, b)
        rows, columns = np.nonzero(np.isin(places, batch))
        cosines[rows, columns] = found[rows, np.searchsorted(batch, places[rows, columns])]
    return cosines


def read_found(artifact: Artifact) -> dict[str, np.ndarray]:
    """Return `stimulus_ids` `(n,)`, `coarse_places` and `coarse_similarity` `(n, k)`, and the rest where it exists.

    The rest: `places` and `similarity` `(n, k)` where images were re-ranked, `truth` `(n,)` where the seen images are
    in the gallery.
    """
    return read_arrays(artifact.folder / FOUND)
