"""Responders in a session: the echo, silent ones, and those that fail."""

from typing import Any

from emulator.client import SILENCE, emulated, recording

from pipecat_hydra.emulator import (
    Call,
    Echo,
    Heard,
    Reply,
    Say,
    Script,
)

HEARD = Heard(bytes(32_000))


def test_an_echo_is_cut_at_its_longest() -> None:
    (step,) = Echo(max_secs=0.5).answer(HEARD)
    assert isinstance(step, Say)
    assert len(step.audio) == 16_000


async def test_a_silent_model_answers_nothing() -> None:
    async with emulated(Script([Say.tones(), []], then="silence")) as client:
        await client.configure()
        for count in (1, 2, 3):
            await client.say(recording("hello"), SILENCE)
            await client.got("conversation.item.done", count + (count > 0))
            await client.sync()
        assert len(client.of("response.created")) == 1


class Mute(Echo):
    def prompted(self, messages: Any) -> Reply:
        return []


async def test_a_model_that_stays_silent_holds_up_nothing() -> None:
    async with emulated(Mute()) as client:
        await client.configure()
        for _ in range(3):
            await client.send("response.create")
        await client.sync()
        assert client.types == ["session.created", "session.configured"]


class Failing(Echo):
    def answer(self, heard: Heard) -> Reply:
        raise RuntimeError("no answer")

    def prompted(self, messages: Any) -> Reply:
        return [Say.tones(0.1), Call("look", {"set": {1, 2}})]  # sets are not JSON

    def is_noise(self) -> bool:
        raise RuntimeError("no opinion")


async def test_a_failing_responder_does_not_end_the_session() -> None:
    async with emulated(Failing()) as client:
        await client.configure()
        await client.say(recording("hello"), SILENCE)
        assert (await client.got("error", 2))["error"]["code"] == "internal_error"
        await client.send("response.create")
        assert (await client.got("error", 3))["error"]["code"] == "internal_error"
        failed = (await client.got("response.done"))["response"]
        assert failed["status"] == "failed"
        assert failed["status_details"]["error"]["code"] == "internal_error"
        await client.say(recording("hello"), SILENCE)
        await client.got("error", 5)


async def test_a_response_that_fails_before_it_began_holds_up_nothing() -> None:
    turns = [[Call("look", call_id="call_1"), Say(b"odd", 8_000)], Say(b"odd", 8_000), Say.tones()]
    async with emulated(turns, calls_done="after_narration_began") as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.function_call_arguments.done")
        item = {"type": "function_call_output", "call_id": "call_1", "output": "ok"}
        await client.send("conversation.item.create", item=item)
        await client.send("response.create")
        assert (await client.got("error"))["error"]["code"] == "internal_error"
        assert (await client.got("response.done"))["response"]["status"] == "completed"
        await client.send("response.create")
        await client.got("error", 2)
        await client.send("response.create")
        done = (await client.got("response.done", 2))["response"]
        assert done["status"] == "completed"
        assert len(client.of("response.created")) == 2
