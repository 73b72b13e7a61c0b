"""How one response takes the place of another; and what of a response comes late."""

from typing import Any

import pytest
from support import wire
from support.driver import PCM, Driver, calls, creates, kinds, said, sent

from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Discard,
    Effect,
    Flush,
    ReplyEnded,
    ReplyStarted,
    Send,
    TextChunk,
    UserStarted,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.wire.events import InputAudioAppend, ResponseCancel, ServerEvent

LATE = bytes(range(2, 242)) * 4
OTHER = b"\x05\x00" * 480


def texts(effects: list[Effect]) -> list[str]:
    return [effect.text for effect in effects if isinstance(effect, TextChunk)]


def wait(driver: Driver, secs: float) -> list[Effect]:
    """Let time pass, and return what comes of it, but for the silence that is sent."""
    driver.now += secs
    effects = driver.conversation.tick(driver.now)
    appends = [e for e in effects if isinstance(e, Send) and isinstance(e.event, InputAudioAppend)]
    return [effect for effect in effects if effect not in appends]


def spoken(text: str, item: str | None = "said_1", **fields: Any) -> ServerEvent:
    content = [{"type": "output_audio", "text": text}]
    body = {"type": "message", "role": "assistant", "content": content, **fields}
    if item is not None:
        body["id"] = item
    return wire.event("conversation.item.done", item={"status": "completed", **body})


def whole(text: str, item: str | None = "said_1", response: str | None = "resp_1") -> ServerEvent:
    type_ = "response.output_audio_transcript.done"
    return wire.event(type_, response_id=response, item_id=item, transcript=text)


def phrase(text: str, item: str | None = "said_1", response: str | None = "resp_1") -> ServerEvent:
    type_ = "response.output_audio_transcript.delta"
    return wire.event(type_, response_id=response, item_id=item, delta=text)


class TestALateEnd:
    """`response.done` may come before the last deltas."""

    @pytest.mark.parametrize("response", ["resp_1", None])
    @pytest.mark.parametrize("before", [0, 1])
    def test_what_comes_after_it_is_heard(self, driver: Driver, response: str, before: int):
        effects = driver.receive(wire.response_created(response))
        effects += driver.receive(*[wire.audio(PCM, response)] * before, wire.done(response))
        assert not driver.conversation.reply_pending
        effects += driver.receive(wire.audio(LATE, response), wire.audio(LATE, response))
        assert driver.conversation.reply_pending
        effects += driver.receive(wire.audio_done(response), wire.audio(OTHER, response))
        assert said(effects) == before * PCM + LATE + LATE
        started, ended = kinds(effects).count(ReplyStarted), kinds(effects).count(ReplyEnded)
        assert started == ended == 2
        assert driver.conversation.at_turn_boundary

    def test_without_an_end_of_the_audio_it_rests_after_a_moment(self, driver: Driver):
        driver.receive(wire.response_created(), wire.audio(PCM), wire.done(), wire.audio(LATE))
        assert not driver.conversation.at_turn_boundary
        driver.now = 0.25
        driver.receive(wire.audio(LATE))
        assert wait(driver, 0.25) == []
        assert wait(driver, 0.25) == [VoiceEnded("resp_1"), ReplyEnded("resp_1", False)]
        assert driver.conversation.at_turn_boundary
        assert said(driver.receive(wire.audio(LATE))) == LATE

    def test_once_it_is_known_to_be_early_the_bracket_stays_open(self, driver: Driver):
        driver.receive(wire.response_created(), wire.audio(PCM), wire.done(), wire.audio(LATE))
        driver.receive(wire.audio_done(), wire.response_created("r2"), wire.audio(PCM, "r2"))
        effects = driver.receive(wire.done("r2"), wire.audio(LATE, "r2"))
        assert AudioChunk(LATE, 24_000) in effects
        assert ReplyEnded not in kinds(effects)
        assert kinds(driver.receive(wire.audio_done("r2"))) == [VoiceEnded, ReplyEnded]
        # A response whose audio was whole before is over at once.
        driver.receive(wire.response_created("r3"), wire.audio(PCM, "r3"), wire.audio_done("r3"))
        assert kinds(driver.receive(wire.done("r3")))[:2] == [VoiceEnded, ReplyEnded]

    def test_nothing_is_heard_after_the_end_of_the_audio(self, driver: Driver):
        driver.receive(wire.response_created(), wire.audio(PCM), wire.audio_done())
        # It may come a little early, too.
        assert said(driver.receive(wire.audio(LATE), wire.done(), wire.audio(OTHER))) == LATE

    def test_another_item_may_have_audio_again(self, driver: Driver):
        added = wire.event("conversation.item.added", item={"type": "message", "id": "said_2"})
        driver.receive(wire.response_created(), wire.audio(PCM), wire.audio_done(), added)
        assert said(driver.receive(wire.done(), wire.audio(LATE))) == LATE

    @pytest.mark.parametrize("end", ["turn", "response", "application", "cancelled"])
    def test_nothing_is_heard_once_something_else_began(self, driver: Driver, end: str):
        driver.receive(wire.response_created(), wire.audio(PCM), wire.done())
        match end:
            case "turn":
                assert driver.receive(wire.started()) == [UserStarted()]
            case "response":
                driver.receive(wire.response_created("r2"))
            case "application":
                # The server has nothing left to cancel.
                assert driver.conversation.cancel_response(0.0) == [Discard()]
            case _:
                driver.receive(wire.audio(LATE), wire.started(), wire.done(status="cancelled"))
        assert said(driver.receive(wire.audio(LATE), wire.audio_done(), wire.audio(LATE))) == b""

    def test_a_turn_closes_the_bracket_of_what_comes_late(self, driver: Driver):
        driver.receive(wire.response_created(), wire.audio(PCM), wire.done(), wire.audio(LATE))
        effects = driver.receive(wire.started())
        ends = [VoiceEnded("resp_1", interrupted=True), ReplyEnded("resp_1", interrupted=True)]
        assert effects == [*ends, UserStarted()]

    def test_it_keeps_no_request_waiting(self, driver: Driver):
        driver.receive(wire.response_created(), wire.audio(PCM), wire.done())
        assert creates(driver.conversation.request_response(0.0)) == 1

    def test_an_id_that_was_never_given_is_not_taken_from_the_next_response(self, driver: Driver):
        driver.receive(wire.response_created(None), wire.audio(PCM, None), wire.done(None))
        effects = driver.receive(wire.audio(LATE, "r2"))
        assert effects[0] == ReplyStarted("r2")
        assert said(effects) == LATE

    def test_calls_may_come_late_too(self, driver: Driver):
        driver.receive(wire.response_created(), wire.done(), wire.call())
        (call,) = calls(wait(driver, 0.1))
        assert call.name == "get_weather"


