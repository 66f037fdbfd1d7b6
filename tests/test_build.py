"""Guarded building: only trusted subclasses of what the slot holds, with known settings of the right type."""

from __future__ import annotations

import albumentations as A
import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from seglab.build import build, check_type, find
from seglab.errors import ConfigError

HOSTILE = [
    "os.system", "builtins.exec", "builtins.eval", "builtins.open", "builtins.getattr", "subprocess.Popen", "pickle.loads", "runpy.run_path",
    "importlib.import_module", "torch.load", "torch.hub.load", "torch.jit.load", "torch.os.system", "torch.serialization.os.remove",
    "torch.utils.cpp_extension.load_inline", "torch.package.PackageImporter", "torch.distributed.run.main", "numpy.load",
    "albumentations.load", "seglab.checkpoint.load", "seglab.results.subprocess.run", "seglab.build.importlib.import_module",
    "pathlib.Path.write_text", "shutil.rmtree", "hydra.utils.get_method", "timm.create_model", "lightning.pytorch.cli.LightningCLI",
    "../x", "os", "", 3, None, ["torch.nn.ReLU"], "torch.nn.relu()", "torch..nn", "__import__('os')",
]  # fmt: skip


@pytest.mark.parametrize("target", HOSTILE, ids=str)
@pytest.mark.parametrize("slot", [nn.Module, Optimizer], ids=["network", "optimizer"])
def test_hostile_targets_are_refused_and_never_run(target, slot, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        build({"_target_": target, "command": "touch hacked", "f": "hacked"}, slot, "model")
    assert "\n" not in str(error.value)
    assert "_target_" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_trusted_class_of_another_slot_is_refused():
    with pytest.raises(ConfigError, match="not a Optimizer"):
        find("torch.nn.ReLU", Optimizer, "optimizer")


def test_trust_comes_from_the_environment(tmp_path, monkeypatch):
    (tmp_path / "mypkg_for_seglab.py").write_text("from torch import nn\nclass Net(nn.Module):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    node = {"_target_": "mypkg_for_seglab.Net"}
    with pytest.raises(ConfigError, match="SEGLAB_TRUST=mypkg_for_seglab"):
        build(node, nn.Module, "model")
    monkeypatch.setenv("SEGLAB_TRUST", "other, mypkg_for_seglab")
    assert type(build(node, nn.Module, "model")).__name__ == "Net"


def test_third_party_classes_need_no_glue():
    parameters = [nn.Parameter(torch.zeros(1))]
    made = build({"_target_": "torch.optim.Adam", "lr": 0.1, "betas": [0.8, 0.9]}, Optimizer, "optimizer", params=parameters)
    assert tuple(made.defaults["betas"]) == (0.8, 0.9)
    turn = {"_target_": "albumentations.OneOf", "transforms": [{"_target_": "albumentations.HorizontalFlip", "p": 1}], "p": 1}
    assert isinstance(build(turn, (A.BasicTransform, A.BaseCompose), "augment.turn").transforms[0], A.HorizontalFlip)


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ({"_target_": "torch.optim.SGD", "lrr": 1}, "Did you mean 'lr'"),
        ({"_target_": "torch.optim.SGD", "lr": "fast"}, "optimizer.lr' is 'fast'; it must be a number"),
        ({"_target_": "torch.optim.SGD", "lr": -1}, "refuses its settings: Invalid learning rate"),
        ({"_target_": "torch.optim.SGDD"}, "Did you mean 'SGD'"),
        ({"_target_": "torch.optm.SGD"}, "Did you mean 'optim'"),
        ({"lr": 1}, "needs a _target_"),
        ("sgd", "needs a _target_"),
        ({"_target_": "torch.optim.SGD", "_partial_": True}, "There is no key '_partial_'"),
        ({"_target_": "torch.optim.SGD", "_args_": [1]}, "There is no key '_args_'"),
    ],
)
def test_mistakes_are_one_sentence(node, says):
    with pytest.raises(ConfigError) as error:
        build(node, Optimizer, "optimizer", params=[nn.Parameter(torch.zeros(1))])
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_arguments_of_albumentations_are_errors_not_warnings():
    with pytest.raises(ConfigError, match="pp"):
        build({"_target_": "albumentations.HorizontalFlip", "pp": 1}, A.BasicTransform, "augment.flip")


@pytest.mark.parametrize(
    ("value", "hint", "fits"),
    [
        (1, int, True), (1, float, True), (True, int, False), (1.5, int, False), ("1", int, False), (None, int | None, True),
        ([1, 2], tuple[int, int], True), ([1, "a"], list[int], False), ("a", list[int], False), ({"a": 1}, dict, True), (1, dict, False),
        (None, int, False), ("x", str | None, True), ([1, 2, 3], tuple[int, int], False),
    ],
)  # fmt: skip
def test_types(value, hint, fits):
    if fits:
        check_type(value, hint, "key")
    else:
        with pytest.raises(ConfigError, match="key"):
            check_type(value, hint, "key")
