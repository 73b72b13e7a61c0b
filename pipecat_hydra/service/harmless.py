"""Keeps what observes a call from harming the call: its errors are logged and not raised."""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from loguru import logger

__all__ = ["harmless"]


class _Observer(Protocol):
    """What observes a call, if it is enabled."""

    @property
    def enabled(self) -> bool: ...


_O = TypeVar("_O", bound=_Observer)
_P = ParamSpec("_P")


def harmless(method: Callable[Concatenate[_O, _P], None]) -> Callable[Concatenate[_O, _P], None]:
    """Skip a method of an observer that is not enabled, and log its exceptions."""

    @functools.wraps(method)
    def guarded(self: _O, *args: _P.args, **kwargs: _P.kwargs) -> None:
        if not self.enabled:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            failed = f"Hydra: {type(self).__name__.lower()} failed"
            logger.error(f"{failed}: {type(error).__name__}")
            logger.opt(exception=error).trace(failed)

    return guarded