class TestTwoAtATime:
    """A response that nobody asked for begins while another streams (protocol §5)."""

    @pytest.fixture
    def overlapping(self, driver: Driver) -> Driver:
        assert said(driver.receive(wire.response_created("r1"), wire.audio(PCM, "r1"))) == PCM
        assert driver.receive(wire.response_created("r2")) == []
        return driver

    @pytest.mark.parametrize("end", [wire.audio_done("r1"), wire.done("r1")])
    def test_two_replies_are_heard_one_after_the_other(self, overlapping: Driver, end: ServerEvent):
        driver = overlapping
        effects = driver.receive(
            wire.audio(LATE, "r1"), wire.audio(OTHER, "r2"), wire.audio(LATE, "r1"), end
        )
        assert said(effects) == LATE + LATE + OTHER
        assert Flush not in kinds(effects)
        effects = driver.receive(wire.audio(OTHER, "r2"), wire.audio_done("r2"), wire.done("r2"))
        assert said(effects) == OTHER
        assert driver.conversation.at_turn_boundary

    def test_one_that_the_server_cancels_is_thrown_away(self, overlapping: Driver):
        effects = overlapping.receive(
            wire.audio(OTHER, "r2"), wire.done("r1", "cancelled", "interrupted")
        )
        ends = [VoiceEnded("r1", interrupted=True), ReplyEnded("r1", interrupted=True)]
        assert effects[:4] == [*ends, Flush(), ReplyStarted("r2")]
        assert said(effects) == OTHER
        assert said(overlapping.receive(wire.audio(LATE, "r1"))) == b""

    def test_one_that_just_stops_was_interrupted(self, overlapping: Driver):
        overlapping.receive(wire.audio(OTHER, "r2"))
        assert wait(overlapping, 0.25) == []
        effects = wait(overlapping, 0.25)
        assert kinds(effects)[:4] == [VoiceEnded, ReplyEnded, Flush, ReplyStarted]
        assert said(effects) == OTHER
        assert said(overlapping.receive(wire.audio(LATE, "r1"))) == b""

    def test_the_next_may_be_done_before_it_begins(self, overlapping: Driver):
        driver = overlapping
        driver.receive(wire.audio(OTHER, "r2"), wire.audio_done("r2"), wire.done("r2"))
        effects = driver.receive(wire.done("r1"))
        assert said(effects) == OTHER
        assert kinds(effects).count(ReplyEnded) == 2
        assert driver.conversation.at_turn_boundary

    def test_the_next_may_be_cancelled_before_it_begins(self, overlapping: Driver):
        driver = overlapping
        driver.receive(wire.audio(OTHER, "r2"), wire.done("r2", "cancelled"))
        effects = driver.receive(wire.audio(LATE, "r1"), wire.audio_done("r1"), wire.done("r1"))
        assert said(effects) == LATE

    def test_a_third_one_waits_for_the_second(self, overlapping: Driver):
        driver = overlapping
        driver.receive(wire.audio(LATE, "r2"))
        effects = driver.receive(wire.response_created("r3"), wire.audio(OTHER, "r3"))
        assert said(effects) == LATE
        assert said(driver.receive(wire.done("r2"))) == OTHER

    def test_a_turn_of_the_user_is_about_both(self, overlapping: Driver):
        driver = overlapping
        driver.receive(wire.audio(OTHER, "r2"))
        effects = driver.receive(wire.started(), wire.audio(LATE, "r1"), wire.audio(OTHER, "r2"))
        assert kinds(effects) == [VoiceEnded, ReplyEnded, UserStarted]
        effects = driver.receive(wire.stopped(), wire.user_item("incomplete"))
        assert said(effects) == OTHER + OTHER

    def test_a_real_turn_ends_both(self, overlapping: Driver):
        driver = overlapping
        driver.receive(wire.audio(OTHER, "r2"), wire.started(), wire.stopped())
        driver.receive(wire.user_item("completed"))
        assert said(driver.receive(wire.audio(LATE, "r1"), wire.audio(OTHER, "r2"))) == b""

    def test_the_application_cancels_both(self, overlapping: Driver):
        driver = overlapping
        effects = driver.conversation.cancel_response(0.0)
        assert kinds(effects).count(ReplyEnded) == 1
        cancelled = [e.response_id for e in sent(effects) if isinstance(e, ResponseCancel)]
        assert cancelled == ["r1", "r2"]
        assert said(driver.receive(wire.audio(LATE, "r1"), wire.audio(OTHER, "r2"))) == b""
        assert driver.conversation.at_turn_boundary

    def test_a_loss_ends_both(self, overlapping: Driver):
        assert kinds(overlapping.conversation.disconnected(0.0)) == [VoiceEnded, ReplyEnded]
        assert overlapping.conversation.deadline is None

    def test_one_that_was_asked_for_begins_at_once(self, driver: Driver):
        driver.receive(wire.response_created("r1"), wire.call("c", "f", "{}", "r1"))
        driver.receive(wire.audio(PCM, "r1"))
        wait(driver, 0.1)
        driver.conversation.answer_call("c", "{}", driver.now)
        assert creates(wait(driver, 0.3)) == 1
        effects = driver.receive(wire.response_created("r2"), wire.audio(OTHER, "r2"))
        assert kinds(effects) == [VoiceEnded, ReplyEnded, ReplyStarted, VoiceStarted, AudioChunk]


