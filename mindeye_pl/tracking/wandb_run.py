"""W&B runs: opened here and nowhere else."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("WANDB_SILENT", "true")  # the hint that matters is printed by us


def start_wandb_run(
    folder: Path,
    *,
    project: str,
    entity: str | None,
    mode: str,
    run_id: str,
    name: str,
    group: str,
    job_type: str,
    tags: Sequence[str],
    config: Mapping[str, Any],
) -> Any:
    """Opens a W&B run below `folder/wandb`; the same `run_id` continues the run of that id.

    Args:
        folder: where the offline record lies.
        project: W&B project.
        entity: W&B team or user, None for the user's default.
        mode: online, offline or disabled.
        run_id: stable over restarts of the same work.
        name: shown to people.
        group: the experiment.
        job_type: the step.
        tags: subject, hours, seed, scale, simulated.
        config: the resolved configuration.

    Returns:
        The `wandb.Run`.
    """
    import wandb

    logging.getLogger("wandb").setLevel(logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    return wandb.init(
        dir=str(folder),
        project=project,
        entity=entity,
        mode=mode,  # type: ignore[arg-type]
        id=run_id,
        resume="allow" if mode == "online" else None,
        name=name,
        group=group,
        job_type=job_type,
        tags=list(tags),
        config=dict(config),
        save_code=False,
        settings=wandb.Settings(silent=True, disable_git=True, x_disable_stats=False),
    )


def sync_hint(run: Any) -> str | None:
    """The one line that uploads an offline run, None for an online one."""
    return f"wandb sync {Path(run.dir).parent}" if run.offline else None
