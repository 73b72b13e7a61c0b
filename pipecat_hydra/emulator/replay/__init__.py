"""Plays the server's side of a recorded call, with its timing.

The n-th connection of the client is the n-th of the recording, also if that was refused, dropped or
never opened. In a connection the events of the server keep their order, their ids and their
content. When each is sent follows from its cause:

- The first event, such as `session.created`, follows the opening of the connection.
- `session.configured`, or an error in its place, follows `session.configure`; `session.updated`
  follows `session.update`.
- `response.created` follows the messages, tool outputs and `response.create` that came since the
  last one; `response.done` of a response that the client cancelled follows `response.cancel`; an
  item that the client has posted, and an error that names a client event, follow that event.
- `speech_started` and `speech_stopped` follow the user's audio: they come at a place in it, which
  is so many samples after the beginning of a stretch of sound (`stretches`).
- All else follows the event of the server before it, and so does the end of a connection that the
  server closed or lost.

An event that needs something of the client waits for it, however long that takes within
bounds. It follows whatever of all this came last in the recording, and comes as long after it as
it did there. Delays add up from when things were due and not from when they were done, so that a
busy machine makes nothing later than it is itself late.

Client events are matched by meaning (`expectations`), so that ids and times of a client do not
matter, nor how it cuts its audio. What does not come is given up 5 s later than it came in the
recording, or 1 s after the user has said what comes next. A response that was asked for, and is not
asked for in the replay, is left out; else the replay goes on as recorded.

`plan` finds the causes in a recording, `session` plays one connection, `replay` all of them, and
`differences` says how what the client sent differs.
"""

from pipecat_hydra.emulator.replay.differences import Difference, ReplayDifferenceError
from pipecat_hydra.emulator.replay.replay import Replay

__all__ = ["Difference", "Replay", "ReplayDifferenceError"]
