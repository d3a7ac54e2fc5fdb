"""GPT2Config: the shape of a GPT-2, with presets from the published sizes down to one for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from minilm.models.config import PretrainedConfig
from minilm.nn import ACTIVATIONS


@dataclass(frozen=True, kw_only=True)
class GPT2Config(PretrainedConfig):
    """The configuration of a GPT-2, with Transformers' fields and defaults (those of the 124M model).

    vocab_size V, n_positions the longest text, n_embd C, n_layer, n_head H (divides C); n_inner is the width of the
    feed-forward layer, 4 C if None. `resid_pdrop`, `embd_pdrop`, `attn_pdrop` are the chances of dropout.
    `scale_attn_weights=False` leaves out the 1/sqrt(d) of attention, `scale_attn_by_inverse_layer_idx` divides the
    scores of layer l by l + 1 more. `reorder_and_upcast_attn` concerns half precision only and changes nothing in
    float32 and float64. `bias=False` leaves out every bias of the blocks and norms (not a field of Transformers,
    whose reader takes the missing biases as zero, which is the same function).

    Raises `TypeError` for a wrong type and `ValueError` for a value out of range or an option that is not built
    (`add_cross_attention`).
    """

    model_type: ClassVar[str] = "gpt2"
    aliases: ClassVar[Mapping[str, str]] = {
        **PretrainedConfig.aliases,
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    add_cross_attention: bool = False
    bias: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | tuple[int, ...] | None = 50256

    def validate(self) -> None:
        for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner"):
            value = getattr(self, name)
            self.require(value is None or value >= 1, name, "at least 1")
        self.require(self.n_embd % self.n_head == 0, "n_head", f"a divisor of n_embd = {self.n_embd}")
        for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
            self.require(0 <= getattr(self, name) < 1, name, "at least 0 and below 1")
        self.require(0 < self.layer_norm_epsilon < 1, "layer_norm_epsilon", "above 0 and below 1")
        self.require(0 < self.initializer_range < float("inf"), "initializer_range", "above 0")
        self.require(self.activation_function in ACTIVATIONS, "activation_function", f"one of {', '.join(ACTIVATIONS)}")
        self.require(
            not self.add_cross_attention,
            "add_cross_attention",
            "False: minilm's GPT-2 is a decoder on its own, without an encoder to attend to",
        )

    @property
    def inner_width(self) -> int:
        """The width of the feed-forward layer."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    # --- presets ---------------------------------------------------------------------------------------------------

    @classmethod
    def gpt2(cls, **changes: Any) -> GPT2Config:
        """The 124M model: 12 layers, 12 heads, width 768 (Radford et al., 2019, table 2)."""
        return cls(**{"n_layer": 12, "n_head": 12, "n_embd": 768, **changes})

    @classmethod
    def gpt2_medium(cls, **changes: Any) -> GPT2Config:
        """The 355M model: 24 layers, 16 heads, width 1024."""
        return cls(**{"n_layer": 24, "n_head": 16, "n_embd": 1024, **changes})

    @classmethod
    def gpt2_large(cls, **changes: Any) -> GPT2Config:
        """The 774M model: 36 layers, 20 heads, width 1280."""
        return cls(**{"n_layer": 36, "n_head": 20, "n_embd": 1280, **changes})

    @classmethod
    def gpt2_xl(cls, **changes: Any) -> GPT2Config:
        """The 1558M model: 48 layers, 25 heads, width 1600."""
        return cls(**{"n_layer": 48, "n_head": 25, "n_embd": 1600, **changes})

    @classmethod
    def char(cls, **changes: Any) -> GPT2Config:
        """A character model that a laptop trains in minutes: 4 layers, 4 heads, width 128, 64 positions, no dropout.

        The shape of nanoGPT's CPU run on Shakespeare, which has 65 characters and no end token.
        """
        shape = {"vocab_size": 65, "n_positions": 64, "n_embd": 128, "n_layer": 4, "n_head": 4}
        return cls(**{**_SMALL, **shape, **changes})

    @classmethod
    def tiny(cls, **changes: Any) -> GPT2Config:
        """A model for tests and worked examples: 2 layers, 2 heads, width 16, 32 positions, 64 tokens, no dropout."""
        shape = {"vocab_size": 64, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
        return cls(**{**_SMALL, **shape, **changes})


_SMALL: Mapping[str, Any] = {
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "bos_token_id": None,
    "eos_token_id": None,
}
