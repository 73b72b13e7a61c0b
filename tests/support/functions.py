"""What tests of function calls share: how functions are given, and what Hydra was told of them."""

from typing import Any

from pipecat.frames.frames import LLMFullResponseEndFrame
from pipecat.processors.aggregators.llm_context import LLMContext
from support.call import Call as Talk
from support.call import Shape, session

from pipecat_hydra.emulator import Call, HydraEmulator, Say, Script

__all__ = [
    "answered",
    "in_context",
    "messages",
    "nothing_in_progress",
    "outputs",
    "requests",
    "script",
    "tools",
]


def script(*calls: Call) -> Script:
    """A first turn that calls, with a narration; then echo."""
    return Script([[*calls, Say.tones()]])


def tools(shape: Shape, *functions: Any) -> dict[str, Any]:
    """The arguments of `call` that give these functions to a service."""
    if shape == "bare":
        return {"tools": list(functions)}
    return {"context": LLMContext(tools=list(functions))}


def outputs(hydra: HydraEmulator) -> list[tuple[str, str]]:
    """The answers to function calls, with the id of each call."""
    items = [r.event["item"] for r in session(hydra).received_of("conversation.item.create")]
    return [(i["call_id"], i["output"]) for i in items if i["type"] == "function_call_output"]


def messages(hydra: HydraEmulator) -> list[str]:
    """The text messages."""
    items = [r.event["item"] for r in session(hydra).received_of("conversation.item.create")]
    return [i["content"][0]["text"] for i in items if i["type"] == "message"]


def requests(hydra: HydraEmulator) -> int:
    """How often the model was asked to speak."""
    return len(session(hydra).received_of("response.create"))


def nothing_in_progress(context: LLMContext | None) -> bool:
    """Whether the context, if there is one, has the result of each call."""
    return context is None or "IN_PROGRESS" not in str(context.get_messages())


async def in_context(talk: Talk, *results: str) -> None:
    """The context, if there is one, comes to have a result of each of so many calls."""

    def told() -> list[str]:
        assert talk.context is not None
        found = [m for m in talk.context.get_messages() if isinstance(m, dict)]
        return [str(m.get("content")) for m in found if m.get("role") == "tool"]

    if talk.context is not None:
        await talk.until(lambda: len(told()) == len(results) and "IN_PROGRESS" not in str(told()))
        for result in results:
            assert any(result in text for text in told()), told()


async def answered(talk: Talk, hydra: HydraEmulator, *texts: str) -> None:
    """The first turn's calls are answered so, the model speaks once, and the call goes on."""
    await talk.say("hello")
    await talk.until(lambda: len(outputs(hydra)) == len(texts))
    for text in texts:
        assert any(text in output for _, output in outputs(hydra)), outputs(hydra)
    await talk.until(lambda: requests(hydra) == 1)
    await talk.until_quiet()
    (narration,) = session(hydra).narrations
    assert not narration.missing
    await in_context(talk, *texts)
    await talk.say("hello")
    await talk.until(lambda: len(talk.frames.of(LLMFullResponseEndFrame)) >= 3)
    assert len(outputs(hydra)) == len(texts)
    assert not session(hydra).errors
