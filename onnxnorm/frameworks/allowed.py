"""What the configurations in a model file may name while the file is not trusted.

Keras builds whatever class or function a configuration names. In safe mode only three kinds of
names pass: what Keras publishes for use in models, TensorFlow functions that compute tensors from
tensors, and what somebody has registered in this process, such as TensorFlow Addons or the user.
"""

from __future__ import annotations

import builtins
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from onnxnorm.frameworks.bounds import MAX_LAYERS


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Namespaces of ``tf.keras`` whose classes and functions are made for use in models.
_NAMESPACES = _words(
    "activations constraints dtype_policies initializers layers layers.experimental "
    "layers.experimental.preprocessing "
    "losses metrics mixed_precision models optimizers optimizers.experimental optimizers.legacy "
    "optimizers.schedules quantizers random regularizers"
)
_FUNCTIONS_OF = ("activations", "constraints", "initializers", "losses", "metrics", "regularizers")
_ACCESSORS = frozenset({"get", "serialize", "deserialize"})

# Classes that Keras writes into files without publishing them: by module, without its ".src".
_UNPUBLISHED = {
    "keras.applications.convnext": {"LayerScale", "StochasticDepth"},
    "keras.applications.inception_resnet_v2": {"CustomScaleLayer"},
    "keras.engine.functional": {"Functional"},
    "keras.engine.base_layer": {"TensorFlowOpLayer"},
    "keras.engine.input_spec": {"InputSpec"},
    "keras.layers.core.tf_op_layer": {
        "ClassMethod",
        "InstanceMethod",
        "InstanceProperty",
        "SlicingOpLambda",
        "TFOpLambda",
    },
    "keras.layers.layer": {"Layer"},
    "keras.models.functional": {"Functional"},
    "keras.models.model": {"Model"},
    "keras.models.sequential": {"Sequential"},
    "keras.dtype_policies.dtype_policy": {"DTypePolicyMap"},
    "keras.random.seed_generator": {"SeedGenerator"},
    # Without the columns whose vocabulary or weights are read from a file.
    "tensorflow.python.feature_column.feature_column_v2": {
        "BucketizedColumn",
        "CrossedColumn",
        "HashedCategoricalColumn",
        "IdentityCategoricalColumn",
        "IndicatorColumn",
        "NumericColumn",
        "VocabularyListCategoricalColumn",
        "WeightedCategoricalColumn",
    },
    "tensorflow.python.ops.init_ops_v2": {
        "Constant",
        "GlorotNormal",
        "GlorotUniform",
        "Identity",
        "Ones",
        "Orthogonal",
        "RandomNormal",
        "RandomUniform",
        "TruncatedNormal",
        "VarianceScaling",
        "Zeros",
    },
}
# Keras 3 writes each function of keras.ops as an operation, of a class in one of these modules.
_OPERATIONS = frozenset(
    f"keras.ops.{name}" for name in _words("core einops image linalg math nn numpy")
) | {"keras.activations.activations"}

# Layers that are published and run code, or read a file, that their configuration names.
_CODE = frozenset({"FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper"})
# Arguments of lookup layers and tokenizers: values, or the path of a file with the values.
_VALUES_OR_PATH = ("vocabulary", "idf_weights", "vocabularies", "merges", "proto")

_FRAMEWORKS = frozenset({"keras", "tf_keras", "keras_hub", "keras_nlp", "keras_cv"})

# Dictionaries with a class name that stand for plain values.
_VALUES = _words(
    "__bytes__ __ellipsis__ __keras_tensor__ __numpy__ __slice__ __tensor__ __tuple__ "
    "CompositeTensor TensorShape"
)
_DTYPE = re.compile(r"bool|string|(u?int|b?float|float8_\w+|complex)\d*\w{0,8}")
_TYPE_SPECS = _words("IndexedSlicesSpec RaggedTensorSpec SparseTensorSpec TensorSpec VariableSpec")

