"""How much a file or an argument may ask for: more is refused before the work begins.

ONNX files: 2 GB, the format's own limit (larger weights lie in data files); messages nested 100
deep, the limit of protocol buffers; function calls nested `FUNCTION_DEPTH` deep; at most
`FUNCTION_NODES` nodes that calls of the file's functions stand for, or `NODES_OF_A_CALL` for each
node of its graphs; external tensors that together have at most `SHARED_DATA` times the bytes of
their data files.

Inputs, drawn or read: `INPUT_BYTES` for all of them together.
"""

from __future__ import annotations

FUNCTION_DEPTH = 100
"""Calls within calls of a model's functions."""

FUNCTION_NODES = 50_000
"""Nodes that take the place of all calls of a model's functions once these are inlined, which ONNX
Runtime does in a time that grows with the square of their number."""

NODES_OF_A_CALL = 100
"""What a large model may have instead: so many for each of its nodes. Our largest body has 54."""

SHARED_DATA = 8
"""How often the bytes of a data file may be used by tensors that share them."""

INPUT_BYTES = 4 * 2**30
"""Memory of all inputs of a run; while a number is drawn it has 8 bytes."""

ROUNDS = 1_000_000
"""Turns of each competitor of a benchmark."""

RECORD_CHARACTERS = 16 * 2**20
"""Text of the layer records that a model's nodes carry; those beyond it stay with the model."""