class TestTexts:
    """What the model says, in words: from wherever the words come, once."""

    @pytest.mark.parametrize(
        "events",
        [
            (phrase("Hello"), phrase("there."), wire.done()),
            (whole("Hello there."), wire.done()),
            (spoken("Hello there."), wire.done()),
            (spoken("Hello there.", None), wire.done()),
            (wire.done(output=[{"type": "message", "content": [{"text": "Hello there."}]}]),),
            (wire.done(), phrase("Hello"), phrase("there.")),
            (wire.done(), whole("Hello there.")),
            (wire.done(), spoken("Hello there.")),
            (phrase("Hello"), phrase("there."), whole("Hello there."), spoken("Hello there.")),
            (phrase("Hello", None), phrase("there.", None), whole("Hello there.")),
            (phrase("Hello"), phrase("there."), spoken("Hello there.", None), wire.done()),
            (whole("Hello there."), wire.done(), phrase("Hello"), phrase("there.")),
            (whole("Hello there.", None), spoken("Hello there."), phrase("Hello")),
            (whole("Hello there."), phrase("Hello", None), whole("Hello there.", None)),
            (phrase("Hello"), spoken("Hello  there."), phrase("there."), wire.done()),
            (
                wire.done(
                    output=[{"type": "message", "id": "said_1", "content": [{"text": "Hello"}]}]
                ),
                spoken("Hello there."),
            ),
        ],
    )
    @pytest.mark.parametrize("audio_done", [True, False])
    def test_each_source_does_and_none_is_heard_twice(
        self, driver: Driver, events: tuple[ServerEvent, ...], audio_done: bool
    ):
        driver.receive(wire.response_created())
        ends = [wire.audio_done()] if audio_done else []
        effects = driver.receive(wire.audio(PCM), *ends, *events)
        effects += wait(driver, 1.0) + driver.receive(wire.response_created("r2"))
        assert "".join(texts(effects)) == "Hello there."
        assert kinds(effects).count(ReplyStarted) <= 3

    def test_each_item_has_a_text_of_its_own(self, driver: Driver):
        driver.receive(wire.response_created(), wire.audio(PCM))
        effects = driver.receive(spoken("One."), spoken("Two.", "said_2"), wire.done())
        assert texts(effects) == ["One.", " Two."]

    def test_the_text_of_an_item_belongs_to_the_response_in_which_it_began(self, driver: Driver):
        for n in (1, 2):
            item = {"type": "message", "role": "assistant", "id": f"said_{n}"}
            added = wire.event("conversation.item.added", item=item)
            driver.receive(wire.response_created(f"r{n}"), added, wire.audio(PCM, f"r{n}"))
            driver.receive(wire.audio_done(f"r{n}"))
        assert texts(driver.receive(spoken("Old.", "said_1"))) == []
        assert texts(driver.receive(spoken("New.", "said_2"))) == ["New."]

    def test_what_was_never_said_to_its_end_has_no_whole_text(self, driver: Driver):
        driver.receive(wire.response_created(), wire.audio(PCM))
        assert texts(driver.receive(spoken("Hel", status="incomplete"))) == []
        output = [{"type": "message", "content": [{"text": "Hello."}]}]
        effects = driver.receive(wire.done(status="cancelled", output=output))
        assert texts(effects) == []

    def test_text_that_was_told_wakes_no_response(self, driver: Driver):
        driver.receive(wire.response_created(), wire.audio(PCM), phrase("Hello."), wire.done())
        assert driver.receive(whole("Hello."), spoken("Hello."), phrase("")) == []
        assert driver.conversation.deadline is None or not wait(driver, 1.0)

    def test_text_is_no_sign_that_the_audio_comes_late(self, driver: Driver):
        driver.receive(wire.response_created(), wire.audio(PCM), wire.audio_done(), wire.done())
        driver.receive(phrase("Hello."), wire.response_created("r2"), wire.audio(PCM, "r2"))
        assert kinds(driver.receive(wire.done("r2")))[:2] == [VoiceEnded, ReplyEnded]

    def test_words_of_nobody_are_nobodys(self, driver: Driver):
        assert driver.receive(spoken("Hello."), whole("Hello."), whole("", None)) == []