# Functions of TensorFlow from tensors to tensors, as TFOpLambda names them: whole namespaces, of
# which only functions count, and functions at the top level.
_TF_NAMESPACES = frozenset({"bitwise", "image", "linalg", "math", "nn", "signal", "strings"})
_TF_FUNCTIONS = _words(
    """
    __operators__.add __operators__.eq __operators__.getitem __operators__.logical_and
    __operators__.logical_not __operators__.logical_or __operators__.logical_xor
    __operators__.ne __operators__.ragged_getitem
    abs acos acosh add add_n argmax argmin argsort as_string asin asinh atan atan2 atanh
    batch_gather batch_matmul batch_to_space batch_to_space_nd bitcast boolean_mask
    broadcast_dynamic_shape broadcast_static_shape broadcast_to cast ceil clip_by_global_norm
    clip_by_norm clip_by_value complex concat conj constant convert_to_tensor cos cosh cross cumprod
    cumsum debugging.check_numerics depth_to_space diag diag_part digamma div div_no_nan divide
    dtypes.cast dtypes.complex dtypes.saturate_cast dynamic_partition dynamic_stitch edit_distance
    eig eigvals einsum ensure_shape equal erf erfc exp expand_dims expm1 extract_volume_patches
    extract_image_patches eye fill fingerprint floor floor_div floordiv floormod gather gather_nd
    greater greater_equal grad_pass_through histogram_fixed_width histogram_fixed_width_bins
    identity identity_n ifft ifft2d ifft3d imag less less_equal lgamma linspace log log1p
    log_sigmoid logical_and logical_not logical_or logical_xor matmul matrix_band_part
    matrix_diag matrix_diag_part matrix_set_diag matrix_square_root matrix_transpose maximum
    meshgrid minimum mod multiply negative norm not_equal one_hot ones ones_like pad pow
    quantization.fake_quant_with_min_max_args quantization.fake_quant_with_min_max_vars
    quantization.fake_quant_with_min_max_vars_per_channel quantization.quantize_and_dequantize_v2
    ragged.boolean_mask ragged.constant ragged.range ragged.stack rank real realdiv reciprocal
    random.categorical random.gamma random.normal random.poisson random.shuffle
    random.stateless_binomial random.stateless_categorical random.stateless_gamma
    random.stateless_normal random.stateless_poisson random.stateless_truncated_normal
    random.stateless_uniform random.truncated_normal random.uniform
    random_normal random_uniform range reduce_all reduce_any reduce_euclidean_norm
    reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_sum repeat reshape
    reverse reverse_sequence rint roll round rsqrt saturate_cast scalar_mul scatter_nd searchsorted
    segment_max segment_mean segment_min segment_prod segment_sum sequence_mask shape shape_n
    sigmoid sign sin sinh size slice sort space_to_batch space_to_batch_nd space_to_depth
    sparse.add sparse.concat sparse.expand_dims sparse.from_dense sparse.mask sparse.maximum
    sparse.minimum sparse.reduce_max sparse.reduce_sum sparse.reorder sparse.reshape sparse.retain
    sparse.slice sparse.softmax sparse.sparse_dense_matmul sparse.split sparse.to_dense
    sparse.to_indicator sparse.transpose
    split sqrt square squared_difference squeeze stack stop_gradient strided_slice subtract svd tan
    tanh tensor_scatter_nd_add tensor_scatter_nd_max tensor_scatter_nd_min
    tensor_scatter_nd_sub tensor_scatter_nd_update tensordot tile to_bfloat16 to_complex128
    to_complex64 to_double to_float to_int32 to_int64 trace transpose truediv truncatediv
    truncatemod unique unique_with_counts unravel_index unsorted_segment_max
    unsorted_segment_mean unsorted_segment_min unsorted_segment_prod unsorted_segment_sum unstack
    where zeros zeros_like zeta
    """
)
_KERAS_BACKEND = _words(
    """
    abs all any arange argmax argmin batch_dot batch_flatten batch_normalization bias_add
    binary_crossentropy cast cast_to_floatx categorical_crossentropy clip concatenate constant
    conv1d conv2d conv2d_transpose conv3d cos cumprod cumsum depthwise_conv2d dot dropout elu equal
    exp expand_dims eye flatten gather greater greater_equal hard_sigmoid in_top_k l2_normalize less
    less_equal local_conv1d local_conv2d log max maximum mean min minimum not_equal one_hot ones
    ones_like permute_dimensions pool2d pool3d pow prod random_normal random_uniform relu repeat
    repeat_elements reshape resize_images resize_volumes reverse round separable_conv2d shape
    sigmoid sign sin softmax softplus softsign sparse_categorical_crossentropy spatial_2d_padding
    spatial_3d_padding sqrt square squeeze stack std stop_gradient sum switch tanh temporal_padding
    tile to_dense transpose truncated_normal var zeros zeros_like
    """
)
# Functions of those namespaces that call a function, keep state or print.
_TF_EXCLUDED = frozenset(
    {"nn.dynamic_rnn", "nn.bidirectional_dynamic_rnn", "nn.raw_rnn", "nn.static_rnn"}
    | {"nn.static_bidirectional_rnn", "nn.static_state_saving_rnn", "nn.all_candidate_sampler"}
    | {"nn.fixed_unigram_candidate_sampler", "nn.learned_unigram_candidate_sampler"}
)
_CLASS_METHODS = {
    "RaggedTensor": "from_nested_row_lengths from_nested_row_splits from_nested_value_rowids "
    "from_row_lengths from_row_limits from_row_splits from_row_starts from_sparse from_tensor "
    "from_uniform_row_length from_value_rowids",
    "sparse.SparseTensor": "from_value",
    "SparseTensor": "from_value",
}
_PROPERTIES = _words(
    "dense_shape dtype flat_values indices nested_row_splits ragged_rank row_splits shape "
    "uniform_row_length values"
)
_METHODS = _words(
    "bounding_shape consumers get_shape merge_dims nested_row_lengths nested_value_rowids nrows "
    "row_lengths row_limits row_starts set_shape to_sparse to_tensor value_rowids with_flat_values "
    "with_row_splits_dtype with_values"
)

