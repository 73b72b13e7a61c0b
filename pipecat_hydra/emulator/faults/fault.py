"""The base of all faults: for which connections a fault holds, and its form as text."""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, cast

from pipecat_hydra.emulator.settings import EmulatorSettings


class FaultError(ValueError):
    """The kind of a fault, an option or a value is unknown or not allowed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The base of all faults.

    Parameters:
        first: The first connection that has the fault, counted from 1.
        times: How many connections have it, from the first one on; `None` for all.
    """

    kind: ClassVar[str] = ""
    """The fault's name on a command line and in records."""

    first: int = field(default=1, kw_only=True)
    times: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self._require("first", self.first >= 1)
        self._require("times", self.times is None or self.times >= 1)

    def __str__(self) -> str:
        """Write the fault in the form that `parse_fault` reads."""
        common = len(fields(Fault))
        options = (*fields(self)[common:], *fields(self)[:common])  # those of its kind first
        values = [(option, getattr(self, option.name)) for option in options]
        given = [f"{o.name}={_text(value)}" for o, value in values if value != o.default]
        return f"{self.kind}:{','.join(given)}" if given else self.kind

    def holds(self, connection: int) -> bool:
        """Whether the connection with this number has the fault."""
        return self.first <= connection < self.first + (self.times or connection)

    def adjust(self, settings: EmulatorSettings) -> EmulatorSettings:
        """Return the settings for a session that has the fault."""
        return settings

    def _require(self, name: str, right: bool) -> None:
        if not right:
            raise FaultError(f"{self.kind}: {name} cannot be {_text(getattr(self, name))}")


def _text(value: Any) -> str:
    return "+".join(cast(tuple[str, ...], value)) if isinstance(value, tuple) else str(value)
