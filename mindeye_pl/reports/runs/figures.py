"""The images and figures of a report: reconstructions, what retrieval found, curves, regions, tokens.

Legend: n test images, S tokens, D token width, F = S D.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.engine.step import Run
from mindeye_pl.metrics.retrieval import cosine_similarity, nearest, ranks_of_own
from mindeye_pl.metrics.statistics.score import SCORES, Score
from mindeye_pl.reports.render.bars import Bars
from mindeye_pl.reports.render.charts import charts_section
from mindeye_pl.reports.render.curves import Panel, Series
from mindeye_pl.reports.render.gallery import Found, GalleryRow, gallery_section
from mindeye_pl.reports.render.grid import GridRow, grid_section
from mindeye_pl.reports.render.results import Results
from mindeye_pl.reports.render.section import Section
from mindeye_pl.reports.render.tokens import token_map_section
from mindeye_pl.reports.runs.rows import found
from mindeye_pl.steps.evaluation.brain_scores import TITLES, metric_name
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS, read_image_scores
from mindeye_pl.steps.evaluation.retrieval import EVALUATE, MODEL, PREDICTIONS, REPETITIONS, read_scores
from mindeye_pl.steps.evaluation.scored_images import scored_captions, scored_images
from mindeye_pl.steps.inputs.simulate import layout
from mindeye_pl.steps.inputs.targets import target_tokens

#: Images that retrieval shows for each brain.
_FOUND = 5
#: Images of the token map; more make a map that nobody reads.
_MAPPED = 300


def described(run: Run, ids: np.ndarray) -> list[str]:
    """What each image shows, in words; empty where the data do not say."""
    path = layout(run).captions
    if not path.exists():
        return [""] * len(ids)
    every = json.loads(path.read_text())
    return [every[id_][0] for id_ in ids.tolist()]


class _Rows:
    """The rows of the grid, made as they are asked for: images of 768 pixels are too many to hold."""

    def __init__(self, run: Run, count: int):
        self._run, self._made = run, scored_images(run)
        self.ids = self._made["stimulus_ids"].numpy()[:count]
        self.keys = {
            "Reconstructed": "images",
            "Blurry": "blurry_images",
            "Refined": "refined_images",
            "From true tokens": "images_from_true_tokens",
        }
        self.keys = {title: key for title, key in self.keys.items() if key in self._made}

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[GridRow]:
        stimuli, said = Stimuli(layout(self._run).stimuli), scored_captions(self._run)
        scores = read_image_scores(found(self._run, EVALUATE_RECONSTRUCTIONS))["of_each_image"][MODEL]
        words = described(self._run, self.ids)
        for place, id_ in enumerate(self.ids.tolist()):
            images = {"Seen": stimuli.read(np.array([id_]))[0]}
            images |= {title: np.asarray(self._made[key][place : place + 1])[0] for title, key in self.keys.items()}
            yield GridRow(
                f"stimulus {id_}",
                images,
                words[place],
                said[place] if said else "",
                {name: each[place] for name, each in scores.items()},
            )


def reconstructions_section(run: Run, tables: Sequence[Results]) -> Section | None:
    """The first test images, always the same ones, and what was reconstructed of them.

    Args:
        run: finished.
        tables: whose scores the images can be sorted by.
    """
    rows = _Rows(run, run.config.report.images)
    metrics = [column for results in tables for column in results.columns if column.score != "fid"]
    notes = ["From true tokens: drawn from the image's own tokens."] if "From true tokens" in rows.keys else []
    return grid_section(
        "Images",
        ["Seen", *rows.keys],
        rows,  # type: ignore[arg-type]
        " ".join(notes),
        metrics=metrics,
    )


def retrieval_section(run: Run) -> Section | None:
    """For the first test images, which images the brain's retrieval embedding finds first."""
    ids, brain, clip = _embeddings(run)
    similarity = cosine_similarity(query=brain, gallery=clip)  # (n, n)
    order, ranks = nearest(similarity, _FOUND).numpy(), ranks_of_own(similarity).tolist()
    shown = ids[: run.config.report.gallery]
    stimuli, words = Stimuli(layout(run).stimuli), described(run, shown)
    rows = []
    for place, id_ in enumerate(shown.tolist()):
        images = stimuli.read(ids[[place, *order[place]]])
        candidates = [
            Found(image, float(similarity[place, other]), bool(other == place), f"stimulus {ids[other]}")
            for image, other in zip(images[1:], order[place], strict=True)
        ]
        rank = next((at for at, candidate in enumerate(candidates, 1) if candidate.true), max(ranks[place], _FOUND + 1))
        rows.append(GalleryRow(f"stimulus {id_}", images[0], candidates, min(rank, len(ids)), len(ids), words[place]))
    note = f"Each brain looks for its image among all {len(ids)} test images."
    return gallery_section(rows, note=note)