Refusal = str


class Unknown(str):
    """A refusal because a name is of no class or function that this Keras knows."""


def refusals(config: Any, restored: bool = False) -> Iterator[Refusal]:
    """Why a configuration is refused, one reason for each name that is not allowed.

    Args:
        config: what Keras' ``get_config`` and ``to_json`` give, nested lists and dictionaries.
        restored: of a SavedModel, where classes that Keras does not know run functions of the
            file's graph instead.
    """
    layers = 0
    stack = [(config, "")]
    while stack:
        value, layer = stack.pop()
        if isinstance(value, list):
            stack.extend((item, layer) for item in reversed(value))
        if not isinstance(value, dict):
            continue
        inner = value.get("config")
        if "class_name" in value:
            named = inner.get("name") if isinstance(inner, dict) else None
            layer = named if isinstance(named, str) else layer
            for reason in _entry_refusals(value, restored):
                at = f"layer {layer!r}: " if layer else ""
                yield type(reason)(f"{at}{reason}")
            layers += "inbound_nodes" in value or "build_config" in value
            if not _called_on_tensors(value.get("inbound_nodes")):
                yield f"layer {layer!r}: it is called on constants alone"
            if layers > MAX_LAYERS:
                yield f"it has more than {MAX_LAYERS:,} layers"
                return
        stack.extend((item, layer) for item in reversed(list(value.values())))


def _entry_refusals(entry: Mapping[str, Any], restored: bool) -> Iterator[Refusal]:
    name, module = entry["class_name"], entry.get("module")
    inner, registered = entry.get("config"), entry.get("registered_name")
    if not isinstance(name, str):
        yield f"the class name {name!r:.60} is not a string"
        return
    if name in ("Lambda", "__lambda__"):
        layer = inner.get("name", "") if isinstance(inner, dict) else ""
        yield f"it has a Lambda layer {layer!r} with code in it"
        return
    if name in _VALUES:
        dtype = inner.get("dtype") if isinstance(inner, dict) else None
        if name in ("__tensor__", "__numpy__") and not _DTYPE.fullmatch(str(dtype)):
            yield f"it has a constant of dtype {dtype!r:.60}"
        return
    if name in ("TypeSpec", "__typespec__"):
        spec = entry.get("spec_name") or entry.get("type_spec")
        if not isinstance(spec, str) or spec.rpartition(".")[2] not in _TYPE_SPECS:
            yield f"it names the type {spec!r:.80}"
        elif isinstance(module, str) and not module.startswith("tensorflow.python."):
            yield f"it names {module}.{spec}"
        return
    target = inner if name == "function" else name
    if not isinstance(target, str):
        yield f"it names the function {target!r:.60}"
        return
    found = list(_resolved(target, module, registered))
    if not found:
        reason = _unresolved(target, module)
        if not (restored and isinstance(reason, Unknown)):
            yield reason
    for thing in found:
        if not _is_allowed(thing):
            place = module if isinstance(module, str) and module else _module(thing)
            yield f"it names {place}.{target}"
        elif isinstance(thing, type):
            yield from _class_refusals(thing, inner)


