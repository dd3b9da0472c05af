"""ResNet-50 with group norm in PyTorch, with the weights of `models.networks.resnet50`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 # as everybody calls it
from numpy.typing import NDArray
from torch import nn

_GROUPS = 32
_EPSILON = 1e-5
_BLOCKS = (3, 4, 6, 3)
Weights = Mapping[str, NDArray[np.float32]]


class Convolution(nn.Module):
    """A convolution and its group norm."""

    def __init__(self, weights: Weights, name: str, stride: int = 1, activate: bool = True) -> None:
        super().__init__()
        kernel = torch.from_numpy(weights[f"{name}_conv/kernel:0"]).permute(3, 2, 0, 1)
        filters, channels, size, _ = kernel.shape
        # Keras' "same" of the stem, whose stride is 2, is not symmetric: padded before.
        padding = size // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(channels, filters, size, stride, padding, bias=False)
        self.norm = nn.GroupNorm(_GROUPS, filters, _EPSILON)
        self.conv.weight.data = kernel.contiguous()
        self.norm.weight.data = torch.from_numpy(weights[f"{name}_norm/gamma:0"])
        self.norm.bias.data = torch.from_numpy(weights[f"{name}_norm/beta:0"])
        self.activate = activate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """With its activation."""
        y = self.norm(self.conv(x))
        return F.relu(y, inplace=True) if self.activate else y


class Bottleneck(nn.Module):
    """A residual block."""

    def __init__(self, weights: Weights, name: str, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            Convolution(weights, f"{name}_1", stride),
            Convolution(weights, f"{name}_2"),
            Convolution(weights, f"{name}_3", activate=False),
        )
        projected = f"{name}_shortcut_conv/kernel:0" in weights
        self.shortcut = (
            Convolution(weights, f"{name}_shortcut", stride, activate=False)
            if projected
            else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """With the addition and its activation."""
        return F.relu(self.body(x).add_(self.shortcut(x)), inplace=True)


class ResNet(nn.Module):
    """The network, from images (batch, 3, 224, 224) to probabilities."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.stem = Convolution(weights, "stem", stride=2)
        self.blocks = nn.Sequential(
            *(
                Bottleneck(weights, f"stage{stage}_block{block}", 1 + (stage > 1 and block == 1))
                for stage, blocks in enumerate(_BLOCKS, 1)
                for block in range(1, blocks + 1)
            )
        )
        kernel: Any = weights["probabilities/kernel:0"]
        self.last = nn.Linear(*kernel.shape)
        self.last.weight.data = torch.from_numpy(kernel.T.copy())
        self.last.bias.data = torch.from_numpy(weights["probabilities/bias:0"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """In evaluation mode."""
        x = self.stem(F.pad(x, (2, 3, 2, 3)))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = self.blocks(x).mean((2, 3))
        return F.softmax(self.last(x), -1)
