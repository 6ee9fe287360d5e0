"""Features of images: each network reads each set once, and what it made lies on disk until its scores are done.

Legend: m images of a set, F features.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mindeye_pl.steps.evaluation.image_sets import ImageSets
from mindeye_pl.store.atomic import write_tensors

#: Images `(b, 3, H, W)` in [0, 1] to features `(b, F)` of each layer, by name.
Layers = Callable[[Tensor], dict[str, Tensor]]

_AT_ONCE = 32


class FeaturesOfSets:
    """Features of every set by one network, made when they are asked for.

    They lie in files, not in memory: early layers make gigabytes of a thousand images. A killed evaluation finds
    there what was made.

    Args:
        folder: of the step's work.
        sets: whose images.
        load: makes the network, called only where features are missing.
        device: where it runs.
    """

    def __init__(self, folder: Path, sets: ImageSets, load: Callable[[], Any], device: torch.device):
        self._folder, self._sets, self._load, self._device = folder, sets, load, device
        folder.mkdir(parents=True, exist_ok=True)

    def of_set(self, name: str, layer: str) -> Tensor:
        """Features `(m, F)` float32 of a set in a layer."""
        path = self._folder / f"{name}.safetensors"
        if not path.exists():
            write_tensors(path, self._run(self._sets.sets[name]))
        return load_file(str(path))[layer].float()

    def of_line(self, name: str, layer: str) -> Tensor:
        """Features `(n, F)` float32 of a line of the table in a layer."""
        line = self._sets.lines[name]
        return self.of_set(line.set, layer)[line.order]

    @cached_property
    def _network(self) -> Layers:
        return self._load()

    @torch.inference_mode()
    def _run(self, images: Tensor) -> dict[str, Tensor]:
        parts = [self._network(part.float().to(self._device)) for part in images.split(_AT_ONCE)]
        return {layer: torch.cat([part[layer].flatten(1).cpu() for part in parts]).contiguous() for layer in parts[0]}
