"""PyTorch's own kernels; its forms are the two memory layouts, and the copy of a tensor."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 # as everybody calls it

from tools.bench import network_files, tensors
from tools.bench.cases import COPY, EPSILON, FIRST, LAST, Layer, Network
from tools.bench.peers import Runner
from tools.bench.peers.torch_resnet import ResNet

# For every call; it ends with the object.
_INFERENCE = torch.inference_mode()
_PEAK = (4, 32, 512, 3)
_PEAK_RUNS = 12


def start(processors: tuple[int, ...]) -> None:
    """Sets the threads for the process."""
    torch.set_num_threads(len(processors))
    _INFERENCE.__enter__()


def layer(layer: Layer, form: str, files: Path) -> Runner:
    """The function of torch.nn.functional, on a tensor in the layout `form`."""
    x = torch.from_numpy(tensors.x(layer.stored(LAST)))
    scale, bias = torch.from_numpy(tensors.scale(layer)), torch.from_numpy(tensors.bias(layer))
    # Logically the channels are axis 1 in PyTorch, in memory where the form has them.
    x = torch.movedim(x, -1, 1)
    if form != LAST:
        x = x.contiguous()
    if form == COPY:
        # It computes nothing: none of it to be judged.
        y = torch.empty_like(x)
        return Runner(lambda: y.copy_(x), lambda: tensors.expected(layer))
    groups = layer.channels if layer.norm == "instance" else layer.groups
    state: dict[str, Any] = {}

    def call() -> None:
        if layer.norm == "layer":
            last = torch.movedim(x, 1, -1)
            y = torch.movedim(F.layer_norm(last, last.shape[-1:], scale, bias, EPSILON), -1, 1)
        else:
            # Instance norms too: several times as fast as torch's instance_norm.
            y = F.group_norm(x, groups, scale, bias, EPSILON)
        state["y"] = y

    return Runner(call, lambda: torch.movedim(state["y"], 1, -1).contiguous().numpy())


def network(network: Network, form: str, files: Path) -> Runner:
    """ResNet-50 in the layout `form`."""
    inputs, _ = network_files.tensors(network, files)
    x = torch.from_numpy(inputs).permute(0, 3, 1, 2)
    model = ResNet(network_files.weights(network, files)).eval()
    if form == FIRST:
        x = x.contiguous()
    else:
        model = model.to(memory_format=torch.channels_last)
    state: dict[str, Any] = {}

    def call() -> None:
        state["y"] = model(x)

    return Runner(call, lambda: state["y"].numpy())


def peak() -> float:
    """The most floating-point operations in a second that a large convolution gets to.

    For a matrix product PyTorch takes MKL, which keeps AMD's CPUs to half of their vectors.
    """
    batch, size, channels, kernel = _PEAK
    x, weights = (
        torch.rand(batch, channels, size, size),
        torch.rand(channels, channels, kernel, kernel),
    )
    seconds = []
    for _ in range(_PEAK_RUNS):
        start = time.perf_counter()
        F.conv2d(x, weights, padding=kernel // 2)
        seconds.append(time.perf_counter() - start)
    return 2 * batch * (size * channels * kernel) ** 2 / min(seconds)
