"""Scenes in which the user or the model speaks."""

from typing import Any, Final

from pipecat_hydra.cli.check import sounds
from pipecat_hydra.cli.check.log import Entry, SessionLog
from pipecat_hydra.cli.check.scenes.scene import FUNCTION, Scene, Stage
from pipecat_hydra.cli.check.wire import Wire

__all__ = ["SPEECH_SCENES", "call_id_in"]

_TRAILING_SECS: Final = 1.2
_ANSWER_SECS: Final = 10.0
_REPLY_SECS: Final = 35.0
_SETTLE_SECS: Final = 1.0
_LONGEST_CALL_SECS: Final = 40.0
_BREATH_SECS: Final = 5.0
_DELTA: Final = "response.output_audio.delta"
_RESULT: Final = '{"forecast": "sunny", "degrees": 21}'
_REQUEST: Final = f"What will the weather be like in Paris? Call the function {FUNCTION}."


async def _let_it_speak(stage: Stage) -> None:
    async with stage.open() as wire:
        if not await _greeted(stage, wire):
            return
        await wire.got("response.done", within=_REPLY_SECS)
        await wire.got("response.output_audio.done", within=_SETTLE_SECS)
        await wire.wait(_SETTLE_SECS)
        await _send_what_is_odd(wire)
        await _ask_out_of_turn(wire)
        await _send_messages(wire)


async def _send_what_is_odd(wire: Wire) -> None:
    """Cancel when nothing is in flight, and send an event of a type that there is not."""
    wire.mark("cancelled nothing")
    await wire.send("response.cancel", event_id="check_cancel")
    await wire.wait(0.5)
    wire.mark("sent an unknown type")
    await wire.send("check.unknown", event_id="check_unknown")
    await wire.wait(0.7)


async def _ask_out_of_turn(wire: Wire) -> None:
    asked = wire.mark("asked out of turn")
    await wire.send("response.create", event_id="check_create")
    answer = await wire.got("response.created", "error", after=asked, within=4.0)
    if answer is not None and answer.type == "response.created":
        await wire.got("response.done", after=asked, within=_REPLY_SECS)
        await wire.wait(0.5)


async def _send_messages(wire: Wire) -> None:
    wire.mark("sent messages")
    texts = {"system": "Be brief.", "assistant": "I understand.", "user": _REQUEST}
    for role, text in texts.items():
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": role, "content": content}
        await wire.send("conversation.item.create", event_id=f"check_{role}", item=item)
    await wire.wait(0.7)
    asked = wire.mark("asked about messages")
    await wire.send("response.create", event_id="check_message")
    answer = await wire.got("response.created", "error", after=asked, within=5.0)
    if answer is not None and answer.type == "response.created":
        await wire.until(
            lambda: (
                bool(call_id_in(wire.log, after=asked))
                or wire.log.first("response.done", after=asked) is not None
            ),
            within=_ANSWER_SECS,
        )
        await wire.wait(0.5)


async def _greet_it(stage: Stage) -> None:
    async with stage.open() as wire:
        if await _configured(stage, wire):
            await wire.speak(sounds.hello() + sounds.silence(_TRAILING_SECS))
            await wire.got("response.done", within=_ANSWER_SECS)
            await wire.wait(_SETTLE_SECS)


async def _have_it_call(stage: Stage) -> None:
    async with stage.open() as wire:
        call_id = await _called(stage, wire)
        if not call_id:
            return
        wire.mark("called")
        await wire.wait(_SETTLE_SECS)
        wire.mark("answered")
        output = {"type": "function_call_output", "call_id": call_id, "output": _RESULT}
        await wire.send("conversation.item.create", item=output)
        await wire.wait(_SETTLE_SECS)
        asked = wire.mark("asked for narration")
        await wire.send("response.create")
        narration = await wire.got("response.created", after=asked, within=_ANSWER_SECS)
        if narration is not None:
            await wire.got(_DELTA, after=narration, within=_ANSWER_SECS)
            await wire.until(lambda: _is_narrated(wire.log, asked), within=_ANSWER_SECS)
            await wire.wait(0.5)


async def _leave_a_call_open(stage: Stage) -> None:
    async with stage.open() as wire:
        if not await _called(stage, wire):
            return
        called = wire.mark("called")
        while wire.now - called.at < _LONGEST_CALL_SECS and wire.is_open:
            if await wire.got("error", after=called, within=_BREATH_SECS):
                await wire.wait(0.5)
                return
            # So that the session is not closed as idle.
            await wire.append(sounds.silence(0.1))


