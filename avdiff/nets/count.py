"""How large a network is, and what a call costs: the same figure on every machine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module) -> int:
    """Values in all parameters, trained or fixed; buffers are not counted."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_operations(call: Callable[[], object]) -> int:
    """Floating-point operations of a call in convolutions, matrix products and attention, 2 a multiply-add.

    Attention is counted as its two matrix products whichever kernel a machine would choose. Elementwise work, norms
    and Fourier transforms are left out, as is usual.

    Args:
        call: takes nothing; its tensors may live on the meta device, where nothing is computed.
    """
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # fused transformer layers would not be seen
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
    return counter.get_total_flops()
