"""The run directory: what a run leaves behind, and how it is written and read.

`bitladder.runs.manifest` and `bitladder.runs.hardware` import torch; the rest does not.
"""

from bitladder.runs.comparison import comparison_table
from bitladder.runs.directory import RunDirectory
from bitladder.runs.files import read_json, sha256, write_atomic, write_json
from bitladder.runs.reading import RunRecord
from bitladder.runs.results import ArtifactFile, Results, Rung
from bitladder.runs.series import Series
from bitladder.runs.table import ladder_table

__all__ = [
    "ArtifactFile",
    "Results",
    "RunDirectory",
    "RunRecord",
    "Rung",
    "Series",
    "comparison_table",
    "ladder_table",
    "read_json",
    "sha256",
    "write_atomic",
    "write_json",
]
