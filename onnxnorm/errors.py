"""The package's errors: each message says what, where and what would be accepted."""

from __future__ import annotations


class OnnxNormError(Exception):
    """Base of every error that onnxnorm raises on purpose."""


class ArgumentError(OnnxNormError, TypeError, ValueError):
    """An argument of a public function that is of a wrong type, or a value that it cannot have."""


class ModelFileError(OnnxNormError):
    """A model file that is missing, damaged, of an unknown format or unsafe to load."""


class MissingDependencyError(OnnxNormError):
    """A library that this step needs is absent or of a version that does not serve."""


class ConversionError(OnnxNormError):
    """A model, or one of its layers, that cannot be converted."""


class RuntimeLibraryError(OnnxNormError):
    """The native operator library cannot be found or cannot be loaded."""


class VerificationError(OnnxNormError):
    """A comparison that cannot be made: inputs or outputs that do not fit together."""
