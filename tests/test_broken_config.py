"""A user's configuration files that are broken: one line with file and line number."""

from pathlib import Path

import pytest

from tests.conftest import CommandLine

HEAD = "# @package _global_\n"

BROKEN = {
    "syntax": (b"a: [\n", "line 3, is no YAML"),
    "tabs": (b"seed:\t3\n\tx: 1\n", "line 2, is no YAML (got: found character"),
    "twice": (b"seed: 3\nseed: 4\n", "line 3, is no YAML (got: found duplicate key seed"),
    "encoding": (b"seed: 3\nx: \xff\n", "line 3, is no UTF-8 (got: byte 0xff)"),
    "itself": (b"defaults: [self]\n", "include each other"),
    "defaults": (b"defaults: 3\n", "defaults must be a list"),
    "interpolation": (b"seed: ${nowhere}\n", "'nowhere' not found"),
    "choice": (b"defaults:\n  - override /optimizer: nothing\n", "optimizer/nothing"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_one_line_with_file_and_line(kind: str, cli: CommandLine, tmp_path: Path) -> None:
    content, words = BROKEN[kind]
    name = "self" if kind == "itself" else kind
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / f"{name}.yaml").write_bytes(HEAD.encode() + content)
    search = f"hydra.searchpath=[file://{tmp_path / 'mine'}]"
    file = (f"{name}.yaml",) if "line" in words else ()
    cli.refuses(search, f"+experiment={name}", "scale=tiny", "plan=true", says=(words, *file))
