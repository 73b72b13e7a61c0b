"""The record of a session: what it keeps, what it finds, and how a test waits for it."""

import asyncio

import pytest

from pipecat_hydra.emulator import CallRecord, Drop, EmulatedSession, NarrationRecord, Record


@pytest.fixture
def session() -> EmulatedSession:
    return EmulatedSession("sess_1", "hydra-v1.1")


def test_events_are_found_by_type(session: EmulatedSession) -> None:
    session.note("received", {"type": "response.create"})
    session.note("received", {})
    session.note("received", {"type": 7})
    session.note("sent", {"type": "error", "error": {"code": "internal_error"}})
    assert [record.type for record in session.received] == ["response.create", "", ""]
    assert len(session.create_times) == len(session.received_of("response.create")) == 1
    assert session.errors == [{"code": "internal_error"}]


def test_audio_is_kept_by_response(session: EmulatedSession) -> None:
    delta = {"type": "response.output_audio.delta"}
    session.note("sent", {**delta, "response_id": "a"}, audio=b"12")
    session.note("sent", {**delta, "response_id": "b"}, audio=b"34")
    record = session.note("sent", {**delta, "response_id": "a"}, audio=b"567")
    assert record.audio_bytes == 3
    assert (session.sent_audio("a"), session.sent_audio("b")) == (b"12567", b"34")
    assert session.sent_audio() == b"1256734"
    assert session.sent_audio("none") == b""


def test_the_last_call_of_an_id_is_found(session: EmulatedSession) -> None:
    for response in ("resp_1", "resp_2"):
        session.note_call(CallRecord(0, response, "call_1", "look", "{}"))
    assert session.call("call_1").response_id == "resp_2"
    session.note_output("call_1", "seen", accepted=True)
    session.note_output("call_1", "again", accepted=False)
    session.note_output("call_2", "stray", accepted=False)
    assert session.call("call_1").output == "seen"
    assert [output.output for output in session.stray_outputs] == ["stray"]
    assert [entry.kind for entry in session.history] == ["call", "call", "output"]
    session.note_abandoned("none")
    with pytest.raises(KeyError):
        session.call("none")


def test_a_call_without_an_accepted_output(session: EmulatedSession) -> None:
    session.note_call(CallRecord(0, "resp_1", "call_1", "look", "{}"))
    session.note_output("call_1", "wrong", accepted=False)
    assert session.call("call_1").output is None


def test_a_narration_tells_how_long_the_client_took() -> None:
    assert NarrationRecord(3.5, 3.25, (), (), None).settle_secs == 0.25


def test_faults_are_found_by_kind(session: EmulatedSession) -> None:
    record = session.note_fault(1, Drop(), "session")
    assert session.injected_of("drop") == [record]
    assert session.injected_of("hang") == []


def test_nothing_is_kept_that_shall_not_be() -> None:
    session = EmulatedSession("sess_1", "hydra-v1.1", record=False)
    session.note("sent", {"type": "error"}, audio=b"12")
    session.note_audio(b"12")
    session.note_output("call_1", "x", accepted=True)
    session.note_fault(1, Drop(), "")
    assert (session.sent, session.received_audio, session.history) == ([], b"", [])
    assert (session.stray_outputs, session.injected, session.sent_audio()) == ([], [], b"")


async def test_waiting_ends_when_the_events_are_there(session: EmulatedSession) -> None:
    waiting = asyncio.create_task(session.wait_for_sent("a", count=2))
    await asyncio.sleep(1)
    session.note("sent", {"type": "a"})
    await asyncio.sleep(1)
    assert not waiting.done()
    session.note("sent", {"type": "a"})
    assert all(isinstance(record, Record) for record in await waiting)
    assert await session.wait_for_received("b", count=0) == []


async def test_waiting_in_vain_tells_what_came_instead(session: EmulatedSession) -> None:
    session.note("received", {"type": "a"})
    session.note("received", {"type": "a"})
    session.note("sent", {"type": "b"})
    with pytest.raises(TimeoutError) as caught:
        await session.wait_for_received("b", within=1)
    assert str(caught.value) == ("1 x b did not come within 1 s; received {'a': 2}, sent {'b': 1}")


async def test_the_close_is_waited_for(session: EmulatedSession) -> None:
    waiting = asyncio.create_task(session.wait_closed())
    await asyncio.sleep(0)
    assert not session.closed
    session.close_code = 1013
    session.wake()
    assert await waiting == 1013
    assert "close_code=1013" in repr(session)
