"""A model is written down and built again, and a specification cannot run anything else."""

from __future__ import annotations

import copy
import json
import sys
import types
from abc import ABC, abstractmethod

import pytest
import torch
from torch import nn

from vidssl.spec import Part, build, spec_of
from vidssl.types import UserError


class Wheel(Part):
    """A leaf with a default."""

    def __init__(self, width: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=bias)


class Vehicle(Part, ABC):
    """An abstract part whose constructor is not the outermost."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    @abstractmethod
    def forward(self) -> None:
        """Nothing."""


class Car(Vehicle):
    """A part made of parts, in lists of lists."""

    def __init__(self, wheels: list[Wheel], spare: Wheel | None = None, sizes=((1, 2), (3,)), name: str = "car") -> None:
        super().__init__("a " + name)
        self.wheels, self.spare = nn.ModuleList(w for row in wheels for w in row), spare
        self.total = sum(map(sum, sizes))

    def forward(self) -> None:
        """Nothing."""


class Van(Car):
    """A part that inherits its constructor."""


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    """The classes above as a module of this package, which is where parts have to live."""
    module = types.ModuleType("vidssl.nets.toys")
    for kind in (Wheel, Vehicle, Car, Van):
        monkeypatch.setattr(kind, "__module__", module.__name__)
        setattr(module, kind.__name__, kind)
    module.nn, module.Linear, module.loads = nn, nn.Linear, json.loads
    module.Alias = Wheel
    monkeypatch.setitem(sys.modules, module.__name__, module)


def spec(name, /, **arguments):
    return {"class_path": f"vidssl.nets.toys.{name}", "init_args": arguments}


@pytest.mark.parametrize("kind", [Car, Van])
def test_round_trip(kind):
    car = kind([[Wheel(2), Wheel(3, bias=False)], [Wheel(1)]], spare=Wheel(4), sizes=((5,), (6, 7)))
    written = json.loads(json.dumps(spec_of(car)))
    again = build(written)
    assert type(again) is kind and again.total == 18 and again.name == "a car"
    assert spec_of(again) == written
    shapes = {k: v.shape for k, v in car.state_dict().items()}
    assert {k: v.shape for k, v in again.state_dict().items()} == shapes and len(shapes) == 7


def test_defaults_are_written_down():
    assert spec_of(Wheel(2)) == spec("Wheel", width=2, bias=True)


def test_a_copy_remembers():
    car = copy.deepcopy(Car([[Wheel(2)]]))
    assert spec_of(car) == spec_of(Car([[Wheel(2)]]))


def test_building_draws_as_constructing_does():
    torch.manual_seed(0)
    first = Wheel(3)
    torch.manual_seed(0)
    assert torch.equal(build(spec_of(first)).linear.weight, first.linear.weight)


@pytest.mark.parametrize("argument", [{"a": 1}, nn.Identity(), torch.float32, {1}])
def test_arguments_that_are_not_plain_are_our_mistake(argument):
    with pytest.raises(TypeError, match="a part's arguments"):
        spec_of(Wheel(1, bias=argument))


def test_a_constructor_with_nameless_arguments_is_refused():
    with pytest.raises(AssertionError, match="name every argument"):
        type("Odd", (Part,), {"__init__": lambda self, *sizes: None})


@pytest.mark.parametrize(
    "name",
    ["os.system", "builtins.eval", "subprocess.Popen", "vidssl.cli.main", "vidssl.netsx.A", "vidssl.training.task.X",
     "torch.nn.modules.linear.Linear", "torch.hub.load", "vidssl.nets", "", "vidssl"],
)  # fmt: skip
def test_foreign_names_are_not_even_imported(name, monkeypatch):
    monkeypatch.setattr("importlib.import_module", lambda name: pytest.fail(f"imported {name}"))
    with pytest.raises(UserError, match="which is not loaded"):
        build({"class_path": name, "init_args": {}})


@pytest.mark.parametrize("name", ["Linear", "loads", "nn", "Alias", "__class__", "__builtins__", "Wheel.__init__"])
def test_what_a_module_imported_is_no_part(name):
    with pytest.raises(UserError, match=r"is none|there is no"):
        build(spec(name, in_features=1, out_features=1))


@pytest.mark.parametrize("name", ["nowhere.X", "toys.X", "toys.", ".", "..", "toys.\0", "é.X", "../toys.Wheel"])
def test_unknown_names(name):
    with pytest.raises(UserError, match="there is no"):
        build({"class_path": f"vidssl.nets.{name}", "init_args": {}})


@pytest.mark.parametrize(
    "bad",
    [
        spec("Wheel"),
        spec("Wheel", width=2, colour="red"),
        spec("Wheel", width="two"),
        spec("Wheel", width=[2]),
        spec("Wheel", width=-2),
        spec("Wheel", width=10**9),  # would take four exabytes
        spec("Car", wheels=3),
        spec("Car", wheels=[[7]]),
        spec("Vehicle", name="abstract"),
    ],
)
def test_wrong_arguments_are_one_clear_error(bad):
    with pytest.raises(UserError, match="cannot be built from the arguments") as caught:
        build(bad)
    assert bad["class_path"] in str(caught.value)


@pytest.mark.parametrize(
    "bad",
    [{}, {"class_path": 1, "init_args": {}}, {"class_path": "vidssl.nets.toys.Wheel"}, {"a": 1},
     {"class_path": "vidssl.nets.toys.Wheel", "init_args": [2]},
     {"class_path": "vidssl.nets.toys.Wheel", "init_args": {"width": 2}, "call": "f"}],
)  # fmt: skip
def test_what_is_no_specification(bad):
    with pytest.raises(UserError, match="a specification has"):
        build(bad)


def test_only_plain_values():
    with pytest.raises(UserError, match="plain JSON"):
        build(spec("Wheel", width=torch.tensor(2)))


def test_the_innermost_error_is_the_one_told():
    with pytest.raises(UserError, match=r"'os\.system', which is not loaded"):
        build(spec("Car", wheels=[[{"class_path": "os.system", "init_args": {}}]]))
