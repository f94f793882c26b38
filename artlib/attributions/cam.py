"""Class activation maps: importance per place of a layer's feature map, signed, smaller than the image.

(N, 1, h, w); an `Explainer` makes heat maps of them: `Explainer("grad_cam", reduce=positive, upsample=True)`.
"""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from artlib.attributions.gradient import score
from artlib.models import check_batch, frozen, mode


def signed(attribution: Tensor) -> Tensor:
    """The sum over channels, (N, C, h, w) -> (N, h, w): CAM as Zhou et al. show it."""
    return attribution.sum(1)


def positive(attribution: Tensor) -> Tensor:
    """What is positive of the sum over channels, (N, h, w): the ReLU of Grad-CAM."""
    return attribution.sum(1).relu()


def cam(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    layer: str | None = None,
    target: str = "logit",
    create_graph: bool = False,
) -> Tensor:
    """Class activation map: h w sum over k of A_k * d f(x)_y / d A_k, for feature maps A of h x w, (N, 1, h, w).

    For a network that ends in the mean over places and a linear layer of weights v it is sum_k v_yk A_k (Zhou et al.
    2016); for others that of Draelos and Carin 2020 (HiResCAM). `layer` is a name of `model.named_modules()`; None is
    the last module that returns a feature map of more than one place (for SqueezeNet that is a map a class). The model
    is in eval mode meanwhile. Raises ValueError as `gradient` does, and for a layer without a feature map.
    """
    a, g = _features(model, x, y, layer=layer, target=target, create_graph=create_graph)
    return (a * g).sum(1, keepdim=True) * a[0, 0].numel()


def grad_cam(model, x, y, *, layer: str | None = None, target: str = "logit", create_graph: bool = False) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017) before its ReLU: sum over k of A_k times the mean of d f(x)_y / d A_k.

    Arguments, shape and errors as for `cam`.
    """
    a, g = _features(model, x, y, layer=layer, target=target, create_graph=create_graph)
    return (a * g.mean((2, 3), keepdim=True)).sum(1, keepdim=True)


def grad_cam_pp(model, x, y, *, layer: str | None = None, target: str = "logit", create_graph: bool = False) -> Tensor:
    """Grad-CAM++ (Chattopadhay et al. 2018) of exp(f(x)_y), before its ReLU and without the factor exp(f(x)_y).

    sum over k of w_k A_k, w_k = sum over places of alpha relu(g), alpha = g^2 / (2 g^2 + g^3 sum of A_k over places),
    g = d f(x)_y / d A_k. Arguments, shape and errors as for `cam`.
    """
    a, g = _features(model, x, y, layer=layer, target=target, create_graph=create_graph)
    below = 2 * g**2 + a.sum((2, 3), keepdim=True) * g**3
    alpha = torch.where(below != 0, g**2 / below.where(below != 0, 1.0), 0.0)
    return (a * (alpha * g.relu()).sum((2, 3), keepdim=True)).sum(1, keepdim=True)


def _features(model, x, y, *, layer, target, create_graph) -> tuple[Tensor, Tensor]:
    """The feature maps A (N, K, h, w) of a layer, and the gradient of the score in them."""
    check_batch(x, y, model)
    modules = dict(model.named_modules())
    if layer is not None and layer not in modules:
        raise ValueError(f"unknown layer {layer!r}; choose one of {', '.join(name for name in modules if name)}")
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and (layer is not None or output[0, 0].numel() > 1):
            found[:] = [output]

    chosen = modules.values() if layer is None else [modules[layer]]
    if not (create_graph and x.requires_grad):
        x = x.detach().requires_grad_()
    hooks = [m.register_forward_hook(keep) for m in chosen]
    try:
        with mode(model, False), torch.enable_grad(), nullcontext() if create_graph else frozen(model):
            total = score(model(x.clone()), y, target=target).sum()
            if not found:
                raise ValueError(
                    f"{layer or 'no layer of ' + type(model).__name__} returns a feature map (N, K, h, w); name one"
                )
            (g,) = torch.autograd.grad(total, found[0], create_graph=create_graph)
    finally:
        for hook in hooks:
            hook.remove()
    return (found[0] if create_graph else found[0].detach()), g
