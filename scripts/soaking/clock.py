"""A wall clock that jumps, for a process and all that it starts."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long offset(void) {
    long seconds = 0;
    FILE *file = fopen(getenv("CLOCK_OFFSET"), "r");
    if (file) {
        if (fscanf(file, "%ld", &seconds) != 1) seconds = 0;
        fclose(file);
    }
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += offset();
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    int result = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return result;
}

time_t time(time_t *where) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (where) *where = exact.tv_sec;
    return exact.tv_sec;
}
"""


def jumping_clock(folder: Path) -> tuple[dict[str, str], Callable[[int], None]]:
    """Make a clock.

    Args:
        folder: Where its files go.

    Returns:
        The environment of processes that are to have it, and what lets it jump, by days.
    """
    offset = folder / "offset"
    offset.write_text("0")
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(SOURCE)
    compiler = shutil.which(os.environ.get("CC", "gcc")) or "cc"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True
    )

    def jump(days: int) -> None:
        offset.with_suffix(".new").write_text(str(86400 * days))
        offset.with_suffix(".new").replace(offset)

    return {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(offset)}, jump
