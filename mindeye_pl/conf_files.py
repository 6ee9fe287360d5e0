"""The place of the configuration's files; it imports no library, so that `--help` needs none."""

from pathlib import Path


def conf_dir() -> Path:
    """The folder of the configuration: inside an installed package, else at the repository's top."""
    packaged = Path(__file__).parent / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "conf"
