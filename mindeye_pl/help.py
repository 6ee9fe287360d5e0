"""`--help`: the usual commands, and the options of every configuration group. It reads names of files alone.

Hydra's own help composes a configuration and copies its search path for each group, which takes seconds.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from mindeye_pl.conf_files import conf_dir

FLAGS = ("--help", "-h")

_COMMANDS = """\
mindeye_pl: from fMRI to images.

  python -m mindeye_pl +experiment=finetune_subj01_1h             from one hour of brain data to scores and a report
  python -m mindeye_pl +experiment=finetune_subj01_1h plan=true   its steps, and which of them are finished
  python -m mindeye_pl -m +experiment=sweeps/hours_subj01         a sweep, and its report

  group=option      another option of a group, below
  key=value         another value; docs/configuration.md has all keys
  --cfg job         print the composed configuration
  --config-dir DIR  read groups and experiments of your own too
  --hydra-help      options of Hydra
"""

_DEFAULT = re.compile(r"^ *- (?:override )?(?P<group>[\w/]+): *(?P<option>.*?)(?: +# (?P<words>.*))?$", re.MULTILINE)


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Return whether a command line asks for help; `--cfg` and the like have their own."""
    return any(flag in arguments for flag in FLAGS)


def help_text(arguments: Sequence[str] = ()) -> str:
    """Return the help; folders that a command line adds by `--config-dir` are listed too."""
    folders, described = [conf_dir(), *_folders(arguments)], _descriptions()
    lines = [_COMMANDS, "Groups"]
    for group, options in _groups(folders).items():
        lines += [f"  {group}: {', '.join(options)}"]
        lines += [f"      {described[group]}"] if group in described else []
    return "\n".join(lines) + "\n"


def _groups(folders: Sequence[Path]) -> dict[str, list[str]]:
    """Return the options of each group, sorted."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for path in folder.rglob("*.yaml"):
            if path.parent != folder and path.parent.name != "hydra":
                found.setdefault(path.parent.relative_to(folder).as_posix(), set()).add(path.stem)
    return {group: sorted(found[group]) for group in sorted(found)}


def _descriptions() -> dict[str, str]:
    """Return the words behind each group in the defaults list of `config.yaml`."""
    text = (conf_dir() / "config.yaml").read_text(encoding="utf-8")
    return {entry["group"]: entry["words"] for entry in _DEFAULT.finditer(text) if entry["words"]}


def _folders(arguments: Sequence[str]) -> list[Path]:
    given = [value for flag, value in pairwise(arguments) if flag in ("--config-dir", "-cd")]
    given += [item.partition("=")[2] for item in arguments if item.startswith("--config-dir=")]
    return [Path(folder) for folder in given if Path(folder).is_dir()]
