"""The handshake: phases, the configuration, tools, the output rate, deadlines (A4, S1)."""

from typing import Any

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
from pipecat_hydra.conversation.event_ids import EventIds
from pipecat_hydra.conversation.handshake import Handshake
from pipecat_hydra.wire.codec import encode
from pipecat_hydra.wire.events import (
    ErrorDetail,
    FunctionTool,
    InputAudioAppend,
    ResponseCreate,
    ServerEvent,
    SessionConfiguration,
    SessionConfigure,
    SessionUpdate,
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


def test_a_session_that_is_live_has_answered_in_time():
    driver = Driver(Conversation(model="hydra-v1.1", handshake_timeout_secs=3.0)).live()
    assert not [e for e in driver.conversation.tick(60.0) if isinstance(e, Fail)]


@pytest.mark.parametrize("configured", [False, True])
def test_events_after_the_loss_of_the_connection_are_ignored(configured: bool):
    driver = Driver()
    if configured:
        driver.live()
        driver.conversation.disconnected(0.0)
    late = [wire.started(), wire.response_created(), wire.audio(PCM), wire.error("server_full")]
    assert driver.receive(*late) == []
    assert not driver.conversation.user_speaking
    assert not driver.conversation.reply_pending


def test_a_rejected_voice_is_fatal_during_the_handshake_and_only_then():
    rejection = wire.error("invalid_request_error", param="session.configure.session.voice")
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(voice="nobody"), 0.0)
    driver.conversation.connected(0.0)
    driver.receive(wire.created())
    (fail,) = driver.receive(rejection)
    assert isinstance(fail, Fail)
    assert fail.kind is FailureKind.CONFIGURATION
    assert fail.is_of_voice
    (report,) = Driver().live().receive(rejection)
    assert isinstance(report, Report)


def test_a_session_whose_voice_was_rejected_does_not_fail_again_for_want_of_an_answer():
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(voice="nobody"), 0.0)
    driver.conversation.connected(0.0)
    driver.receive(wire.created())
    driver.receive(
        wire.error("invalid_request_error", param="session.configure.session.voice"),
    )
    assert driver.conversation.tick(60.0) == []


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


@pytest.mark.parametrize("larger", ["instructions", "tools"])
def test_of_a_configuration_too_large_the_larger_part_is_to_be_shortened(larger: str):
    conversation = Conversation(model="hydra-v1.1")
    conversation.connected(0.0)
    conversation.receive(wire.created(), 0.0)
    large, small = "x" * 12_000, "x" * 6_000
    tool = TOOL.model_copy(update={"description": large if larger == "tools" else small})
    instructions = large if larger == "instructions" else small
    effects = conversation.configure(
        SessionConfiguration(instructions=instructions, tools=(tool,)), 0.0
    )
    (report,) = [e for e in effects if isinstance(e, Report)]
    assert report.message.endswith(f"shorten the {larger}")


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


# The room alone


def made(*, configured: bool = True) -> Handshake:
    handshake = Handshake("hydra-v1.1", timeout_secs=10.0, event_ids=EventIds())
    if configured:
        handshake.configure(SessionConfiguration(voice="aria", tools=(TOOL,)), 0.0)
    return handshake


def server(event: ServerEvent) -> Any:
    """An event of the server, as whatever the handshake takes."""
    return event


def test_each_phase_follows_the_one_before():
    handshake = made()
    phases = [handshake.phase]
    for step in (
        lambda: handshake.configured(server(wire.configured()), lost_secs=0.0),
        lambda: handshake.connected(0.0),
        lambda: handshake.configured(server(wire.configured()), lost_secs=0.0),
        lambda: handshake.created(server(wire.created()), 0.0),
        lambda: handshake.created(server(wire.created()), 0.0),
        lambda: handshake.configured(server(wire.configured()), lost_secs=0.0),
        lambda: handshake.configured(server(wire.configured()), lost_secs=0.0),
        lambda: handshake.disconnected(),
    ):
        step()
        phases.append(handshake.phase)
    assert phases == [
        Phase.OFFLINE,
        Phase.OFFLINE,
        Phase.CONNECTED,
        Phase.CONNECTED,
        Phase.CONFIGURING,
        Phase.CONFIGURING,
        Phase.LIVE,
        Phase.LIVE,
        Phase.OFFLINE,
    ]
    assert handshake.sessions == 1
    assert handshake.deadline is None


def test_what_is_configured_in_a_live_session_is_for_the_one_that_follows(driver: Driver):
    other = SessionConfiguration(voice="zoe", generate_initial_response=True)
    driver.receive(wire.response_created())
    driver.conversation.request_response(0.0)
    assert driver.conversation.configure(other, 0.0) == []
    # What was asked of this one, this one answers.
    (create,) = sent(driver.receive(wire.done()))
    assert isinstance(create, ResponseCreate)
    driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"), wire.done("r2"))
    assert not driver.conversation.reply_pending
    driver.conversation.disconnected(0.0)
    driver.conversation.connected(0.0)
    (configure,) = sent(driver.receive(wire.created()))
    assert isinstance(configure, SessionConfigure)
    assert configure.session.voice == "zoe"
    assert not configure.session.generate_initial_response


