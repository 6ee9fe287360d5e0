"""The arrows between packages (docs/concepts.md): who may import whom, and which library enters where."""

import ast
from pathlib import Path

import pytest

import mindeye_pl

PACKAGE = Path(mindeye_pl.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

#: Which of the project's own packages each package may import; a module at the top stands for itself.
OWN = {
    "nn": set(),
    "losses": {"nn"},
    "data": {"artifacts", "console", "errors", "nsd", "types"},
    "gallery": {"artifact_files", "artifacts", "console", "data", "errors", "nsd", "types"},
    "metrics": {"errors", "types"},
    "tracking": {"errors", "types"},
    "sharing": {"errors"},
    "reports": {"artifacts", "console", "errors", "metrics", "types", ""},
    "stages": {"errors", "losses", "metrics", "nn", "sharing", "types"},
    "weights": {"errors", "losses", "nn", "nsd", "sharing", "stages", "types"},
    "callbacks": {"artifacts", "console", "errors", "stages", "types"},
}

#: Which packages or top modules may import a library.
LIBRARIES = {
    "hydra": {"cli", "config", "pipelines"},
    "pytorch_lightning": {"stages", "callbacks", "pipelines", "data/datamodule", "data/picture_datamodule"},
    "lightning_fabric": {"callbacks", "pipelines"},
    "faiss": {"gallery"},
    "pymilvus": {"gallery"},
    "wandb": {"tracking"},
    "wandb_workspaces": {"tracking"},
}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_own_packages(path: Path) -> None:
    package = place(path).split("/")[0]
    if package not in OWN:
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "mindeye_pl" and len(parts) > 1:
            assert parts[1] in OWN[package] | {package, "__version__"}, f"{place(path)} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_libraries(path: Path) -> None:
    here = place(path)
    for name in imports(path):
        allowed = LIBRARIES.get(name.split(".")[0])
        if allowed is not None:
            assert here.split("/")[0] in allowed or here in allowed, f"{here} imports {name}"


def test_a_wrong_arrow_is_seen(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from mindeye_pl.stages import stage\n    import wandb\n")
    assert {"mindeye_pl.stages", "wandb"} <= imports(bad)
