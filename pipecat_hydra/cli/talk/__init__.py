"""`pipecat-hydra talk`: plays a recording to Hydra at real time, and measures the conversation.

`session.talk` builds a pipeline around a `VirtualTransport` and runs the conversation. `observer`
reports frames to a `TurnLog` (`turns`), which does not depend on frames. `report` combines the log
with the recording of the conversation, in which `pipecat_hydra.recording.course` has measured.
`display` shows the result. `runs` holds several conversations and compares them with `limits`.
"""

from pipecat_hydra.cli.talk.display import Display
from pipecat_hydra.cli.talk.errors import ExitCode, TalkError
from pipecat_hydra.cli.talk.limits import Limits
from pipecat_hydra.cli.talk.report import Report, Row
from pipecat_hydra.cli.talk.runs import talk_repeatedly
from pipecat_hydra.cli.talk.session import DEFAULT_INSTRUCTIONS, TalkOptions, talk

__all__ = [
    "DEFAULT_INSTRUCTIONS",
    "Display",
    "ExitCode",
    "Limits",
    "Report",
    "Row",
    "TalkError",
    "TalkOptions",
    "talk",
    "talk_repeatedly",
]
