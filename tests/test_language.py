"""Words of docstrings, docs and configuration (docs/concepts.md has the glossary)."""

import ast
import re
from pathlib import Path

import mindeye_pl

ROOT = Path(__file__).parent.parent
PACKAGE = Path(mindeye_pl.__file__).parent
#: Words that a docstring does not begin with: it is a noun phrase or begins with a verb.
NOT_FIRST = ("What", "Whether", "Of")


def test_docstrings_begin_with_a_noun_or_a_verb() -> None:
    found = []
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                words = (ast.get_docstring(node) or "-").split()
                found += [f"{path}: {' '.join(words[:6])}"] if words[0] in NOT_FIRST else []
    assert not found


def test_images_are_called_images() -> None:
    paths = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.html"), *(ROOT / "conf").rglob("*.yaml")]
    paths += [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
    assert not [str(path) for path in paths if re.search(r"\bpicture", path.read_text(), re.IGNORECASE)]
