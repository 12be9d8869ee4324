"""How many threads compute, which decides the order of sums and so the last bits."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from rich.console import Console

MOST = 512
"""A manifest that asks for more is not believed."""


@contextmanager
def as_many_threads(manifest: Mapping[str, Any], console: Console) -> Iterator[None]:
    """Compute in as many threads as a run did.

    Args:
        manifest: The run's; one that says nothing changes nothing.
        console: Where to say so.
    """
    hardware = manifest.get("hardware")
    recorded = hardware.get("threads") if isinstance(hardware, Mapping) else None
    before = torch.get_num_threads()
    if not isinstance(recorded, int) or not 1 <= recorded <= MOST:
        console.print(f"the manifest says no number of threads: computing in {before}")
    elif recorded != before:
        torch.set_num_threads(recorded)
        console.print(f"computing in {recorded} threads, as the run did, instead of {before}")
    try:
        yield
    finally:
        torch.set_num_threads(before)
