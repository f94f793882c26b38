"""From an attribution per input value to an importance per pixel."""

from torch import Tensor


def heatmap(attribution: Tensor) -> Tensor:
    """Importance per pixel (Ghorbani et al. 2019; Chen et al. 2019): sum over channels of |attribution|, scaled.

    (N, C, H, W) -> (N, H, W), non-negative; each map sums to H * W, or is 0 everywhere where the attribution is.
    """
    magnitude = attribution.abs().sum(1)
    total = magnitude.sum((1, 2), keepdim=True)
    return magnitude * (magnitude.shape[1:].numel() / total.where(total > 0, 1.0))
