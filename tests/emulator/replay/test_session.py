"""What a replay sends, and when: each event as long after its cause as in the recording."""

import asyncio
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.datastructures import Headers
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.http11 import Response

from emulator.client import connected
from emulator.replay.played import DELTA, Play, quiet, replayed, tone, voice
from pipecat_hydra.emulator import HydraEmulator, ReplayDifferenceError
from pipecat_hydra.session.failures import describe_close, describe_failure

STARTED = "input_audio_buffer.speech_started"
STOPPED = "input_audio_buffer.speech_stopped"
NEAR = pytest.approx


async def test_the_handshake_waits_for_the_client(tmp_path: Path):
    play = Play()
    play.opens(1.0)
    play.server(1.2, "session.created", session_id="session_1")
    play.client(1.3, "session.configure", session={"voice": "aria"})
    play.server(1.4, "session.configured", session={})
    async with replayed(play.write(tmp_path)) as call:
        await call.client.got("session.created")
        await asyncio.sleep(3)
        await call.client.configure()
        assert call.sent_at("session.created") == [NEAR(0.2, abs=0.01)]
        assert call.sent_at("session.configured") == [NEAR(3.3, abs=0.01)]
        assert call.hydra.sessions[0].id == "session_1"
        assert call.differences == []


async def test_opening_takes_as_long_as_recorded(tmp_path: Path):
    play = Play()
    play.opens(2.0, after=1.5)
    play.server(2.0, "session.created", session_id="session_1")
    loop = asyncio.get_running_loop()
    before = loop.time()
    async with replayed(play.write(tmp_path)):
        assert loop.time() - before == NEAR(1.5, abs=0.05)


@pytest.mark.parametrize("frame", [320, 640, 250])
@pytest.mark.parametrize("silence", [0.4, 1.0, 4.0])
async def test_speech_is_found_wherever_it_comes(tmp_path: Path, silence: float, frame: int):
    play = Play()
    play.begins()
    play.says(0.0, quiet(1.0), voice(1.0), quiet(1.0))
    play.server(1.25, STARTED, item_id="item_1")
    play.server(2.5, STOPPED, item_id="item_1")
    play.replies(2.6, "resp_1", until=2.7)
    async with replayed(play.write(tmp_path)) as call:
        await call.client.configure()
        await call.says(quiet(silence), voice(1.0), quiet(1.0), frame=frame)
        # At most a frame later, because a frame has come when its last sample has.
        late = frame / 16_000 + 0.002
        assert call.sent_at(STARTED) == [NEAR(silence + 0.25, abs=late)]
        assert call.sent_at(STOPPED) == [NEAR(silence + 1.5, abs=late)]
        assert call.sent_at("response.done") == [NEAR(silence + 1.7, abs=late)]
        assert call.differences == []


async def test_without_the_audio_of_the_user_samples_are_counted(tmp_path: Path):
    play = Play()
    play.begins()
    play.says(0.0, quiet(1.0), voice(1.0))
    play.server(1.25, STARTED, item_id="item_1")
    async with replayed(play.write(tmp_path, audio=False)) as call:
        await call.client.configure()
        await call.says(quiet(2.0))
        assert call.sent_at(STARTED) == [NEAR(1.25, abs=0.021)]


async def test_audio_is_sent_as_recorded(tmp_path: Path):
    play = Play()
    play.begins()
    play.server(0.5, "response.created", response={"id": "resp_1"})
    play.speaks(0.6, tone(0.1), "resp_1")
    play.speaks(0.7, tone(0.2, hz=300), "resp_1")
    async with replayed(play.write(tmp_path)) as call:
        await call.client.configure()
        await call.client.got(DELTA, 2)
        assert call.client.audio("resp_1") == play.bot.tobytes()
        assert call.sent_at(DELTA) == [NEAR(0.6, abs=0.01), NEAR(0.7, abs=0.01)]


async def test_audio_that_was_not_kept_is_silence(tmp_path: Path):
    play = Play()
    play.begins()
    play.speaks(0.6, tone(0.1), "resp_1")
    async with replayed(play.write(tmp_path, audio=False)) as call:
        await call.client.configure()
        await call.client.got(DELTA)
        assert call.client.audio() == bytes(len(play.bot) * 2)


