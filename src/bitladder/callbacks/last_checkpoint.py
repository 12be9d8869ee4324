"""Checkpoints from which a training goes on to the bit, wherever it was stopped."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    LearningRateFinder,
    StochasticWeightAveraging,
)
from lightning.pytorch.loggers import Logger

from bitladder.callbacks.attributes import Attributes, State
from bitladder.callbacks.model_checkpoints import place_checkpoint_callbacks, refuse_to_share
from bitladder.callbacks.progress import Progress, snapshot
from bitladder.callbacks.ranks import of_every_rank, own_part
from bitladder.callbacks.silence import Silence
from bitladder.errors import Interrupted, UserError

FINDERS = (BatchSizeFinder, LearningRateFinder)


class LastCheckpoint(L.Callback):
    """Writes ``last.ckpt``: after every epoch, every some steps, at the end, and when told to stop.

    It is written between two batches, when the one before is logged, validated and forgotten and
    nothing of the next has happened, and never while gradients accumulate. A fit from it makes the
    very weights, metrics and logs of the fit that was never stopped, with :class:`RandomState`
    beside it. Loggers that have ``state_dict`` and ``load_state_dict`` are asked where they stand,
    and put back there.

    A checkpoint of a training that is over says so: a fit from it, with the same ``max_epochs`` and
    ``max_steps``, trains nothing and goes on with what follows, such as the conversion to int8. A
    fit from a checkpoint in another folder is another run, with logs of its own.

    Write it first among the trainer's callbacks: what others log at the start of a batch would
    otherwise be logged before the checkpoint, and once more after it.

    Args:
        dirpath: The folder to write to; by default ``checkpoints`` in the trainer's
            ``default_root_dir``.
        every_n_steps: Optimizer steps from one checkpoint to the next, beside those of the epochs.

    Raises:
        UserError: If ``every_n_steps`` is below 1; from ``fit``, if another callback stands before
            it, or a ``ModelCheckpoint`` would write its file.
    """

    FILENAME = "last.ckpt"

    def __init__(self, dirpath: str | None = None, every_n_steps: int = 100) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise UserError(
                f"callbacks.last_checkpoint.every_n_steps={every_n_steps}: write at least 1"
            )
        self.dirpath = dirpath
        self.every_n_steps = every_n_steps
        self.training = False
        """Whether batches are being trained on."""
        self._stop: int | None = None
        self._saved_step = 0
        self._saving = False
        self._over = False
        self.is_own = True
        """Whether the fit goes on with a run of its own folder, or starts."""
        self._resumed: dict[str, Any] | None = None
        self._progress: Progress | None = None
        self._state: dict[str, Any] = {}
        self._attributes = Attributes()
        self._kept: State | None = None
        """What modules held before the next batch was read, if a checkpoint may follow."""
        self._is_told = False
        """Whether somebody says when a batch is read."""
        self._pending: State | None = None
        """What they are going to hold then."""
        self.run = ""
        """What its checkpoints, and those of others, call the run; a program may set it."""
        self._silence = Silence()

    def stop(self, signal: int) -> None:
        """Ask for a checkpoint before the next batch, and the end of the fit.

        Args:
            signal: The number of the signal that said so; :class:`Interrupted` carries it.
        """
        self._stop = signal

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the folder."""
        # Lightning puts those first that find out about the training before it begins.
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if next(x for x in callbacks if not isinstance(x, FINDERS)) is not self:
            raise UserError("LastCheckpoint must stand first among the trainer's callbacks")
        if self.dirpath is None:
            self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let ``ModelCheckpoint`` find its files where the run's directory lies now.

        Raises:
            UserError: If one of them lies elsewhere: it removes files that it takes for its own.
        """
        self.is_own = (
            Path(str(trainer.ckpt_path)).resolve().parent == Path(str(self.dirpath)).resolve()
        )
        place_checkpoint_callbacks(trainer, checkpoint, is_own=self.is_own)

    def state_dict(self) -> dict[str, Any]:
        """Where training stands, in its own checkpoints; in those of others the run's name."""
        return {"run": self.run} | self._state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep it until the loggers and the loops are there."""
        self._resumed = state_dict if "progress" in state_dict else None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put loggers back to where they stood; train nothing if all is trained."""
        refuse_to_share(trainer, Path(str(self.dirpath)) / self.FILENAME)
        state = self._resumed
        self._stop, self._saved_step, self._over = None, 0, False
        if state is not None:
            self._pending = own_part(trainer, state["progress"]).get("attributes")
        self._attributes.note(trainer, pl_module, resumed=self._pending is not None)
        if state is None or not self.is_own:
            return  # What another run logged, and when it was over, is its own business.
        loggers = _stateful(trainer.loggers)
        known = {name: logger for name, logger in loggers.items() if name in state["loggers"]}
        for name, logger in known.items():
            logger.load_state_dict(state["loggers"][name])
        self._silence.begin(known.values())  # The hooks before the first batch have logged already.
        self._saved_step = state["step"]
        self._over = state["over"] and state["limits"] == _limits(trainer)
        if self._over:
            trainer.should_stop = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore what Lightning does not."""
        self.training = True
        if self._resumed is not None:
            _check_averages(trainer)
            self._progress = Progress(own_part(trainer, self._resumed["progress"]))
            self._progress.before_training(trainer, pl_module)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """An epoch that no process has begun: what is logged from here on is new."""
        self._silence.end()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time to; stop if that is asked for.

        Raises:
            Interrupted: After :meth:`stop`, the checkpoint being written.
        """
        self._silence.end()
        if self._progress is not None:
            self._progress.before_batch(trainer)
        self._put_back(trainer, pl_module)
        kept, self._kept = self._kept, None
        if not self._is_between(trainer):
            return
        stop = self._is_stopped(trainer)
        if self._is_due(trainer) or (stop and trainer.global_step != self._saved_step):
            if stop and kept is None and self._is_told and trainer.world_size == 1:
                return  # It came while the batch was read: the next one is soon enough.
            self._save(trainer, pl_module, kept)
        if stop:
            raise Interrupted(self._stop or 0)

    def before_read(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """The next batch is going to be read, and what it is read with may look at the module."""
        self._is_told = True
        self._put_back(trainer, module)
        stopped = self._stop is not None and trainer.global_step != self._saved_step
        due = self._is_between(trainer) and (self._is_due(trainer) or stopped)
        self._kept = self._attributes.changed(trainer, module) if due else None

    def _put_back(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            self._attributes.restore(trainer, module, pending)

    def _is_between(self, trainer: L.Trainer) -> bool:
        """Whether no gradients accumulate."""
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        return batches % trainer.accumulate_grad_batches == 0

    def _is_due(self, trainer: L.Trainer) -> bool:
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        steps = trainer.global_step - self._saved_step
        return steps > 0 and (batches == 0 or steps >= self.every_n_steps)

    def _is_stopped(self, trainer: L.Trainer) -> bool:
        """Whether any rank was told to stop: they must do it at the same batch."""
        asked = self._stop is not None
        if trainer.world_size == 1:
            return asked
        return trainer.strategy.reduce_boolean_decision(asked, all=False)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Add to the epoch's sums what they were before the checkpoint."""
        self._add_sums(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The same for what the module logs after a batch."""
        self._add_sums(trainer)
        self._progress = None

    def _add_sums(self, trainer: L.Trainer) -> None:
        if self._progress is not None:
            self._progress.add_sums(trainer.fit_loop.epoch_loop._results)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """No batch follows."""
        self.training = False
        self._silence.end()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the weights that training ended with, averaged or not.

        Raises:
            Interrupted: After :meth:`stop` in the last batch, or in what followed it.
        """
        self._silence.end()
        self._put_back(trainer, pl_module)
        if not self._over:
            self._over = True
            self._save(trainer, pl_module)
            self.training = False
            if self._is_stopped(trainer):
                raise Interrupted(self._stop or 0)
        self._resumed = None

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the batch back that the loops have counted and that has not begun."""
        if not self._saving or self._over:
            return
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for count in (progress["total"], progress["current"]):
            count["ready"] = count["completed"]
        progress["is_last_batch"] = False

    def _save(
        self, trainer: L.Trainer, module: L.LightningModule, kept: State | None = None
    ) -> None:
        self._saving = True
        attributes = self._attributes.changed(trainer, module) if kept is None else kept
        progress = snapshot(trainer, module) | {"attributes": attributes}
        self._saved_step = trainer.global_step
        loggers = {name: x.state_dict() for name, x in _stateful(trainer.loggers).items()}
        self._state = {
            "over": self._over,
            "limits": _limits(trainer),
            "step": self._saved_step,
            "progress": of_every_rank(trainer, progress),
            "files": self._files(),
            "loggers": loggers,
        }
        try:
            trainer.save_checkpoint(f"{self.dirpath}/{self.FILENAME}")
        finally:
            self._saving, self._state = False, {}

    def _files(self) -> list[str]:
        """The checkpoints that there are beside it, of whatever callback."""
        folder = Path(str(self.dirpath))
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.ckpt"))


def _check_averages(trainer: L.Trainer) -> None:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        averages = isinstance(callback, StochasticWeightAveraging)
        if averages and trainer.current_epoch >= callback.swa_start:
            raise UserError(
                "StochasticWeightAveraging keeps its averages out of checkpoints, so that nothing"
                " goes on exactly: train anew, or use EMAWeightAveraging"
            )


def _stateful(loggers: list[Logger]) -> dict[str, Any]:
    """The loggers that say where they stand, by a name that the next process knows them by."""
    named = {f"{index}:{type(logger).__name__}": logger for index, logger in enumerate(loggers)}
    return {name: x for name, x in named.items() if hasattr(x, "load_state_dict")}


def _limits(trainer: L.Trainer) -> list[int | None]:
    return [trainer.max_epochs, trainer.max_steps]
