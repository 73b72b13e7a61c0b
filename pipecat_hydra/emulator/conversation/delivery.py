"""Delivers one response: its speech, its tool calls, and its end (§5, §6)."""

import asyncio
import math
from collections.abc import Iterator
from typing import Literal, Protocol

from pipecat_hydra.emulator.conversation.function_call import FunctionCall
from pipecat_hydra.emulator.conversation.outlet import Outlet
from pipecat_hydra.emulator.conversation.transcript import Transcript
from pipecat_hydra.emulator.model.sound import phrases, split, to_rate
from pipecat_hydra.emulator.model.steps import Call, Pause, Reply, Say, Step
from pipecat_hydra.emulator.settings import EmulatorSettings
from pipecat_hydra.emulator.wire.events import Event, new_id
from pipecat_hydra.emulator.wire.server_events import message_item
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, ErrorCode

CancelReason = Literal["interrupted", "client_cancelled"]

_INPUT_TOKENS_PER_SEC = 10
"""Tokens in `usage`, an invented figure: one for each 100 ms of user audio …"""
_OUTPUT_TOKENS_PER_SEC = 20
"""… and one for each 50 ms of reply audio; text has none."""


class DeliveryOwner(Protocol):
    """What a `Delivery` calls as its response goes on."""

    def beginning(self) -> None:
        """`response.created` is about to be sent."""
        ...

    def began(self) -> None:
        """`response.created` was sent."""
        ...

    def audio_began(self) -> None:
        """The first delta of audio was sent."""
        ...

    def said(self, text: str) -> None:
        """An item of speech ended or was cancelled; `text` is the part of it that was sent."""
        ...

    def tool_called(self, response_id: str, call: FunctionCall) -> None:
        """A tool is about to be called."""
        ...

    def delivered(self) -> None:
        """All of the response was sent, but for `response.done` if it is not yet `done`."""
        ...


