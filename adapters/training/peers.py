"""The processes that train one run together, each on its part of every batch.

Every process builds the same model and takes the same steps. What could tell them apart goes through
`Peers`: gradients are added up, and whatever may fail or be stopped in one process is done inside
`gather`, which raises it in all of them.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")

_FOREVER = dt.timedelta(days=7)
"""A process may wait for the first one that long, while the storage or a queue lets that one wait; a
process that died is noticed at once, by its connection."""


class Peers(Protocol):
    """A process among those that train a run. Every one makes the same calls in the same order."""

    @property
    def rank(self) -> int:
        """From 0; that process alone keeps what comes out, and talks to others."""

    @property
    def size(self) -> int:
        """How many there are."""

    def gather(self, at: str, do: Callable[[], T]) -> list[T]:
        """Do it, and return what came of it in every process, by rank.

        Where it raised in some of them, the first one's exception is raised in all. `at` names the
        call: PeersError where another process is elsewhere.
        """

    def broadcast(self, value: T) -> T:
        """The value that the first process has."""

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give these tensors the values that they have in the first process."""

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up the gradients of all processes; a parameter that has one nowhere keeps none."""


class PeersError(BaseException):
    """Processes are not at the same place, or one is gone. Nothing can go on; the process must end.

    It is no Exception, so that nothing takes it for the outcome of a run.
    """


@dataclass(frozen=True)
class Alone:
    """One process, as nearly always."""

    rank: int = 0
    size: int = 1

    def gather(self, at: str, do: Callable[[], T]) -> list[T]:  # noqa: ARG002, D102 - as in Peers
        return [do()]

    def broadcast(self, value: T) -> T:  # noqa: D102
        return value

    def share(self, tensors: Iterable[Tensor]) -> None:  # noqa: D102
        pass

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:  # noqa: D102
        pass


ALONE = Alone()


@dataclass(frozen=True)
class _Outcome:
    at: str
    wish: bool
    value: Any
    error: Exception | None


class Together:
    """The processes of the default process group of torch.distributed, which is there already.

    Gradients go through that group, everything else through one of its own on the CPU.
    """

    def __init__(
        self, *, wish: Callable[[], bool] = lambda: False, grant: Callable[[], None] = lambda: None
    ) -> None:
        """Where `wish` says so in the first process, all call `grant` at the next `gather`."""
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self._wish, self._grant = wish, grant
        group = distributed.new_group(backend="gloo", timeout=_FOREVER)
        self._words = cast(distributed.ProcessGroup, group)

    def gather(self, at: str, do: Callable[[], T]) -> list[T]:
        """As in `Peers`."""
        value, error = None, None
        try:
            value = do()
        except Exception as raised:  # noqa: BLE001 - raised below, in every process
            error = raised
        own = _Outcome(at, self.rank == 0 and self._wish(), value, _portable(error))
        outcomes: list[_Outcome] = [own] * self.size
        with _in_touch():
            distributed.all_gather_object(outcomes, own, group=self._words)
        places = [outcome.at for outcome in outcomes]
        if len(set(places)) > 1:
            raise PeersError(f"processes of one run are at different places: {places}") from error
        if outcomes[0].wish:
            self._grant()
        for rank, outcome in enumerate(outcomes):
            if outcome.error is not None:
                raise error if rank == self.rank and error is not None else outcome.error
        return [cast(T, outcome.value) for outcome in outcomes]

    def broadcast(self, value: T) -> T:
        """As in `Peers`."""
        box = [value]
        with _in_touch():
            distributed.broadcast_object_list(box, src=0, group=self._words)
        return box[0]

    def share(self, tensors: Iterable[Tensor]) -> None:
        """As in `Peers`."""
        with torch.no_grad():
            for tensor in tensors:
                same = tensor.detach().contiguous()
                with _in_touch():
                    distributed.broadcast(same, src=0)
                tensor.copy_(same)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """As in `Peers`."""
        trained = [p for p in parameters if p.requires_grad]
        if not trained:
            return
        device, dtype = trained[0].device, torch.float32
        # A process without images has no gradients; what no process has must stay None, as
        # optimisers decay whatever has one.
        has = torch.tensor([float(p.grad is not None) for p in trained], device=device)
        parts = [
            torch.zeros_like(p, dtype=dtype).flatten() if p.grad is None else p.grad.flatten()
            for p in trained
        ]
        flat = torch.cat([*(part.to(dtype) for part in parts), has])
        with _in_touch():
            distributed.all_reduce(flat)
        *sums, has = torch.split(flat, [*(p.numel() for p in trained), len(trained)])
        for parameter, total, number in zip(trained, sums, has.tolist(), strict=True):
            if number:
                parameter.grad = total.view_as(parameter).to(parameter.dtype).clone()


@contextlib.contextmanager
def _in_touch() -> Iterator[None]:
    """What goes wrong between processes is no outcome of the run either: one of them may have died."""
    try:
        yield
    except RuntimeError as error:
        raise PeersError(f"a process of the run does not answer: {error}") from error


def _portable(error: Exception | None) -> Exception | None:
    """The error itself where another process can have it, else one with its words."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - whatever its class does
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
