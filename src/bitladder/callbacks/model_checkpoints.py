"""Lightning's ``ModelCheckpoint`` beside ours: where its files lie, and which it may not write."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from bitladder.errors import UserError


def place_checkpoint_callbacks(
    trainer: L.Trainer, checkpoint: dict[str, Any], *, is_own: bool
) -> None:
    """Let every ``ModelCheckpoint`` find its files where the run's directory lies now.

    Args:
        trainer: Whose callbacks the checkpoint is about to be loaded into.
        checkpoint: Its ``callbacks`` are changed in place: paths are moved; the states of another
            run, which has files of its own, are left out.
        is_own: Whether the fit goes on in the folder of the run that wrote the checkpoint.

    Raises:
        UserError: If a file lies elsewhere: the callback removes files that it takes for its own.
    """
    states = checkpoint.get("callbacks", {})
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        state = states.get(callback.state_key)
        if not isinstance(callback, ModelCheckpoint) or not isinstance(state, dict):
            continue
        folder = str(callback.dirpath)
        if is_own:
            states[callback.state_key] = state = _moved(state, folder)
        elif state.get("dirpath") != folder:
            del states[callback.state_key]
            continue
        if elsewhere := _elsewhere(state, folder):
            raise UserError(
                f"{trainer.ckpt_path} is not to be trusted: it names {elsewhere}, outside of"
                f" {folder}, as a checkpoint to be removed when a better one is there"
            )


def refuse_to_share(trainer: L.Trainer, path: Path) -> None:
    """Leave a file to the callback that writes it.

    Raises:
        UserError: If a ``ModelCheckpoint`` would write it, too.
    """
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, ModelCheckpoint):
            continue
        is_there = Path(str(callback.dirpath)).resolve() == path.parent.resolve()
        if is_there and (callback.save_last or f"{callback.filename}.ckpt" == path.name):
            raise UserError(
                f"a ModelCheckpoint writes {path.name}, too, from which nothing goes on exactly:"
                " leave save_last out, and give it another filename or dirpath"
            )


def _elsewhere(state: dict[str, Any], folder: str) -> str | None:
    """The first file in the state of a ``ModelCheckpoint`` that is not below its folder."""
    best = state.get("best_k_models")
    paths = [
        *(best if isinstance(best, dict) else ()),
        *(state.get(f"{name}_model_path", "") for name in ("best", "kth_best", "last")),
    ]
    inside = Path(folder).resolve()
    return next((str(x) for x in paths if x and inside not in Path(str(x)).resolve().parents), None)


def _moved(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """The state of a ``ModelCheckpoint`` as if it had written to another folder."""
    old = state.get("dirpath")
    if not isinstance(old, str):
        return state

    def move(value: Any) -> Any:
        if isinstance(value, dict):
            return {move(key): item for key, item in value.items()}
        inside = isinstance(value, str) and Path(value).is_relative_to(old)
        return str(Path(folder) / Path(value).relative_to(old)) if inside else value

    return {key: move(value) for key, value in state.items()}
