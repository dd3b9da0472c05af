"""How TensorFlow is started here: quiet, repeatable, and with a stated number of threads."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import suppress
from typing import Any


def start(threads: int) -> Any:
    """TensorFlow with the Addons' layers known to it, where they are installed.

    Args:
        threads: size of its pools, inside an operation and across operations. A process that has
            run TensorFlow before keeps the sizes that it had.

    Returns:
        The module `tensorflow`.
    """
    # 2 leaves errors only; the file that a message comes from reads it at import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with warnings.catch_warnings():
        # Addons warns at every import that its development has ended.
        warnings.simplefilter("ignore")
        import tensorflow as tf

        with suppress(ImportError):
            import tensorflow_addons  # noqa: F401 # makes its layers loadable by name

    tf.get_logger().setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    logging.getLogger().addFilter(_is_of_use)
    # Keras 2.15 advises against .h5 files, which are written on purpose.
    warnings.filterwarnings("ignore", message=".*HDF5 file.*")
    tf.config.experimental.enable_op_determinism()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        pass
    return tf


def _is_of_use(record: logging.LogRecord) -> bool:
    # Addons says this whenever it loads an InstanceNormalization that Keras has saved.
    return "value for groups will be overwritten" not in record.getMessage()
