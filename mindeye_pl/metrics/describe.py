"""Generator of the metrics page, `docs/metrics.md`, from the metrics' docstrings.

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

#: Headings by module, in page order. Modules that are missing here come last.
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

Generated from the code by `python -m mindeye_pl.metrics.describe > docs/metrics.md`; edit the docstrings, not this
page.

## How to read a score

* Functions that end in `_per_image` or `_per_voxel` return one value per image or voxel; the score is their mean.
* **Chance** is the score of a random guess, and **pool** is the number of candidates from which the right answer is
  picked. A score means nothing without both: 90 % with a pool of 2 and 90 % with a pool of 300 are different results,
  and top-5 of 300 is not top-1. If chance is no single number, *null rows* replace it: another test image, a grey
  image, the mean image, shuffled brains.
* **Range** and **direction** describe the number as computed here.
* **Intervals** are 95 % intervals over images: the expected score on other images of the same kind, for the same model
  and the same subject. They do not cover other seeds or other subjects; for those, use subjects (or seeds) as units
  with Student's t (`intervals.interval_over_groups`). Means use a bootstrap of Student's t, hit rates use Wilson's
  interval; a test on simulated sets checks that each covers the truth 93 to 97 % of the time.
* The per-image values of an **identification** score depend on each other, because each image is also a distractor of
  all others. Intervals and paired tests need the values of `two_way_influence`, which include both roles of an image.
* Compare two methods **on the same images** (`intervals.paired_test`), never by whether their intervals overlap.
* **Direction of identification**: `published` fixes a reconstruction and compares its own image with other *true
  images*, as the field's code does. `paper` fixes an image and compares its own reconstruction with other
  *reconstructions*, as MindEye2's text says. The two numbers differ.
* **Direction of retrieval**: in `image_retrieval` the query is a brain and the gallery is images, in `brain_retrieval`
  the query is an image and the gallery is brains. The published script prints each under the other's label.
* **Not shown** explains how a score can be high although the reconstruction is wrong. Read it first.
"""


@dataclass(frozen=True)
class Metric:
    """Documentation of one metric.

    Attributes:
        module: module path below `mindeye_pl.metrics`.
        name: function name.
        call: parameters, without types.
        summary: first sentence of the docstring.
        fields: texts of `FIELDS`.
    """

    module: str
    name: str
    call: str
    summary: str
    fields: dict[str, str]


def collect_metrics() -> list[Metric]:
    """Return all metrics: modules in the order of `SECTIONS`, functions in the order of their files."""
    found = {name: list(_metrics_of(_module(name))) for name in _module_names()}
    order = [*SECTIONS, *sorted(set(found) - set(SECTIONS))]
    return [metric for name in order for metric in found.get(name, [])]


def render_page() -> str:
    """Return the whole page in Markdown."""
    all_metrics = collect_metrics()
    parts = [_HEAD, _overview(all_metrics)]
    for module in dict.fromkeys(metric.module for metric in all_metrics):
        parts.append(f"## {_heading(module)}\n")
        parts += [_entry(metric) for metric in all_metrics if metric.module == module]
    return "\n".join(parts)


def _module_names() -> list[str]:
    root = f"{mindeye_pl.metrics.__name__}."
    found = pkgutil.walk_packages(mindeye_pl.metrics.__path__, root)
    return [info.name.removeprefix(root) for info in found if not info.ispkg]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"mindeye_pl.metrics.{name}")


def _metrics_of(module: ModuleType) -> Iterator[Metric]:
    for name, function in vars(module).items():
        own = inspect.isfunction(function) and function.__module__ == module.__name__
        if own and not name.startswith("_") and is_metric(function):
            fields = parse_fields(function)
            summary = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
            short = module.__name__.removeprefix(f"{mindeye_pl.metrics.__name__}.")
            yield Metric(short, name, _call(function), summary, fields)


def is_metric(function: Callable) -> bool:
    """Return whether the docstring has any line of `FIELDS`."""
    return any(re.match(rf"({'|'.join(FIELDS)}):", line) for line in (inspect.getdoc(function) or "").splitlines())


def parse_fields(function: Callable) -> dict[str, str]:
    """Return the texts of `FIELDS`, each on one line.

    Raises:
        ValueError: if a line is missing, repeated or out of order; the message names the function.
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
    """Return a table with one row per metric."""
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
    print(render_page(), end="")
