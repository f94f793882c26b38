"""Networks with public weights: what a file must hold. The real files are in nobody's repository."""

import pytest
import torch
from safetensors.torch import save_file

from artlib import models
from artlib.models import public


def stored(name: str, root) -> dict[str, torch.Tensor]:
    """Random weights in half precision where the real ones would lie."""
    about = public.PUBLIC[name]
    net = models.build(about.arch, about.num_classes, generator=torch.Generator().manual_seed(7))[1]
    weights = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    path = root / about.file
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in weights.items()}, path)
    return weights


@pytest.mark.parametrize("name", public.PUBLIC)
def test_a_network_takes_the_weights_of_its_file(name, tmp_path):
    weights = stored(name, tmp_path)
    model = public.load(name, root=tmp_path)
    for key, value in model[1].state_dict().items():
        assert torch.equal(value, weights[key].to(value.dtype))
    assert not model.training and model.normalization.mean.flatten().tolist() == pytest.approx(public.PUBLIC[name].mean)
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, public.PUBLIC[name].num_classes)


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(ValueError, match="unknown network 'resnet'; choose one of resnet20_natural, resnet4b_adv"):
        public.load("resnet", root=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"resnet2b_adv\.safetensors is not there: put the weights of Verified"):
        public.load("resnet2b_adv", root=tmp_path)
    stored("resnet2b_adv", tmp_path)
    path = tmp_path / public.PUBLIC["resnet2b_adv"].file
    with pytest.raises(ValueError, match=r"resnet2b_adv\.safetensors holds other weights than this network"):
        public.load_weights(models.build("resnet-4b", 10), path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"resnet2b_adv\.safetensors is damaged"):
        public.load("resnet2b_adv", root=tmp_path)
