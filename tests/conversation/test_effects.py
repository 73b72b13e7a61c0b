"""Effects: which failures are final, and that an effect is a value."""

import pytest

from pipecat_hydra.conversation.effects import Fail, FailureKind, TurnDiscarded, UserStopped

FINAL = {FailureKind.AUTHENTICATION, FailureKind.CONFIGURATION}


@pytest.mark.parametrize("kind", FailureKind)
def test_only_what_another_attempt_cannot_change_is_final(kind: FailureKind):
    assert kind.final is (kind in FINAL)


def test_effects_are_values():
    assert TurnDiscarded() == TurnDiscarded()
    assert UserStopped(False) != UserStopped(True)
    assert UserStopped(False, 0.2) == UserStopped(False)
    fail = Fail(FailureKind.SERVER, "it failed")
    with pytest.raises(AttributeError):
        fail.message = "another"  # pyright: ignore[reportAttributeAccessIssue]
