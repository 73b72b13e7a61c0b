"""How much a session is told in all, and when another one follows."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipecat.processors.aggregators.llm_context import LLMContext

from pipecat_hydra.conversation.effects import (
    AudioChunk,
    ReplyEnded,
    ReplyStarted,
    TextChunk,
    TurnDiscarded,
    UserStarted,
    UserStopped,
)
from pipecat_hydra.service.adapter import HydraLLMAdapter
from pipecat_hydra.service.briefing.briefing import Brief, Briefing, HistoryStyle
from pipecat_hydra.service.briefing.budget import SessionBudget
from pipecat_hydra.service.briefing.entries import text_entry
from pipecat_hydra.wire.codec import encode
from pipecat_hydra.wire.events import (
    FunctionTool,
    InputAudioAppend,
    ItemCreate,
    ResponseCreate,
    SessionConfiguration,
    SessionConfigure,
    SessionUpdate,
)

LIMIT = 16_000


def configuration(instructions: str | None = "Be kind.", **fields: Any) -> SessionConfiguration:
    return SessionConfiguration(instructions=instructions, voice="aria", **fields)


def size(told: SessionConfiguration) -> int:
    return len(encode(SessionConfigure(session=told, event_id="evt_0000")))


def begun(limit: int | None = LIMIT, told: SessionConfiguration | None = None) -> SessionBudget:
    """The budget of a session that began without history."""
    budget = SessionBudget(limit, warning_bytes=12_000)
    told = told or configuration()
    budget.begin(told, told)
    return budget


def result(length: int) -> ItemCreate:
    return ItemCreate.tool_output("call_1", "x" * length)


def message(length: int) -> ItemCreate:
    return ItemCreate.message("x" * length)


def speak(budget: SessionBudget, secs: float, *, words: str = "", is_resumed: bool = False) -> None:
    budget.heard(ReplyStarted("response", is_resumed), 0.0)
    budget.heard(AudioChunk(bytes(2 * round(24_000 * secs)), 24_000), 0.0)
    if words:
        budget.heard(TextChunk(words), 0.0)
    budget.heard(ReplyEnded("response", interrupted=False), 0.0)


def hear(budget: SessionBudget, secs: float, *, is_known: bool = False) -> None:
    budget.heard(UserStarted(), 10.0)
    budget.heard(UserStopped(discarded=False), 10.0 + secs)
    if is_known:
        budget.transcribed()


def talk(
    budget: SessionBudget, *, is_user_known: bool, are_replies_known: bool, secs: float = 2_400.0
) -> None:
    """Have the user and the bot speak by turns, half a minute each."""
    for _ in range(round(secs / 60)):
        hear(budget, 30.0, is_known=is_user_known)
        speak(budget, 30.0, words="hello" if are_replies_known else "")


def test_what_is_sent_is_counted_as_it_is_sent():
    budget = begun()
    assert budget.total == size(configuration())
    for event in (message(100), result(200)):
        before = budget.total
        budget.sent(event)
        assert budget.total - before == len(encode(event))
    before = budget.total
    budget.sent(InputAudioAppend(audio=bytes(640)))
    budget.sent(ResponseCreate())
    assert budget.total == before


def test_of_functions_those_in_force_are_counted():
    tool = FunctionTool(name="f", description="x" * 1_000, parameters={})
    budget = begun(told=configuration(tools=(tool,)))
    assert budget.total > 1_000
    budget.sent(SessionUpdate.of((), event_id="evt_1"))
    assert budget.total < 300


def test_speech_is_estimated_from_its_time():
    budget = begun()
    before = budget.total
    budget.heard(UserStarted(), 10.0)
    budget.heard(UserStopped(discarded=False), 14.0)
    speak(budget, 6.0)
    # 150 words a minute.
    assert budget.total - before == 10 * 15


def test_noise_is_no_speech():
    budget = begun()
    before = budget.total
    budget.heard(UserStarted(), 10.0)
    budget.heard(UserStopped(discarded=True), 14.0)
    budget.heard(UserStopped(discarded=False), 99.0)
    assert budget.total == before


def test_speech_that_hydra_has_forgotten_counts_no_more():
    budget = begun()
    for _ in range(1_000):
        speak(budget, 10.0)
    assert budget.total == size(configuration()) + 40 * 150
    assert not budget.is_spent


@pytest.mark.parametrize(
    ("is_user_known", "are_replies_known"), [(False, False), (True, False), (False, True)]
)
def test_speech_that_the_next_session_could_not_be_told_begins_none(
    is_user_known: bool, are_replies_known: bool
):
    budget = begun()
    talk(budget, is_user_known=is_user_known, are_replies_known=are_replies_known)
    assert budget.total > LIMIT
    assert not budget.is_spent
    warning = budget.take_warning() or ""
    assert "speech 18000" in warning
    assert "Speech without a transcript counts for this warning alone" in warning
    # All else counts as before.
    budget.sent(result(14_500))
    assert budget.is_spent


def test_speech_that_the_next_session_can_be_told_begins_it():
    budget = begun()
    talk(budget, is_user_known=True, are_replies_known=True, secs=900.0)
    assert not budget.is_spent
    talk(budget, is_user_known=True, are_replies_known=True, secs=300.0)
    assert budget.is_spent
    assert "without a transcript" not in (budget.take_warning() or "")
    budget.begin(configuration(), configuration())
    assert not budget.is_spent


def test_one_text_that_is_missing_does_not_make_all_speech_unknown():
    budget = begun()
    hear(budget, 30.0)
    talk(budget, is_user_known=True, are_replies_known=True)
    assert budget.is_spent


def test_noise_and_replies_that_go_on_after_it_need_no_words():
    budget = begun()
    for _ in range(20):
        hear(budget, 30.0, is_known=True)
        budget.heard(UserStarted(), 0.0)
        budget.heard(UserStopped(discarded=False), 1.0)
        speak(budget, 1.0, words="hello")
        budget.heard(TurnDiscarded(), 2.0)
        speak(budget, 89.0, is_resumed=True)
    assert budget.is_spent


def test_a_reply_that_is_only_calls_needs_no_words():
    budget = begun()
    for _ in range(40):
        budget.heard(ReplyEnded("response", interrupted=False), 0.0)
    talk(budget, is_user_known=True, are_replies_known=True)
    assert budget.is_spent


def test_a_session_that_nears_the_limit_is_spent_and_the_one_that_follows_is_not():
    budget = begun()
    while not budget.is_spent:
        assert budget.total < LIMIT
        budget.sent(result(1_000))
    assert 0.85 * LIMIT < budget.total < LIMIT
    budget.begin(configuration(), configuration())
    assert not budget.is_spent
    assert budget.total == size(configuration())


def test_without_a_limit_none_is_ever_spent():
    budget = begun(None)
    budget.sent(result(100_000))
    assert not budget.is_spent
    warning = budget.take_warning() or ""
    assert "context_limit_bytes is None" in warning
    # A configuration is bounded all the same.
    assert budget.history_room(configuration()) == 16_000 - size(configuration())


def test_one_warning_names_the_largest_parts():
    budget = begun(told=configuration("x" * 5_000))
    budget.sent(result(3_000))
    assert budget.take_warning() is None
    budget.sent(result(4_000))
    budget.sent(message(500))
    warning = budget.take_warning() or ""
    assert "results of functions 7" in warning
    assert "instructions 5000" in warning
    assert warning.index("results") < warning.index("instructions") < warning.index("messages")
    assert "a new session begins" in warning
    budget.sent(result(4_000))
    assert budget.take_warning() is None


def test_the_warning_names_what_everything_is():
    budget = begun()
    speak(budget, 900.0)
    (size,) = [
        int(part.split()[-1])
        for part in (budget.take_warning() or "").split("; ")[1].split(": ")[1].split(", ")
        if part.startswith("speech ")
    ]
    assert size == 13_500
    tool = FunctionTool(name="f", description="x" * 12_000, parameters={})
    assert "functions 12" in (begun(told=configuration(tools=(tool,))).take_warning() or "")


def test_a_small_room_is_used_too():
    budget = begun(told=configuration("x" * 12_500))
    budget.sent(result(3_200))
    assert budget.is_spent
    assert "a new session begins" in (budget.take_warning() or "")


def test_one_that_is_spent_before_the_warning_is_due_is_warned_of():
    budget = SessionBudget(4_000, warning_bytes=12_000)
    budget.begin(configuration(), configuration())
    assert budget.take_warning() is None
    budget.sent(result(3_800))
    assert budget.is_spent
    assert budget.take_warning() is not None


def test_no_warning_if_none_is_wanted():
    budget = SessionBudget(LIMIT)
    budget.begin(configuration(), configuration())
    budget.sent(result(15_900))
    assert budget.take_warning() is None


@pytest.mark.parametrize("length", [14_500, 16_000, 40_000])
def test_instructions_that_leave_no_room_are_warned_of_and_begin_no_session(length: int):
    long = configuration("x" * length)
    budget = begun(told=long)
    warning = budget.take_warning() or ""
    assert "Shorten instructions or functions" in warning
    budget.sent(result(15_000))
    assert not budget.is_spent
    assert budget.history_room(long) == max(0, (LIMIT - size(long)) // 2)


# Together with what composes the history


def briefing(budget: SessionBudget, style: HistoryStyle) -> Briefing:
    return Briefing("service", HydraLLMAdapter(), style, budget)


def brief(of: Briefing, context: LLMContext, instruction: str) -> Brief:
    return of.brief(
        context,
        instruction=instruction,
        voice="aria",
        service_tools=None,
        greet=False,
        under_way=True,
    )


TURNS = st.lists(
    st.tuples(st.sampled_from(["user", "assistant", "developer"]), st.integers(1, 6_000)),
    max_size=40,
)


@given(
    limit=st.integers(2_000, 40_000),
    instruction=st.integers(0, 20_000),
    turns=TURNS,
    style=st.sampled_from(["instructions", "items"]),
)
def test_no_session_begins_above_the_limit_nor_spent(
    limit: int, instruction: int, turns: list[tuple[str, int]], style: HistoryStyle
):
    budget = SessionBudget(limit)
    messages: list[Any] = [{"role": role, "content": "x" * length} for role, length in turns]
    told = brief(briefing(budget, style), LLMContext(messages), "x" * instruction)
    for role, text in told.items:
        budget.sent(ItemCreate.message(text, role=role))
    fixed = size(configuration("x" * instruction)) + len('"generate_initial_response":false,')
    assert budget.total <= max(fixed, limit)
    assert not budget.is_spent
    # What is left is half of the room at least.
    assert budget.total <= max(fixed, fixed + (limit - fixed) / 2)


@given(turns=TURNS, results=st.lists(st.integers(1, 5_000), max_size=30))
def test_whatever_is_told_a_session_that_follows_has_half_of_its_room_free(
    turns: list[tuple[str, int]], results: list[int]
):
    budget = SessionBudget(LIMIT)
    messages: list[Any] = [{"role": role, "content": "x" * length} for role, length in turns]
    context = LLMContext(messages)
    of = briefing(budget, "instructions")
    brief(of, context, "Be kind.")
    told_since = 0
    for length in results:
        budget.sent(result(length))
        told_since += len(encode(result(length)))
        messages.append({"role": "assistant", "content": "x" * length})
        if budget.is_spent:
            # It does not renew in a loop.
            assert told_since > 0.37 * (LIMIT - 200)
            told_since = 0
            brief(of, LLMContext(messages), "Be kind.")
            assert not budget.is_spent
            assert budget.total <= 0.51 * LIMIT


@given(turns=st.lists(st.integers(1, 3_000), min_size=1, max_size=40))
def test_the_newest_turn_is_never_the_one_that_goes(turns: list[int]):
    messages: list[Any] = [
        {"role": "user", "content": f"number {n} " + "x" * length} for n, length in enumerate(turns)
    ]
    told = brief(briefing(SessionBudget(LIMIT), "instructions"), LLMContext(messages), "Be kind.")
    text = told.configuration.instructions or ""
    there = [n for n in range(len(turns)) if f"number {n} " in text]
    # The newest are there whole, without a gap; only older ones go.
    assert there == list(range(len(turns) - len(there), len(turns)))
    assert f"number {len(turns) - 1} " + "x" * turns[-1] in text


def test_a_summary_stays_when_older_turns_go():
    summary = "Summary: Ada likes trains."
    recent: list[Any] = [{"role": "user", "content": f"number {n} " + "x" * 500} for n in range(40)]
    for style in ("instructions", "items"):
        of = briefing(SessionBudget(LIMIT), style)
        older: list[Any] = [{"role": "user", "content": f"old {n}"} for n in range(5)]
        context = LLMContext(older + recent)
        brief(of, context, "Be kind.")
        context.set_messages([{"role": "user", "content": summary}, *recent])
        of.news(context)
        told = brief(of, context, "Be kind.")
        text = told.configuration.instructions or ""
        texts = [text for _, text in told.items] or text.splitlines()
        (at,) = [n for n, line in enumerate(texts) if summary in line]
        numbers = [n for n, line in enumerate(texts) if "number" in line]
        assert at < numbers[0]
        assert "number 39" in texts[numbers[-1]]
        assert not any("number 10 " in line for line in texts)
        assert of.news(context).typed == ()


def test_a_note_of_the_application_that_begins_the_conversation_stays_too():
    messages: list[Any] = [{"role": "developer", "content": "Sell tickets."}]
    messages += [{"role": "user", "content": f"number {n} " + "x" * 500} for n in range(40)]
    told = brief(briefing(SessionBudget(LIMIT), "instructions"), LLMContext(messages), "Be kind.")
    text = told.configuration.instructions or ""
    assert text.index("Sell tickets.") < text.index("(Earlier turns are left out.)")


def test_a_summary_that_takes_more_than_half_of_the_room_goes_as_any_other_turn():
    messages: list[Any] = [{"role": "developer", "content": "y" * 6_000}]
    messages += [{"role": "user", "content": f"number {n} " + "x" * 500} for n in range(40)]
    told = brief(briefing(SessionBudget(LIMIT), "instructions"), LLMContext(messages), "Be kind.")
    assert "yyy" not in (told.configuration.instructions or "")


def test_what_only_the_service_keeps_is_no_summary():
    of = briefing(SessionBudget(LIMIT), "instructions")
    of.note("user", text_entry("user", "I am Ada.").text)
    for _ in range(40):
        of.note("user", "x" * 500)
    told = brief(of, LLMContext(), "Be kind.")
    assert "I am Ada." not in (told.configuration.instructions or "")
