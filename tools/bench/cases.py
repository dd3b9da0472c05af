"""What is timed: normalization layers and networks.

This file imports nothing but the standard library: it is read in processes that have only one of
the competing libraries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

Layout = Literal["channels last", "channels first"]
Element = Literal["float32", "float16", "bfloat16"]
LAST: Layout = "channels last"
FIRST: Layout = "channels first"
LAYOUTS = (LAST, FIRST)
EPSILON = 1e-3
# Forms: our node by itself; a copy, the floor of what reads a tensor once and writes it.
NODE, COPY = "node", "copy"
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Layer:
    """One normalization layer on a tensor of one size.

    Attributes:
        norm: as a paper calls it.
        shape: of the tensor with its channels last.
        groups: of a group norm.
        layout: channels first moves the channels to axis 1.
        element: type of the tensor's elements.
        activation: that the node has taken in, empty for none.
        residual: whether it has taken in an addition.
    """

    norm: Literal["group", "instance", "layer"]
    shape: tuple[int, ...]
    groups: int = 1
    layout: Layout = LAST
    element: Element = "float32"
    activation: str = ""
    residual: bool = False

    @property
    def channels(self) -> int:
        """How many the tensor has."""
        return self.shape[-1]

    @property
    def axis(self) -> int:
        """Of the channels."""
        return 1 if self.layout == FIRST else len(self.shape) - 1

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape as it is in memory."""
        batch, *sizes, channels = self.shape
        return (batch, channels, *sizes) if self.layout == FIRST else self.shape

    @property
    def bytes(self) -> int:
        """Size of the tensor."""
        return math.prod(self.shape) * BYTES[self.element]

    @property
    def title(self) -> str:
        """For tables: `GN 8×56×56×256 g32`."""
        text = f"{self.norm[0].upper()}N {'×'.join(map(str, self.shape))}"
        return f"{text} g{self.groups}" if self.norm == "group" else text

    def file(self, form: str) -> str:
        """Name of the ONNX file in one of the forms."""
        return f"{self.title} {self.layout} {form}.onnx".replace(" ", "_")

    def stored(self, layout: Layout) -> Layer:
        """The same layer in a layout."""
        return replace(self, layout=layout)


@dataclass(frozen=True)
class Network:
    """A network on a batch of one size.

    Attributes:
        name: a key of `models.networks.NETWORKS`, or `mnist_` and one of `models.MODELS`.
        batch: its size.
    """

    name: str
    batch: int

    @property
    def title(self) -> str:
        """For tables."""
        return f"{self.name}, batch {self.batch}"

    @property
    def folder(self) -> str:
        """Of its files."""
        return self.name


Subject = Layer | Network

# Layers of real networks: ResNet-50, a diffusion U-Net, the tutorial on MNIST, style transfer, a
# transformer, ConvNeXt.
OPERATORS: tuple[Layer, ...] = (
    Layer("group", (8, 56, 56, 256), 32),
    Layer("group", (2, 64, 64, 320), 32),
    Layer("group", (1, 14, 14, 1024), 32),
    Layer("group", (64, 26, 26, 10), 5),
    Layer("instance", (1, 256, 256, 32)),
    Layer("instance", (4, 128, 128, 64)),
    Layer("layer", (8, 512, 768)),
    Layer("layer", (8, 56, 56, 96)),
)
EPILOGUES: tuple[Layer, ...] = (
    Layer("group", (8, 56, 56, 256), 32),
    Layer("group", (2, 64, 64, 320), 32, FIRST),
    Layer("layer", (8, 512, 768)),
)
# What grows, and the layers that it grows in.
SERIES: dict[str, tuple[tuple[int, Layer], ...]] = {
    "tensor size, group norm": tuple(
        (size * size * 64 * 4, Layer("group", (1, size, size, 64), 32))
        for size in (8, 16, 32, 64, 96, 128, 192, 256, 384)
    ),
    "tensor size, instance norm": tuple(
        (size * size * 64 * 4, Layer("instance", (1, size, size, 64)))
        for size in (8, 16, 32, 64, 96, 128, 192, 256, 384)
    ),
    "tensor size, layer norm": tuple(
        (rows * 768 * 4, Layer("layer", (1, rows, 768)))
        for rows in (4, 16, 64, 256, 1024, 2048, 4096, 8192, 12288)
    ),
    "batch, group norm 28×28×128": tuple(
        (batch, Layer("group", (batch, 28, 28, 128), 32)) for batch in (1, 2, 4, 8, 16, 32, 64)
    ),
    "channels, group norm 8×32×32": tuple(
        (channels, Layer("group", (8, 32, 32, channels), 8))
        for channels in (8, 16, 32, 64, 128, 256, 512)
    ),
    "groups, 4×64×64×256": tuple(
        (groups, Layer("group", (4, 64, 64, 256), groups)) for groups in (1, 2, 8, 32, 64, 128, 256)
    ),
}
