"""Choice between online and offline tracking, without importing wandb."""

import netrc
import os
from pathlib import Path


def wandb_mode() -> str:
    """Return WANDB_MODE if set, else `online` if the user has a W&B key, else `offline`."""
    return os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")


def has_key() -> bool:
    """Return whether the user has a W&B key, in WANDB_API_KEY or from `wandb login`."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1]
    try:
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
