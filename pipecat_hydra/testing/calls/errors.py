"""Why a call could not be held."""

__all__ = ["CallError"]


class CallError(AssertionError):
    """A call did not come to its end; the message says why, and shows what had happened.

    It is an `AssertionError`, so that pytest reports it as a failed test.
    """
