"""Retrieval by codes, end to end by the command line: re-ranked candidates, and what their number redoes."""

from pathlib import Path

import numpy as np

from tests.conftest import CommandLine
from tests.gallery.made import write_tar
from tests.steps.gallery.test_retrieve import COMMAND, evaluated, retrieved, tokens_of

CODES = ("index.build.kind=ivf_pq", "index.build.code_bytes=2", "index.build.lists=2", "retrieve.rerank=false")
COUNT, TOP_K = 300, 20


def test_candidates_of_codes_are_re_ranked_without_another_index(cli: CommandLine, finished: Path) -> None:
    """With all vectors as candidates, every true neighbour is found, and by codes alone no more than these."""
    rows = np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)  # of the data's size
    write_tar(root := cli.outputs.parent / "mine.tar", rows)
    mine = (*COMMAND, *CODES, f"retrieve.gallery={root}", "retrieve.with_seen=false", f"retrieve.top_k={TOP_K}")
    gallery = tokens_of(rows.transpose(0, 3, 1, 2).astype(np.float32) / 255).flatten(1).numpy()
    queries = evaluated(finished).flatten(1).numpy()
    unit = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (queries, gallery)]
    cosines = unit[0] @ unit[1].T
    true = np.argsort(-cosines, axis=1)[:, :TOP_K]

    recalls, indices = [], []
    for factor in (1, COUNT):
        code, out, err = cli(*mine, f"index.search.refine_factor={factor}")
        assert code == 0, err
        assert (f"indexing {COUNT} vectors" in out) == (factor == 1)
        assert "retrieve: cached" not in out
        indices.append({path for path in cli.artifacts() if "build_index" in str(path)})
        _, found = retrieved(finished)
        places = found["coarse_places"]
        recalls.append(np.mean([np.isin(a, b).mean() for a, b in zip(true, places, strict=True)]))
    assert indices[0] == indices[1]
    exact = np.take_along_axis(cosines, places, 1)
    np.testing.assert_allclose(found["coarse_similarity"], exact, atol=2e-3)
    assert recalls[0] < recalls[1]
    assert recalls[1] > 0.95  # near ties may be ordered differently in half precision
