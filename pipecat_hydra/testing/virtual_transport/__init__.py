"""A transport with a recording for a microphone and a memory for a loudspeaker: WAV in, WAV out.

Takes the place of Daily, WebRTC or a telephone in any pipeline, so that a whole
conversation, with its interruptions, can be played at real time without a device, a browser
or a second person, then be listened to or measured::

    transport = VirtualTransport.from_file("question.wav")
    pipeline = Pipeline([transport.input(), llm, transport.output()])
    ...
    await transport.microphone.done()
    transport.save_stereo("conversation.wav")  # left: the user, right: the bot as heard

Both sides lie on one timeline, which begins when the pipeline starts and counts samples. The
microphone hands over each frame when its last sample would have been captured. The
loudspeaker takes audio as a sound card with 20 ms of buffer does: what is written while it
still plays follows without a gap, what is written later begins when it was written, and what
was written is heard. So an interruption is heard where it takes effect.

The timeline is that of a machine which is never late. All deadlines are absolute; when the
event loop wakes late, missed frames are handed over at once and playback goes on where it
should have. No sample is made up, dropped or heard twice.
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
