"""A name is given once, an unknown one is answered with those there are, and nothing is imported unasked."""

import sys

import pytest

from btlib.registry import Registry, imported


def whole(thing: object) -> int:
    if not isinstance(thing, int):
        raise TypeError(f"number: expected a whole one, got {thing!r}; count")
    return thing


def test_a_name_is_given_once() -> None:
    numbers = Registry({"two": 2}, whole)
    numbers.register("three-and_4", 34)
    numbers.register("three-and_4", 34)  # a cell that is run again
    assert numbers == {"two": 2, "three-and_4": 34}
    for name in ("two", "Two", "two ", "-", ""):
        with pytest.raises(ValueError, match=f"name: expected small letters.*none of two, .*got '{name}'; choose"):
            numbers.register(name, 3)
    with pytest.raises(TypeError, match="number: expected a whole one"):
        numbers.register("half", 0.5)
    assert list(numbers) == ["two", "three-and_4"]


def test_what_is_found() -> None:
    numbers = Registry({"two": 2}, whole)
    assert numbers.find("two") == 2
    assert numbers.find("sys:maxsize") == sys.maxsize
    for name, words in [
        ("tow", "--count: expected one of two or module:object, got 'tow'; check the spelling"),
        ("sys:nothing", "got 'sys:nothing', which raised AttributeError: .*'nothing'; check its folder"),
        ("nowhere:x", "raised ModuleNotFoundError"),
        ("math:pi", "raised TypeError: number: expected a whole one, got 3.14"),
    ]:
        with pytest.raises(ValueError, match=words):
            numbers.find(name, argument="--count")


def test_nothing_is_imported_where_no_module_may_be_named() -> None:
    """Names come out of strangers' files, too."""
    with pytest.raises(ValueError, match="name: expected one of two, got 'this:s'; check the spelling"):
        Registry({"two": 2}).find("this:s")
    assert "this" not in sys.modules
    assert imported("math:floor")(2.5) == 2
