"""DeepLIFT and LRP, two of LENS's attributions, through captum: an optional extra, `pip install captum`.

They make maps that can be compared and measured under a random sign; captum's hooks leave no graph, so that no attack
can follow their gradient. They are not in `ATTRIBUTIONS` for that reason: give the function itself to `Explainer`.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor, nn

from artlib.models import BatchNorm2d, Conv2d, Linear, Wrapped, check_batch, frozen
from artlib.models.layers import MeanPool

LINEAR = (Conv2d, Linear, BatchNorm2d, MeanPool, nn.Flatten, nn.Identity)  # captum's LRP knows torch's own types alone


def deep_lift(model: nn.Module, x: Tensor, y: Tensor, *, baseline: float = 0.0, create_graph: bool = False) -> Tensor:
    """DeepLIFT's rescale rule (Shrikumar et al. 2017) of the logit of y against a grey image, the shape of x.

    The sum over an image is f(x)_y - f(baseline)_y, but with captum not where the windows of a max pooling overlap, as
    SqueezeNet's do. baseline in pixel units. The model is in eval mode meanwhile.
    Raises ModuleNotFoundError without captum, and ValueError as `gradient` does and for `create_graph`.
    """
    attr = _captum("deep_lift", create_graph)
    check_batch(x, y, model)
    x = x.detach().clone().requires_grad_()
    with frozen(model), _quiet():
        found = attr.DeepLift(model).attribute(x, torch.full_like(x, baseline), target=y)
    return found.detach()


def lrp(model: nn.Module, x: Tensor, y: Tensor, *, epsilon: float = 1e-9, create_graph: bool = False) -> Tensor:
    """Layer-wise relevance propagation (Bach et al. 2015) of the logit of y by the epsilon rule, the shape of x.

    Relevance ends at the normalised image, the input of the network that `models.wrap` got; a bias takes its share. The
    model is in eval mode meanwhile. Raises ModuleNotFoundError without captum, and ValueError as `gradient` does, for
    `create_graph`, for a model that is not `Wrapped`, and for layers that captum has no rule for.
    """
    attr = _captum("lrp", create_graph)
    check_batch(x, y, model)
    if not isinstance(model, Wrapped):
        raise ValueError(f"lrp needs a network of models.wrap, not {type(model).__name__}")
    net = model[1:]
    with frozen(model), _quiet():
        for module in net.modules():
            if isinstance(module, LINEAR):
                module.rule = _rule(epsilon)
        try:
            z = model[0](x.detach()).requires_grad_()
            return attr.LRP(net).attribute(z, target=y).detach()
        except TypeError as error:
            raise ValueError(f"lrp: {str(error).split('. ')[0].strip()}") from None
        finally:
            for module in net.modules():
                if hasattr(module, "rule"):
                    del module.rule


def _rule(epsilon: float):
    from captum.attr._utils.lrp_rules import EpsilonRule

    return EpsilonRule(epsilon)


def _captum(name: str, create_graph: bool) -> ModuleType:
    if create_graph:
        raise ValueError(f"{name} leaves no graph: it cannot be attacked by its gradient, use objective 'random'")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="IProgress not found")  # of its progress bars, none of which show
            import captum.attr
    except ImportError:
        raise ModuleNotFoundError(f"{name} needs captum, which is not installed: pip install captum") from None
    return captum.attr


@contextmanager
def _quiet() -> Iterator[None]:
    """Without captum's word that it sets hooks, which it takes away again."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
        yield
