"""A transport whose microphone plays a recording and whose loudspeaker records: WAV in, WAV out.

It replaces Daily, WebRTC or a telephone in any pipeline. A whole conversation, with its
interruptions, can be played at real time without a device, a browser or a second person, and then
be listened to or measured::

    transport = VirtualTransport.from_file("question.wav")
    pipeline = Pipeline([transport.input(), llm, transport.output()])
    ...
    await transport.microphone.done()
    transport.save_stereo("conversation.wav")  # left: the user, right: the bot as heard

Both sides share one timeline, which begins when the pipeline starts and counts samples. The
microphone delivers each frame when its last sample would have been captured. The loudspeaker
accepts audio like a sound card with a buffer of 20 ms. Audio that is written while it still plays
follows without a gap. Audio that is written later is heard from the time of the write. All audio
that was written is heard. So an interruption is heard at the time when it takes effect.

The timeline assumes a machine that is never late. All deadlines are absolute: when the event loop
wakes late, frames that are due are delivered at once, and playback continues at the position where
it should be. No sample is invented, dropped or heard twice.
"""

from pipecat_hydra.testing.virtual_transport.microphone import Microphone, Utterance
from pipecat_hydra.testing.virtual_transport.timeline import HeardAudio, Timeline
from pipecat_hydra.testing.virtual_transport.transport import (
    VirtualTransport,
    VirtualTransportParams,
    read_recording,
)

__all__ = [
    "HeardAudio",
    "Microphone",
    "Timeline",
    "Utterance",
    "VirtualTransport",
    "VirtualTransportParams",
    "read_recording",
]
