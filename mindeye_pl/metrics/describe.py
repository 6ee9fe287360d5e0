"""Generator of the metrics page, `docs/metrics.md`, from the metrics' docstrings.

python -m mindeye_pl.metrics.describe > docs/metrics.md

A metric is a public function of `mindeye_pl.metrics` whose docstring has a line that starts with `Formula:`. The lines
of `FIELDS` follow the docstring's first sentence, in that order. The page's text is in `metrics.md.jinja`.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mindeye_pl.metrics
from mindeye_pl.metrics.human_agreement import PAIRWISE_ACCURACY, SOURCE

FIELDS = ("Formula", "Range", "Direction", "Chance", "Weights", "Not shown", "Source")

#: Headings by module, in page order. Modules that are missing here come last, with their names.
SECTIONS = {
    "pixels": "Pixels",
    "perceptual": "Perceptual distance",
    "identification": "Identification and distance in feature space",
    "retrieval": "Retrieval",
    "brain_correlation": "Brain correlation",
    "encoding": "Encoding models",
    "captions.similarity": "Captions",
    "captions.meteor": "METEOR",
    "captions.coco_caption": "Captions as BrainHub scores them",
    "captions.clip_score": "CLIP-S",
    "seed": "SEED",
    "fid": "Distance of distributions",
    "effective_rank": "Collapse",
}

_ROOT = f"{mindeye_pl.metrics.__name__}."


@dataclass(frozen=True)
class Metric:
    """Documentation of one metric, from its docstring and signature."""

    module: str  # path below `mindeye_pl.metrics`
    name: str
    call: str  # parameters, without types
    summary: str  # first sentence of the docstring
    fields: dict[str, str]  # texts of `FIELDS`


def collect_metrics() -> list[Metric]:
    """Return all metrics: modules in the order of `SECTIONS`, functions in the order of their files."""
    packages = pkgutil.walk_packages(mindeye_pl.metrics.__path__, _ROOT)
    names = [info.name.removeprefix(_ROOT) for info in packages if not info.ispkg]
    order = [*(name for name in SECTIONS if name in names), *sorted(set(names) - set(SECTIONS))]
    return [metric for name in order for metric in _metrics_of(name)]


def render_page() -> str:
    """Return the whole page in Markdown."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(Path(__file__).with_name("metrics.md.jinja").read_text(encoding="utf-8"))
    agreement = sorted(PAIRWISE_ACCURACY.items(), key=lambda item: -item[1])
    return template.render(metrics=collect_metrics(), headings=SECTIONS, agreement=agreement, source=SOURCE)


def _metrics_of(module_name: str) -> Iterator[Metric]:
    module = importlib.import_module(_ROOT + module_name)
    for name, function in vars(module).items():
        own = inspect.isfunction(function) and function.__module__ == module.__name__
        if own and not name.startswith("_") and is_metric(function):
            fields = parse_fields(function)
            summary = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
            yield Metric(module_name, name, _call(function), summary, fields)


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


if __name__ == "__main__":
    print(render_page(), end="")
