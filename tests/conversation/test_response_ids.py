"""The ids of responses that are over."""

from pipecat_hydra.conversation.response_ids import ResponseIds


def test_a_retired_id_is_known_and_passes_no_more():
    ids = ResponseIds()
    assert not ids.is_retired("r")
    assert not ids.is_repeated("r")
    ids.retire("r")
    ids.retire(None)
    assert ids.is_retired("r")
    assert ids.is_repeated("r")
    assert not ids.is_retired(None)


def test_an_end_is_new_once_and_one_without_an_id_always():
    ids = ResponseIds()
    assert ids.end("r", announced=True)
    assert not ids.end("r", announced=True)
    assert ids.end(None, announced=True)
    assert ids.end(None, announced=False)


def test_only_a_response_that_was_announced_and_ended_gives_its_id_back():
    ids = ResponseIds()
    for response, announced in (("r1", True), ("r2", False)):
        ids.end(response, announced=announced)
        ids.retire(response)
    assert not ids.is_repeated("r1")
    assert ids.is_repeated("r2")
    # Until another one begins, nothing with the id passes.
    assert ids.is_retired("r1")
    for response in ("r1", "r3", None):
        ids.use_again(response)
    assert not ids.is_retired("r1")
    assert ids.end("r1", announced=True)
    ids.retire("r1")
    ids.clear()
    assert not ids.is_retired("r1")
    assert ids.end("r1", announced=True)
