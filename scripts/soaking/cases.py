"""Which runs are killed: every precision with every quantization, all of them small."""

from dataclasses import dataclass

EVERY_N_STEPS = 5
"""Optimizer steps from one checkpoint to the next."""

SMALL = (
    # With other seeds int8 sums saturate in some pairs on processors without VNNI, which fail.
    "seed=3", "model=mlp", "model.hidden=[16,16]",
    "optimizer.lr=0.01", "trainer.max_epochs=4", "trainer.log_every_n_steps=1", "logger=csv",
    f"callbacks.last_checkpoint.every_n_steps={EVERY_N_STEPS}", "callbacks.progress=null",
)  # fmt: skip

PRECISIONS = {
    "fp32": (),
    # An overflow at the first step: kills fall upon a scaler that has just skipped one, too.
    "fp16": ("precision.init_scale=16777216", "precision.growth_interval=5"),
    "bf16": (),
    "bf16_true": ("precision.stochastic_rounding=true",),
    "fp8": ("precision.emulate=true",),
    "tf32": (),
}
ONLY_GPU = ("tf32",)

QUANTIZATIONS = {
    "none": (),
    "dynamic": (),
    "ptq": ("quantization.calibration_batches=4",),
    # Every phase: float, observers, frozen observers.
    "qat": ("quantization.start=1", "quantization.freeze_observers=2"),
}
SYNTHETIC = ("data=synthetic", "data.num_samples=480")
DATA = (
    SYNTHETIC,
    (*SYNTHETIC, "data.num_workers=2", "trainer.accumulate_grad_batches=2"),
    ("data=digits", "data.batch_size=128", "data.augment=true", "data.num_workers=2"),
)
"""What is trained on, and how: the pairs take turns."""


@dataclass(frozen=True)
class Case:
    """One pair.

    Attributes:
        precision: The Hydra choice.
        quantization: The Hydra choice.
        arguments: Of ``bitladder train``.
    """

    precision: str
    quantization: str
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        """Both, for people and folders."""
        return f"{self.precision}-{self.quantization}"


def cases(trainer: str = "cpu") -> list[Case]:
    """Every pair that can be trained there: ``cpu`` or ``gpu``."""
    on_gpu = trainer == "gpu"
    pairs = [(p, q) for p in PRECISIONS for q in QUANTIZATIONS if on_gpu or p not in ONLY_GPU]
    return [
        Case(
            precision,
            quantization,
            (
                *SMALL,
                f"trainer={trainer}",
                *(f"precision={precision}", f"quantization={quantization}"),
                *(*PRECISIONS[precision], *QUANTIZATIONS[quantization]),
                *DATA[index % len(DATA)],
            ),
        )
        for index, (precision, quantization) in enumerate(pairs)
    ]