def _embeddings(run: Run) -> tuple[np.ndarray, Tensor, Tensor]:
    """Stimulus ids `(n,)`, retrieval embeddings and target tokens `(n, S, D)`."""
    stored = load_file(str(found(run, EVALUATE).folder / PREDICTIONS))
    ids = stored["stimulus_ids"].numpy()
    return ids, stored["retrieval"], torch.from_numpy(target_tokens(run, ids)[ids])


def repetitions_section(run: Run) -> Section | None:
    """Retrieval from one, two and three responses to each image."""
    own, names = found(run, EVALUATE), {"image_retrieval": "image retrieval", "brain_retrieval": "brain retrieval"}
    by_count = [{score.name: score for score in read_scores(own, line)} for line in REPETITIONS]
    series = []
    for name, title in names.items():
        scores = [scores[name] for scores in by_count]
        ends = [score.interval or (score.value, score.value) for score in scores]
        series.append(
            Series(
                title,
                [1.0, 2.0, 3.0],
                [score.value for score in scores],
                low=[low for low, _ in ends],
                high=[high for _, high in ends],
            )
        )
    score: Score = by_count[0]["image_retrieval"]
    panel = Panel(
        f"Retrieval among {score.pool_size} by responses averaged",
        tuple(series),
        x_label="responses to each image",
        references={"chance": score.chance or 0.0},
        share=True,
    )
    return charts_section("Repetitions", [panel], "Bands: 95 % intervals over images.")


def regions_section(run: Run) -> Section | None:
    """Brain correlation of the reconstructions by region, below what a perfect prediction would score."""
    content = read_image_scores(found(run, EVALUATE_RECONSTRUCTIONS))
    scores = {plain["name"]: Score.from_dict(plain) for plain in content["rows"][MODEL]}
    ceilings, charts = content["brain_ceilings"], []
    for encoder in run.config.protocol.encoders:
        regions = [region for region in nsd.ROIS if metric_name(encoder, region) in scores]
        if not regions:
            continue
        of_region = [scores[metric_name(encoder, region)] for region in regions]
        labels = ["visual cortex" if region == "nsd_general" else region.replace("_vis", "") for region in regions]
        charts.append(
            Bars(
                f"Brain correlation across voxels, {TITLES[encoder]}",
                labels,
                [score.value for score in of_region],
                [score.interval for score in of_region],
                [ceilings["across_voxels"].get(region) for region in regions],
            )
        )
        if normalised := ceilings["normalised"].get(encoder):
            charts.append(
                Bars(
                    f"Correlation across images over the noise ceiling, {TITLES[encoder]}",
                    labels,
                    [normalised[MODEL][region] for region in regions],
                    ceilings=[1.0 for _ in regions],
                )
            )
    source = ceilings["source"]
    return charts_section("Regions", charts, f"Ceiling across voxels: {source}." if source else "") if charts else None


def tokens_section(run: Run) -> Section | None:
    """Predicted and true tokens in the plane in which true ones differ most."""
    ids, brain, clip = _embeddings(run)
    names = [f"stimulus {id_}" for id_ in ids[:_MAPPED]]
    rank = json.loads((found(run, EVALUATE).folder / SCORES).read_text())["effective_rank"]
    predicted, true = (rows[:_MAPPED].flatten(1).float().numpy() for rows in (brain, clip))  # (n, F)
    most = f"The effective rank of {len(ids)} images is at most {rank.pop('most')}."
    return token_map_section(predicted, true, names, effective_rank=rank, note=most)


def report_folder(run: Run) -> Path:
    """Folder of the page, its figures and tables; one for each subject and amount of data on the command line."""
    folder, data = Path(run.config.paths.reports), run.config.data
    if run.job is not None:
        return folder / run.experiment / "jobs" / str(run.job)
    hours = "all" if data.num_sessions == "all" else f"{data.num_sessions}h"
    named = {"data.subject": f"subj{data.subject:02d}", "data.num_sessions": hours}
    asked = [name for key, name in named.items() if any(item.startswith(f"{key}=") for item in run.overrides)]
    return folder / "_".join([run.experiment, *asked])