async def test_a_narration_waits_for_the_output_and_for_being_asked(tmp_path: Path):
    play = Play()
    play.begins()
    play.calls(1.0, "call_1")
    play.answers(1.5, "call_1", "42")
    play.client(1.7, "response.create")
    play.replies(2.0, "resp_2", until=2.2)
    async with replayed(play.write(tmp_path)) as call:
        await call.client.configure()
        await call.client.got("response.function_call_arguments.done")
        await asyncio.sleep(3)
        await call.client.send("response.create", event_id="another")
        await asyncio.sleep(1)
        assert len(call.client.of("response.created")) == 1
        await call.answers("call_1", "42")
        await call.client.got("response.done", 2)
        assert call.sent_at("response.created")[1] == NEAR(5.0, abs=0.05)
        assert call.sent_at("response.done")[1] == NEAR(5.2, abs=0.05)


async def test_a_response_that_nobody_asked_for_is_left_out(tmp_path: Path):
    play = Play()
    play.begins()
    play.calls(1.0, "call_1")
    play.answers(1.5, "call_1", "42")
    play.client(1.7, "response.create")
    play.calls(2.0, "call_2")
    play.answers(2.1, "call_2", "43")
    play.client(2.2, "response.create")
    play.replies(2.3, "resp_3", until=2.4)
    play.says(0.0, quiet(3.0), voice(1.0), quiet(1.0))
    play.server(3.3, STARTED, item_id="item_1")
    play.replies(4.6, "resp_4", until=4.7)
    async with replayed(play.write(tmp_path)) as call:
        await call.client.configure()
        saying = asyncio.create_task(call.says(quiet(3.0), voice(1.0), quiet(2.0)))
        await call.client.got("response.function_call_arguments.done")
        await call.answers("call_1", "42")
        await saying
        created = [event["response"]["id"] for event in call.client.of("response.created")]
        assert created == ["resp_call_1", "resp_4"]
        # What comes next in the user's audio shows, a second later, that nobody asks any more.
        assert call.sent_at(STARTED) == [NEAR(4.3, abs=0.05)]
        assert call.differences == ["response.create did not come"] * 2


async def test_a_cancellation_is_waited_for_and_given_up(tmp_path: Path):
    cancelled = {
        "id": "resp_1",
        "status": "cancelled",
        "status_details": {"reason": "client_cancelled"},
    }
    play = Play()
    play.begins()
    play.server(1.0, "response.created", response={"id": "resp_1"})
    play.client(2.0, "response.cancel", response_id="resp_1")
    play.server(2.1, "response.done", response=cancelled)
    folder = play.write(tmp_path)
    async with replayed(folder) as call:
        await call.client.configure()
        await asyncio.sleep(3)
        await call.client.send("response.cancel", response_id="resp_1")
        await call.client.got("response.done")
        assert call.sent_at("response.done") == [NEAR(3.1, abs=0.05)]
        assert call.differences == []
    async with replayed(folder) as call:
        await call.client.configure()
        await call.client.got("response.done")
        # One second after the response began, as recorded, and five of patience.
        assert call.sent_at("response.done") == [NEAR(7.0, abs=0.05)]
        assert call.differences == ["response.cancel of resp_1 did not come"]


async def test_an_error_names_the_event_of_this_client(tmp_path: Path):
    play = Play()
    play.begins()
    play.client(1.0, "response.create", event_id="evt_7")
    play.server(1.1, "error", error={"code": "invalid_frame", "event_id": "evt_7"})
    async with replayed(play.write(tmp_path)) as call:
        await call.client.configure()
        await asyncio.sleep(2)
        await call.client.send("response.create", event_id="mine")
        assert (await call.client.got("error"))["error"]["event_id"] == "mine"


@pytest.mark.parametrize(("code", "seen"), [(1013, 1013), (1000, 1000), (None, 1006)])
async def test_a_session_that_the_server_ended_ends_likewise(
    tmp_path: Path, code: int | None, seen: int
):
    play = Play()
    play.begins()
    play.call(2.0, "session_closed", reason=describe_close(code, "why", "127.0.0.1:1").message)
    play.begins(3.0)
    async with replayed(play.write(tmp_path)) as call:
        await call.client.configure()
        await call.client.websocket.wait_closed()
        assert call.hydra.sessions[0].elapsed == NEAR(2.0, abs=0.05)
        assert call.client.websocket.close_code == seen
        async with connected(call.hydra) as second:
            await second.configure()
            assert call.hydra.sessions[1].id == "session_2"
        assert call.differences == []


