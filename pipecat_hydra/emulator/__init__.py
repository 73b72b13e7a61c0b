"""A local server that speaks Hydra's protocol.

It is written from the protocol document alone and shares nothing with the service but the
constants of `pipecat_hydra.protocol`, so that each can show the other to be wrong.
"""

from pipecat_hydra.emulator.ledger import (
    CallRecord,
    HistoryEntry,
    MessageRecord,
    NarrationRecord,
    OutputRecord,
)
from pipecat_hydra.emulator.outlet import Activity, ActivityHook
from pipecat_hydra.emulator.records import EmulatedSession, Record
from pipecat_hydra.emulator.responders import (
    Call,
    Dialogue,
    Echo,
    Heard,
    Noise,
    Pause,
    Reply,
    Responder,
    Say,
    Script,
    Step,
    ToolOutput,
    Turn,
)
from pipecat_hydra.emulator.script import ScriptError, load_script
from pipecat_hydra.emulator.server import EmulatorPortInUseError, HydraEmulator
from pipecat_hydra.emulator.settings import EmulatorSettings

__all__ = [
    "Activity",
    "ActivityHook",
    "Call",
    "CallRecord",
    "Dialogue",
    "Echo",
    "EmulatedSession",
    "EmulatorPortInUseError",
    "EmulatorSettings",
    "Heard",
    "HistoryEntry",
    "HydraEmulator",
    "MessageRecord",
    "NarrationRecord",
    "Noise",
    "OutputRecord",
    "Pause",
    "Record",
    "Reply",
    "Responder",
    "Say",
    "Script",
    "ScriptError",
    "Step",
    "ToolOutput",
    "Turn",
    "load_script",
]
