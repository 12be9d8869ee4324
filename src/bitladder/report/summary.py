"""A run, or many, in a few sentences that a person can quote."""

from collections import Counter
from collections.abc import Sequence

from bitladder.runs import Rung, RunRecord
from bitladder.runs.table import figures, human_size

ACCURACY = "test/accuracy"

UNFINISHED = {
    "failed": "The run failed",
    "running": "The run is not over yet",
    "interrupted": "The run was interrupted: nothing writes to it any more",
    "damaged": "The run's results cannot be read",
    "empty": "The directory holds no run, or one that has not begun",
}


def run_summary(record: RunRecord) -> str:
    """What a run was and came to, and what is wrong with it."""
    parts = [_sentence(record)]
    if record.state != "completed":
        reason = f" ({record.reason})" if record.reason else ""
        parts.append(f"{UNFINISHED[record.state]}{reason}. {progress(record)}".rstrip())
    elif record.problem:
        parts.append(f"Something in its directory cannot be read: {record.problem}.")
    return "\n\n".join(part for part in parts if part)


def folder_summary(name: str, records: Sequence[RunRecord]) -> str:
    """How many runs there are, how they ended, and the best int8 model among them."""
    states = Counter(record.state for record in records)
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
    parts = [f"{name} has {len(records)} {'run' if len(records) == 1 else 'runs'}: {counts}."]
    scored = [
        (accuracy, rung, record)
        for record in records
        for rung in record.rungs
        if (accuracy := record.rungs[rung].metrics.get(ACCURACY)) == accuracy
        and accuracy is not None
    ]
    for name in dict.fromkeys(rung for _, rung, _ in scored):
        accuracy, _, record = max(
            (entry for entry in scored if entry[1] == name), key=lambda entry: entry[0]
        )
        parts.append(f"The best {name} rung is {accuracy:.2%} accurate: {record.name}.")
    return " ".join(parts)


def _sentence(record: RunRecord) -> str:
    if not record.precision_name and not record.experiment:
        return ""
    what = (
        f"{record.experiment or 'A run'}, trained in {record.precision_name}"
        f" with quantization {record.quantization_name}, seed {record.seed}"
    )
    base, reduced = record.rungs.get("float"), record.rungs.get("int8")
    if base and reduced:
        return f"{what}: {_compared(base, reduced)}."
    if base:
        accuracy = _accuracy(base)
        right = f"float is right on {accuracy:.2%} of the test samples; " if accuracy else ""
        return f"{what}: {right}its file has {human_size(base.size_bytes)}. There is no int8 rung."
    return f"{what}."


def _compared(base: Rung, reduced: Rung) -> str:
    parts = []
    before, after = _accuracy(base), _accuracy(reduced)
    if before is not None and after is not None:
        parts.append(
            f"int8 is right on {after:.2%} of the test samples, float on {before:.2%}"
            f" ({100 * (after - before):+.2f} points)"
        )
    if base.size_bytes:
        parts.append(
            f"its file has {human_size(reduced.size_bytes)} instead of"
            f" {human_size(base.size_bytes)} ({reduced.size_bytes / base.size_bytes:.2f}x)"
        )
    speeds = [
        f"{base.latency_ms[key] / value:.1f}x as fast at {key.replace('_', ' ')}"
        for key, value in reduced.latency_ms.items()
        if value and base.latency_ms.get(key)
    ]
    if speeds:
        parts.append(f"it answers {' and '.join(speeds)}")
    return "; ".join(parts)


def _accuracy(rung: Rung) -> float | None:
    return figures(rung)[0]


def progress(record: RunRecord) -> str:
    """How far an unfinished run came, by the last value of each validation metric."""
    steps = [series.steps[-1] for series in record.metrics.values()]
    if not steps:
        return "Nothing was logged." if record.state != "empty" else ""
    last = {key: one.last for key, one in record.metrics.items() if key.startswith("val/")}
    values = "".join(f", {key} {value:.4g}" for key, value in sorted(last.items()))
    return f"It logged up to step {max(steps)}{values}."
