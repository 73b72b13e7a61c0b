"""Checks of the service's constructor arguments."""

__all__ = ["check_positive"]


def check_positive(**secs: float | None) -> None:
    """Check time limits, each by the name of its argument; None is no limit.

    Raises:
        ValueError: If one is not greater than 0.
    """
    for name, limit in secs.items():
        if limit is not None and limit <= 0:
            raise ValueError(f"{name} must be greater than 0, not {limit}")