async def _interrupt(stage: Stage) -> None:
    async with stage.open() as wire:
        if await _greeted(stage, wire):
            spoke = wire.mark("spoke")
            await wire.speak(sounds.hello() + sounds.silence(_TRAILING_SECS))
            answer = await wire.got("response.created", after=spoke, within=_ANSWER_SECS)
            await wire.got("response.done", after=answer or spoke, within=_ANSWER_SECS)
            await wire.wait(_SETTLE_SECS)


async def _make_a_noise(stage: Stage) -> None:
    async with stage.open() as wire:
        if await _greeted(stage, wire):
            wire.mark("made a noise")
            await wire.speak(sounds.noise() + sounds.silence(_TRAILING_SECS))
            await wire.wait(_SETTLE_SECS)


async def _cancel(stage: Stage) -> None:
    async with stage.open() as wire:
        if await _greeted(stage, wire):
            created = wire.log.first("response.created")
            response_id = created.get("response", "id") if created is not None else None
            named = {"response_id": response_id} if isinstance(response_id, str) else {}
            cancelled = wire.mark("cancelled")
            await wire.send("response.cancel", **named)
            await wire.got("response.done", after=cancelled, within=5.0)
            await wire.wait(_SETTLE_SECS)


async def _configured(stage: Stage, wire: Wire, **more: Any) -> bool:
    answer = await wire.configure(**stage.session(**more))
    return answer is not None and answer.type == "session.configured"


async def _greeted(stage: Stage, wire: Wire) -> bool:
    """Let the model speak first; return whether it does."""
    if not await _configured(stage, wire, generate_initial_response=True):
        return False
    return await wire.until(lambda: bool(wire.log.audio), within=_ANSWER_SECS)


async def _called(stage: Stage, wire: Wire) -> str:
    """Ask about the weather; return the id of the call that the model makes, once it is whole."""
    if not await _configured(stage, wire):
        return ""
    await wire.speak(sounds.question())
    wire.mark("asked the question")
    await wire.speak(sounds.silence(_TRAILING_SECS))
    log = wire.log
    await wire.until(
        lambda: bool(
            log.first("response.function_call_arguments.done", "response.done")
            or log.call_items("done")
        ),
        within=_ANSWER_SECS,
    )
    await wire.until(lambda: bool(call_id_in(log)), within=_SETTLE_SECS)
    return call_id_in(log)


def call_id_in(log: SessionLog, after: Entry | None = None) -> str:
    """Return the id of the first call that any event of the server tells; empty if none does."""
    for entry in log.server(after=after):
        items = entry.get("response", "output")
        candidates = [entry.get("call_id"), entry.get("item", "call_id")]
        if isinstance(items, list):
            candidates += [item.get("call_id") for item in items if isinstance(item, dict)]
        for call_id in candidates:
            if isinstance(call_id, str):
                return call_id
    return ""


def _is_narrated(log: SessionLog, asked: Entry) -> bool:
    """Whether a response is done that had audio: that of the calls may be done late."""
    first = next((e for e in log.audio if e.place > asked.place), None)
    return first is not None and log.first("response.done", after=first) is not None


SPEECH_SCENES: Final = (
    Scene(
        "reply",
        "Lets the model speak first, to the end. Then cancels nothing, sends an unknown type, asks "
        "for a response out of turn, sends messages of three roles, and asks about them.",
        20,
        90,
        _let_it_speak,
    ),
    Scene(
        "turn",
        f'Says "{sounds.HELLO_WORDS}", and hears the answer.',
        6,
        40,
        _greet_it,
    ),
    Scene(
        "calls",
        f'Asks "{sounds.QUESTION_WORDS}", answers the call a second later, and asks for the '
        "narration after another second.",
        12,
        70,
        _have_it_call,
    ),
    Scene(
        "interruption",
        "Lets the model speak first, and speaks into it.",
        7,
        60,
        _interrupt,
    ),
    Scene(
        "noise",
        "Lets the model speak first, and makes a noise of a quarter of a second into it.",
        5,
        40,
        _make_a_noise,
    ),
    Scene("cancel", "Lets the model speak first, and cancels that.", 3, 40, _cancel),
    Scene(
        "open call",
        "Asks about the weather, and does not answer the call.",
        30,
        _LONGEST_CALL_SECS + 40,
        _leave_a_call_open,
        is_patient=True,
    ),
)
"""These scenes, in the order in which they are held."""
