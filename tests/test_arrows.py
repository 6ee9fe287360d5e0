"""Imports between packages (docs/concepts.md): only packages below are imported, a library enters where it may."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mindeye_pl

PACKAGE = Path(mindeye_pl.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

#: Packages and top modules from the lowest layer to the highest; those of one layer do not import each other.
LAYERS = (
    ("version", "errors", "stopping", "types", "conf_files", "interpolations"),
    ("help",),
    ("console",),
    ("store",),
    ("nn",),
    ("losses", "metrics"),
    ("sharing",),
    ("models",),
    ("data",),
    ("weights", "gallery", "tracking", "brain_maps"),
    ("schema",),
    ("config", "broken_config"),
    ("foreign_config",),
    ("distributed",),
    ("engine",),
    ("training",),
    ("steps/inputs",),
    ("steps/foundation",),
    ("steps/brain",),
    ("steps/baselines",),
    ("steps/evaluation",),
    ("steps/gallery",),
    ("steps/registry",),
    ("streaming",),
    ("decoder",),
    ("reports/render",),
    ("reports/runs",),
    ("reports/sweeps",),
    ("reports/results",),
    ("reports/wandb",),
    ("commands",),
    ("runner",),
    ("cli",),
    ("__main__",),
)
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}

#: Files that may import from above: the package's lazy entry points.
ENTRY = "__init__"

#: Packages or top modules that may import a library.
LIBRARIES = {
    "hydra": {"cli", "commands", "config", "engine", "runner", "schema", "steps", "training"},
    "pytorch_lightning": {
        "models",
        "training",
        "distributed",
        "engine",
        "steps",
        "data/datamodule",
        "data/image_datamodule",
        "reports/wandb",
    },
    "lightning_fabric": {"distributed", "training"},
    "faiss": {"gallery"},
    "pymilvus": {"gallery"},
    "nibabel": {"brain_maps", "data/layout/brain_mask", "data/nifti", "data/nsd/volumes"},
    "nilearn": {"brain_maps"},
    "peft": {"nn/adapters"},
    "wandb": {"tracking"},
    "wandb_workspaces": {"tracking"},
}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too; imports for type checking alone do not count."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place(path: Path) -> str:
    """Path below the package without the suffix: `data/layout/paths`."""
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def group(place: str) -> str:
    """Name in `LAYERS` of the package that a module belongs to."""
    parts = place.split("/")
    pair = "/".join(parts[:2])
    return pair if pair in LAYER_OF else parts[0]


def imported_group(name: str) -> str | None:
    """Name in `LAYERS` of what an import names; None for a library."""
    parts = name.split(".")
    if parts[0] != "mindeye_pl":
        return None
    return group("/".join(parts[1:]))


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_layers(path: Path) -> None:
    own = group(place(path))
    if own == ENTRY or (place(path).endswith("/__init__") and own not in LAYER_OF):
        return
    assert own in LAYER_OF, f"{own} has no layer"
    for name in imports(path):
        other = imported_group(name)
        if other is not None and other != own:
            assert other in LAYER_OF, f"{place(path)} imports {name}, which has no layer"
            assert LAYER_OF[other] < LAYER_OF[own], f"{place(path)} imports {name} from a layer above"


def test_no_circles() -> None:
    """No file imports itself through others, function-level imports included."""
    known = {place(path).removesuffix("/__init__"): path for path in MODULES}

    def targets(path: Path) -> set[str]:
        found = set()
        for name in imports(path):
            parts = name.split(".")[1:] if name.startswith("mindeye_pl.") else []
            while parts and "/".join(parts) not in known:
                parts.pop()
            found |= {"/".join(parts)} if parts else set()
        return found

    arrows = {name: targets(path) for name, path in known.items() if name != ENTRY}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above[above.index(name) :], name])
        if name not in done:
            for other in sorted(arrows.get(name, ())):
                if other != name:
                    visit(other, (*above, name))
            done.add(name)

    for name in arrows:
        visit(name, ())


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_libraries(path: Path) -> None:
    here = place(path)
    for name in imports(path):
        allowed = LIBRARIES.get(name.split(".")[0])
        if allowed is not None:
            assert {here.split("/")[0], group(here), here} & allowed, f"{here} imports {name}"


def test_a_wrong_import_is_found(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from mindeye_pl.models import base\n    import wandb\n")
    assert {"mindeye_pl.models.base", "wandb"} <= set(imports(bad))
