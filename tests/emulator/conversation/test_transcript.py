"""Protocol §3: the transcript of a response, and by which events it is told."""

from typing import Any

import pytest
from emulator.offline import outlet

from pipecat_hydra.emulator import EmulatorSettings
from pipecat_hydra.emulator.conversation.transcript import Transcript

DELTA = "response.output_audio_transcript.delta"
DONE = "response.output_audio_transcript.done"


def told(**settings: Any) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What is told of one item of two phrases until the response is done, and after that."""
    out, session = outlet()
    transcript = Transcript(out, {"response_id": "resp_1"}, EmulatorSettings(**settings))
    transcript.add("item_1", "It is")
    transcript.add("item_1", "noon.")
    assert transcript.text == "It is noon."
    transcript.end_item("item_1")
    assert transcript.text == ""
    transcript.end_item("item_2")  # nothing was said of it
    before = len(session.sent)
    transcript.response_done()
    transcript.response_done()
    for record in session.sent:
        assert (record.event["response_id"], record.event["item_id"]) == ("resp_1", "item_1")
    texts = [(r.type, r.event.get("delta") or r.event["transcript"]) for r in session.sent]
    return texts[:before], texts[before:]


PHRASES = [(DELTA, "It is"), (DELTA, "noon.")]
WHOLE = [(DONE, "It is noon.")]


@pytest.mark.parametrize(
    ("events", "wanted"), [("deltas", PHRASES), ("done", WHOLE), ("both", [*PHRASES, *WHOLE])]
)
def test_the_events_that_are_set(events: str, wanted: list[tuple[str, str]]) -> None:
    assert told(transcripts=True, transcript_events=events) == (wanted, [])
    late = {"transcript_events": events, "late_transcripts": True}
    assert told(transcripts=True, **late) == ([], wanted)
    assert told(transcripts=False, **late) == ([], [])
