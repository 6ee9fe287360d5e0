"""Generator of the page of published results, `docs/published.md`, from `published.json`.

python -m mindeye_pl.reports.render.published_page > docs/published.md
"""

from collections.abc import Iterator, Mapping
from typing import Any

from mindeye_pl.reports.render.published import format_subject, read_published, scores_of, unverified_scores
from mindeye_pl.reports.render.section import fill
from mindeye_pl.reports.render.table import UNVERIFIED

_TWO_WAY = ("alexnet2_two_way", "alexnet5_two_way", "inception_two_way", "clip_two_way")
_BRAINHUB = ("bleu1", "bleu4", "meteor", "rouge", "cider", "spice", "clip_s", "refclip_s", "pac_s", "sentence_s")
#: Metrics of each section, in the order of its columns.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Images and retrieval": (
        "pixcorr", "ssim", *_TWO_WAY, "effnet_distance", "swav_distance", "fid", "dreamsim",
        "image_retrieval", "brain_retrieval", "retrieval_raw", "retrieval_synthetic",
    ),
    "Retrieval without training on the subject": ("top1_retrieval", "top5_retrieval", "top10_retrieval"),
    "Brain correlation by GNet": tuple(
        f"brain_gnet_{region}" for region in ("nsd_general", "V1", "V2", "V3", "V4", "higher_vis")
    ),
    "Captions": (
        "meteor", "rougeL", "rouge1", "minilm", "clip_text_b32", "clip_text_l14", "meteor_git", "rouge_l_git",
        "rouge_1_git", "sentence_similarity_git", "caption_clip_b_git", "caption_clip_l_git",
    ),
    "Captions by BrainHub, on 982 images and with another METEOR": (
        *(f"brainhub_{name}" for name in _BRAINHUB), "grounding_accuracy", "grounding_iou",
    ),
    "Cost": ("seconds_per_image", "gpu_hours"),
    "Agreement of metrics with people": ("human_pairwise_accuracy", "human_kendall_tau", "human_pearson_r"),
    "BASIC": ("basic_h", "basic_l"),
}  # fmt: skip
_PROVENANCE = {"P": "primary", "C": "computed", "S": "secondary"}
_Line = dict[str, str]


def render_page() -> str:
    """Return the whole page in Markdown."""
    sections = {title: list(_tables(names)) for title, names in SECTIONS.items()}
    return fill("published.md", sections=sections, unverified=UNVERIFIED).rstrip() + "\n"


def _tables(names: tuple[str, ...]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Yield heading, column titles and rows of each amount of data that has any of these scores."""
    content = read_published()
    for hours in dict.fromkeys(table["hours"] for table in content["tables"]):
        lines: dict[tuple[str, ...], _Line] = {}
        for table in content["tables"]:
            if table["hours"] == hours:
                _add(table, names, lines)
        shown = [name for name in names if any(name in line for line in lines.values())]
        if lines:
            titles = [content["metrics"][name]["title"] for name in shown]
            arrows = [" ↓" if content["metrics"][name].get("lower_is_better") else "" for name in shown]
            rows = [[*key[:2], *(line.get(name, "") for name in shown), *key[2:]] for key, line in lines.items()]
            heads = [title + arrow for title, arrow in zip(titles, arrows, strict=True)]
            yield _heading(hours), heads, rows


def _add(table: Mapping[str, Any], names: tuple[str, ...], lines: dict[tuple[str, ...], _Line]) -> None:
    """Add the rows of a table that have any of the scores, as printed, by method, subject, source and provenance."""
    source = f"{read_published()['papers'][table['paper']]['source']}, {table['table']}"
    scores, unverified = scores_of(table), unverified_scores(table)
    for method, *values in table["rows"]:
        owner = values.pop(0) if table["subject"] == "each" else table["subject"]
        found = {
            name: _as_printed(name, value) + (f" {UNVERIFIED[0]}" if name in unverified else "")
            for name, value in zip(scores, values, strict=True)
            if value is not None and name in names
        }
        if found:
            data = ", ".join(filter(None, [format_subject(owner), table.get("note", "")]))
            lines.setdefault((method, data, source, _PROVENANCE[table["provenance"]]), {}).update(found)


def _as_printed(name: str, value: float) -> str:
    """Return a number with at least three decimals if it is between 0 and 1, as papers print it."""
    three = f"{value:.3f}"
    return three if read_published()["metrics"][name]["unit"] == "number" and float(three) == value else str(value)


def _heading(hours: float | str) -> str:
    if hours == "any":
        return "Any amount of data"
    return "No data of the subject" if hours == 0 else f"{hours} {'hour' if hours == 1 else 'hours'}"


if __name__ == "__main__":
    print(render_page(), end="")
