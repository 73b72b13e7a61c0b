"""Ids for the events that the client sends."""

from pipecat_hydra.conversation.event_ids import EventIds


def test_no_id_is_given_twice():
    ids = EventIds()
    assert [ids.next() for _ in range(3)] == ["evt_1", "evt_2", "evt_3"]