class Delivery:
    """Sends the events of one response, at the speed that the settings say.

    Args:
        reply: The steps of the response.
        outlet: Sends the events.
        owner: Called as the response goes on.
        settings: The settings of the session.
        sample_rate: The session's output rate in Hz.
        mute: Send no audio, because the configuration is too large (§2).
        heard_secs: Seconds of user audio that the response answers, for `usage`.
    """

    def __init__(
        self,
        reply: Reply,
        outlet: Outlet,
        owner: DeliveryOwner,
        settings: EmulatorSettings,
        *,
        sample_rate: int,
        mute: bool,
        heard_secs: float,
    ) -> None:
        self.response_id: str = new_id("resp")
        """The id of the response in records."""
        self.created: bool = False
        """Whether `response.created` was sent."""
        self.done: bool = False
        """Whether `response.done` was sent."""
        self._reply = reply
        self._outlet = outlet
        self._owner = owner
        self._settings = settings
        self._sample_rate = sample_rate
        self._mute = mute
        self._heard_secs = heard_secs
        self._transcript = Transcript(outlet, self._named, settings)
        self._message: Event | None = None
        self._uncalled: list[FunctionCall] = []
        self._output: list[Event] = []
        self._chunks: Iterator[bytes] = iter(())
        self._sent_bytes = 0

    @property
    def wire_id(self) -> str | None:
        """The id of the response in events; `None` if they tell none."""
        told: dict[str, str | None] = {"unique": self.response_id, "reused": "resp_1"}
        return told.get(self._settings.response_ids)

    async def run(self, latency_secs: float) -> None:
        """Send the response. To cancel it, cancel the task and call `cancel`.

        Args:
            latency_secs: Seconds until `response.created`.
        """
        loop = asyncio.get_running_loop()
        due = loop.time() + latency_secs
        audio = [await self._prepare(step) for step in self._reply]
        await asyncio.sleep(due - loop.time())
        await self._outlet.room()
        self._owner.beginning()
        self.created = True
        self._outlet.send(
            {
                "type": "response.created",
                "response": {**self._id, "status": "in_progress"},
            }
        )
        self._owner.began()
        for place, (step, pcm) in enumerate(zip(self._reply, audio, strict=True), start=1):
            match step:
                case Say():
                    await self._say(pcm, step.transcript, last=place == len(self._reply))
                case Call():
                    self._end_message()
                    await self._make_call(step)
                case Pause():
                    await asyncio.sleep(step.secs)
        self._end_message()
        self._end_generation()
        self._owner.delivered()

    def finish(self) -> None:
        """Send `response.done` of a complete response."""
        self._done("completed")

    def cancel(self, reason: CancelReason) -> None:
        """Send `response.done` of a cancelled response, after the task of `run` was cancelled.

        `response.output_audio.done` and the `done` of the item are not sent any more (§3).
        """
        if not self.created:
            return
        self._tell_said()
        if self.done:
            return
        self._done("cancelled", {"type": "cancelled", "reason": reason})
        late = self._settings.late_audio_after_cancel_ms * self._sample_rate // 1000
        end = self._sent_bytes + late * BYTES_PER_SAMPLE
        while self._sent_bytes < end and (chunk := next(self._chunks, None)) is not None:
            self._send_audio(chunk)

    def abandon(self) -> None:
        """Send nothing any more, not even `response.done`, after the task was cancelled."""
        self.done = True
        self._tell_said()

    def fail(self, code: str = ErrorCode.INTERNAL) -> None:
        """Send `response.done` of a failed response."""
        if not self.created:
            return
        self._tell_said()
        if not self.done:
            fault = {"code": code, "type": "server_error"}
            self._done("failed", {"type": "failed", "error": fault})

    @property
    def _id(self) -> Event:
        return {} if self.wire_id is None else {"id": self.wire_id}

    @property
    def _named(self) -> Event:
        return {} if self.wire_id is None else {"response_id": self.wire_id}

    async def _prepare(self, step: Step) -> bytes:
        if not isinstance(step, Say) or self._mute:
            return b""
        if step.sample_rate == self._sample_rate:
            return step.audio
        return await asyncio.to_thread(to_rate, step.audio, step.sample_rate, self._sample_rate)

    async def _say(self, pcm: bytes, transcript: str, *, last: bool) -> None:
        self._begin_message()
        texts = phrases(transcript)
        settings = self._settings
        self._chunks = split(pcm, self._sample_rate, settings.delta_ms, odd=settings.odd_splits)
        loop = asyncio.get_running_loop()
        start, sent = loop.time(), 0
        bytes_per_sec = BYTES_PER_SAMPLE * self._sample_rate * settings.delivery_speed
        total = len(texts)
        while True:
            # A chunk is taken only when it is due: `cancel` sends some of those that are left.
            await asyncio.sleep(start + sent / bytes_per_sec - loop.time())
            await self._outlet.room()
            if (chunk := next(self._chunks, None)) is None:
                break
            # The phrases are spread over the audio, each a little ahead of its sound.
            while texts and sent * total >= (total - len(texts)) * len(pcm):
                self._send_text(texts.pop(0))
            if last and not self.done and len(pcm) - sent <= self._late_bytes:
                self.finish()
            self._send_audio(chunk)
            sent += len(chunk)
        while texts:
            self._send_text(texts.pop(0))

    @property
    def _late_bytes(self) -> int:
        """How much audio follows `response.done` of a completed response."""
        samples = self._settings.late_audio_after_done_ms * self._sample_rate // 1000
        return samples * BYTES_PER_SAMPLE

    def _begin_message(self) -> None:
        if self._message is None:
            self._message = message_item(new_id("item"), "assistant", "in_progress")
            self._outlet.item_added(self._message)

    def _end_message(self) -> None:
        if self._message is None:
            return
        item = self._message_item("completed")
        self._tell_said()
        self._transcript.end_item(item["id"])
        self._outlet.send({"type": "response.output_audio.done", **self._ids(item["id"])})
        self._outlet.item_done(item)
        self._output.append(item)
        self._message = None
        if self.done:
            self._transcript.response_done()

    def _send_audio(self, chunk: bytes) -> None:
        if self._message is None:
            return
        first, self._sent_bytes = self._sent_bytes == 0, self._sent_bytes + len(chunk)
        self._outlet.send(
            {"type": "response.output_audio.delta", **self._ids(self._message["id"])}, audio=chunk
        )
        if first:
            self._owner.audio_began()

    def _send_text(self, text: str) -> None:
        if self._message is not None:
            self._transcript.add(self._message["id"], text)

    def _message_item(self, status: str) -> Event:
        """Return the item of what is being said; its text is null unless the settings say so."""
        assert self._message is not None
        text = self._transcript.text if self._settings.item_texts else None
        return message_item(self._message["id"], "assistant", status, text or None)

    def _tell_said(self) -> None:
        if self._message is not None:
            self._owner.said(self._transcript.text)

    async def _make_call(self, step: Call) -> None:
        call = FunctionCall(step, self._named, self._outlet, self._settings)
        self._uncalled.append(call)
        await call.stream()
        self._output.append(call.item)
        if self._settings.calls_done != "before_arguments_done":
            self._complete_calls()

    def _complete_calls(self) -> None:
        for call in self._uncalled:
            self._owner.tool_called(self.response_id, call)
            call.complete()
        self._uncalled.clear()

    def _end_generation(self) -> None:
        calls = any(isinstance(step, Call) for step in self._reply)
        early = self._settings.calls_done in ("before_arguments_done", "before_outputs")
        if not self.done and (early or not calls):
            self.finish()
        self._complete_calls()

    def _done(self, status: str, details: Event | None = None) -> None:
        self.done = True
        heard = math.ceil(self._heard_secs * _INPUT_TOKENS_PER_SEC)
        said_secs = self._sent_bytes / (BYTES_PER_SAMPLE * self._sample_rate)
        said = math.ceil(said_secs * _OUTPUT_TOKENS_PER_SEC)
        response: Event = {
            **self._id,
            "status": status,
            "output": [*self._output, *self._unended(status)],
            "usage": {"input_tokens": heard, "output_tokens": said, "total_tokens": heard + said},
        }
        if details is not None:
            response["status_details"] = details
        self._outlet.send({"type": "response.done", "response": response})
        self._transcript.response_done()

    def _unended(self, status: str) -> list[Event]:
        """Return the item that is being sent, if any; it stays incomplete if the response is."""
        if self._message is not None:
            return [self._message_item("completed" if status == "completed" else "incomplete")]
        return [call.item for call in self._uncalled if not call.streamed]

    def _ids(self, item_id: str) -> Event:
        return {
            **self._named,
            "item_id": item_id,
            "output_index": len(self._output),
            "content_index": 0,
        }
