"""What client and server events have in common."""

import re

import pytest

from pipecat_hydra.emulator.wire.events import ProtocolError, new_id


@pytest.mark.parametrize("prefix", ["item", "resp", "call", "sv"])
def test_ids_have_the_form_of_hydras(prefix: str) -> None:
    ids = [new_id(prefix) for _ in range(100)]
    assert all(re.fullmatch(rf"{prefix}_[0-9a-f]{{24}}", made) for made in ids)
    assert len(set(ids)) == 100


def test_a_protocol_error_says_what_is_wrong_and_where() -> None:
    problem = ProtocolError("invalid_frame", "no JSON", param="a.b", event_id="ev_1")
    assert str(problem) == "invalid_frame: no JSON"
    assert (problem.code, problem.message) == ("invalid_frame", "no JSON")
    assert (problem.param, problem.event_id) == ("a.b", "ev_1")
    bare = ProtocolError("internal_error", "it failed")
    assert (bare.param, bare.event_id) == (None, None)
