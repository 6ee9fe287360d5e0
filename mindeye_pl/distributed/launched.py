"""Detection of ranks that torchrun or srun started. This module imports no heavy library."""

import os


def launched_ranks() -> tuple[int, int] | None:
    """Return the rank and the world size where torchrun or srun started several ranks, else None."""
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        found = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    elif "SLURM_PROCID" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        found = int(environment["SLURM_PROCID"]), int(environment.get("SLURM_NTASKS", 1))
    else:
        return None
    return found if found[1] > 1 else None
