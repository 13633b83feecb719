"""Things by their names, and things by ``module:object`` (floor 0)."""

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

T = TypeVar("T")


def imported(place: str) -> Any:
    """What ``module:object`` is; this runs the module.

    Raises:
        ImportError, AttributeError: there is none; and whatever the module raises.

    Example:
        >>> imported("math:tau") > 6
        True
    """
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


class Registry(dict[str, T]):
    """Name → thing. A name is given once, until Python ends.

    Args:
        known: those that are there from the start.
        ready: makes a thing of what somebody registers or names as ``module:object``, and raises TypeError where that
            can't be; without it, nothing is ever imported.

    Example:
        >>> animals = Registry({"cat": "meow"})
        >>> animals.register("old-dog", "woof")
        >>> animals.find("old-dog")
        'woof'
        >>> animals.find("cow", argument="animal")
        Traceback (most recent call last):
        ...
        ValueError: animal: expected one of cat, old-dog, got 'cow'; check the spelling
    """

    def __init__(self, known: Mapping[str, T], ready: Callable[[Any], T] | None = None) -> None:
        super().__init__(known)
        self._ready = ready

    def register(self, name: str, thing: Any) -> None:
        """Make a thing known by a name.

        Args:
            name: small letters, digits, ``-`` and ``_``; free, or taken by an equal thing.
            thing: what it stands for.

        Raises:
            TypeError: a thing of another kind.
            ValueError: a name that is taken, or of other characters.
        """
        made = self._ready(thing) if self._ready else thing
        if not re.fullmatch(r"[a-z0-9]+([-_][a-z0-9]+)*", name) or self.setdefault(name, made) != made:
            raise ValueError(f"name: expected small letters, digits, - and _, none of {', '.join(self)}, got "
                             f"{name!r}; choose another")  # fmt: skip

    def find(self, name: str, *, argument: str = "name") -> T:
        """The thing of a name, or of ``module:object`` where such may be named.

        Args:
            name: which.
            argument: what the name is called where it comes from, for the message.

        Raises:
            ValueError: an unknown name, or an object that can't be imported or is of another kind.
        """
        if name in self:
            return self[name]
        if self._ready is None or ":" not in name:
            known = ", ".join(self) + (" or module:object" if self._ready else "")
            raise ValueError(f"{argument}: expected one of {known}, got {name!r}; check the spelling")
        try:
            return self._ready(imported(name))
        except Exception as error:  # whatever a stranger's module raises
            said = f"{type(error).__name__}: {error}"
            raise ValueError(f"{argument}: expected what can be imported and used, got {name!r}, which raised {said}; "
                             "check its folder and its defaults") from error  # fmt: skip
