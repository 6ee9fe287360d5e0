"""The table and the images of what was retrieved from a gallery."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.gallery.source import Gallery
from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.reports.render.gallery import Found, GalleryRow, gallery_section
from mindeye_pl.reports.render.section import Section
from mindeye_pl.reports.render.table import Column, Kind, Results, Row
from mindeye_pl.reports.runs.figures import descriptions
from mindeye_pl.steps.evaluation.retrieval import SHUFFLED
from mindeye_pl.steps.gallery.retrieve import COARSE, OWN_VECTOR, RECALL, RERANKED, read_found
from mindeye_pl.store.artifacts import Artifact

#: Title of the table.
GALLERY = "Gallery retrieval"

#: Images that are shown for each brain.
_SHOWN = 5

_LINES: dict[str, tuple[str, Kind, str]] = {
    SHUFFLED: ("shuffled brains", "null", ""),
    COARSE: ("coarse search", "model", "by one vector"),
    RERANKED: ("re-ranked", "model", "what it found, in the order of all tokens"),
    OWN_VECTOR: ("the image's own vector", "ceiling", "what the index alone can find"),
}


def gallery_results(content: Mapping[str, Any]) -> list[Results]:
    """Return recall before and after re-ranking, between shuffled brains and the image's own vector.

    The content of `recall.json` has no rows if the gallery lacks the true images.
    """
    lines, rows = content["rows"], []
    if not lines:
        return []
    last = RERANKED if RERANKED in lines else COARSE
    for line, (name, kind, note) in _LINES.items():
        if line in lines:
            scores, simulated = tuple(map(Score.from_dict, lines[line])), content["simulated"]
            rows.append(Row(name, scores, note=note, kind=kind, simulated=simulated, this_run=line == last))
    ranks = {score.name: score.name.rpartition("_")[2] for score in rows[0].scores}
    question = "Is the seen image among the first {} that were found?"
    columns = [Column(f"Recall at {k}", name, question.format(k)) for name, k in ranks.items()]
    vector = content["vector"]["kind"].replace("_", " ")
    note = (
        f"Among {content['pool_size']:,} images by index={content['engine']} over the {vector} of "
        f"embedder={content['embedder']}; recall at {content['top_k']} is what re-ranking can reach."
    )
    return [Results(GALLERY, rows, columns, note)]


def found_section(
    retrieval: Artifact, gallery: Gallery, stimuli: Stimuli, captions: Path | None, count: int
) -> Section | None:
    """Return for the first test images the images of the searched gallery that were found first."""
    content, files = read_recall(retrieval), read_found(retrieval)
    places, similarity = (files.get(name, files[f"coarse_{name}"]) for name in ("places", "similarity"))
    ids, truth = files["stimulus_ids"][:count], files.get("truth")
    words, rows = descriptions(captions, ids), []
    if not gallery.holds_images:
        return None
    for row, id_ in enumerate(ids.tolist()):
        own = -1 if truth is None else int(truth[row])
        listed = places[row].tolist()
        first = [place for place in listed[:_SHOWN] if place >= 0]
        shown = gallery.read(np.unique(first))
        names = dict(zip(shown.places.tolist(), gallery.names(shown.places), strict=True))
        images = dict(zip(shown.places.tolist(), shown.content, strict=True))
        candidates = [
            Found(images[place], float(similarity[row, column]), place == own, names[place])
            for column, place in enumerate(first)
        ]
        rank = listed.index(own) + 1 if own >= 0 and own in listed else None
        seen, pool = stimuli.read(np.array([id_]))[0], content["pool_size"]
        searched = content["top_k"] if truth is not None else None
        rows.append(GalleryRow(f"stimulus {id_}", seen, candidates, rank, pool, words[row], searched))
    note = f"Each brain looks for its image among {content['pool_size']:,} images of the gallery."
    return gallery_section(rows, title="Found in the gallery", note=note)


def read_recall(retrieval: Artifact) -> dict[str, Any]:
    """Return the content of `recall.json`."""
    return json.loads((retrieval.folder / RECALL).read_text())
