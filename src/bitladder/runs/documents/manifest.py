"""The form of ``manifest.json``: what a run was made from."""

from pydantic import Field

from bitladder.runs.document import Document, Part


class Precision(Part):
    """How training computes."""

    requested: str
    """What the user asked for: `fp16`."""
    effective: dict[str, str | bool | float]
    """What really runs, as the precision plugin says before training."""


class Git(Part):
    """The project's checkout."""

    commit: str | None
    """The hash of the commit; null outside a checkout."""
    dirty: bool | None
    """Whether files differ from it."""


class CudaDevice(Part):
    """A GPU."""

    name: str
    """As its driver calls it."""
    capability: str
    """The compute capability: `9.0`."""
    memory_bytes: int
    """All of its memory."""


class Hardware(Part):
    """The machine, as far as numbers and speed depend on it."""

    cpu: str
    """The processor's name."""
    cores: int | None
    """Of the machine."""
    usable_cores: int
    """Those that the process may run on."""
    flags: list[str]
    """The processor's instructions that decide on kernels."""
    memory_bytes: int
    """All of the machine's memory."""
    cuda: list[CudaDevice]
    """Its GPUs."""
    threads: int
    """PyTorch's, within an operation."""
    interop_threads: int
    """PyTorch's, between operations."""


class Source(Part):
    """The run whose checkpoint was quantized."""

    run: str
    """Its directory, as it was given."""
    checkpoint: str
    """The file, relative to that directory."""
    checkpoint_sha256: str
    """Of that file."""


class Conditions(Part):
    """What decides the last bits beside the code, the data and the seed, before training."""

    cpu_capability: str
    """The instructions that PyTorch's kernels use: `AVX2`."""
    onednn: bool
    """Whether oneDNN is there, as for the next two."""
    mkl: bool
    """Intel's Math Kernel Library."""
    openmp: bool
    """OpenMP."""
    compiler: str | None
    """The C++ compiler that artifacts are made with, by its first line; null without one."""
    cuda: str | None
    """The version that PyTorch was built with; null for one without CUDA."""
    cudnn: int | None
    """Its version; null without a GPU."""
    cudnn_benchmark: bool
    """Whether cuDNN chooses kernels by their speed."""
    deterministic_algorithms: bool
    """Whether PyTorch was told to use no others."""
    deterministic_warn_only: bool
    """Whether it only warns."""
    variables: dict[str, str]
    """Of the environment, those that choose kernels or threads."""


class Tracking(Part):
    """How a run of Weights & Biases was asked for, and how it runs."""

    requested: str
    """`online` or `offline`."""
    effective: str
    """The same, or `disabled`."""
    id: str | None
    """The run's."""
    reason: str | None = None
    """Why the two modes differ, where they do."""


class Manifest(Document):
    """What a run was made from, written before training."""

    started: str
    """The time in UTC, ISO 8601."""
    command: list[str]
    """The command line, program first."""
    seed: int
    """Of everything random."""
    config_sha256: str
    """Of `config.yaml`."""
    data_fingerprint: str
    """The sha256 over the data used, with the split."""
    precision: Precision
    """What was asked for, and what runs."""
    git: Git
    """The code."""
    lock_sha256: str | None
    """Of the project's `requirements.lock`, where there is one."""
    packages: dict[str, str]
    """The version of each package that can change a number."""
    python: str
    """Its version."""
    platform: str
    """The operating system."""
    hardware: Hardware
    """The machine."""
    conditions: Conditions | None = None
    """How it computes; null where an earlier version ran."""
    not_deterministic: list[str] = Field(default_factory=list)
    """Why a second run may differ in the last bits, a line a reason."""
    tracking: dict[str, Tracking] = Field(default_factory=dict)
    """By the logger's place in the configuration."""
    start_sha256: str | None = None
    """Of the checkpoint that the run started from, if there was one."""
    source: Source | None = None
    """Of a run that `bitladder quantize` made."""
