"""ONNX Runtime sessions that are made to be timed beside one another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnxnorm


def session(path: Path, threads: int, with_library: bool) -> Any:
    """A session on the CPU that runs the graph as it is in the file.

    Args:
        path: of the ONNX file.
        threads: of its pool.
        with_library: whether the native library runs the file's ``onnxnorm`` nodes.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Otherwise the pool of one competitor goes on spinning in the turn of the next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if with_library:
        onnxnorm.register(options)
    return onnxruntime.InferenceSession(
        os.fspath(path), options, providers=["CPUExecutionProvider"]
    )
