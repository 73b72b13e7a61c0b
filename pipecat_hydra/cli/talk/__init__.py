"""`pipecat-hydra talk`: a recording talks to Hydra, live, and what was heard is kept and measured.

`session.talk` builds a pipeline around a `VirtualTransport` and runs the conversation;
`observer` turns frames into a `TurnLog`, which knows nothing of frames; `report` lays the
log over the audio that was heard and measures; `display` shows all that.
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
