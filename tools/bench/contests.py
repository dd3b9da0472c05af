"""Who races whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from onnxnorm.opset.activations import ACTIVATIONS
from tools.bench import network_files as files
from tools.bench.cases import COPY, FIRST, LAST, NODE, Layer, Network
from tools.bench.race import Contestant

OURS, FLOAT16, BFLOAT16 = "ours", "ours float16", "ours bfloat16"
PLAIN, NATIVE = "plain tf2onnx", "native form"
TORCH = {LAST: "PyTorch channels last", FIRST: "PyTorch channels first"}
OPENVINO, TENSORFLOW = "OpenVINO", "TensorFlow"
OURS_IN = {LAST: "ours channels last", FIRST: "ours channels first"}
OPTIMIZED, THIS_CPU = "ours optimized", "ours for this CPU"
BATCH_NORM = ("batch norm, tf2onnx", "batch norm, onnxnorm")

RESNET = "resnet50_group_norm"
MNIST_GROUP_NORMS = ("mnist_group_norm", "mnist_constrained_group_norm")
#: The same networks with batch norm, which costs nothing: the least that any norm can take.
YARDSTICKS = {
    RESNET: "resnet50_batch_norm",
    **dict.fromkeys(MNIST_GROUP_NORMS, "mnist_batch_norm"),
}
# Where the norms' share is asked for, and at what batch.
SHARES = (Network("style_transfer", 1), Network("convnext_tiny", 1))
NETWORKS = (
    *(Network(RESNET, batch) for batch in (1, 8)),
    *SHARES,
    *(
        Network(f"mnist_{norm}", batch)
        for norm in ("group_norm", "constrained_group_norm", "instance_norm", "layer_norm")
        for batch in (64, 1)
    ),
)
QUICK_NETWORKS = (Network(RESNET, 1), *SHARES[:1], Network("mnist_group_norm", 64))


def operator(layer: Layer) -> Mapping[str, Contestant]:
    """Everything that runs one layer."""
    return {
        COPY: Contestant("torch", COPY, layer),
        OURS: Contestant("onnxruntime", NODE, layer),
        FLOAT16: Contestant("onnxruntime", NODE, replace(layer, element="float16")),
        BFLOAT16: Contestant("onnxruntime", NODE, replace(layer, element="bfloat16")),
        **{label: Contestant("torch", layout, layer) for layout, label in TORCH.items()},
        NATIVE: Contestant("onnxruntime", files.NATIVE, layer),
        PLAIN: Contestant("onnxruntime", files.PLAIN, layer),
        OPENVINO: Contestant("openvino", files.NATIVE, layer),
        TENSORFLOW: Contestant("tensorflow", "", layer),
    }


def epilogue(layer: Layer) -> Mapping[str, Contestant]:
    """Our node by itself and with each thing that it can take in."""
    variants = {OURS: layer} | {name: replace(layer, activation=name) for name in ACTIVATIONS}
    variants["residual"] = replace(layer, residual=True)
    variants["residual, Relu"] = replace(layer, residual=True, activation="Relu")
    return {COPY: Contestant("torch", COPY, layer)} | {
        label: Contestant("onnxruntime", NODE, variant) for label, variant in variants.items()
    }


def series(layer: Layer) -> Mapping[str, Contestant]:
    """What is plotted while something grows."""
    return {
        COPY: Contestant("torch", COPY, layer),
        **{
            label: Contestant("onnxruntime", NODE, layer.stored(layout))
            for layout, label in OURS_IN.items()
        },
        **{label: Contestant("torch", layout, layer) for layout, label in TORCH.items()},
    }


def network(network: Network) -> Mapping[str, Contestant]:
    """Everything that runs one network."""
    contestants = {
        OPTIMIZED: Contestant("onnxruntime", files.OPTIMIZED, network),
        THIS_CPU: Contestant("onnxruntime", files.THIS_CPU, network),
        PLAIN: Contestant("onnxruntime", files.PLAIN, network),
        TENSORFLOW: Contestant("tensorflow", "", network),
        OPENVINO: Contestant("openvino", files.NATIVE, network),
    }
    if network.name in YARDSTICKS:
        yardstick = replace(network, name=YARDSTICKS[network.name])
        forms = (files.PLAIN, files.OPTIMIZED)
        contestants |= {
            label: Contestant("onnxruntime", form, yardstick)
            for label, form in zip(BATCH_NORM, forms, strict=True)
        }
    if network.name == RESNET:
        contestants |= {
            label: Contestant("torch", layout, network) for layout, label in TORCH.items()
        }
    return contestants