async def test_a_session_that_the_client_closed_is_not_ended(tmp_path: Path):
    play = Play()
    play.begins()
    play.call(2.0, "session_closed", reason="the settings have changed", secs=2.0)
    async with replayed(play.write(tmp_path)) as call:
        await call.client.configure()
        await asyncio.sleep(4)
        assert not call.hydra.sessions[0].closed
        assert call.differences == []


async def test_the_first_event_may_be_all_that_is_known_of_the_opening(tmp_path: Path):
    play = Play()
    play.session = 1
    play.call(1.0, "session_opening")
    play.server(1.5, "session.created", session_id="session_1")
    play.call(1.5, "session_open")
    async with replayed(play.write(tmp_path)) as call:
        await call.client.got("session.created")
        assert call.sent_at("session.created") == [NEAR(0.5, abs=0.01)]


async def test_a_session_that_was_refused_is_refused(tmp_path: Path):
    play = Play()
    play.call(1.0, "session_opening")
    refused = InvalidStatus(Response(429, "Too Many Requests", Headers()))
    play.call(1.5, "reconnecting", message=describe_failure(refused, "127.0.0.1:1", 5).message)
    play.begins(3.0)
    url = "?api_key=sk-emulator"
    async with HydraEmulator.from_recording(play.write(tmp_path)) as hydra:
        with pytest.raises(InvalidStatus, match="429"):
            await connect(hydra.url + url)
        async with connected(hydra) as client:
            await client.configure()
        with pytest.raises(InvalidStatus, match="503"):
            await connect(hydra.url + url)
        found = [str(difference) for difference in hydra.differences]
    assert found == [
        "session 3, 0.00 s after it opened: a session was opened, but the recording has no more "
        "sessions"
    ]


async def test_a_session_that_never_opened_does_not(tmp_path: Path):
    play = Play()
    play.call(1.0, "session_opening")
    play.call(2.5, "given_up", message=describe_failure(TimeoutError(), "127.0.0.1:1", 5).message)
    async with HydraEmulator.from_recording(play.write(tmp_path)) as hydra:
        with pytest.raises(InvalidMessage):
            await connect(hydra.url + "?api_key=sk-emulator")


async def test_a_strict_replay_raises_at_its_end(tmp_path: Path):
    play = Play()
    play.begins(instructions="Be kind.")
    folder = play.write(tmp_path)
    with pytest.raises(ReplayDifferenceError) as raised:
        async with replayed(folder, strict=True) as call:
            await call.client.configure(instructions="Be quick.")
    assert str(raised.value) == (
        "1 difference to the recording:\n"
        "  session 1, call.jsonl line 5 at 0.00 s: session.configure: session.instructions: "
        'expected "Be kind.", came "Be quick."'
    )
    async with replayed(folder) as call:  # which raises nothing
        await call.client.configure(instructions="Be quick.")


async def test_speech_that_does_not_come_is_told_and_the_call_goes_on(tmp_path: Path):
    play = Play()
    play.begins()
    play.says(0.0, quiet(1.0), voice(1.0), quiet(1.0))
    play.server(1.25, STARTED, item_id="item_1")
    async with replayed(play.write(tmp_path)) as call:
        await call.client.configure()
        await call.says(quiet(7.0))
        assert call.sent_at(STARTED) == [NEAR(6.25, abs=0.03)]
        assert call.differences == ["the user's speech that led to speech_started did not come"]


async def test_a_client_that_leaves_early_is_told(tmp_path: Path):
    play = Play()
    play.begins()
    play.replies(5.0, "resp_1", until=6.0)
    play.client(7.0, "response.create")
    async with HydraEmulator.from_recording(play.write(tmp_path)) as hydra:
        async with connected(hydra) as client:
            await client.configure()
            await asyncio.sleep(1)
        await hydra.sessions[0].wait_closed()
        (found,) = hydra.differences
    assert found.what == (
        "the client closed the session after 1.00 s, and 2 events of the server were not played, "
        "from response.created on"
    )


async def test_a_session_that_is_not_opened_is_told(tmp_path: Path):
    play = Play()
    play.begins()
    play.begins(4.0)
    async with replayed(play.write(tmp_path)) as call:
        await call.client.configure()
        assert call.differences == ["the session was not opened"]