class TestIdsUsedAgain:
    """Each response with the same id is a response of its own."""

    def test_each_is_heard(self, driver: Driver):
        effects: list[Effect] = []
        for pcm in (PCM, LATE, OTHER):
            effects += driver.receive(wire.response_created(), wire.audio(pcm))
            effects += driver.receive(wire.audio_done(), wire.done())
        assert said(effects) == PCM + LATE + OTHER
        assert kinds(effects).count(ReplyStarted) == kinds(effects).count(ReplyEnded) == 3

    def test_what_is_late_of_one_that_was_cancelled_is_not_heard(self, driver: Driver):
        driver.receive(wire.response_created(), wire.audio(PCM), wire.started())
        driver.receive(wire.done(status="cancelled"))
        assert said(driver.receive(wire.audio(LATE))) == b""
        driver.receive(wire.stopped(), wire.user_item("completed"))
        assert said(driver.receive(wire.response_created(), wire.audio(OTHER))) == OTHER

    def test_its_calls_are_its_own(self, driver: Driver):
        names: list[str] = []
        for _ in range(3):
            effects = driver.receive(wire.response_created(), wire.call(), wire.done())
            effects += wait(driver, 0.1)
            for call in calls(effects):
                names.append(call.call_id)
                driver.conversation.answer_call(call.call_id, "{}", driver.now)
            driver.receive(wire.response_created("n"), wire.audio(PCM, "n"), wire.done("n"))
        assert names == ["call_1", "call_1_2", "call_1_3"]

    def test_an_announcement_that_comes_twice_begins_nothing(self, driver: Driver):
        driver.receive(wire.response_created(), wire.response_created(), wire.audio(PCM))
        assert driver.receive(wire.response_created()) == []
        # One that comes after the end is late, not another one.
        driver.receive(wire.done("r9", "cancelled"))
        assert driver.receive(wire.response_created("r9")) == []
