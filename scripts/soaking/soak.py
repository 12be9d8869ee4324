"""Kills runs at random moments, resumes them, and counts what was lost: prints and saves a table.

    scripts/soak --kills 200
    scripts/soak --seed 7 --faults

Every precision with every quantization is run once to its end, then killed at moments drawn from
the seed and resumed, until as many kills hit a living process. A run that ended after its kills
must be identical, to the bit, to the one that nobody killed; no file may claim to be whole and not
be so; no step may be lost that a checkpoint was due for. Exit status 1 if anything is not so, or a
pair was left out, since it fails on this machine also if nobody kills it.
"""

import argparse
import os
import platform
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import torch
from cases import Case, cases
from faults import FAULTS, Fault
from kills import Outcome, Reference, killed_and_resumed, reference
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bitladder.runs import write_json


def references(
    chosen: Sequence[Case], parallel: int, folder: Path, console: Console
) -> tuple[list[tuple[Case, Reference]], list[str]]:
    """Run every pair to its end.

    Returns:
        Those that got there, and what the others ended with: nothing can be compared with them.
    """
    wholes, left_out = [], []
    with ThreadPoolExecutor(parallel) as pool, _progress(console) as progress:
        bar = progress.add_task("whole runs", total=len(chosen))
        jobs = [pool.submit(reference, x, folder / "whole" / x.name) for x in chosen]
        for case, job in zip(chosen, jobs, strict=True):
            try:
                wholes.append((case, job.result()))
            except RuntimeError as error:
                left_out.append(str(error))
                console.print(f"left out: {error}", markup=False, highlight=False)
            progress.advance(bar)
    return wholes, left_out


def soak(
    wholes: Sequence[tuple[Case, Reference]],
    kills: int,
    seed: int,
    parallel: int,
    folder: Path,
    console: Console,
) -> Iterator[Outcome]:
    """Kill until enough is killed; what is found is told at once."""
    with ThreadPoolExecutor(parallel) as pool, _progress(console) as progress:
        bar = progress.add_task("kills", total=kills)
        number, hit, running = 0, 0, set[Future[Outcome]]()
        while hit < kills or running:
            while hit + len(running) < kills and len(running) < parallel:
                case, whole = wholes[number % len(wholes)]
                place = folder / f"{number:03}-{case.name}"
                running.add(pool.submit(killed_and_resumed, case, number, seed, whole, place))
                number += 1
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for outcome in (job.result() for job in done):
                hit += len(outcome.phases)
                progress.advance(bar, len(outcome.phases))
                if outcome.bad:
                    console.print(f"{seed}/{outcome.number}: {outcome}", markup=False)
                elif not console.is_terminal:
                    console.print(f"{hit}/{kills} kills: {outcome.case} is identical")
                yield outcome


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console)


def tables(outcomes: Sequence[Outcome], chosen: Sequence[Case]) -> list[Table]:
    """What to show: by pair, and by where the kills fell."""
    table = Table(title="runs that were killed and resumed", title_justify="left")
    for column in ("pair", "kills", "runs", "identical", "torn files", "steps lost beyond"):
        table.add_column(column, justify="left" if column == "pair" else "right")
    for name in [*(case.name for case in chosen), "all"]:
        of = [x for x in outcomes if name in (x.case, "all")]
        figures = (
            *(sum(len(x.phases) for x in of), len(of), sum(x.problem is None for x in of)),
            *(sum(len(x.torn) for x in of), sum(x.lost_beyond for x in of)),
        )
        table.add_row(name, *map(str, figures))
    where = Table(title="where the kills fell", title_justify="left")
    where.add_column("phase")
    where.add_column("kills", justify="right")
    for phase, count in Counter(p for x in outcomes for p in x.phases).most_common():
        where.add_row(phase, str(count))
    return [table, where]


def _save(
    path: Path,
    seed: int,
    outcomes: Sequence[Outcome],
    left_out: Sequence[str],
    faults: Mapping[str, str],
) -> None:
    runs = [asdict(outcome) for outcome in outcomes]
    write_json(path, {"seed": seed, "outcomes": runs, "left_out": left_out, "faults": faults})


def inject(chosen: Mapping[str, Fault], folder: Path, console: Console) -> dict[str, str]:
    """Let the faults of a machine happen to runs, and tell what came of each.

    Returns:
        What was told, which begins with ``ok`` if it ended as it must.
    """
    told = {}
    for name, fault in chosen.items():
        place = folder / "faults" / name.replace(" ", "-")
        place.mkdir(parents=True)
        try:
            told[name] = f"ok: {fault(place)}"
        except AssertionError as error:
            told[name] = f"FAILED: {error}"
        console.print(f"{name}: {told[name]}", markup=False, highlight=False)
    return told


def main() -> None:
    """Kill, count, tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--parallel", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="pairs such as fp16-qat, or faults; with commas")
    parser.add_argument("--trainer", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--faults", action="store_true", help="no kills, only the other faults")
    parser.add_argument("--folder", type=Path, help="where the runs go, and stay")
    parser.add_argument("--out", type=Path, default=Path("soak.json"), help="the figures")
    arguments = parser.parse_args()
    console = Console(soft_wrap=True)
    console.print(f"seed {arguments.seed}, torch {torch.__version__}, {platform.processor()}")
    pairs = {case.name: case for case in cases(arguments.trainer)}
    only = [name for name in arguments.only.split(",") if name] or [*pairs, *FAULTS]
    if unknown := [name for name in only if name not in (*pairs, *FAULTS)]:
        parser.error(f"--only {unknown[0]}: write any of {', '.join((*pairs, *FAULTS))}")
    chosen = [pairs[name] for name in only if name in pairs and not arguments.faults]
    faults = {name: FAULTS[name] for name in only if name in FAULTS}
    outcomes: list[Outcome] = []
    left_out: list[str] = []
    with ExitStack() as stack:
        folder = arguments.folder and arguments.folder.absolute()
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        wholes, left_out = references(chosen, arguments.parallel, folder, console)
        if wholes:
            for outcome in soak(
                wholes, arguments.kills, arguments.seed, arguments.parallel, folder, console
            ):
                outcomes.append(outcome)
                _save(arguments.out, arguments.seed, outcomes, left_out, {})
            for table in tables(outcomes, [case for case, _ in wholes]):
                console.print(table)
        told = inject(faults, folder, console)
    _save(arguments.out, arguments.seed, outcomes, left_out, told)
    sound = not left_out and all(line.startswith("ok") for line in told.values())
    sys.exit(not sound or any(outcome.bad for outcome in outcomes))


if __name__ == "__main__":
    main()
