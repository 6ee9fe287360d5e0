"""Retrieval from a gallery of any size: a coarse search by one vector, then a new order by all tokens.

Legend: n test images, k images found for each, S tokens, D token width, F width of the coarse vector.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.data.nsd.test_set import TestSet
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.gallery.embedded import EmbeddedGallery, check_unreadable
from mindeye_pl.gallery.source import Gallery
from mindeye_pl.metrics.gallery_recall import gallery_recall_scores
from mindeye_pl.metrics.images import derangement
from mindeye_pl.metrics.retrieval import cosine_similarity
from mindeye_pl.steps.brain.trained_model import checkpoint_identity, checkpoint_steps, trained_model
from mindeye_pl.steps.brain.trials import subject_data
from mindeye_pl.steps.evaluation.retrieval import SHUFFLED, predict_retrieval
from mindeye_pl.steps.evaluation.test_set_log import count_evaluation
from mindeye_pl.steps.gallery.index import (
    EMBED_GALLERY,
    coarse_run,
    coarse_vectors,
    index_fingerprints,
    index_steps,
    open_index,
    open_run_gallery,
    skips_unreadable,
    true_places,
)
from mindeye_pl.steps.inputs.frozen_models import identity
from mindeye_pl.steps.inputs.simulate import data_inputs, data_steps, is_simulated
from mindeye_pl.steps.inputs.targets import embed_tokens, target_tokens
from mindeye_pl.store.artifacts import Artifact, ArtifactSpec
from mindeye_pl.store.atomic import write_arrays, write_text

RECALL = "recall.json"
FOUND = "found.safetensors"

#: The lines of `recall.json`: what the coarse search found, in its order and in the token model's, and what it finds
#: when it is asked with the vector of the seen image itself.
COARSE, RERANKED, OWN_VECTOR = "coarse", "reranked", "own_vector"


def _needs(run: Run) -> Sequence[Step]:
    """The index first: what is wrong with a gallery, or the way to Milvus, is said before a model is trained."""
    return (*data_steps(run), *index_steps(run), *checkpoint_steps(run))


def _spec(run: Run) -> ArtifactSpec:
    config = run.config
    by = identity(run, "embedder") | run.plain(
        "seed", "index.search", "retrieve.top_k", "retrieve.rerank", "retrieve.at", "retrieve.unreadable"
    )
    by |= run.plain("data.subject", "data.num_sessions", "data.betas", "data.repetitions")
    by |= run.plain("data.split", "data.test_split", "data.validation_fraction")
    label, own_by, own_inputs = checkpoint_identity(run)
    inputs = data_inputs(run, [config.data.subject], ("train", config.data.test_split)) | own_inputs
    inputs |= index_fingerprints(run)
    if (coarse := coarse_run(run)) is not run:
        _, coarse_by, coarse_inputs = checkpoint_identity(coarse)
        own_by = own_by | {f"coarse.{key}": value for key, value in coarse_by.items()}
        inputs |= {f"coarse.{name}": value for name, value in coarse_inputs.items()}
    return ArtifactSpec("retrieve", f"{label}-{config.index.name}", by | own_by, inputs)


def _build(run: Run, folder: Path) -> None:
    settings, gallery = run.config.retrieve, open_run_gallery(run)
    if settings.rerank and not gallery.holds_images:
        raise UserError(
            "re-ranking reads images",
            got=f"a table of vectors, {settings.gallery}",
            expected="a gallery of images",
            fix="retrieve.rerank=false",
        )
    if run.config.index.folder is None:
        check_unreadable(EmbeddedGallery(run.make(EMBED_GALLERY).folder), skips_unreadable(run))
    index, manifest = open_index(run)
    try:
        coarse = coarse_run(run)
        brains, retrieval = _read_brains(run)  # (n, S, D)
        coarse_retrieval = retrieval if coarse is run else _read_brains(coarse)[1]
        ids = brains.stimulus_ids.numpy()
        evaluations = count_evaluation(run, RETRIEVE, folder)
        console.print(f"  evaluation {evaluations} of this test set")
        top_k = min(settings.top_k, len(index))
        reduce = coarse_vectors(run)
        console.print(f"  looking for {len(ids)} brains' images among {len(index):,}")
        similarity, places = index.search(reduce(coarse_retrieval).numpy(), top_k)  # (n, k) each
        found = {"stimulus_ids": ids, "coarse_places": places, "coarse_similarity": similarity}
        truth = true_places(run, gallery, ids)
        lines = {COARSE: places}
        if truth is not None:
            own = torch.from_numpy(target_tokens(coarse, ids)[ids]).float()  # (n, S, D)
            lines[OWN_VECTOR] = index.search(reduce(own).numpy(), top_k)[1]
            found["truth"] = truth
    finally:
        index.close()
    if settings.rerank:
        anew = _token_similarity(run, gallery, retrieval, places)
        order = np.argsort(-anew, axis=1, kind="stable")
        lines[RERANKED] = np.take_along_axis(places, order, 1)
        found |= {"places": lines[RERANKED], "similarity": np.take_along_axis(anew, order, 1).astype(np.float32)}
    rows = {}
    if truth is not None:
        at = sorted({k for k in (*settings.at, top_k) if k <= top_k})
        if len(ids) > 1:
            lines[SHUFFLED] = places[derangement(len(ids), run.config.seed).numpy()]
        for line, listed in lines.items():
            scores = gallery_recall_scores(listed, truth, pool_size=manifest.count, top_k=at)
            rows[line] = [score.to_dict() for score in scores]
    write_arrays(folder / FOUND, found)
    content = {
        "subject": run.config.data.subject,
        "simulated": is_simulated(run),
        "pool_size": manifest.count,
        "top_k": top_k,
        "engine": manifest.engine,
        "embedder": manifest.embedder["name"],
        "vector": manifest.vector,
        "rows": rows,
    }
    write_text(folder / RECALL, json.dumps(content, indent=1))


def _read_brains(run: Run) -> tuple[TestSet, Tensor]:
    """The subject's test set, and the retrieval embeddings `(n, S, D)` that the run's model reads from it."""
    data = subject_data(run)
    brains = data.test_set(run.config.data.subject)
    model = trained_model(run, data.voxel_counts[run.config.data.subject])
    return brains, predict_retrieval(model, brains, brains.weights)


def _token_similarity(run: Run, gallery: Gallery, retrieval: Tensor, places: np.ndarray) -> np.ndarray:
    """Cosine of all tokens, flattened, of each brain and what was found for it, `(n, k)` float64; none there: -inf.

    Each image is read and embedded once, however many brains found it, and a batch of them is in memory at a time.

    Raises:
        UserError: for an image that is not readable any more.
    """
    embed, size = embed_tokens(run, run.device), run.config.retrieve.batch_size
    anew = np.full(places.shape, -np.inf)
    wanted = np.unique(places[places >= 0])
    for start in range(0, len(wanted), size):
        batch = wanted[start : start + size]
        portion = gallery.read(batch)
        if portion.unreadable:
            name, why = next(iter(portion.unreadable.items()))
            raise UserError(f"{name} of the gallery cannot be read any more", got=why, expected="the indexed image")
        with torch.inference_mode():
            tokens = embed(torch.from_numpy(portion.content).float().to(run.device)).float().cpu()  # (b, S, D)
        cosines = cosine_similarity(query=retrieval, gallery=tokens).numpy()  # (n, b)
        rows, columns = np.nonzero(np.isin(places, batch))
        anew[rows, columns] = cosines[rows, np.searchsorted(batch, places[rows, columns])]
    return anew


def read_found(artifact: Artifact) -> dict[str, np.ndarray]:
    """`stimulus_ids` `(n,)`, `coarse_places` and `coarse_similarity` `(n, k)`, and what there is of the rest.

    The rest: `places` and `similarity` `(n, k)` where the token model gave a new order, `truth` `(n,)` where the seen
    images are in the gallery.
    """
    return load_file(str(artifact.folder / FOUND))


RETRIEVE = Step("retrieve", _spec, _needs, _build)
