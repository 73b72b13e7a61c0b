"""OpenTelemetry spans of a call, in Pipecat's tree of conversation and turns.

There are three kinds of spans, named as those of Pipecat's realtime services are
(`utils/tracing/service_decorators.py`):

    llm_setup      from the first attempt to connect until the session is configured, with
                   all attempts between; one for each session
    llm_response   from when the response was asked for until `response.done`, or until it was
                   interrupted, whichever is first
    llm_tool_call  from the call until its function returned a result, failed, timed out or was
                   cancelled

The parent of a span is the turn that was open when the span began, else the conversation. If a
session is lost, its open spans end with an error.

`Tracing` observes a service: it is shown the effects that the pipeline is told, and a few calls of
the service. It changes nothing. `setups`, `responses` and `tool_calls` each keep the spans of one
kind. When a response was asked for is certain only once it speaks, and its status only once it is
over. So a span is kept as a record, and `spans` creates it in OpenTelemetry when it has ended, with
the times that were noted. No span can be left open that way. Creating a span does not block, as
long as the exporter is behind a batch processor, which Pipecat's `setup_tracing` arranges.

The attributes are those of Pipecat's helpers, by the same names
(`utils/tracing/service_attributes.py`), those of OpenTelemetry's conventions for generative AI, and
`hydra.…` for the rest. As in Pipecat's own services, an application that enables tracing consents
to content in spans: the first 500 characters of its instruction, what the bot said, and the
arguments and results of functions. What users say is not in spans, because Hydra gives no
transcript of it. What a session was told of the conversation before it is not in spans either.

OpenTelemetry is imported only if the pipeline traces.
"""

from pipecat_hydra.service.tracing.tracing import Tracing

__all__ = ["Tracing"]
