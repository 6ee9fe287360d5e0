"""The model card of a shared part: architecture, training data and usage."""

from collections.abc import Mapping
from typing import Any

#: Rows of the card's table: fact and label.
_ROWS = {
    "subject": "subject",
    "hours": "hours of data",
    "start": "start",
    "checkpoint": "checkpoint",
    "seed": "seed",
    "scale": "scale",
    "data": "data",
    "voxels": "voxels",
    "embedder": "embedder of the target tokens",
    "betas": "scaling of betas",
}

_WHOLE = """\
decoder = mindeye_pl.load("FOLDER or owner/name")
result = decoder.reconstruct(betas)  # (n, voxels), z-scored per session: .tokens and .retrieval, (n, S, D) each
"""


def card(kind: str, facts: Mapping[str, Any], version: str, *, whole: bool) -> str:
    """Return the text of `README.md`, with the hub's front matter, for a part of class `kind`.

    The facts of its training may be empty; `whole` is a system, not a part of one.
    """
    simulated = facts.get("simulated")
    tags = ["fmri", "brain-decoding", kind.lower(), *(["simulated"] if simulated else [])]
    subject, hours = facts.get("subject"), facts.get("hours")
    title = kind + (f", subject {subject}" if subject else "") + (f", {_hours(hours)}" if hours else "")
    lines = ["---", "library_name: mindeye_pl", "tags:", *(f"- {tag}" for tag in tags), "---", ""]
    lines += [f"# {title}{' (simulated)' if simulated else ''}", ""]
    system = "From fMRI to image tokens and a retrieval embedding"
    does = system if whole else "One part of a system from fMRI to images"
    lines += [f"{does}, made with mindeye_pl {version}.", ""]
    if simulated:
        lines += ["It was trained on *simulated* brains: its scores say nothing about real ones.", ""]
    elif simulated is False:
        lines += [f"It was trained on {facts.get('data')}, whose terms of use come first.", ""]
    rows = [(words, _text(facts[name])) for name, words in _ROWS.items() if facts.get(name) is not None]
    rows += [(f"`{name}`", value) for name, value in facts.get("fidelity", {}).items()]
    if rows:
        lines += ["| | |", "| --- | --- |", *(f"| {words} | {value} |" for words, value in rows), ""]
    lines += ["```python", "import mindeye_pl", "", *(_WHOLE.splitlines() if whole else [])]
    lines += ['model = mindeye_pl.from_pretrained("FOLDER or owner/name")  # the network, in eval mode', "```", ""]
    return "\n".join(lines)


def _hours(hours: float | str) -> str:
    return "all hours" if hours == "all" else f"{hours:g} hour{'' if hours == 1 else 's'}"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
