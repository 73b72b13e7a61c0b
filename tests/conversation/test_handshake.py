"""The handshake: phases, the configuration, tools, the output rate, deadlines (A4, S1)."""

import pytest
from support import wire
from support.driver import PCM, Driver, kinds, sent

from pipecat_hydra.conversation.conversation import Conversation, Phase
from pipecat_hydra.conversation.effects import (
    Fail,
    FailureKind,
    Ready,
    Report,
    Send,
    SessionStarted,
    Severity,
)
from pipecat_hydra.wire.events import (
    FunctionTool,
    InputAudioAppend,
    SessionConfiguration,
    SessionConfigure,
    SessionUpdate,
    encode,
)

TOOL = FunctionTool(name="get_weather", parameters={"type": "object"})


def test_the_configuration_goes_out_once_the_session_is_created():
    conversation = Conversation(model="hydra-v1.1")
    configuration = SessionConfiguration(voice="aria", instructions="Be kind.")
    assert conversation.configure(configuration, 0.0) == []
    assert conversation.connected(0.0) == []
    effects = conversation.receive(wire.created(), 0.0)
    assert effects[0] == SessionStarted("sess_1")
    (event,) = sent(effects)
    assert isinstance(event, SessionConfigure)
    assert event.session == configuration
    assert conversation.phase is Phase.CONFIGURING


def test_a_created_session_waits_for_its_configuration():
    conversation = Conversation(model="hydra-v1.1")
    conversation.connected(0.0)
    assert sent(conversation.receive(wire.created(), 0.0)) == []
    assert conversation.deadline == 20.0
    assert len(sent(conversation.configure(SessionConfiguration(), 60.0))) == 1
    assert sent(conversation.configure(SessionConfiguration(), 60.0)) == []


def test_a_deprecated_model_warns_before_the_session_is_created():
    driver = Driver(Conversation(model="hydra"))
    driver.conversation.connected(0.0)
    (report,) = driver.receive(wire.event("warning", code="model_deprecated"))
    assert isinstance(report, Report)
    assert report.severity is Severity.WARNING
    assert "'hydra' is deprecated" in report.message
    assert driver.receive(wire.created()) == [SessionStarted("sess_1")]


@pytest.mark.parametrize(
    ("model", "echoed", "rate"),
    [
        ("hydra-v1.1", 48_000, 48_000),
        ("hydra-v1.1", None, 24_000),
        ("hydra-v1.0", None, 48_000),
        ("hydra", None, 48_000),
        ("hydra-v9", None, 48_000),
        ("hydra-v1.1", 0, 24_000),
        ("hydra-v1.1", -1, 24_000),
    ],
)
def test_the_rate_is_the_one_echoed_or_else_the_models(model: str, echoed: int | None, rate: int):
    driver = Driver(Conversation(model=model)).live(rate=echoed)
    assert driver.conversation.output_sample_rate == rate


def test_ready_tells_the_rate_and_opens_the_uplink():
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(), 0.0)
    driver.conversation.connected(0.0)
    driver.receive(wire.created())
    assert driver.conversation.microphone(PCM[:640], 0.0) == []
    (ready,) = [e for e in driver.receive(wire.configured(24_000)) if isinstance(e, Ready)]
    assert ready.output_sample_rate == 24_000
    (append,) = sent(driver.conversation.tick(0.1))
    assert append == InputAudioAppend(audio=PCM[:640])


@pytest.mark.parametrize("until", ["session.created", "session.configured"])
def test_a_server_that_does_not_answer_in_time_fails_the_session(until: str):
    conversation = Conversation(model="hydra-v1.1", handshake_timeout_secs=3.0)
    conversation.configure(SessionConfiguration(), 0.0)
    conversation.connected(1.0)
    if until == "session.configured":
        conversation.receive(wire.created(), 1.0)
    assert conversation.deadline == 4.0
    assert conversation.tick(3.9) == []
    (fail,) = conversation.tick(4.0)
    assert isinstance(fail, Fail)
    assert fail.kind is FailureKind.TIMEOUT
    assert until in fail.message
    assert conversation.tick(5.0) == []


def test_a_rejected_voice_is_fatal_during_the_handshake_and_only_then():
    rejection = wire.error("invalid_request_error", param="session.configure.session.voice")
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(voice="nobody"), 0.0)
    driver.conversation.connected(0.0)
    driver.receive(wire.created())
    (fail,) = driver.receive(rejection)
    assert isinstance(fail, Fail)
    assert fail.kind is FailureKind.CONFIGURATION
    (report,) = Driver().live().receive(rejection)
    assert isinstance(report, Report)


def test_a_configuration_too_large_is_reported_with_the_sizes_of_its_parts():
    conversation = Conversation(model="hydra-v1.1")
    conversation.connected(0.0)
    conversation.receive(wire.created(), 0.0)
    big = SessionConfiguration(instructions="x" * 17_000, tools=(TOOL,))
    effects = conversation.configure(big, 0.0)
    (report,) = [e for e in effects if isinstance(e, Report)]
    assert report.severity is Severity.WARNING
    assert "instructions 17000" in report.message
    assert f"tools {len(TOOL.model_dump_json())}" in report.message
    assert str(len(encode(sent(effects)[0]))) in report.message


def test_a_configuration_of_modest_size_is_not_reported():
    conversation = Conversation(model="hydra-v1.1")
    conversation.connected(0.0)
    conversation.receive(wire.created(), 0.0)
    effects = conversation.configure(SessionConfiguration(instructions="x" * 15_000), 0.0)
    assert kinds(effects) == [Send]


def test_another_voice_than_asked_is_reported():
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(voice="aria"), 0.0)
    driver.conversation.connected(0.0)
    effects = driver.receive(wire.created(), wire.configured(voice="sterling"))
    (report,) = [e for e in effects if isinstance(e, Report)]
    assert "'sterling'" in report.message
    assert "'aria'" in report.message


def test_nothing_can_be_asked_of_a_session_that_is_not_live():
    conversation = Conversation(model="hydra-v1.1")
    assert conversation.request_response(0.0) == []
    assert conversation.update_tools((TOOL,), 0.0) == []
    assert conversation.answer_call("call_1", "{}", 0.0) == []


def test_other_tools_are_put_in_force_once(driver: Driver):
    (update,) = sent(driver.conversation.update_tools((TOOL,), 0.0))
    assert isinstance(update, SessionUpdate)
    assert update.session.tools == (TOOL,)
    assert driver.conversation.update_tools((TOOL,), 0.0) == []
    assert len(sent(driver.conversation.update_tools((), 0.0))) == 1


def test_tools_that_change_in_the_handshake_are_put_in_force_after_it():
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(), 0.0)
    driver.conversation.connected(0.0)
    driver.receive(wire.created())
    assert driver.conversation.update_tools((TOOL,), 0.0) == []
    (update,) = sent(driver.receive(wire.configured()))
    assert isinstance(update, SessionUpdate)
    assert update.session.tools == (TOOL,)
