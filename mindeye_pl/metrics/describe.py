"""The page on metrics, made from the metrics' own docstrings.

python -m mindeye_pl.metrics.describe > docs/metrics.md

A metric is a public function of `mindeye_pl.metrics` whose docstring has a line that starts with `Formula:`. The lines
of `FIELDS` follow the docstring's first sentence, in that order.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

import mindeye_pl.metrics

FIELDS = ("Formula", "Range", "Direction", "Chance", "Weights", "Not shown", "Source")

#: Modules in the order of the page, with their headings. A module that is not here stands at the end.
SECTIONS = {
    "pixels": "Pixels",
    "perceptual": "Perceptual distance",
    "identification": "Identification and distance in feature space",
    "retrieval": "Retrieval",
    "gallery_recall": "Retrieval from a large gallery",
    "brain_correlation": "Brain correlation",
    "encoding": "Encoding models",
    "captions.similarity": "Captions",
    "captions.meteor": "METEOR",
    "fid": "Distance of distributions",
    "effective_rank": "Collapse",
}

_HEAD = """\
# Metrics

Made from the code by `python -m mindeye_pl.metrics.describe > docs/metrics.md`; edit the docstrings, not this page.

## How to read a score

* **Chance** is what guessing scores, and **pool** the number of candidates that the right answer is picked from. A
  share says nothing without both: 90 % of 2 and 90 % of 300 are different worlds, and top-5 of 300 is not top-1. Where
  chance is no one number, *null rows* stand for it: another test image, grey, the mean image, shuffled brains.
* **Range** and **direction** are those of the number as computed here.
* **Intervals** are 95 % intervals over images: what the score would be on other images of the same kind, for the
  same model and the same subject. They say nothing of other seeds or other subjects; for those, subjects (or seeds) are
  the units, by Student's t (`intervals.interval_over_groups`). Means have a bootstrap of Student's t, shares of hits
  Wilson's interval; a test over simulated sets holds each of them to covering the truth 93 to 97 % of the time.
* Images of an **identification** score depend on each other, as each is a distractor of all others. An interval or a
  paired test of it wants the values of `two_way_influence`, which count both parts that an image takes.
* Two methods are compared **on the same images** (`intervals.paired_test`), never by whether their intervals overlap.
* **Direction of identification**: `published` fixes a reconstruction and lets other *true images* compete with its
  own, as the field's code does. `paper` fixes an image and lets other *reconstructions* compete with its own, as
  MindEye2's text says. They are different numbers.
* **Direction of retrieval**: in `image_retrieval` a brain looks for its image, in `brain_retrieval` an image looks
  for its brain. The published script prints each under the other's label.
* **Not shown** says how a score can be high without the reconstruction being right. Read it first.
"""


@dataclass(frozen=True)
class Metric:
    """One metric, as its docstring tells it.

    Attributes:
        module: its module within `mindeye_pl.metrics`.
        name: of the function.
        call: its parameters, without types.
        summary: the docstring's first sentence.
        fields: the texts of `FIELDS`.
    """

    module: str
    name: str
    call: str
    summary: str
    fields: dict[str, str]


def metrics() -> list[Metric]:
    """All metrics: modules in the order of `SECTIONS`, functions in the order of their files."""
    found = {name: list(_metrics_of(_module(name))) for name in _module_names()}
    order = [*SECTIONS, *sorted(set(found) - set(SECTIONS))]
    return [metric for name in order for metric in found.get(name, [])]


def page() -> str:
    """The whole page, in Markdown."""
    all_metrics = metrics()
    parts = [_HEAD, _overview(all_metrics)]
    for module in dict.fromkeys(metric.module for metric in all_metrics):
        parts.append(f"## {_heading(module)}\n")
        parts += [_entry(metric) for metric in all_metrics if metric.module == module]
    return "\n".join(parts)


def _module_names() -> list[str]:
    prefix = f"{mindeye_pl.metrics.__name__}."
    found = pkgutil.walk_packages(mindeye_pl.metrics.__path__, prefix)
    return [info.name.removeprefix(prefix) for info in found]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"mindeye_pl.metrics.{name}")


def _metrics_of(module: ModuleType) -> Iterator[Metric]:
    for name, function in vars(module).items():
        own = inspect.isfunction(function) and function.__module__ == module.__name__
        if own and not name.startswith("_") and is_metric(function):
            fields = fields_of(function)
            summary = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
            yield Metric(module.__name__.removeprefix("mindeye_pl.metrics."), name, _call(function), summary, fields)


def is_metric(function: Callable) -> bool:
    """Whether any of the lines of a metric stands in the docstring."""
    return any(re.match(rf"({'|'.join(FIELDS)}):", line) for line in (inspect.getdoc(function) or "").splitlines())


def fields_of(function: Callable) -> dict[str, str]:
    """The texts of `FIELDS`, each on one line.

    Raises:
        ValueError: naming the function, where a line is missing, doubled or out of its place.
    """
    found: list[tuple[str, str]] = []
    inside = False
    for line in (inspect.getdoc(function) or "").splitlines():
        if match := re.match(rf"({'|'.join(FIELDS)}):(?: (.*))?$", line):
            found.append((match[1], match[2] or ""))
            inside = True
        elif not line.strip():
            inside = False
        elif inside:
            found[-1] = found[-1][0], f"{found[-1][1]} {line.strip()}".strip()
    names = tuple(name for name, _ in found)
    if names != FIELDS or not all(text for _, text in found):
        raise ValueError(f"{function.__module__}.{function.__qualname__} has the lines {names}, not {FIELDS}")
    return dict(found)


def _call(function: Callable) -> str:
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def _heading(module: str) -> str:
    return SECTIONS.get(module) or module.replace("_", " ").capitalize()


def _overview(all_metrics: list[Metric]) -> str:
    """A table with one line for each metric."""
    lines = ["## All metrics\n", "| metric | range | direction | chance |", "| --- | --- | --- | --- |"]
    for metric in all_metrics:
        cells = (metric.fields[field].rstrip(".").replace("|", "\\|") for field in ("Range", "Direction", "Chance"))
        lines.append(f"| [{metric.name}](#{metric.name}) | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _entry(metric: Metric) -> str:
    call = f"`metrics.{metric.module}.{metric.name}{metric.call}`\n"
    lines = [f"### {metric.name}\n", f"{metric.summary}\n", call]
    lines += [f"* **{field}**: {text}" for field, text in metric.fields.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
