"""Checks how function calls are answered (F1, F2).

Each call that Hydra made is answered once, and in time; nothing is answered that was not called.
The model is asked to go on once for each batch of calls, when all of it is answered. It is asked
besides when the application wants a reply, and for functions that answer while the conversation
goes on. A session that begins may ask about the calls of those before it.
"""

from collections.abc import Iterator

from chaos.checks.facts import Facts
from chaos.plan import Ask, Type
from pipecat_hydra.emulator.conversation.records import Record
from pipecat_hydra.emulator.wire.ending import ANNOUNCED


def every_call_is_answered(facts: Facts) -> Iterator[str]:
    for session in facts.sessions:
        if session.stray_outputs:
            yield f"{session.id}: outputs for {[o.call_id for o in session.stray_outputs]}"
        until = min(facts.listened_until, facts.closed(session)) - facts.opened(session)
        # Of a session whose end is announced the client is told nothing more.
        until = min([until, *(record.time for record in session.sent_of("error") if _ends(record))])
        slow = facts.stalled_secs(session)
        slow += 1.0 * len(session.injected_of("slow_reader"))
        for call in session.calls:
            if len(call.outputs) > 1:
                yield f"{session.id}: {call.name} was answered {len(call.outputs)} times"
            due = call.time + 0.6 + slow
            if not call.outputs and not call.abandoned and due < until:
                waited = until - call.time
                yield f"{session.id}: {call.name} was not answered within {waited:.1f} s"


def one_request_each(facts: Facts) -> Iterator[str]:
    asked = len(facts.acts(Type, Ask))
    before = 0
    for session in facts.sessions:
        for narration in session.narrations:
            if narration.missing:
                yield f"{session.id}: asked with {len(narration.missing)} calls not answered"
        batches = {call.response_id for call in session.calls}
        late = sum(call.name == "later" for call in session.calls)
        requests = len(session.received_of("response.create"))
        if requests > len(batches) + late + asked + before:
            yield f"{session.id}: {requests} response.create for {len(batches)} batches"
        before += len(session.calls)


def _ends(record: Record) -> bool:
    return record.event["error"]["code"] in ANNOUNCED
