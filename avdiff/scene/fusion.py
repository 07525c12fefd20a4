"""Two-stage decision of scenes: what the scene is, weighed by what kind of place it is.

H. Hu et al., "Device-robust acoustic scene classification based on two-stage categorization and data augmentation",
DCASE 2020 (arXiv 2007.08389).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def fuse(fine: Tensor, coarse: Tensor, parents: Sequence[int]) -> Tensor:
    """p(c) in proportion to [sum over networks of p(c)] * [sum over networks of p(superclass of c)].

    Args:
        fine: (..., C) sums of soft-max outputs of the networks of all classes; a common factor does not matter.
        coarse: (..., S) the same of the networks of superclasses.
        parents: for every class the index of its superclass.

    Returns:
        (..., C) that sums to one.
    """
    product = fine * coarse[..., torch.as_tensor(parents, device=coarse.device)]
    return product / product.sum(-1, keepdim=True)
