"""Control of autocast inside the networks.

The maps of the highest resolutions follow autocast. Styles, scales of modulated kernels, batch statistics, heads and
the sum of the skip outputs stay in float32 at every training precision.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast on the tensor's device."""
    return torch.autocast(tensor.device.type, enabled=False)


def precision_of(tensor: Tensor, *, mixed: bool) -> AbstractContextManager[object]:
    """Return a context that keeps autocast if `mixed`, else disables it."""
    return nullcontext() if mixed else full_precision(tensor)
