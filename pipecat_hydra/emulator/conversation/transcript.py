"""Sends the transcript of a response: phrases, the whole text, or both (§3)."""

from pipecat_hydra.emulator.conversation.outlet import Outlet
from pipecat_hydra.emulator.settings import EmulatorSettings
from pipecat_hydra.emulator.wire.events import Event


class Transcript:
    """The transcript of one response, item by item.

    Args:
        outlet: Sends the events.
        response: The fields that name the response.
        settings: Whether, when and by which events the text is told.
    """

    def __init__(self, outlet: Outlet, response: Event, settings: EmulatorSettings) -> None:
        self._outlet = outlet
        self._response = response
        self._settings = settings
        self._phrases: list[str] = []
        self._late: list[Event] = []

    @property
    def text(self) -> str:
        """What was said of the current item so far."""
        return " ".join(self._phrases)

    def add(self, item_id: str, phrase: str) -> None:
        """Add a phrase of an item."""
        self._phrases.append(phrase)
        if self._settings.transcript_events != "done":
            self._send("delta", item_id, delta=phrase)

    def end_item(self, item_id: str) -> None:
        """End an item; the next phrase belongs to another."""
        if self._phrases and self._settings.transcript_events != "deltas":
            self._send("done", item_id, transcript=self.text)
        self._phrases.clear()

    def response_done(self) -> None:
        """Send what is told only after `response.done`."""
        for event in self._late:
            self._outlet.send(event)
        self._late.clear()

    def _send(self, stage: str, item_id: str, **text: str) -> None:
        if not self._settings.transcripts:
            return
        kind = f"response.output_audio_transcript.{stage}"
        event: Event = {"type": kind, **self._response, "item_id": item_id, **text}
        if self._settings.late_transcripts:
            self._late.append(event)
        else:
            self._outlet.send(event)
