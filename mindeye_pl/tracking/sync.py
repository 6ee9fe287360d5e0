"""Command that uploads the offline runs of an experiment."""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path


def sync_command(folders: Iterable[Path], run_ids: Iterable[str]) -> str | None:
    """Return the command that uploads the offline records of some runs in W&B folders, None if all are uploaded.

    A killed and resumed run has two records. `wandb sync` uploads them in the order of their start, and appends the
    later one only with WANDB_RESUME; otherwise it would overwrite the earlier one.
    """
    ids, patterns, resumed = sorted(set(run_ids)), [], False
    for folder in sorted(set(folders)):
        records = {run_id: list(folder.glob(f"offline-run-*-{run_id}")) for run_id in ids}
        # W&B marks an uploaded record.
        left = [run_id for run_id, found in records.items() if not all(any(p.glob("*.wandb.synced")) for p in found)]
        if left:
            resumed = resumed or any(len(records[run_id]) > 1 for run_id in left)
            relative = os.path.relpath(folder)
            path = folder.resolve() if relative.startswith("..") else relative
            suffix = left[0] if len(left) == 1 else f"{{{','.join(left)}}}"
            patterns.append(f"{shlex.quote(str(path))}/offline-run-*-{suffix}")
    if not patterns:
        return None
    return ("WANDB_RESUME=allow " if resumed else "") + "wandb sync " + " ".join(patterns)
