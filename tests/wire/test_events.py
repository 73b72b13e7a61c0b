"""The wire vocabulary: immutable events that hold only what the protocol names."""

import pytest
from pydantic import ValidationError

from pipecat_hydra.wire import events
from pipecat_hydra.wire.events import AudioDelta, SessionConfiguration


def test_events_are_immutable():
    event = AudioDelta(type="response.output_audio.delta")
    with pytest.raises(ValidationError):
        event.response_id = "other"  # pyright: ignore


def test_a_configuration_cannot_say_what_the_protocol_does_not_name():
    with pytest.raises(ValidationError):
        SessionConfiguration.model_validate({"instruction": "a typo loses the persona"})


def test_all_is_sorted_and_there():
    assert events.__all__ == sorted(events.__all__)
    assert all(hasattr(events, name) for name in events.__all__)
