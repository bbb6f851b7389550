"""Small models of published kinds with their own default start: Hugging Face's from configs, residual networks, a U-Net."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from firstlight.model.targets import load

TOKENS = torch.randint(5, 90, (8, 24), generator=torch.Generator().manual_seed(0))
PIXELS = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SOUND = torch.randn(4, 16, 60, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(16) % 10
SMALL: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128}
Built = tuple[nn.Module, Any, dict[str, Any]]


def words(name: str, config: str, **options: Any) -> Built:
    """Return a language model of transformers, its batch and no options: it computes its loss itself."""
    import transformers

    made = getattr(transformers, config)(vocab_size=100, **options)
    return getattr(transformers, name)(made), {"input_ids": TOKENS, "labels": TOKENS}, {}


def picture(name: str, config: str, **options: Any) -> Built:
    """Return a classifier of pictures of transformers, its batch and no options."""
    import transformers

    made = getattr(transformers, config)(num_labels=10, **options)
    return getattr(transformers, name)(made), {"pixel_values": PIXELS, "labels": CLASSES}, {}


def speech() -> Built:
    """Return a small Whisper."""
    import transformers

    size: dict[str, Any] = {f"{side}_{what}": n for side in ("encoder", "decoder")
            for what, n in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 128))}  # fmt: skip
    ends: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = transformers.WhisperConfig(
        vocab_size=100, num_mel_bins=16, d_model=64, max_source_positions=30, max_target_positions=32, **size, **ends
    )
    model = transformers.WhisperForConditionalGeneration(config)
    return model, {"input_features": SOUND, "labels": TOKENS[:4]}, {}


def both() -> Built:
    """Return a small CLIP, which compares pictures with words."""
    import transformers

    text = transformers.CLIPTextConfig(vocab_size=100, max_position_embeddings=32, eos_token_id=99, **SMALL)
    vision = transformers.CLIPVisionConfig(image_size=32, patch_size=8, **SMALL)
    config = transformers.CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=32)
    batch = {"input_ids": TOKENS, "pixel_values": PIXELS[:8], "return_loss": True}
    return transformers.CLIPModel(config), batch, {}


class Block(nn.Module):
    """Two convolutions with batch norm and a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, width, height, width) to the same."""
        return torch.relu(x + self.body(x))


class UNet(nn.Module):
    """Down twice, up twice with transposed convolutions, joined across."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, 2, 1)
        self.three, self.up = nn.Conv2d(32, 64, 3, 2, 1), nn.ConvTranspose2d(64, 32, 2, 2)
        self.top, self.out = nn.ConvTranspose2d(64, 16, 2, 2), nn.Conv2d(32, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (examples, 3, 32, 32) to the same."""
        a = torch.relu(self.one(x))
        b = torch.relu(self.two(a))
        c = torch.relu(self.up(torch.relu(self.three(b))))
        d = torch.relu(self.top(torch.cat([b, c], 1)))
        out: Tensor = self.out(torch.cat([a, d], 1))
        return out


def residual(depth: int) -> Built:
    """Return a residual network with batch norm."""
    body = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), *(Block(32) for _ in range(depth)))
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)), PIXELS, {"target": CLASSES}


def built_in(spec: str) -> Built:
    """Return one of firstlight's own transformers."""
    return load(spec).build(0), TOKENS, {"target": TOKENS.roll(-1, 1)}


PUBLISHED: dict[str, Callable[[], Built]] = {
    "BERT": lambda: words("BertForMaskedLM", "BertConfig", **SMALL),
    "GPT-2": lambda: words("GPT2LMHeadModel", "GPT2Config", n_embd=64, n_layer=4, n_head=4, bos_token_id=1, eos_token_id=2),
    "Llama": lambda: words("LlamaForCausalLM", "LlamaConfig", **SMALL),
    "T5": lambda: words("T5ForConditionalGeneration", "T5Config", d_model=64, d_kv=16, d_ff=128, num_layers=3, num_heads=4,
                        decoder_start_token_id=0),
    "ViT": lambda: picture("ViTForImageClassification", "ViTConfig", image_size=32, patch_size=8, **SMALL),
    "ConvNeXt": lambda: picture("ConvNextForImageClassification", "ConvNextConfig", hidden_sizes=[16, 32, 64, 64],
                                depths=[1, 1, 2, 1], patch_size=2),
    "Mistral": lambda: words("MistralForCausalLM", "MistralConfig", num_key_value_heads=2, **SMALL),
    "Mixtral": lambda: words("MixtralForCausalLM", "MixtralConfig", num_key_value_heads=2, num_local_experts=4, **SMALL),
    "Mamba": lambda: words("MambaForCausalLM", "MambaConfig", hidden_size=64, num_hidden_layers=3, state_size=8),
    "DeBERTa": lambda: words("DebertaV2ForMaskedLM", "DebertaV2Config", relative_attention=True, pos_att_type=["p2c", "c2p"],
                             **SMALL),
    "Swin": lambda: picture("SwinForImageClassification", "SwinConfig", image_size=32, patch_size=2, embed_dim=16,
                            depths=[2, 2], num_heads=[2, 4], window_size=4),
    "Whisper": speech,
    "CLIP": both,
    "Hugging Face ResNet": lambda: picture("ResNetForImageClassification", "ResNetConfig", hidden_sizes=[16, 32],
                                           depths=[2, 2], embedding_size=16),
    "ResNet of 8 blocks": lambda: residual(8),
    "ResNet of 16 blocks": lambda: residual(16),
    "U-Net": lambda: (UNet(), PIXELS, {"target": PIXELS}),
    "gpt": lambda: built_in("gpt:"),
    "bert": lambda: built_in("bert:"),
}  # fmt: skip
