from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import OneCycleLR

from bitladder.data import Synthetic
from bitladder.errors import UserError
from bitladder.models import MLP, ResNet
from bitladder.tasks import Classification, cosine_with_warmup

ADAMW = partial(AdamW, lr=1e-2, weight_decay=0.1)


def task(**arguments: Any) -> Classification:
    net = MLP((1, 8, 8), 4, hidden=(16,))
    return Classification(**{"net": net, "optimizer": ADAMW, "num_classes": 4, **arguments})


def trainer(folder: Path, **arguments: Any) -> L.Trainer:
    return L.Trainer(
        **{
            "max_epochs": 2,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": folder,
            **arguments,
        }
    )


class Fixed(nn.Module):
    """Logits that say class 1, whatever the image, in bf16: the loss must still be fp32."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.0, 2.0, 0.0, 0.0], dtype=torch.bfloat16))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1)


def test_learns(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, runner = (
        task(scheduler=partial(OneCycleLR, max_lr=1e-2)),
        trainer(tmp_path, max_epochs=8),
    )
    runner.fit(module, datamodule=Synthetic())
    (result,) = runner.test(module, datamodule=Synthetic(), verbose=False)
    assert result["test/accuracy"] == 1.0


def test_the_logged_keys_are_the_documented_ones(tmp_path: Path) -> None:
    runner = trainer(tmp_path)
    module = task()
    runner.fit(module, datamodule=Synthetic())
    fitted = set(runner.callback_metrics)
    runner.test(module, datamodule=Synthetic(), verbose=False)
    logged = fitted | set(runner.callback_metrics)
    expected = {
        f"{stage}/{what}" for stage in ("train", "val", "test") for what in ("loss", "accuracy")
    }
    assert logged == expected | {"train/loss_step", "train/loss_epoch"}
    assert Classification.__doc__ is not None
    assert all(f"``{key}``" in Classification.__doc__ for key in logged)


def test_metrics_are_means_over_samples_not_over_batches(tmp_path: Path) -> None:
    data = Synthetic(batch_size=30)
    sizes = [len(y) for _, y in data.test_dataloader()]
    assert len(set(sizes)) > 1
    module = task(net=Fixed(), label_smoothing=0.1)
    (result,) = trainer(tmp_path).test(module, datamodule=data, verbose=False)
    labels = data.splits.test.labels
    logits = torch.tensor([0.0, 2.0, 0.0, 0.0]).expand(len(labels), -1)
    loss = F.cross_entropy(logits, labels, label_smoothing=0.1)
    assert result["test/loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert result["test/accuracy"] == pytest.approx((labels == 1).float().mean().item())


def test_predicts_logits_for_images_with_and_without_labels() -> None:
    module = task().eval()
    x = torch.randn(3, 1, 8, 8)
    expected = module.net(x)
    assert torch.equal(module.predict_step(x, 0), expected)
    assert torch.equal(module.predict_step((x, torch.zeros(3)), 0), expected)
    assert torch.equal(module.predict_step([x, torch.zeros(3)], 0), expected)


def test_only_weights_decay() -> None:
    net = ResNet((1, 8, 8), 4, widths=(4, 8), blocks=(1, 1))
    optimizer = task(net=net).configure_optimizers()
    assert isinstance(optimizer, AdamW)
    decay, plain = optimizer.param_groups
    assert (decay["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    kinds = (nn.Conv2d, nn.Linear)
    weights = [id(module.weight) for module in net.modules() if isinstance(module, kinds)]
    assert sorted(id(p) for p in decay["params"]) == sorted(weights)
    others = [id(p) for p in net.parameters() if id(p) not in weights]
    assert [id(p) for p in plain["params"]] == others


def test_frozen_parameters_are_left_out() -> None:
    module = task()
    module.net.get_submodule("head").requires_grad_(False)
    optimizer = module.configure_optimizers()
    assert isinstance(optimizer, AdamW)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1]


@pytest.mark.parametrize(
    "scheduler",
    [partial(OneCycleLR, max_lr=0.5), partial(cosine_with_warmup, warmup=0.25)],
    ids=["onecycle", "cosine"],
)
def test_the_schedule_moves_every_step_and_knows_the_end(tmp_path: Path, scheduler: Any) -> None:
    module = task(optimizer=partial(SGD, lr=0.5), scheduler=scheduler)
    seen: list[float] = []

    class Rates(L.Callback):
        def on_before_optimizer_step(
            self,
            trainer: L.Trainer,
            pl_module: L.LightningModule,
            optimizer: torch.optim.Optimizer,
        ) -> None:
            seen.append(optimizer.param_groups[0]["lr"])

    runner = trainer(tmp_path, callbacks=[Rates()])
    runner.fit(module, datamodule=Synthetic())
    assert len(seen) == 12
    assert len(set(seen)) > 8
    assert max(seen) == pytest.approx(0.5, rel=0.05)
    assert seen[-1] < 0.01


def test_without_a_schedule_the_learning_rate_stays(tmp_path: Path) -> None:
    runner = trainer(tmp_path)
    runner.fit(task(), datamodule=Synthetic())
    assert runner.optimizers[0].param_groups[0]["lr"] == 1e-2


def test_a_schedule_without_an_end_is_refused(tmp_path: Path) -> None:
    module = task(scheduler=partial(OneCycleLR, max_lr=0.1))
    with pytest.raises(UserError, match=r"set trainer\.max_epochs or trainer\.max_steps"):
        trainer(tmp_path, max_epochs=-1, max_steps=-1).fit(module, datamodule=Synthetic())


def test_bad_label_smoothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"task\.label_smoothing=1\.0"):
        task(label_smoothing=1.0)


@pytest.mark.parametrize(
    "scheduler", [partial(OneCycleLR, max_lr=1e-2), cosine_with_warmup], ids=["onecycle", "cosine"]
)
def test_a_run_resumed_after_an_epoch_ends_with_the_same_weights(
    tmp_path: Path, scheduler: Any
) -> None:
    torch.manual_seed(0)
    start = MLP((1, 8, 8), 4, hidden=(16,)).state_dict()

    def fresh() -> Classification:
        module = task(scheduler=scheduler)
        module.net.load_state_dict(start)
        return module

    class SaveFirst(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if trainer.current_epoch == 0:
                trainer.save_checkpoint(checkpoint)

    checkpoint = tmp_path / "first.ckpt"
    whole = fresh()
    trainer(tmp_path, callbacks=[SaveFirst()]).fit(whole, datamodule=Synthetic())
    resumed = fresh()
    trainer(tmp_path).fit(resumed, datamodule=Synthetic(), ckpt_path=checkpoint, weights_only=True)
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name])
        assert not torch.equal(weight, saved[name])


def test_a_schedule_that_ends_before_the_longer_training_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "first.ckpt"
    scheduler = partial(OneCycleLR, max_lr=1e-2)
    first = trainer(tmp_path, max_epochs=1)
    first.fit(task(scheduler=scheduler), datamodule=Synthetic())
    first.save_checkpoint(checkpoint)
    with pytest.raises(
        UserError, match=r"OneCycleLR ends after 6 steps and this training after 18"
    ):
        trainer(tmp_path, max_epochs=3).fit(
            task(scheduler=scheduler),
            datamodule=Synthetic(),
            ckpt_path=checkpoint,
            weights_only=True,
        )
