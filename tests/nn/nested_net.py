"""A module with a list, a constant and a tied weight, for the tests of Module."""

import tinygrad_llm as tg
from tinygrad_llm import nn


class Net(nn.Module):
    def __init__(self):
        self.first = nn.Linear(3, 4)
        self.stack = nn.ModuleList([nn.Linear(4, 4, bias=False), nn.LayerNorm(4)])
        self.scale = nn.Parameter([2.0])
        self.offset = tg.tensor([1.0])
        self.tied = nn.Linear(3, 4)
        self.tied.weight = self.first.weight

    def forward(self, x):
        for layer in [self.first, *self.stack]:
            x = layer(x)
        return x * self.scale + self.offset


NAMES = [
    "scale",
    "first.weight",
    "first.bias",
    "stack.0.weight",
    "stack.1.weight",
    "stack.1.bias",
    "tied.bias",
]
