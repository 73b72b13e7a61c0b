"""OpenTelemetry metrics of calls: how long, how fast, how often, and how much.

Spans (`tracing`) tell of one call, metrics of all calls of a process together. `Meters` observes
the service of one run of a pipeline and changes nothing. It is shown the effects that the pipeline
is told, when the bot is heard, and how functions end. Nothing is done for the audio of a call:
bytes are summed where they are sent and received, and read when a response or a session ends.

An application that wants metrics sets a `MeterProvider` before its pipeline is set up. Without
one, no instrument is made, each call of `Meters` returns at once, and OpenTelemetry is not
imported.

The names of metrics begin with `hydra.`, but for the tokens: those are
`gen_ai.client.token.usage`, of OpenTelemetry's conventions for generative AI (1.41). Attributes
have the names of those conventions (`gen_ai.…`) and of the general ones (`error.type`,
`network.io.direction`). Each attribute has few values: no ids, no words, no arguments, and of
functions only the names that the application has registered.
"""

from pipecat_hydra.service.meters.meters import Meters

__all__ = ["Meters"]
