import re
import shutil
import subprocess
from pathlib import Path

import pytest

import mindeye_pl
from mindeye_pl.store import environment


def test_environment_has_versions_and_hardware() -> None:
    found = environment.environment()
    assert found["mindeye_pl"] == mindeye_pl.__version__
    assert {"commit", "Python", "torch", "system", "machine"} <= found.keys()
    assert re.search(r"\d+ CPU cores, \d+ GB memory", found["machine"])


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_commit_and_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mindeye_pl").mkdir()
    module = tmp_path / "mindeye_pl" / "__init__.py"
    module.write_text("")
    monkeypatch.setattr(environment, "CHECKOUT", tmp_path)
    assert environment.commit() == "not a checkout"

    def git(*words: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        return subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    git("init", "-q")
    assert environment.commit() == "not a checkout"  # no commit yet
    git("add", ".")
    git("commit", "-qm", "first")
    assert environment.commit() == git("rev-parse", "--short=12", "HEAD").strip()
    module.write_text("x = 1")
    assert environment.commit().endswith("+ changes")
    git("commit", "-qam", "second")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("no code")
    assert not environment.commit().endswith("+ changes")
    (tmp_path / "mindeye_pl" / "new.py").write_text("")
    assert environment.commit().endswith("+ changes"), "a new file of the code counts"
