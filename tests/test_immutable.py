"""`immutable` makes the classes that `dataclass(frozen=True)` makes."""

import dataclasses
import weakref
from dataclasses import dataclass, field

import pytest

import tui_gru
from tui_gru.immutable import immutable

MAKERS = pytest.mark.parametrize("make", [dataclass(frozen=True), immutable], ids=["dataclass", "immutable"])


def example(make):
    @make
    class Example:
        name: str
        size: int = 3
        rows: list[int] = field(default_factory=list, compare=False)
        secret: int = field(default=0, repr=False, compare=False)

        @property
        def area(self):
            return self.size**2

    return Example


@MAKERS
def test_the_fields_are_set_by_position_by_name_and_by_default(make):
    kind = example(make)
    one, other = kind("a"), kind("b", 4, rows=[1], secret=5)
    assert (one.name, one.size, one.rows, one.secret, one.area) == ("a", 3, [], 0, 9)
    assert (other.name, other.size, other.rows, other.secret) == ("b", 4, [1], 5)
    assert kind("a").rows is not one.rows
    for arguments in ((), ("a", 3, [], 0, 1)):
        with pytest.raises(TypeError, match=r"__init__\(\)"):
            kind(*arguments)
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        kind("a", colour=1)


@MAKERS
def test_no_field_can_be_set_or_deleted(make):
    one = example(make)("a")
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'name'"):
        one.name = "b"
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'name'"):
        del one.name
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.colour = 1


@MAKERS
def test_equality_hash_and_text_are_those_of_the_fields(make):
    kind = example(make)
    one, same, other = kind("a"), kind("a", rows=[1], secret=2), kind("b")
    assert one == same and hash(one) == hash(same) == hash(("a", 3)) and one != other  # noqa: PT018
    assert one != example(make)("a")  # of another class
    assert repr(same).endswith("Example(name='a', size=3, rows=[1])")


@MAKERS
def test_one_field_and_none_are_compared_as_several_are(make):
    @make
    class One:
        value: float

    @make
    class Nothing:
        pass

    nan = float("nan")
    assert One(nan) == One(nan)
    assert hash(One(2)) == hash((2,))
    assert Nothing() == Nothing()
    assert repr(Nothing()).endswith("Nothing()")


@MAKERS
def test_functions_of_the_standard_library_work(make):
    kind = example(make)
    one = kind("a", rows=[1])
    assert dataclasses.replace(one, size=5) == kind("a", 5)
    assert dataclasses.asdict(one) == {"name": "a", "size": 3, "rows": [1], "secret": 0}
    match one:
        case kind(name, size):
            assert (name, size) == ("a", 3)


@MAKERS
def test_a_subclass_has_the_fields_of_both_and_methods_of_its_own_stay(make):
    @make
    class Base:
        name: str
        size: int = 1

        def __post_init__(self):
            object.__setattr__(self, "size", self.size + 1)

    @make
    class Derived(Base):
        colour: str = "red"

        def __repr__(self):
            return "derived"

        def __eq__(self, other):
            return isinstance(other, Base)

    assert (Derived("a").name, Derived("a").size, Derived("a").colour) == ("a", 2, "red")
    assert repr(Derived("a")) == "derived"
    assert Derived("a") == Base("b")
    assert hash(Derived("a")) == hash(("a", 2, "red"))


@MAKERS
def test_fields_by_name_alone_may_come_first_in_a_base_class(make):
    @make
    class Base:
        label: str = field(default="", kw_only=True)

    @make
    class Named(Base):
        name: str

    assert Named("a", label="b") == Named(name="a", label="b") != Named("a")
    with pytest.raises(TypeError, match="positional argument"):
        Named("a", "b")


SLOTS = {"eq": False, "slots": True, "weakref_slot": True}


@pytest.mark.parametrize("make", [dataclass(frozen=True, **SLOTS), immutable(**SLOTS)])
def test_the_options_are_those_of_dataclass(make):
    @make
    class Slotted:
        value: int = 2

    one = Slotted()
    assert (one.value, hasattr(one, "__dict__"), weakref.ref(one)()) == (2, False, one)
    assert one != Slotted()
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.value = 1


def test_public_values_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        tui_gru.Config.of().seed = 3
