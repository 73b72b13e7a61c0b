"""The outlet of a session that has no socket: the session's record has what would be sent."""

from typing import Any

from pipecat_hydra.emulator import EmulatedSession, Fault, FaultPlan
from pipecat_hydra.emulator.conversation.activity import ActivityHook
from pipecat_hydra.emulator.conversation.outlet import Outlet
from pipecat_hydra.emulator.faults.injection import Injection


def outlet(
    *faults: Fault, hook: ActivityHook | None = None, **options: Any
) -> tuple[Outlet, EmulatedSession]:
    session = EmulatedSession("sess_1", "hydra-v1.1")
    injection = Injection(
        FaultPlan(faults).connection(1),
        lambda: session.elapsed,
        lambda fault, detail: None,
        lambda how, at_once: None,
    )
    return Outlet(session, hook, injection, **options), session


def types(session: EmulatedSession) -> list[str]:
    """Types of all events that were sent."""
    return [record.type for record in session.sent]
