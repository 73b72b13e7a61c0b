"""Writes the results of functions as JSON, whatever they are.

A function may return anything, and what cannot be written must not leave its call without an
answer (F1). Most results are JSON already and pass as they are. In all others each part is
written by itself, so that one odd value does not spoil the rest: sets and tuples as lists, what
else Pydantic knows (models, dataclasses, dates, Decimals) as Pydantic writes it, numbers that JSON
lacks by their names, and anything else as its text.
"""

import json
import math
from collections.abc import Iterable, Mapping, Set
from typing import Any, Final, cast

from pydantic import TypeAdapter

__all__ = ["as_json", "result_text"]

# Beyond this Python refuses to write a number; the limit is some 4300 digits.
_LONGEST_INTEGER_BITS: Final = 8_192
_BITS_PER_DIGIT: Final = math.log2(10)
_ANY: Final[TypeAdapter[Any]] = TypeAdapter(Any)
_DEEPEST: Final = 64


def result_text(result: Any) -> str:
    """Write the result of a function as text. Never raises.

    Args:
        result: Any value, falsy ones included; None says only that the function is done.

    Returns:
        JSON for the model.
    """
    return "COMPLETED" if result is None else _dump(as_json(result))


def as_json(value: Any) -> Any:
    """Turn any value into one that JSON knows; one that is JSON already is returned itself.

    Never raises.
    """
    try:
        _dump(value)
    except Exception:
        # Its own methods may have raised anything.
        return _converted(value, ())
    return value


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _converted(value: Any, within: tuple[int, ...]) -> Any:
    """Convert a value part by part.

    Args:
        value: The value.
        within: What it is a part of, by identity: a value may contain itself.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return _converted_integer(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else _NAMES.get(value, "NaN")
    if id(value) in within or len(within) > _DEEPEST:
        return "..."
    inside = (*within, id(value))
    try:
        if isinstance(value, Mapping):
            items = cast("Mapping[Any, Any]", value).items()
            return {_key(key): _converted(each, inside) for key, each in items}
        if isinstance(value, list | tuple | Set):
            return [_converted(each, inside) for each in cast("Iterable[Any]", value)]
        return _converted(_ANY.serializer.to_python(value, mode="json", fallback=_text), inside)
    except Exception:
        return _text(value)


_NAMES: Final = {math.inf: "Infinity", -math.inf: "-Infinity"}


def _converted_integer(value: int) -> int | str:
    bits = value.bit_length()
    if bits <= _LONGEST_INTEGER_BITS:
        return value
    return f"an integer of about {round(bits / _BITS_PER_DIGIT)} digits"


def _key(key: Any) -> str:
    return key if isinstance(key, str) else _text(key)


def _text(value: Any) -> str:
    """Write a value as its text, or say what it is if it has none."""
    try:
        return str(value)
    except Exception:
        return f"a value of type {type(value).__name__} that cannot be written"
