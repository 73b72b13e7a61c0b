"""Loads each onnxruntime model once a process, however many sessions of the emulator use it."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

# The voice activity detector of the emulator runs in onnxruntime, which calls home otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime


@contextmanager
def models_loaded_once() -> Generator[None]:
    """Keep each model that is loaded, and hand it out again.

    A model holds no state; what a detector remembers it keeps beside it.
    """
    load, loaded = onnxruntime.InferenceSession, dict[str, onnxruntime.InferenceSession]()

    def load_once(path: str, **kwargs: Any) -> onnxruntime.InferenceSession:
        if path not in loaded:
            loaded[path] = load(path, **kwargs)
        return loaded[path]

    with patch.object(onnxruntime, "InferenceSession", load_once):
        yield
