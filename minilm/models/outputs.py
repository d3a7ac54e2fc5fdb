"""The results of forward passes."""

from __future__ import annotations

from dataclasses import dataclass

from minilm.generation.cache import KVCache
from minilm.generation.outputs import ModelOutput
from minilm.tensor import Tensor


@dataclass
class BaseModelOutput(ModelOutput):
    """The result of a model without a head.

    last_hidden_state  (B, T, C), after the final norm
    past_key_values    the KV cache, where one was asked for
    hidden_states      with output_hidden_states: n_layer + 1 tensors (B, T, C), the embeddings first, the last one
                       after the final norm
    attentions         with output_attentions: n_layer tensors (B, H, T, T_k), the weights after the softmax
    """

    last_hidden_state: Tensor | None = None
    past_key_values: KVCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class CausalLMOutput(ModelOutput):
    """The result of a causal language model.

    loss    the mean cross-entropy of the next tokens, where labels were given
    logits  (B, T, V), or only the positions asked for with logits_to_keep
    past_key_values, hidden_states, attentions   as in `BaseModelOutput`
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: KVCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
