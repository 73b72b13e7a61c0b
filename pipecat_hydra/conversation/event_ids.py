"""Ids for the events that the client sends."""

__all__ = ["EventIds"]


class EventIds:
    """Numbers the events that the client sends, so that an `error` event can name one."""

    def __init__(self) -> None:
        """Start with the first id."""
        self._given = 0

    def next(self) -> str:
        """Return an id that no event has had in this conversation."""
        self._given += 1
        return f"evt_{self._given}"