def _called_on_tensors(inbound_nodes: Any) -> bool:
    """Whether each call of a layer has an output of a layer among its arguments.

    Keras writes no others, and computes them while it loads the file.
    """
    for call in inbound_nodes if isinstance(inbound_nodes, list) else ():
        pending = [call]
        while pending:
            value = pending.pop()
            if isinstance(value, dict):
                if value.get("class_name") == "__keras_tensor__":
                    break
                pending.extend(value.values())
            elif isinstance(value, list):
                names_layer = len(value) in (3, 4) and isinstance(value[0], str)
                if names_layer and value[0] != "_CONSTANT_VALUE" and _are_indices(value[1:3]):
                    break
                pending.extend(value)
        else:
            return False
    return True


def _are_indices(values: list[Any]) -> bool:
    return all(isinstance(value, int) and value >= 0 for value in values)


def _unresolved(name: str, module: Any) -> Refusal:
    if isinstance(module, str) and module not in ("", "builtins"):
        root = module.partition(".")[0]
        if root in sys.stdlib_module_names:
            return f"it names {module}.{name}"
        if root not in sys.modules:
            return f"it names {module}.{name}, from a module that is not imported"
        return Unknown(f"it names {module}.{name}")
    if module == "builtins" and hasattr(builtins, name):
        return f"it names the built-in function {name!r}"
    return Unknown(f"it names {name!r}")


def _resolved(name: str, module: Any, registered_name: Any) -> Iterator[Any]:
    """All that any release of Keras may take for an entry of these names."""
    registry = registered()
    for key in (name, registered_name):
        if isinstance(key, str) and key in registry:
            yield registry[key]
    if isinstance(module, str) and module not in ("", "builtins"):
        thing = _in_module(module, name)
        if thing is not None:
            yield thing
        elif not module.startswith(("keras", "tf_keras", "tensorflow.keras")):
            return  # Keras would import it
    published = _published()
    for key in (name, registered_name):
        if isinstance(key, str) and key in published:
            yield published[key]


def _in_module(module: str, name: str) -> Any:
    loaded = sys.modules.get(module)
    if loaded is not None and name in vars(loaded):
        return vars(loaded)[name]
    if not module.startswith("keras"):
        return None
    from tensorflow import keras

    thing: Any = keras  # keras.layers is no module's name in every release
    for part in (*module.split(".")[1:], *name.split(".")):
        thing = getattr(thing, part, None) if not part.startswith("_") else None
    return thing


def _module(thing: Any) -> str:
    return str(getattr(thing, "__module__", None) or type(thing).__module__)


def _class_refusals(known: type, config: Any) -> Iterator[Refusal]:
    """Why a class that is allowed is refused with this configuration."""
    lineage = {base.__name__ for base in known.__mro__}
    for kind in lineage & _CODE:
        yield f"it has a {kind} layer, which runs or reads what its configuration names"
    if not isinstance(config, dict):
        return
    for base in lineage & _CHECKS.keys():
        yield from _CHECKS[base](config)
    if known.__module__.partition(".")[0] in _FRAMEWORKS:
        for key in _VALUES_OR_PATH:
            if isinstance(config.get(key), (str, dict)):
                yield f"its {key} is to be read from the file {config[key]!r:.80}"


def _check_function(config: Mapping[str, Any]) -> Iterator[Refusal]:
    function = config.get("function")
    if not is_tensor_function(function):
        yield f"it calls the TensorFlow function {function!r:.80}"


def _check_class_method(config: Mapping[str, Any]) -> Iterator[Refusal]:
    symbol, method = config.get("cls_symbol"), config.get("method_name")
    allowed = _CLASS_METHODS.get(symbol, "") if isinstance(symbol, str) else ""
    if not isinstance(method, str) or method not in allowed.split():
        yield f"it calls {symbol!r:.60}.{method!r:.60}"


def _check_attribute(allowed: frozenset[str]) -> Callable[[Mapping[str, Any]], Iterator[Refusal]]:
    def check(config: Mapping[str, Any]) -> Iterator[Refusal]:
        name = config.get("attr_name")
        if not isinstance(name, str) or name not in allowed:
            yield f"it takes the attribute {name!r:.60} of a tensor"

    return check


def _check_operation(config: Mapping[str, Any]) -> Iterator[Refusal]:
    from onnxnorm.frameworks import allowed_graph

    yield from allowed_graph.node_definition_refusals(config.get("node_def"))


