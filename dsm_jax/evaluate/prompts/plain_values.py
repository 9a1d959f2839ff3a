"""The guard between a model's functions and a benchmark's tests: what they return must be plain values.

The source of `returning_plain_values` is put between the two and runs in the sandbox, so it stands alone. It refuses objects
of the program's own classes, whose `__eq__` could say yes to everything. Left out on purpose: any promise; a program that is
written against this file can undo it.
"""

from collections.abc import Callable
from typing import Any


def returning_plain_values(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function; it raises TypeError where its value is, or holds, an object of a class that no imported module has."""
    import functools
    import sys

    def check(value: Any) -> None:
        kind = type(value)
        if (
            getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is not kind
            or kind.__module__ == "__main__"
        ):
            raise TypeError(f"the function returned a {kind.__qualname__} of its own")
        if isinstance(value, dict):
            value = [*value.keys(), *value.values()]
        if isinstance(value, list | tuple | set | frozenset):
            for item in value:
                check(item)

    @functools.wraps(function)
    def guarded(*values: Any, **named: Any) -> Any:
        found = function(*values, **named)
        check(found)
        return found

    return guarded
