"""A key that is given, or minted for each connection."""

import asyncio
import gc
import time
import traceback
from typing import Any

import pytest

from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.session.failures import HydraConnectionError
from pipecat_hydra.session.keys import Keyring

SECRET = "sk-very-secret"


async def fail(source: Any, *, timeout_secs: float = 1.0) -> HydraConnectionError:
    with pytest.raises(HydraConnectionError) as raised:
        await Keyring(source).key(timeout_secs=timeout_secs)
    return raised.value


async def test_a_key_that_is_given_is_the_key():
    keyring = Keyring(SECRET)
    assert (await keyring.key(timeout_secs=1.0)).get_secret_value() == SECRET
    assert SECRET not in repr(vars(keyring))


def test_no_key_is_refused():
    with pytest.raises(ValueError, match="SMALLEST_API_KEY"):
        Keyring("")


async def test_each_connection_has_its_own():
    minted = iter(["wat_1", "wat_2"])

    async def mint() -> str:
        return next(minted)

    keyring = Keyring(mint)
    assert (await keyring.key(timeout_secs=1.0)).get_secret_value() == "wat_1"
    assert (await keyring.key(timeout_secs=1.0)).get_secret_value() == "wat_2"


async def test_a_function_that_is_no_coroutine_will_do():
    keyring = Keyring(lambda: SECRET)  # pyright: ignore[reportArgumentType]
    assert (await keyring.key(timeout_secs=1.0)).get_secret_value() == SECRET


async def test_what_goes_wrong_is_told_without_what_was_said():
    async def mint() -> str:
        raise RuntimeError(f"could not refresh {SECRET}")

    error = await fail(mint)
    assert error.kind is FailureKind.CONNECTIVITY
    assert "RuntimeError" in error.message
    told = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "could not refresh" not in told


async def test_a_function_that_cancels_itself_has_failed():
    async def mint() -> str:
        raise asyncio.CancelledError

    assert (await fail(mint)).kind is FailureKind.CONNECTIVITY


async def test_what_goes_wrong_after_nobody_waits_any_more_is_logged_nowhere(
    caplog: pytest.LogCaptureFixture,
):
    async def mint() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError(SECRET)

    await fail(mint, timeout_secs=0.01)
    await asyncio.sleep(0)
    gc.collect()
    assert not caplog.records


async def test_a_function_that_hangs_is_not_waited_for():
    ended = asyncio.Event()

    async def mint() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return SECRET

    error = await fail(mint, timeout_secs=0.05)
    assert error.kind is FailureKind.CONNECTIVITY
    assert "0.05 s" in error.message
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_function_that_blocks_the_event_loop_is_still_waited_for():
    async def mint() -> str:
        time.sleep(5.0)  # noqa: ASYNC251
        await asyncio.sleep(0.5)
        return SECRET

    assert (await Keyring(mint).key(timeout_secs=1.0)).get_secret_value() == SECRET


async def test_a_function_that_ignores_a_cancellation_holds_nobody_up():
    release = asyncio.Event()

    async def mint() -> str:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return SECRET

    waiting = asyncio.create_task(Keyring(mint).key(timeout_secs=60.0))
    await asyncio.sleep(0)
    waiting.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait({waiting})
    assert waiting.cancelled()
    release.set()
    await asyncio.sleep(0.01)


@pytest.mark.parametrize("nothing", ["", None, 42])
async def test_a_function_that_gives_no_key_is_at_fault(nothing: Any):
    async def mint() -> Any:
        return nothing

    error = await fail(mint)
    assert error.kind is FailureKind.AUTHENTICATION
