"""Check that files, modules, classes and pages that the docs name exist."""

import re
from pathlib import Path
from pydoc import locate

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

#: Folders that a path in a page may begin below.
BASES = (ROOT, ROOT / "mindeye_pl")

_PATH = re.compile(r"`(\w[\w.*/-]*/[\w.*/-]*)`")
_NAME = re.compile(r"\bmindeye_pl(?:\.\w+)+")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[\w-]+)?\)")


def names_a_file(path: str) -> bool:
    """Return whether a path is one of a file or folder of the repository, and no placeholder or score's name."""
    first, last = path.split("/")[0], path.rstrip("/").split("/")[-1]
    known = any((base / first).is_dir() for base in BASES) and first != "outputs"
    return known and (path.endswith("/") or Path(last).suffix in (".py", ".yaml", ".md", ".json", ".toml"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_exists(page: Path) -> None:
    named = {path for path in _PATH.findall(page.read_text()) if names_a_file(path) and not re.search("[A-Z]{4}", path)}
    missing = [path for path in sorted(named) if not any(any(base.glob(path.rstrip("/"))) for base in BASES)]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_and_class_exists(page: Path) -> None:
    missing = [name for name in sorted(set(_NAME.findall(page.read_text()))) if locate(name) is None]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_page(page: Path) -> None:
    missing = [link for link in sorted(set(_LINK.findall(page.read_text()))) if not (page.parent / link).exists()]
    assert not missing
