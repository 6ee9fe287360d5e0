"""Time from the command to its first work, as ratios to importing what the work needs.

    python benchmarks/start_up.py [--rounds 5] [--output FILE.json]

The rows are `--help` over a Python that imports Hydra, and a composed and checked plan (`plan=true`, where nothing is
run) over one that imports torch and PyTorch Lightning. Seconds are printed beside.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from statistics import median

from timing import arguments_of, paired, ratio, report

HELP = ["-m", "mindeye_pl", "--help"]
PLAN = ["-m", "mindeye_pl", "+experiment=finetune_subj01_1h", "scale=tiny", "plan=true", "logger=none"]


def command(*arguments: str) -> Callable[[], None]:
    """Return the run of a Python command without its output."""

    def work() -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    return work


def main() -> None:
    """Time the commands, and print the ratios."""
    arguments = arguments_of(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            "help": command(*HELP),
            "Hydra": command("-c", "import hydra"),
            "plan": command(*PLAN, f"paths.outputs={folder}"),
            "torch and Lightning": command("-c", "import torch, pytorch_lightning"),
        }
        seconds = paired(ways, arguments.device, arguments.rounds)
    for name, rounds in seconds.items():
        print(f"{name:60s} {median(rounds):8.3f} s")
    pairs = [("help", "Hydra"), ("plan", "torch and Lightning")]
    report("start_up", {f"{a} / {b}": ratio(seconds[a], seconds[b]) for a, b in pairs}, arguments.output)


if __name__ == "__main__":
    main()
