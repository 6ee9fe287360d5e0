"""Which parts of the networks follow autocast, and which stay in float32 whatever the precision of training.

The maps of the highest resolutions follow it. Styles, the scales of modulated kernels, the statistics of a batch, the
heads and the sum of the skip outputs do not.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """No autocast on the tensor's device."""
    return torch.autocast(tensor.device.type, enabled=False)


def precision_of(tensor: Tensor, *, mixed: bool) -> AbstractContextManager[object]:
    """Autocast as it is where `mixed`, and else none."""
    return nullcontext() if mixed else full_precision(tensor)
