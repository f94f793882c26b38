"""Everything a training remembers between two updates, and its file."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from artlib import files


@dataclass
class State:
    """Networks, optimisers, where the training stands, and what its epoch has added up so far."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    helper: nn.Module | None = None
    helper_optimizer: torch.optim.Optimizer | None = None
    step: int = 0
    seconds: float = 0.0
    totals: dict[str, Tensor] = field(default_factory=dict)  # sums over images: images, loss, correct, parts of a loss
    history: list[dict] = field(default_factory=list)

    def add(self, sums: dict[str, Tensor]) -> None:
        """Add to the totals of the epoch, in the order of `sums`: a file does not keep the order of its tensors."""
        added = {name: self.totals[name] + v if name in self.totals else v for name, v in sums.items()}
        self.totals = added | {name: v for name, v in self.totals.items() if name not in added}

    def means(self) -> dict[str, float]:
        """Loss, accuracy and the parts of the loss so far in this epoch, means over images."""
        values = dict(zip(self.totals, torch.stack(list(self.totals.values())).tolist(), strict=True))
        n = values.pop("images")
        return {"accuracy" if name == "correct" else name: v / n for name, v in values.items()}

    def _networks(self) -> dict[str, tuple[nn.Module, torch.optim.Optimizer]]:
        found = {"model": (self.model, self.optimizer)}
        return found if self.helper is None else found | {"helper": (self.helper, self.helper_optimizer)}

    def tensors(self) -> dict[str, Tensor]:
        """Weights, statistics, totals, and what the optimisers remember, by name."""
        out = {f"totals/{k}": v for k, v in self.totals.items()}
        for name, (net, optimizer) in self._networks().items():
            out |= {f"{name}/{k}": v for k, v in net.state_dict().items()}
            for index, values in optimizer.state_dict()["state"].items():
                out |= {f"{name} optimizer/{index}/{k}": v for k, v in values.items() if isinstance(v, Tensor)}
        return out

    def save(self, path: Path, *, key: str, code: str) -> None:
        """Write the checkpoint whole or not at all, with the key of recipe and data and the digest of the code."""
        meta = {"key": key, "code": code, "step": self.step, "seconds": self.seconds, "history": self.history}
        files.write_tensors(path, self.tensors(), {"state": json.dumps(meta)})

    def load(self, path: Path, *, key: str) -> None:
        """Take up what `save` wrote; ValueError if that was another recipe or other data."""
        tensors, meta = files.read_tensors(path)
        saved = json.loads(meta["state"])
        if saved["key"] != key:
            raise ValueError(f"{path} is the checkpoint of another training; delete it or name another file")
        self.step, self.seconds, self.history = saved["step"], saved["seconds"], saved["history"]
        device = next(self.model.parameters()).device
        self.totals = {k: v.to(device) for k, v in _under("totals/", tensors).items()}
        for name, (net, optimizer) in self._networks().items():
            net.load_state_dict(_under(f"{name}/", tensors))
            _restore(optimizer, list(net.parameters()), _under(f"{name} optimizer/", tensors))


def saved_code(path: Path) -> str:
    """The digest of the code that wrote a checkpoint."""
    return json.loads(files.read_tensors(path)[1]["state"])["code"]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _restore(optimizer: torch.optim.Optimizer, weights: list[nn.Parameter], tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split("/")
        like = weights[int(index)]
        if value.shape == like.shape:  # in the memory layout of the weight
            value = torch.empty_like(like, requires_grad=False).copy_(value)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
