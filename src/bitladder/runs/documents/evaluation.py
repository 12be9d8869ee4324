"""The form of ``evaluation.json``: the rungs, measured again."""

from bitladder.runs.document import Document
from bitladder.runs.documents.manifest import Hardware
from bitladder.runs.results import Rung


class Evaluation(Document):
    """The rungs of a finished run as they were measured again."""

    evaluated: str
    """The time in UTC, ISO 8601."""
    checkpoint: str
    """The file in `checkpoints/` that was measured."""
    checkpoint_sha256: str
    """Of that file."""
    data_fingerprint: str
    """Of the data that it was measured on."""
    same_data: bool
    """Whether they are those that the run was trained on."""
    rungs: dict[str, Rung]
    """As measured now."""
    not_measured: dict[str, str]
    """Why a rung is not among them."""
    recorded: dict[str, Rung]
    """As `results.json` has them."""
    packages: dict[str, str]
    """The version of each package that can change a number."""
    hardware: Hardware
    """The machine."""
