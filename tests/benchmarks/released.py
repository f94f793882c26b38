"""The papers' released research code as a peer, run from a checkout of the user's; nothing of it lives here.

Its training and evaluation scripts work at import, so the glue between their functions is ours, in their order. Both
networks get the same weights and no dropout. The glue finds i* without the scripts' loop over labels: a lower bound.
On a CPU much of its time goes into subnormal numbers of torch's softplus; `torch.set_flush_denormal(True)` shows it.
"""

import ast
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

ART, LENS = "github.com/nupurkmr9/Attributional-Robustness", "github.com/ksandeshk/LENS"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # C-5
TRAINING = dict(epsilon=8 / 255, num_steps=3, step_size=5 / 255, k_top=1000)  # C-1, C-2
EVALUATION = dict(epsilon=8 / 255, step_size=1 / 255, k_top=100)


def _file(checkout: str | Path, name: str, repository: str) -> Path:
    path = Path(checkout) / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: check out {repository} and give the folder that holds {name}")
    return path


def _module(checkout: str | Path, name: str) -> ModuleType:
    path = _file(checkout, f"cifar/{name}.py", ART)
    spec = importlib.util.spec_from_file_location(f"released_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _cuda_means(device: torch.device):
    """Inside this block `.cuda()`, which the released code calls on every tensor, leads to `device`."""
    return mock.patch.object(torch.Tensor, "cuda", lambda tensor: tensor.to(device))


def normalize(x: Tensor) -> Tensor:
    """(x - mean) / std of the released training script."""
    return (x - x.new_tensor(MEAN)[:, None, None]) / x.new_tensor(STD)[:, None, None]


def network(checkout: str | Path, model: nn.Module, *, depth: int, width: int) -> nn.Module:
    """The released WideResNet, softplus beta 50, with the weights of `model`, our wrn-depth-width of 10 classes."""
    backbone = _module(checkout, "backbone")
    released = backbone.WideResNet(depth, width, dropRate=0.0, beta_value=50.0, final_feat_dim=64 * width)
    weights = [v for name, v in model.state_dict().items() if not name.startswith("0.")]  # layer 0 is Normalize
    released.to(next(model.parameters()))  # its dtype and device
    released.load_state_dict(dict(zip(released.state_dict(), weights, strict=True)))
    return released


def art_step(checkout: str | Path) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    """One step of the released training, cifar/cifar_robust_train.py: gradients of all weights; returns the loss."""
    attack = _module(checkout, "saliency_pgd").AttackSaliency(TRAINING, normalize)
    triplet = _module(checkout, "loss_art").exemplar_loss_fn

    def step(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with _cuda_means(x.device):
            model.train().zero_grad()
            x_adv = attack.topk_alignment_saliency_attack(model, x, y, 0.0, 1.0)
            both, labels = normalize(torch.cat([x, x_adv])).requires_grad_(), y.repeat(2)
            _, logits = model({0: both, 1: 1})  # 1: softplus, 0: ReLU
            scores = logits.gather(1, labels[:, None]), logits.scatter(1, labels[:, None], -torch.inf).max(1).values
            own, other = (torch.autograd.grad(s.mean(), both, create_graph=True)[0].flatten(1) for s in scores)
            both.requires_grad_(False)
            images = torch.arange(len(x), device=x.device).repeat(2)
            attr = triplet(both.flatten(1), own, other, labels, images)
            _, logits = model({0: normalize(x_adv), 1: 0})
            loss = F.cross_entropy(logits, y) + 0.5 * attr
            loss.backward()
        return loss.detach()

    return step


def ifia(
    checkout: str | Path, *, points: int, steps: int
) -> Callable[[nn.Module, Tensor, Tensor], list[Tensor | None]]:
    """IFIA of the released evaluation, one image at a time as there; None where no iterate keeps label y."""
    attack = _module(checkout, "saliency_pgd").AttackSaliency(EVALUATION | dict(num_steps=steps), normalize)
    attack.num_ig_steps = points

    def step(model: nn.Module, x: Tensor, y: Tensor) -> list[Tensor | None]:
        model.eval()
        with _cuda_means(x.device):
            pairs = zip(x.split(1), y.split(1), strict=True)
            return [attack.saliency_attackIG(model, image, label, 0.0, 1.0) for image, label in pairs]

    return step


def diverse_topk(checkout: str | Path, k: int) -> Callable[[Tensor], list[np.ndarray]]:
    """LENS's diverse top-k, w = 1, of maps (N, 128, 128): flat indices from its pool of 6000 pixels, one map a time."""
    path = _file(checkout, "Flower/eval_with_lens_attribution_attack.py", LENS)
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]  # the rest needs TensorFlow 1
    space = dict(np=np, imagedimflat=128 * 128)
    exec(compile(tree, str(path), "exec"), space)
    space["submat"] = space["submat3x3"]
    return lambda maps: [space["topkDiv"](m.argsort()[-6000:][::-1], k) for m in maps.flatten(1).numpy()]