_CHECKS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Refusal]]] = {
    "TFOpLambda": _check_function,
    "ClassMethod": _check_class_method,
    "InstanceProperty": _check_attribute(_PROPERTIES | _METHODS),
    "InstanceMethod": _check_attribute(_METHODS),
    "TensorFlowOpLayer": _check_operation,
}


def is_tensor_function(name: Any) -> bool:
    """Whether TensorFlow's function of this API name only computes tensors from tensors."""
    if not isinstance(name, str):
        return False
    name = name.removeprefix("compat.v1.").removeprefix("compat.v2.")
    if name in _TF_EXCLUDED:
        return False
    namespace, _, rest = name.rpartition(".")
    if namespace == "keras.backend":
        return rest in _KERAS_BACKEND
    if namespace in ("keras.activations", "keras.losses", "keras.metrics"):
        return rest not in _ACCESSORS and isinstance(_published().get(rest), types.FunctionType)
    if name in _TF_FUNCTIONS:
        return True
    if namespace not in _TF_NAMESPACES:
        return False
    import tensorflow as tf

    spaces = (getattr(tf, namespace), getattr(tf.compat.v1, namespace, None))
    return any(inspect.isroutine(getattr(space, rest, None)) for space in spaces)


def _is_allowed(thing: Any) -> bool:
    if any(thing is known for known in registered().values()):
        return True
    if not isinstance(thing, (type, types.FunctionType)):
        return False
    name, module = getattr(thing, "__name__", ""), _public(_module(thing))
    if thing in _published_objects():
        return True
    if not isinstance(thing, type):
        return module.startswith("keras.ops.") and module in _OPERATIONS
    if name in _UNPUBLISHED.get(module, ()):
        return True
    return module in _OPERATIONS and hasattr(thing, "symbolic_call")


def _public(module: Any) -> str:
    """A module's name as it was before Keras moved its source into ``src``."""
    name = str(module).replace(".src.", ".")
    return name.removeprefix("tf_") if name.startswith("tf_keras.") else name


def registered() -> dict[str, Any]:
    """What this process has registered with Keras, or put into a custom object scope."""
    from tensorflow import keras

    found = dict(keras.utils.get_custom_objects())
    package = keras.Model.__module__.partition(".")[0]
    registration = sys.modules.get(f"{package}.src.saving.object_registration")
    scope = getattr(registration, "_THREAD_LOCAL_CUSTOM_OBJECTS", None)
    found.update(vars(scope) if scope is not None else {})
    state = sys.modules.get(f"{package}.src.backend.common.global_state")
    if state is not None:
        found.update(state.get_global_attribute("custom_objects_scope_dict", {}) or {})
    return found


@lru_cache(maxsize=1)
def _published() -> Mapping[str, Any]:
    """What Keras publishes for use in models, by name; of two with one name the first."""
    found: dict[str, Any] = {}
    for name, thing in _public_names():
        found.setdefault(name, thing)
    return found


@lru_cache(maxsize=1)
def _published_objects() -> frozenset[Any]:
    return frozenset(thing for _, thing in _public_names())


def _public_names() -> Iterator[tuple[str, Any]]:
    from tensorflow import keras

    yield from (("Model", keras.Model), ("Sequential", keras.Sequential))
    for path in sorted(_NAMESPACES):
        space: Any = keras
        for part in path.split("."):
            space = getattr(space, part, None)
        for name in dir(space) if space is not None else ():
            thing = getattr(space, name, None)
            is_function = path in _FUNCTIONS_OF and inspect.isfunction(thing)
            if not name.startswith("_") and (
                isinstance(thing, type) or (is_function and name not in _ACCESSORS)
            ):
                yield name, thing
    modules = {_public(path): module for path, module in [*sys.modules.items()]}
    for path, names in _UNPUBLISHED.items():
        for name in names & vars(modules.get(path, object)).keys():
            yield name, vars(modules[path])[name]
    serialization: Any = modules.get("keras.layers.serialization")
    if hasattr(serialization, "populate_deserializable_objects"):
        # Layers of which one form serves TensorFlow 1 and another TensorFlow 2: one is published.
        serialization.populate_deserializable_objects()
        for name, thing in serialization.LOCAL.ALL_OBJECTS.items():
            if isinstance(thing, type):
                yield name, thing
