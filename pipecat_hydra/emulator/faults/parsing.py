"""Reads faults in the form that the command line takes."""

from collections.abc import Sequence
from dataclasses import fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from pipecat_hydra.emulator.faults.fault import Fault, FaultError
from pipecat_hydra.emulator.faults.kinds import FAULTS


def parse_fault(text: str, *, others: Sequence[str] = ()) -> Fault:
    """Parse the text of one fault.

    Args:
        text: `kind` or `kind:option=value,option=value`. The options are the parameters of
            the kind's class. The fields of `missing` are joined by `+`.
        others: Names that the caller takes besides the kinds, which the error lists too.

    Raises:
        FaultError: The kind, an option or a value is unknown or not allowed.
    """
    kind, _, rest = text.strip().partition(":")
    fault = FAULTS.get(kind)
    if fault is None:
        raise FaultError(f"there is no fault {kind!r}; there are {', '.join([*FAULTS, *others])}")
    types = {option.name: get_type_hints(fault)[option.name] for option in fields(fault)}
    given: dict[str, Any] = {}
    for option in rest.split(",") if rest else []:
        name, equals, value = (part.strip() for part in option.partition("="))
        if not equals or name not in types:
            raise FaultError(f"{kind}: no option {option!r}; there are {', '.join(types)}")
        given[name] = _value(f"{kind}: {name}", types[name], value)
    return fault(**given)


def _value(place: str, wanted: Any, text: str) -> Any:
    if get_origin(wanted) is tuple:
        return tuple(text.split("+"))
    # Each member of a union by itself: the error of a whole union is hard to read.
    kinds = [kind for kind in get_args(wanted) or (wanted,) if kind is not NoneType]
    if get_origin(wanted) is Literal:
        kinds = [wanted]
    problems: list[str] = []
    for kind in kinds:
        try:
            return TypeAdapter[Any](kind).validate_python(text)
        except ValidationError as exception:
            problems.append(exception.errors(include_url=False, include_input=False)[0]["msg"])
    raise FaultError(f"{place}={text}: {'; or: '.join(problems)}")
