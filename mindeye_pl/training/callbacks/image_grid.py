"""What a generator makes as it learns, as images beside its losses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from mindeye_pl.models.gan.training import AdversarialTraining
from mindeye_pl.store.atomic import replacing


class GeneratedGrid(Callback):
    """After each validation, held-out images above what is made of their embeddings, as one PNG file.

    Args:
        path: of the file; an older one stays whole until the new one is.
        log: takes the grid `(H, W, 3)` uint8 and the epochs so far; None where nothing is logged.
    """

    def __init__(self, path: Path, log: Callable[[np.ndarray, int], None] | None = None):
        self.path, self._log = path, log

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the grid."""
        if not isinstance(pl_module, AdversarialTraining) or pl_module.shown is None or not trainer.is_global_zero:
            return
        from torchvision.transforms.v2.functional import to_pil_image

        image = to_pil_image(grid_of(pl_module.shown))
        with replacing(self.path) as temporary:
            image.save(temporary, format="PNG")
        if self._log is not None:
            self._log(np.asarray(image), trainer.current_epoch + 1)


def grid_of(pairs: Tensor, *, columns: int = 8) -> Tensor:
    """Pairs `(n, 2, 3, P, P)` as rows of real images, each above a row of made ones: `(3, rows * P, columns * P)`."""
    from torchvision.utils import make_grid

    rows = [part for block in pairs.split(columns) for part in (block[:, 0], block[:, 1])]
    return make_grid(torch.cat(rows).float(), nrow=min(columns, len(pairs)), padding=0)
