"""What a session is told when it begins."""

import json

from pipecat.processors.aggregators.llm_context import LLMContext

from pipecat_hydra.adapter import HydraLLMAdapter
from pipecat_hydra.briefing import Brief, Briefing, HistoryStyle
from pipecat_hydra.events import SessionConfigure, encode
from pipecat_hydra.protocol import CONFIGURATION_WARNING_BYTES


def briefing(style: HistoryStyle = "instructions") -> Briefing:
    return Briefing("service", HydraLLMAdapter(), style)


def brief(
    of: Briefing,
    context: LLMContext | None = None,
    *,
    instruction: str | None = "Be kind.",
    greet: bool = False,
    under_way: bool = False,
) -> Brief:
    return of.brief(
        context,
        instruction=instruction,
        voice="aria",
        service_tools=None,
        greet=greet,
        under_way=under_way,
    )


def conversation(turns: int, size: int) -> LLMContext:
    roles = ("user", "assistant")
    messages = [
        {"role": roles[n % 2], "content": f"number {n} " + "x" * (size - len(f"number {n} "))}
        for n in range(turns)
    ]
    return LLMContext(messages)  # pyright: ignore[reportArgumentType]


def test_with_nothing_said_before_the_instructions_are_as_they_are():
    told = brief(briefing(), greet=True)
    assert told.configuration.instructions == "Be kind."
    assert told.configuration.voice == "aria"
    assert told.configuration.generate_initial_response is True
    assert told.configuration.tools is None
    assert told.items == ()


def test_a_saved_conversation_is_in_the_instructions():
    context = LLMContext(
        [{"role": "user", "content": "I am Ada."}, {"role": "assistant", "content": "Hello Ada."}]
    )
    told = brief(briefing(), context)
    assert told.configuration.instructions is not None
    assert told.configuration.instructions.startswith("Be kind.")
    assert "I am Ada." in told.configuration.instructions
    assert "Hello Ada." in told.configuration.instructions


def test_a_long_conversation_keeps_under_the_limit_with_the_newest(warnings: list[str]):
    context = conversation(200, 200)
    told = brief(briefing(), context)
    size = len(encode(SessionConfigure(session=told.configuration, event_id="evt_1")))
    assert size <= CONFIGURATION_WARNING_BYTES
    assert size > 0.9 * CONFIGURATION_WARNING_BYTES
    text = told.configuration.instructions or ""
    assert "number 199 " in text
    assert "number 0 " not in text
    assert "x" * 185 in text
    (warning,) = warnings
    assert "of 200 turns" in warning


def test_as_items_the_conversation_is_put_in_afterwards():
    context = LLMContext(
        [
            {"role": "user", "content": "I am Ada."},
            {"role": "assistant", "content": "Hello Ada."},
            {"role": "developer", "content": "Welcome her back."},
        ]
    )
    told = brief(briefing("items"), context, greet=True)
    assert told.configuration.instructions == "Be kind."
    assert told.configuration.generate_initial_response is False
    assert told.items == (
        ("user", "I am Ada."),
        ("assistant", "Hello Ada."),
        ("system", "Welcome her back."),
    )
    assert told.respond
    assert brief(briefing("items"), greet=True).configuration.generate_initial_response is True


def test_what_no_context_keeps_is_kept_here():
    kept = briefing()
    kept.note("user", "typed")
    kept.note("assistant", "said")
    text = brief(kept).configuration.instructions or ""
    assert "typed" in text
    assert "said" in text
    # It is told again to a session that follows, as far as anybody could want it.
    for n in range(500):
        kept.note("user", f"number {n}.")
    text = brief(kept).configuration.instructions or ""
    assert "typed" not in text
    assert "number 499." in text


def test_a_session_that_follows_does_not_greet_again():
    context = LLMContext([{"role": "developer", "content": "Greet the user."}])
    text = brief(briefing(), context, under_way=True).configuration.instructions or ""
    assert "do not greet" in text
    context = LLMContext([{"role": "assistant", "content": "Hello."}])
    told = brief(briefing(), context, under_way=True)
    assert "under way" not in (told.configuration.instructions or "")


def test_what_the_session_was_told_is_no_news():
    context = LLMContext([{"role": "user", "content": "hello"}])
    kept = briefing()
    brief(kept, context)
    assert kept.news(context).typed == ()
    context.add_message({"role": "user", "content": "and?"})
    assert kept.news(context).typed == (("user", "and?"),)


def test_a_brief_can_be_sent():
    told = brief(briefing(), conversation(10, 50))
    assert json.loads(encode(SessionConfigure(session=told.configuration)))
