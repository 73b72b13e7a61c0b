"""Watches, in a process with one session, how long a first delta takes from arrival to push."""

import time

from pipecat.frames.frames import Frame, TTSAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from websockets.asyncio.connection import Connection

from benchmarks.marks import marked_times

__all__ = ["ArrivalWatch"]


class ArrivalWatch:
    """Wraps the method of `websockets` that the event loop gives bytes to, and `push_frame`."""

    def __init__(self, llm: FrameProcessor):
        """Begin to watch.

        Args:
            llm: The service whose pushes are watched.
        """
        self.pushes: list[float] = []
        self._arrived = 0.0
        watch = self
        received = Connection.data_received
        push = llm.push_frame

        def data_received(self: Connection, data: bytes) -> None:
            watch._arrived = time.monotonic()
            received(self, data)

        async def push_frame(
            frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM
        ) -> None:
            if self._arrived and isinstance(frame, TTSAudioRawFrame) and marked_times(frame.audio):
                self.pushes.append(1000 * (time.monotonic() - self._arrived))
            await push(frame, direction)

        Connection.data_received = data_received
        llm.push_frame = push_frame
