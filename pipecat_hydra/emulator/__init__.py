"""A local server that speaks Hydra's protocol, for tests and for work without an account.

`HydraEmulator` is the server, `EmulatorSettings` its settings; `stand_in` serves it to a bot that
has no key. A responder decides what the emulated model says: `Echo`, `Script`, a YAML file that
`load_script` reads, or one of the test's own. Faults such as `Drop` and `Refuse`, together in a
`FaultPlan`, make it fail on purpose. `EmulatedSession` is the record of what passed in a session.

The emulator is written from the protocol document alone. It shares only the constants of
`pipecat_hydra.wire.protocol` with the service, so that a mistake in one of the two shows when
they meet. A mistake in those constants does not.

`server` accepts connections and serves sessions, `conversation` holds one session's turns and
responses, `model` decides what to say, `faults` makes things fail, and `wire` has the events.
"""

from pipecat_hydra.emulator.conversation.activity import Activity, ActivityHook
from pipecat_hydra.emulator.conversation.ledger import (
    CallRecord,
    FaultRecord,
    HistoryEntry,
    MessageRecord,
    NarrationRecord,
    OutputRecord,
)
from pipecat_hydra.emulator.conversation.records import EmulatedSession, Record
from pipecat_hydra.emulator.faults.event_faults import (
    Binary,
    Duplicate,
    EventFault,
    Garbage,
    Giant,
    Jitter,
    Missing,
    Reorder,
    Unknown,
)
from pipecat_hydra.emulator.faults.fault import Fault, FaultError
from pipecat_hydra.emulator.faults.kinds import (
    Drop,
    Encoding,
    Full,
    HandshakeStep,
    Hang,
    LateAudio,
    LateEnd,
    Moment,
    OddSplits,
    Rate,
    Refuse,
    RejectConfiguration,
    RejectVoice,
    SlowReader,
)
from pipecat_hydra.emulator.faults.parsing import parse_fault
from pipecat_hydra.emulator.faults.plan import FaultPlan
from pipecat_hydra.emulator.model.responders import Dialogue, Echo, Heard, Responder, ToolOutput
from pipecat_hydra.emulator.model.script import Script
from pipecat_hydra.emulator.model.script_file import ScriptError, load_script
from pipecat_hydra.emulator.model.steps import Call, Noise, Pause, Reply, Say, Step, Turn
from pipecat_hydra.emulator.replay import Difference, ReplayDifferenceError
from pipecat_hydra.emulator.server.emulator import EmulatorPortInUseError, HydraEmulator
from pipecat_hydra.emulator.server.stand_in import stand_in
from pipecat_hydra.emulator.settings import EmulatorSettings, OriginError
from pipecat_hydra.emulator.wire.ending import Ending

__all__ = [
    "Activity",
    "ActivityHook",
    "Binary",
    "Call",
    "CallRecord",
    "Dialogue",
    "Difference",
    "Drop",
    "Duplicate",
    "Echo",
    "EmulatedSession",
    "EmulatorPortInUseError",
    "EmulatorSettings",
    "Encoding",
    "Ending",
    "EventFault",
    "Fault",
    "FaultError",
    "FaultPlan",
    "FaultRecord",
    "Full",
    "Garbage",
    "Giant",
    "HandshakeStep",
    "Hang",
    "Heard",
    "HistoryEntry",
    "HydraEmulator",
    "Jitter",
    "LateAudio",
    "LateEnd",
    "MessageRecord",
    "Missing",
    "Moment",
    "NarrationRecord",
    "Noise",
    "OddSplits",
    "OriginError",
    "OutputRecord",
    "Pause",
    "Rate",
    "Record",
    "Refuse",
    "RejectConfiguration",
    "RejectVoice",
    "Reorder",
    "ReplayDifferenceError",
    "Reply",
    "Responder",
    "Say",
    "Script",
    "ScriptError",
    "SlowReader",
    "Step",
    "ToolOutput",
    "Turn",
    "Unknown",
    "load_script",
    "parse_fault",
    "stand_in",
]
