"""Hydra's completion of the console script, asked as bash asks it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(sys.executable).parent / "mindeye_pl"

#: Loads the completion and presses the tab key at the end of a command line.
PRESS_TAB = """
eval "$(mindeye_pl -sc install=bash)"
COMP_LINE={line!r} COMP_POINT={point} COMP_WORDS=({line}) COMP_CWORD=1
hydra_bash_completion
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completions(line: str) -> set[str]:
    environment = os.environ | {"PATH": f"{SCRIPT.parent}:{os.environ['PATH']}"}
    command = ["bash", "--norc", "-c", PRESS_TAB.format(line=line, point=len(line))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("line", "choices"),
    [
        ("mindeye_pl debug=", {"debug=fast_dev_run", "debug=none", "debug=overfit", "debug=profile"}),
        ("mindeye_pl embedder=clip_l", {"embedder=clip_l_class", "embedder=clip_l_hidden"}),
        (
            "mindeye_pl +experiment=finetune_subj07",
            {"+experiment=finetune_subj07_1h", "+experiment=finetune_subj07_all"},
        ),
        ("mindeye_pl finetune.epo", {"finetune.epochs="}),
    ],
)
def test_groups_and_keys_are_completed(line: str, choices: set[str]) -> None:
    assert completions(line) == choices
