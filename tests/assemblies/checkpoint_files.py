"""Writes checkpoint files in the layouts of other libraries, with the tensors of golden fixtures."""

from __future__ import annotations

import argparse
import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from tests.golden.fixtures import DATA, Fixture


def fixture(name: str) -> Fixture:
    """A golden fixture in float32, such as stylenat/generator-32."""
    return Fixture(DATA / name, torch.float32)


def state_of(recorded: Fixture, **computed: tuple[int, ...]) -> OrderedDict[str, Tensor]:
    """The state dict that the reference would save: the fixture's tensors, and the buffers that it computes."""
    state = OrderedDict((name, value.detach().clone()) for name, value in recorded.tensors.items())
    for name in recorded.json.get("computed_buffers", []):
        shape = next((shape for ending, shape in computed.items() if name.endswith(ending)), (4, 4))
        state[name] = torch.ones(shape)
    return state


@contextmanager
def foreign(**classes: type) -> Iterator[None]:
    """A context in which these classes can be imported from their `__module__`, which pickle needs to write them."""
    before = dict(sys.modules)
    for cls in classes.values():
        names = cls.__module__.split(".")
        for depth in range(1, len(names) + 1):
            sys.modules.setdefault(".".join(names[:depth]), ModuleType(".".join(names[:depth])))
        setattr(sys.modules[cls.__module__], cls.__qualname__, cls)
    try:
        yield
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]


def module_of(state: Mapping[str, Tensor], kind: type[nn.Module], inner: type[nn.Module] = nn.Module) -> nn.Module:
    """A module of a class, with these tensors in submodules according to their names."""
    root = kind()
    for name, value in state.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, inner())
            module = module._modules[part]
        if value.is_floating_point():
            module.register_parameter(last, nn.Parameter(value))
        else:
            module.register_buffer(last, value)
    return root


def foreign_class(module: str, name: str, base: type = nn.Module, **members: Any) -> type:
    return type(name, (base,), {"__module__": module, "__qualname__": name, **members})


def write_persistent(
    path: Path, networks: Mapping[str, tuple[Mapping[str, Tensor], dict[str, Any]]], source: str
) -> None:
    """StyleGAN2-ADA's pickle: each object is stored with the source text of its class, its state and its arguments."""
    easy_dict = foreign_class("dnnlib.util", "EasyDict", dict)
    rebuild = _function("torch_utils.persistence", "_reconstruct_persistent_obj")

    def reduce(self: nn.Module) -> Any:
        metadata = {"type": "class", "version": 6, "module_src": source, "class_name": type(self).__name__}
        return rebuild, (easy_dict(metadata | {"state": self.__dict__}),), None

    persistent = {"__reduce__": reduce, "__reduce_ex__": lambda self, protocol: reduce(self)}
    network = foreign_class("training.networks", "Generator", **persistent)
    inner = foreign_class("training.networks", "Layer", **persistent)
    with foreign(EasyDict=easy_dict, rebuild=rebuild, network=network, inner=inner):
        contents: dict[str, Any] = {"training_set_kwargs": easy_dict(class_name="training.dataset.ImageFolderDataset")}
        for role, (state, options) in networks.items():
            contents[role] = module_of(state, network, inner)
            contents[role]._init_args, contents[role]._init_kwargs = (), easy_dict(options)
        path.write_bytes(pickle.dumps(contents | {"augment_pipe": None}))


class Call:
    """An object that pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __call__(self) -> None:
        raise AssertionError("was called")

    def __reduce__(self) -> Any:
        return self.reduced


def write_by_reference(path: Path, networks: Mapping[str, Mapping[str, Tensor]]) -> None:
    """StyleGAN-T's pickle, as dill writes it: classes by reference, hooks and bound methods as code."""
    network = foreign_class("networks.generator", "Generator")
    inner = foreign_class("networks.layers", "Layer")
    names = ("_create_function", "_create_code", "_create_cell", "_load_type")
    dill = {name: _function("dill._dill", name) for name in names}
    with foreign(network=network, inner=inner, **dill):
        code = Call(dill["_create_code"], 1, 0, b"d\x00S\x00")
        hook = Call(dill["_create_function"], code, {}, "hook", None, (Call(dill["_create_cell"], "0"),))
        contents: dict[str, Any] = {role: module_of(state, network, inner) for role, state in networks.items()}
        for module in contents.values():
            module._forward_hooks[0] = hook
            module.__dict__["forward_flex"] = Call(Call(dill["_load_type"], "MethodType"), hook, module)
        path.write_bytes(pickle.dumps(contents | {"training_set_kwargs": {"path": "x.zip"}}))


def write_stylenat(path: Path, states: Mapping[str, Mapping[str, Tensor]], args: Mapping[str, Any]) -> None:
    """StyleNAT's new layout: state dicts and the complete configuration."""
    config = {"runs": {"size": args["size"], "generator": dict(args["args"])}, "rng_state": [1, 2], "fid": 2.05}
    optimizers = {"g_optim": {"state": {}, "param_groups": [{"lr": 5e-5, "params": [0]}]}, "d_optim": {}}
    contents = {"args": config, "state_dicts": dict(states), "optim_dicts": optimizers, "lr_dicts": {"G_lr": 5e-5}}
    torch.save(contents | {"eval_info": {}}, path)


def write_old_stylenat(path: Path, states: Mapping[str, Mapping[str, Tensor]], args: Mapping[str, Any]) -> None:
    """The layout of StyleNAT's published files: everything at the top level, with an argparse Namespace."""
    options = argparse.Namespace(size=args["size"], batch=8, path=Path("data"), **args["args"])
    torch.save({**states, "g_optim": {}, "d_optim": {}, "args": options}, path, _use_new_zipfile_serialization=False)


def _function(module: str, name: str) -> Any:
    def never(*_: Any) -> Any:
        raise AssertionError(f"{name} was called")

    never.__module__, never.__qualname__, never.__name__ = module, name, name
    return never
