"""One value per channel is normalised by the running statistics; everything else is torch's batch norm."""

import copy
import pickle

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from seglab.models.batchnorm import allow_one_value


def norm(kind):
    torch.manual_seed(0)
    module = kind(4)
    module.running_mean.uniform_(-1, 1)
    module.running_var.uniform_(0.5, 2)
    return module


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormAct2d])
def test_one_value(kind):
    plain, ours = norm(kind), norm(kind)
    allow_one_value(ours)
    x = torch.randn(1, 4, 1, 1, requires_grad=True)
    with pytest.raises(ValueError, match="more than 1 value"):
        plain.train()(x)
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    out = ours.train()(x)
    assert torch.equal(out, plain.eval()(x))
    assert ours.training
    assert all(torch.equal(v, before[k]) for k, v in ours.state_dict().items())
    out.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormAct2d])
@pytest.mark.parametrize("shape", [(2, 4, 1, 1), (1, 4, 2, 1), (3, 4, 5, 6)])
def test_more_values_are_normalised_as_ever(kind, shape):
    plain, ours = norm(kind), norm(kind)
    allow_one_value(ours)
    x = torch.randn(shape)
    assert torch.equal(ours.train()(x.clone()), plain.train()(x.clone()))
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), plain.state_dict().values(), strict=True))


def test_state_names_copies_and_pickles():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(BatchNormAct2d(4)))
    names = list(net.state_dict())
    allow_one_value(net)
    assert list(net.state_dict()) == names
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin.train()(torch.randn(1, 3, 1, 1)).shape == (1, 4, 1, 1)
