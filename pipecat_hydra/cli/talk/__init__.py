"""`pipecat-hydra talk`: plays a recording to Hydra at real time, and measures the conversation.

`session.talk` builds a pipeline around a `VirtualTransport` and runs the conversation. `observer`
reports frames to a `TurnLog` (`turns`), which does not depend on frames. `report` combines the log
with the audio that was heard, and measures. `display` shows the result.
"""

from pipecat_hydra.cli.talk.display import Display
from pipecat_hydra.cli.talk.errors import ExitCode, TalkError
from pipecat_hydra.cli.talk.report import Report, Row
from pipecat_hydra.cli.talk.session import DEFAULT_INSTRUCTIONS, TalkOptions, talk

__all__ = [
    "DEFAULT_INSTRUCTIONS",
    "Display",
    "ExitCode",
    "Report",
    "Row",
    "TalkError",
    "TalkOptions",
    "talk",
]
