"""TensorFlow operators that have no ONNX form, whoever converts them, and what to do instead."""

from __future__ import annotations

import re

_RANDOM = (
    "its numbers would not be those of TensorFlow; call the layer with training=False, take it "
    "away, or make the noise an input of the model"
)
_HASH = (
    "ONNX has no such hash; use a vocabulary (StringLookup, IntegerLookup), or hash before the "
    "model and give it the integers"
)
_TEXT = (
    "ONNX has no operators on the characters of strings; process the text before the model, and "
    "give it words or integers"
)
_REFUSED = {
    r".*Random(Standard|Truncated)?(Normal|Uniform|Gamma|Poisson|Binomial|Shuffle).*": _RANDOM,
    r"RngReadAndSkip": _RANDOM,
    r".*(TruncatedNormal|Multinomial).*": _RANDOM,
    r"StringToHashBucket.*|SparseCross.*|Fingerprint": _HASH,
    r".*Regex.*|String(Split|Join|Strip|Length|NGrams|Format).*|Substr|Unicode.*": _TEXT,
}


def why(operator: str) -> str:
    """Why a TensorFlow operator is refused, and what would be accepted; empty if it is not."""
    return next((text for form, text in _REFUSED.items() if re.fullmatch(form, operator)), "")
