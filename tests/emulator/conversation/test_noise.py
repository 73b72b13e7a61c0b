"""Protocol §5: turns that a script has discarded, whatever was said."""

import pytest
from emulator.client import SILENCE, Client, burst, emulated, recording

from pipecat_hydra.emulator import Noise, Pause, Say


async def replying(client: Client) -> str:
    """Have a first turn, whose reply is in flight then."""
    await client.configure()
    await client.say(recording("question"), SILENCE)
    created = await client.got("response.created")
    reply: str = created["response"]["id"]
    await client.until(lambda: client.audio(reply))
    return reply


async def interrupted(client: Client) -> None:
    """Say a whole sentence, and see that it was taken for noise."""
    await client.say(recording("interrupt"), SILENCE)
    await client.until(
        lambda: any(
            event["item"]["status"] == "incomplete" for event in client.of("conversation.item.done")
        )
    )
    await client.sync()


async def test_noise_leaves_the_reply_running() -> None:
    turns = [Say.tones(30), Noise(), Say.tones(0.1)]
    async with emulated(turns, cancel_on="turn_confirmed", delivery_speed=1) as client:
        reply = await replying(client)
        await interrupted(client)
        assert client.of("response.done") == []
        assert len(client.of("response.created")) == 1
        size = len(client.audio(reply))
        await client.until(lambda: len(client.audio(reply)) > size)

        await client.say(recording("question"), SILENCE)  # the turn after it is one
        done = (await client.got("response.done"))["response"]
        assert (done["id"], done["status"]) == (reply, "cancelled")
        done = (await client.got("response.done", 2))["response"]
        assert (done["id"] != reply, done["status"]) == (True, "completed")


async def test_a_reply_that_noise_left_running_comes_to_its_end() -> None:
    reply = Say(bytes(range(256)) * 750, 48_000)  # 2 s
    settings = {"cancel_on": "turn_confirmed", "delivery_speed": 2, "output_sample_rate": 48_000}
    async with emulated([reply, Noise()], **settings) as client:
        reply_id = await replying(client)
        await interrupted(client)
        done = (await client.got("response.done"))["response"]
        assert (done["id"], done["status"]) == (reply_id, "completed")
        assert client.audio() == reply.audio


@pytest.mark.parametrize("stopped", [True, False])
async def test_noise_may_cancel_the_reply_all_the_same(stopped: bool) -> None:
    settings = {"delivery_speed": 1, "stopped_on_discard": stopped}
    async with emulated([Say.tones(30), Noise()], **settings) as client:
        reply = await replying(client)
        await interrupted(client)
        (done,) = client.of("response.done")
        assert (done["response"]["id"], done["response"]["status"]) == (reply, "cancelled")
        at = client.types.index("response.done")
        assert client.types[at - 1 :] == [
            "input_audio_buffer.speech_started",
            "response.done",
            "conversation.item.added",
            *(["input_audio_buffer.speech_stopped"] if stopped else []),
            "conversation.item.done",
        ]


async def test_noise_before_the_response_does_not_drop_it() -> None:
    turns = [[Pause(0.3), Say.tones(0.1)], Noise()]
    settings = {"cancel_on": "turn_confirmed", "response_latency_secs": 1.0}
    async with emulated(turns, **settings) as client:
        await client.configure()
        await client.say(recording("question"), SILENCE, recording("interrupt"), SILENCE)
        assert (await client.got("response.done"))["response"]["status"] == "completed"
        statuses = [d["item"]["status"] for d in client.of("conversation.item.done")]
        assert statuses == ["completed", "incomplete", "completed"]


async def test_noise_that_is_short_takes_its_turn_of_the_script() -> None:
    turns = [Noise(), Say.tones(0.1)]
    async with emulated(turns, min_turn_ms=600) as client:
        await client.configure()
        await client.say(burst(), SILENCE, recording("question"), SILENCE)
        await client.got("response.done")
        statuses = [d["item"]["status"] for d in client.of("conversation.item.done")]
        assert statuses == ["incomplete", "completed", "completed"]


async def test_what_was_asked_for_during_noise_comes_after_it() -> None:
    async with emulated([Noise(), Say.tones(0.1)]) as client:
        await client.configure()
        await client.say(recording("question"))
        await client.got("input_audio_buffer.speech_started")
        await client.send("response.create")
        await client.sync()
        assert client.of("response.created") == []
        await client.say(SILENCE)
        await client.got("response.done")
        at = client.types.index("response.created")
        assert client.of("conversation.item.done")[0]["item"]["status"] == "incomplete"
        assert client.types[at - 1] == "conversation.item.done"
