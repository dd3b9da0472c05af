"""Large weights of a model under conversion: the graph refers to them, and they lie beside it.

So nothing that copies or serializes the graph touches them, and no limit of protobuf messages
counts them. A reference is a tensor with external data at a location that begins with ``#``,
ONNX' sign for a place in memory: checker, shape inference and version converter take it.
"""

from __future__ import annotations

import itertools
import math
import mmap
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from onnxnorm.graph.nodes import all_graphs

Array = npt.NDArray[Any]

# Bytes from which on a weight is kept out of the graph. Shapes and axes, which passes over the
# graph read, are far smaller.
LARGE = 2**14
_FINGERPRINT = 64


def is_large(shape: tuple[int, ...], dtype: Any) -> bool:
    """Whether a weight of this shape and element type is kept out of the graph."""
    dtype = np.dtype(dtype)
    return dtype.kind in "fiub" and math.prod(shape) * dtype.itemsize >= LARGE


class Weights:
    """The large weights of one model under conversion."""

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}
        self._numbers = itertools.count()

    @contextmanager
    def referenced(self, tf2onnx: Any) -> Iterator[None]:
        """While it is open, the constants of tf2onnx's graphs are references where they are large.

        tf2onnx reads and writes them by ``numpy_helper`` alone, so that is what it is given anew.
        """
        modules = (tf2onnx.graph, tf2onnx.tf_utils)
        own = {"to_array": self.to_array, "from_array": self.from_array}
        stand_in = SimpleNamespace(**{**vars(numpy_helper), **own})
        for module in modules:
            module.numpy_helper = stand_in
        try:
            yield
        finally:
            for module in modules:
                module.numpy_helper = numpy_helper

    def to_array(self, tensor: onnx.TensorProto) -> Array:
        """The tensor's value, that of a reference too."""
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            return self._arrays[_location(tensor)]
        array: Array = numpy_helper.to_array(tensor)
        return array

    def from_array(self, array: Array, name: str | None = None) -> onnx.TensorProto:
        """A tensor with this value, a reference to the array itself where it is large."""
        if not is_large(array.shape, array.dtype):
            return numpy_helper.from_array(array, name)
        location = f"#{next(self._numbers)}"
        self._arrays[location] = _kept(array)
        tensor = onnx.TensorProto(
            name=name,
            data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
            dims=array.shape,
            data_location=onnx.TensorProto.EXTERNAL,
        )
        tensor.external_data.add(key="location", value=location)
        # By this tf2onnx tells which constants it has to compare with one another.
        places = np.linspace(0, array.size - 1, _FINGERPRINT).astype(np.int64)
        tensor.raw_data = array.flat[places].tobytes()
        return tensor

    def into_constants(self, graph: Any, values: Mapping[str, Array]) -> None:
        """Turns nodes of tf2onnx's graph, given by name, into constants."""
        for name, value in values.items():
            node = graph.get_node_by_name(name)
            (output,), (shape,), (dtype,) = node.output, node.output_shapes, node.output_dtypes
            graph.remove_node(name)
            graph.make_node(
                "Const",
                [],
                attr={"value": self.from_array(value, output)},
                outputs=[output],
                name=name,
                skip_conversion=False,
                shapes=[shape],
                dtypes=[dtype],
                infer_shape_dtype=False,
            )

    def attach(self, model: onnx.ModelProto, names: Collection[str] | None = None) -> None:
        """Writes values into the model: of the references of these names, or of all for good."""
        uses = Counter(_location(tensor) for tensor in _references(model))
        for tensor in list(_references(model)):
            if names is not None and tensor.name not in names:
                continue
            location = _location(tensor)
            uses[location] -= 1
            value = self._arrays[location]
            if not uses[location]:
                del self._arrays[location]  # or a computed one would be held twice
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = value.tobytes()


def settle(model: onnx.ModelProto) -> None:
    """Makes the references of a model that tf2onnx has made valid ONNX."""
    for tensor in _references(model):
        tensor.ClearField("raw_data")


def _references(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in all_graphs(model.graph):
        for tensor in graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                yield tensor


def _kept(array: Array) -> Array:
    """The array, read only; one that was computed, in memory that goes back when it is let go.

    What numpy allocates stays with the process in the end, beside what the values are copied to.
    """
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    kept = array.view()
    if owner.base is None:
        kept = np.frombuffer(mmap.mmap(-1, array.nbytes), array.dtype).reshape(array.shape)
        np.copyto(kept, array)
    kept.flags.writeable = False
    return kept


def _location(tensor: onnx.TensorProto) -> str:
    location: str = tensor.external_data[0].value
    return location
