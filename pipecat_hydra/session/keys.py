"""Keeps the key to Hydra, or mints one each time it is needed."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from pydantic import SecretStr

from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.session.failures import HydraConnectionError
from pipecat_hydra.session.time_limits import time_limit

__all__ = ["KeySource", "Keyring"]

KeySource: TypeAlias = Callable[[], Awaitable[str]]
"""Returns a key, for instance a short-lived `wat_…` token (protocol §1)."""


class Keyring:
    """Returns a key whenever one is needed, and shows it to nobody else."""

    def __init__(self, api_key: str | KeySource):
        """Keep a key, or the function that returns one.

        Args:
            api_key: The key, or a coroutine function that gives one.

        Raises:
            TypeError: If it is neither.
            ValueError: If the key is empty.
        """
        if not isinstance(api_key, str) and not callable(api_key):
            kind = type(api_key).__name__
            raise TypeError(f"api_key must be a string or a coroutine function, not {kind}")
        if not api_key:
            raise ValueError("api_key is empty: set SMALLEST_API_KEY, or use HydraEmulator")
        self._source = SecretStr(api_key) if isinstance(api_key, str) else api_key

    async def key(self, *, timeout_secs: float) -> SecretStr:
        """Return the key, or a new one.

        Args:
            timeout_secs: How long minting one may take, in seconds.

        Raises:
            HydraConnectionError: If no key could be minted. It names only the type of the
                error, because the message might hold a secret.
        """
        if isinstance(self._source, SecretStr):
            return self._source
        key, failure = None, ""
        try:
            key = await _within(self._source, timeout_secs)
        except TimeoutError:
            failure = f"gave no key within {timeout_secs:g} s"
        except Exception as error:
            failure = f"failed with {type(error).__name__}"
        # Raised out here, so that the error is not even its context.
        if failure:
            raise HydraConnectionError(FailureKind.CONNECTIVITY, f"the api_key function {failure}")
        if not key:
            message = "the api_key function gave no key: it must return a string"
            raise HydraConnectionError(FailureKind.AUTHENTICATION, message)
        return key


async def _mint(source: KeySource) -> SecretStr | None:
    given = source()
    key = await given if inspect.isawaitable(given) else given
    return SecretStr(key) if isinstance(key, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]


async def _within(source: KeySource, timeout_secs: float) -> SecretStr | None:
    """Await the key of a source; a source that ignores its cancellation is not waited for."""
    # Not the source's own awaitable: asyncio's debug mode logs what a task has returned.
    task = asyncio.create_task(_mint(source))
    # When nobody waits for it any more, asyncio would log how it failed.
    task.add_done_callback(lambda task: task.cancelled() or task.exception())
    try:
        async with time_limit(timeout_secs):
            await asyncio.wait({task})
        if task.cancelled():
            raise RuntimeError("cancelled by itself")
        return task.result()
    finally:
        task.cancel()
