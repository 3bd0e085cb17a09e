"""Why a trial ended early, as types: the orchestrator turns each into the failure kind of its row."""


class TrialError(Exception):
    """A trial cannot go on; the message says what was found, where, and what was expected."""


class DataError(TrialError):
    """Images or weights are not what the run's identity declares."""


class NonFiniteError(TrialError):
    """The loss became infinite or not a number."""


class StopRequested(TrialError):  # noqa: N818 - not a fault: somebody asked
    """Somebody asked the trial to stop."""


class CheckpointError(TrialError):
    """What was kept of a run is not of the model that its spec builds here."""


class Preempted(StopRequested):
    """The machine is about to be taken away."""
