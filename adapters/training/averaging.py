"""An exponential moving average of the trained weights, for evaluation and for keeping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The average of `parameters`, from their values at construction on."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters = parameters
        self._decay = decay
        self.tensors: dict[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in parameters.items()
        }
        """By the parameters' names."""

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters as they are: average <- decay x average + (1 - decay) x parameter."""
        for name, parameter in self._parameters.items():
            self.tensors[name].lerp_(parameter, 1.0 - self._decay)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from `tensors`, as `tensors` once were."""
        for name, average in self.tensors.items():
            average.copy_(tensors[name])

    @torch.no_grad()
    def put(self) -> None:
        """Let the parameters be the average from now on."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self.tensors[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the context the parameters are the average; after it what they were."""
        before = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self.put()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(before[name])
