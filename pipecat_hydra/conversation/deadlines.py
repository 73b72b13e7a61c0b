"""The first of several deadlines, of which some may not be set. Pure."""

__all__ = ["earliest"]


def earliest(*deadlines: float | None) -> float | None:
    """Return the earliest of the deadlines that are set, or None."""
    first = None
    for deadline in deadlines:
        if deadline is not None and (first is None or deadline < first):
            first = deadline
    return first