def test_a_session_that_nobody_configures_anew_is_configured_the_same():
    handshake = made()
    handshake.configure_again(speaks_first=True)
    handshake.connected(0.0)
    (_, configure) = handshake.created(server(wire.created()), 0.0)
    assert isinstance(configure, Send)
    assert isinstance(configure.event, SessionConfigure)
    again = SessionConfiguration(voice="aria", tools=(TOOL,), generate_initial_response=True)
    assert configure.event.session == again
    made(configured=False).configure_again(speaks_first=True)


def test_what_could_not_be_kept_is_told():
    handshake = made()
    handshake.connected(0.0)
    handshake.created(server(wire.created()), 0.0)
    ready, report = handshake.configured(server(wire.configured(voice="aria")), lost_secs=1.25)
    assert isinstance(ready, Ready)
    assert ready.lost_secs == 1.25
    assert isinstance(report, Report)
    assert report.message.startswith("1.2 s")


def test_the_rate_is_the_models_until_the_session_says_another():
    handshake = made()
    assert handshake.output_sample_rate is None
    assert handshake.expected_sample_rate == 24_000
    handshake.model = "hydra-v1.0"
    assert handshake.expected_sample_rate == 48_000
    handshake.connected(0.0)
    handshake.created(server(wire.created()), 0.0)
    handshake.configured(server(wire.configured(16_000)), lost_secs=0.0)
    assert handshake.expected_sample_rate == handshake.output_sample_rate == 16_000
    handshake.connected(0.0)
    assert handshake.expected_sample_rate == 48_000


def test_an_error_about_anything_but_the_voice_does_not_fail_the_session():
    handshake = made()
    handshake.connected(0.0)
    handshake.created(server(wire.created()), 0.0)
    assert handshake.rejected(ErrorDetail(code="invalid_frame", param="audio")) == []
    voice = ErrorDetail(code="invalid_request_error", param="session.configure.session.voice")
    (fail,) = handshake.rejected(voice)
    assert isinstance(fail, Fail)
    assert "'aria'" in fail.message
    assert handshake.deadline is None


def test_a_configuration_too_large_is_told_whatever_characters_it_has():
    half = "\ud83d"
    tool = FunctionTool(name="f", description=half, parameters={"title": half})
    handshake = made(configured=False)
    handshake.connected(0.0)
    handshake.created(server(wire.created()), 0.0)
    told = SessionConfiguration(instructions=half * 17_000, tools=(tool,))
    _, report = handshake.configure(told, 0.0)
    assert isinstance(report, Report)
    assert "instructions 17000" in report.message


def test_the_larger_part_of_a_configuration_is_to_be_shortened():
    big = FunctionTool(name="f", description="x" * 17_000, parameters={})
    handshake = made(configured=False)
    handshake.connected(0.0)
    handshake.created(server(wire.created()), 0.0)
    _, report = handshake.configure(SessionConfiguration(tools=(big,)), 0.0)
    assert isinstance(report, Report)
    assert report.message.endswith("shorten the tools")


@pytest.mark.parametrize(
    "error",
    [
        ErrorDetail(code="invalid_request_error", param="session.configure.session.tools"),
        ErrorDetail(code="invalid_request_error", param="tools[0].name"),
        ErrorDetail(code="invalid_request_error"),
        ErrorDetail(code="invalid_frame"),
        ErrorDetail(code="invalid_frame", param="session.instructions"),
        ErrorDetail(code="unheard_of", param="session"),
        ErrorDetail(code="unheard_of", event_id="evt_0001"),
    ],
)
def test_a_configuration_that_is_rejected_is_given_up_for_good(error: ErrorDetail):
    handshake = made()
    handshake.connected(0.0)
    (_, configure) = handshake.created(server(wire.created()), 0.0)
    assert isinstance(configure, Send)
    if error.event_id is not None:
        error = error.model_copy(update={"event_id": configure.event.event_id})
    (fail,) = handshake.rejected(error)
    assert isinstance(fail, Fail)
    assert fail.kind is FailureKind.CONFIGURATION
    assert fail.kind.final
    assert not fail.is_of_voice
    assert "rejects the configuration" in fail.message
    assert (error.param or "rejects") in fail.message
    # No close is waited for.
    assert handshake.deadline is None


@pytest.mark.parametrize("code", ["server_full", "session_ended", "internal_error"])
def test_an_error_of_the_server_rejects_no_configuration(code: str):
    handshake = made()
    handshake.connected(0.0)
    handshake.created(server(wire.created()), 0.0)
    assert handshake.rejected(ErrorDetail(code=code, param="session")) == []


def test_a_server_that_rejects_the_model_rejects_the_configuration():
    handshake = made()
    assert handshake.rejected(ErrorDetail(code="invalid_request_error", param="model")) == []
    handshake.connected(0.0)
    (fail,) = handshake.rejected(ErrorDetail(code="invalid_request_error", param="model"))
    assert isinstance(fail, Fail)
    assert "(at model)" in fail.message


@pytest.mark.parametrize("param", ["voice", "session.voice", "session.configure.session.voice"])
def test_a_voice_is_rejected_however_it_is_named(param: str):
    handshake = made()
    handshake.connected(0.0)
    handshake.created(server(wire.created()), 0.0)
    (fail,) = handshake.rejected(ErrorDetail(code="invalid_request_error", param=param))
    assert isinstance(fail, Fail)
    assert fail.is_of_voice
