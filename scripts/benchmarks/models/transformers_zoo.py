"""Models of `transformers`, built from their configs with random weights; nothing is downloaded."""

from collections.abc import Callable
from functools import partial

import torch
import transformers as hf
from torch import Tensor, nn
from transformers.models.whisper.modeling_whisper import WhisperEncoder

VOCABULARY, CLASSES = 1000, 10
Batch = Callable[[int], dict[str, Tensor]]


def text(batch: int) -> dict[str, Tensor]:
    """Token ids and the mask of their padding; the length varies with the batch."""
    length = 20 + batch
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[0, -3:] = 0
    return {"input_ids": torch.randint(10, VOCABULARY, (batch, length)), "attention_mask": mask}


def images(batch: int, size: int = 64) -> dict[str, Tensor]:
    """Images of three channels."""
    return {"pixel_values": torch.randn(batch, 3, size, size)}


def sound(batch: int) -> dict[str, Tensor]:
    """Mel spectrograms of 200 frames."""
    return {"input_features": torch.randn(batch, 80, 200)}


def bert() -> nn.Module:
    """A BERT of two layers."""
    return hf.BertForSequenceClassification(
        hf.BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=512,
        )
    )


def distilbert() -> nn.Module:
    """A DistilBERT of two layers."""
    return hf.DistilBertForSequenceClassification(
        hf.DistilBertConfig(vocab_size=VOCABULARY, dim=128, n_layers=2, n_heads=4, hidden_dim=512)
    )


def gpt2() -> nn.Module:
    """A GPT-2 of two layers, its output layer tied to the embedding."""
    return hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=128,
            n_layer=2,
            n_head=4,
            use_cache=False,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def vit() -> nn.Module:
    """A vision transformer of two layers."""
    return hf.ViTForImageClassification(
        hf.ViTConfig(
            image_size=64,
            patch_size=8,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=512,
            num_labels=CLASSES,  # pyright: ignore[reportCallIssue]
        )
    )


def resnet() -> nn.Module:
    """A ResNet of three stages."""
    return hf.ResNetForImageClassification(
        hf.ResNetConfig(
            embedding_size=32,
            hidden_sizes=[32, 64, 128],
            depths=[1, 1, 1],
            layer_type="basic",
            num_labels=CLASSES,  # pyright: ignore[reportCallIssue]
        )
    )


def convnext() -> nn.Module:
    """A ConvNeXt of four stages: depthwise convolutions, linears, GELU."""
    return hf.ConvNextForImageClassification(
        hf.ConvNextConfig(
            hidden_sizes=[32, 64, 96, 128],
            depths=[1, 1, 2, 1],
            num_labels=CLASSES,  # pyright: ignore[reportCallIssue]
        )
    )


def mobilenet() -> nn.Module:
    """MobileNetV2, narrowed: depthwise convolutions, ReLU6."""
    return hf.MobileNetV2ForImageClassification(
        hf.MobileNetV2Config(
            image_size=64,
            depth_multiplier=0.35,
            num_labels=CLASSES,  # pyright: ignore[reportCallIssue]
        )
    )


def whisper() -> nn.Module:
    """The encoder of Whisper, of two layers: one-dimensional convolutions, then attention."""
    return WhisperEncoder(
        hf.WhisperConfig(
            vocab_size=VOCABULARY,
            d_model=128,
            encoder_layers=2,
            encoder_attention_heads=4,
            encoder_ffn_dim=512,
            max_source_positions=100,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
    )


MODELS: dict[str, tuple[Callable[[], nn.Module], Batch]] = {
    "BERT": (bert, text),
    "DistilBERT": (distilbert, text),
    "GPT-2": (gpt2, text),
    "ViT": (vit, images),
    "ResNet": (resnet, images),
    "ConvNeXt": (convnext, images),
    "MobileNetV2": (mobilenet, partial(images, size=64)),
    "Whisper encoder": (whisper, sound),
}
