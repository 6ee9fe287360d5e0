"""Atomic writes of Lightning's checkpoints."""

from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from mindeye_pl.store.atomic import replacing


class AtomicCheckpointIO(TorchCheckpointIO):
    """Stream a checkpoint to a temporary file, flush it to disk and rename it.

    Lightning's own plugin builds the whole file in memory first, which doubles the 27 GB of a full-size run, and does
    not flush before the rename.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path`."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, only_writer=True) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)
