"""Voice activity detection for many calls: less work, with the same results.

Each session of the emulator has a detector of its own, and the calls of tests hear the same
recordings and the same silence. So a model is loaded once a process, what it says of a window
that it has heard in the same state is kept, and it runs in the thread that asks it: to hand a
window to another thread takes half as long again as to judge it.
"""

import hashlib
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

from numpy.typing import NDArray

# The voice activity detector of the emulator runs in onnxruntime, which calls home otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import numpy as np
import onnxruntime
from pipecat.audio.vad import vad_analyzer

__all__ = ["models_run_cheaply"]

_KEPT_ANSWERS: Final = 10_000


@contextmanager
def models_run_cheaply() -> Generator[None]:
    """Load each model once, keep what it answers, and run it without a thread."""
    load, loaded = onnxruntime.InferenceSession, dict[str, _Model]()

    def load_once(path: str, **kwargs: Any) -> _Model:
        if path not in loaded:
            loaded[path] = _Model(load(path, **kwargs))
        return loaded[path]

    with (
        patch.object(onnxruntime, "InferenceSession", load_once),
        patch.object(vad_analyzer, "ThreadPoolExecutor", _AtOnce),
    ):
        yield


class _Model:
    """A model that remembers its answers.

    A model holds no state: what a detector remembers is among the inputs. So the answer to the
    same inputs is the same.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._answers: dict[bytes, tuple[NDArray[Any], ...]] = {}

    def run(self, names: Sequence[str] | None, inputs: dict[str, NDArray[Any]]) -> Any:
        """Run the model, unless it has had these inputs before."""
        digest = hashlib.blake2b(digest_size=16)
        for name, value in inputs.items():
            digest.update(f"{name} {value.dtype} {value.shape}".encode())
            digest.update(value.tobytes())
        key = digest.digest()
        answer = self._answers.get(key)
        if answer is None:
            answer = tuple(map(np.asarray, self._session.run(names, inputs)))
            if len(self._answers) < _KEPT_ANSWERS:
                self._answers[key] = answer
        return answer


class _AtOnce(Executor):
    """An executor that runs a job when it is given."""

    def __init__(self, max_workers: int) -> None:
        """Take what an executor of threads takes."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Run the job."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
