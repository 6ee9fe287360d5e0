"""Where and with what a run was made."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from mindeye_pl.version import __version__

LIBRARIES = ("torch", "pytorch-lightning", "open_clip_torch", "diffusers", "numpy", "scikit-learn")

#: Folder of the checkout, if the package runs from one.
CHECKOUT = Path(__file__).parents[2]

#: Folders whose files determine results, new ones too.
CODE = ("mindeye_pl", "conf")

#: Behind a commit from which the code differs.
CHANGES = " + changes"


def environment() -> dict[str, str]:
    """Versions, machine and the code's commit, by the words that the report shows."""
    return {
        "mindeye_pl": __version__,
        "commit": commit(),
        "Python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
        "system": platform.platform(),
        "machine": machine(),
    }


def commit() -> str:
    """The commit of the checkout that runs, "+ changes" where its code differs; "not a checkout" elsewhere."""
    if not (CHECKOUT / ".git").exists():  # an installed copy may lie inside somebody else's checkout
        return "not a checkout"
    try:
        head, changes = (
            subprocess.run(["git", *words], cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=20).stdout
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--", *CODE])
        )
    except (OSError, subprocess.SubprocessError):
        return "not a checkout"
    return head.strip() + (CHANGES if changes.strip() else "")


def machine() -> str:
    """Processor cores, memory and GPUs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    words = [f"{os.cpu_count()} CPU cores", f"{memory:.0f} GB memory"]
    torch = sys.modules.get("torch")  # whoever used a GPU has imported it
    if torch is not None and torch.cuda.is_available():
        words += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join(words)
