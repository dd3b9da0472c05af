"""What the graph of a SavedModel may hold while the file is not trusted.

Restoring a SavedModel runs functions of its graph, and its layers run more of them later. An
operation passes if it computes tensors from tensors, draws random numbers, or keeps variables and
lookup tables: none that reads or writes files, the network, the process or Python. The operations
of checkpoints stand only in functions that nothing calls but the saver.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from onnxnorm.frameworks.bounds import MAX_EXPANSION, SLACK


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Files of TensorFlow's op definitions whose stateless operations compute tensors from tensors.
_PURE = _words(
    "array audio bitwise count ctc image linalg list manip math nn parsing ragged_array "
    "ragged_conversion ragged_math random random_index_shuffle rnn set sparse special_math "
    "spectral stateless_random stateless_random_ops_v2 string uniform_quant"
)
_RANDOM = ("random", "stateful_random", "cudnn_rnn", "stateless_random_ops_v2")
# Maps the file that an attribute names into memory.
_NOT_PURE = frozenset({"ImmutableConst"})
# IteratorGetNext stands where a layer was adapted: no operation here makes an iterator to read.
_NAMED = _words(
    """
    Assert CheckNumerics CheckNumericsV2 DeepCopy Empty GuaranteeConst RandomCrop
    ResourceStridedSliceAssign SampleDistortedBoundingBox SampleDistortedBoundingBoxV2
    Case ControlTrigger DeviceIndex Enter Exit FakeParam For If LoopCond Merge NextIteration NoOp
    PartitionedCall RefEnter RefExit RefMerge RefNextIteration RefSelect RefSwitch
    StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile Switch SymbolicGradient ToBool
    While
    AssignAddVariableOp AssignSubVariableOp AssignVariableOp DestroyResourceOp DisableCopyOnRead
    ReadVariableOp ResourceGather ResourceGatherNd ResourceScatterAdd ResourceScatterDiv
    ResourceScatterMax ResourceScatterMin ResourceScatterMul ResourceScatterNdAdd
    ResourceScatterNdUpdate ResourceScatterSub ResourceScatterUpdate VarHandleOp
    VarIsInitializedOp VariableShape Assign AssignAdd AssignSub IsVariableInitialized Variable
    VariableV2
    AnonymousHashTable AnonymousMutableDenseHashTable AnonymousMutableHashTable
    AnonymousMutableHashTableOfTensors HashTableV2 InitializeTableFromTextFileV2 InitializeTableV2
    LookupTableExportV2 LookupTableFindV2 LookupTableImportV2 LookupTableInsertV2
    LookupTableRemoveV2 LookupTableSizeV2 MutableDenseHashTableV2 MutableHashTableOfTensorsV2
    MutableHashTableV2
    IteratorGetNext IteratorGetNextAsOptional
    OptionalFromValue OptionalGetValue OptionalHasValue OptionalNone
    DynamicPartition DynamicStitch ParallelDynamicStitch StackCloseV2 StackPopV2 StackPushV2 StackV2
    TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayGradV3 TensorArrayReadV3
    TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3 TensorArrayV3 TensorArrayWriteV3
    """
)
_SAVER = frozenset({"MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"})
_TABLE_FILE = "InitializeTableFromTextFileV2"


@lru_cache(maxsize=1)
def operations() -> frozenset[str]:
    """Names of the operations that may stand in a function that is run."""
    from tensorflow.python.framework import op_def_registry

    found = set(_NAMED)
    for family in {*_PURE, *_RANDOM}:
        suffix = "" if "_ops" in family else "_ops"
        try:
            module = import_module(f"tensorflow.python.ops.gen_{family}{suffix}")
        except ImportError:  # not in this release
            continue
        for name in dir(module):
            definition = op_def_registry.get(name) if name[:1].isupper() else None
            if definition is not None and (not definition.is_stateful or family in _RANDOM):
                found.add(name)
    return frozenset(found - _NOT_PURE)


def refusals(saved_model: Any, size: int) -> Iterator[str]:
    """Why a SavedModel's graph is refused.

    Args:
        saved_model: a ``SavedModel`` message.
        size: bytes of the file that it was read from.
    """
    if len(saved_model.meta_graphs) != 1:
        yield f"it has {len(saved_model.meta_graphs)} graphs, not one"
        return
    graph = saved_model.meta_graphs[0]
    if not graph.HasField("object_graph_def"):
        yield "it is of TensorFlow 1: it has no object graph"
        return
    for asset in graph.asset_file_def:
        if asset.filename in ("", ".", "..") or set(asset.filename) & set("/\\\0"):
            yield f"the name of its asset {asset.filename!r:.80} is not that of a file in assets/"
    functions = {f.signature.name: f.node_def for f in graph.graph_def.library.function}
    for name in filter(_is_operation, functions):
        yield f"its function {name!r:.80}, which has the name of an operation of TensorFlow"
    for where, nodes in [("the graph", graph.graph_def.node), *functions.items()]:
        yield from _node_refusals(where, nodes, functions.keys(), size)
    yield from _reach_refusals(graph, functions)


def node_definition_refusals(definition: Any) -> Iterator[str]:
    """Why a TensorFlowOpLayer is refused, by the node that it holds."""
    from google.protobuf import json_format
    from tensorflow.core.framework.node_def_pb2 import NodeDef

    try:
        if isinstance(definition, dict):
            node = json_format.ParseDict(definition, NodeDef())
        else:
            content = definition.encode() if isinstance(definition, str) else bytes(definition)
            node = NodeDef.FromString(content)
    except Exception:
        yield "its node cannot be read"
        return
    yield from _node_refusals("its node", [node], (), SLACK)


def _node_refusals(
    where: str, nodes: Iterable[Any], functions: Iterable[str], size: int
) -> Iterator[str]:
    known = operations()
    for node in nodes:
        if node.op not in known and node.op not in _SAVER and node.op not in functions:
            yield f"the operation {node.op!r:.60} ({node.name!r:.80} in {where:.80})"
        for name, attribute in node.attr.items():
            if not attribute.HasField("tensor"):
                continue
            elements = 1
            for dimension in attribute.tensor.tensor_shape.dim:
                elements *= max(dimension.size, 0)
            if elements > MAX_EXPANSION * size + SLACK:
                yield f"the {name} of {node.name!r:.80} with {elements} elements"


def _reach_refusals(graph: Any, functions: dict[str, Any]) -> Iterator[str]:
    """Checks who calls the functions that touch a checkpoint or the text file of a table."""
    calls = {name: {f for n in nodes for f in _called(n)} for name, nodes in functions.items()}
    savers = _reaching(calls, functions, _SAVER)
    tables = _reaching(calls, functions, {_TABLE_FILE})
    for name, concrete in graph.object_graph_def.concrete_functions.items():
        if name in savers:
            yield f"the function {name!r:.80}, which reads or writes a checkpoint, is a layer's"
        for index in concrete.bound_inputs if name in tables else ():
            kind = graph.object_graph_def.nodes[index].WhichOneof("kind")
            if kind not in ("asset", "resource", "variable"):
                yield f"the table of {name!r:.80} is read from a file that is not its asset"
    for name in tables:
        for node in functions[name]:
            reads = node.op == _TABLE_FILE or tables & set(_called(node))
            # An input without ":" is an argument of the function itself.
            if reads and any(":" in i for i in node.input if not i.startswith("^")):
                if node.op == _TABLE_FILE and ":" not in node.input[1]:
                    continue
                yield f"the table of {name!r:.80} is read from a file that is not its asset"


def _is_operation(name: str) -> bool:
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(name) is not None


def _reaching(
    calls: dict[str, set[str]], functions: dict[str, Any], wanted: Iterable[str]
) -> set[str]:
    """Functions that hold one of these operations, or call a function that does."""
    reaching = {name for name, nodes in functions.items() if any(n.op in wanted for n in nodes)}
    callers: dict[str, set[str]] = {}
    for name, called in calls.items():
        for function in called:
            callers.setdefault(function, set()).add(name)
    pending = list(reaching)
    while pending:
        new = callers.get(pending.pop(), set()) - reaching
        reaching |= new
        pending.extend(new)
    return reaching


def _called(node: Any) -> Iterator[str]:
    yield node.op
    for attribute in node.attr.values():
        if attribute.HasField("func"):
            yield attribute.func.name
        yield from (function.name for function in attribute.list.func)


def read(file: Path) -> Any:
    """The ``SavedModel`` message in a file."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    return SavedModel.FromString(file.read_bytes())
