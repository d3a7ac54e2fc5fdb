"""GPT-2: a stack of pre-norm Transformer blocks that predicts the next token (Radford et al., 2019).

The modules and parameters have Transformers' names, so weights go back and forth. Read from the bottom up in the
formulas, from the top down in the code: attention, feed-forward layer, block, model, language model.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minilm import nn, ops
from minilm.generation import GenerationMixin, KVCache
from minilm.models.base import PreTrainedModel
from minilm.models.gpt2_config import GPT2Config
from minilm.models.inputs import read_attention_mask, read_ids, read_labels, read_position_ids
from minilm.models.outputs import BaseModelOutput, CausalLMOutput
from minilm.nn import functional as F
from minilm.tensor import Tensor, is_grad_enabled


class Conv1D(nn.Module):
    """An affine layer whose matrix is stored as (in, out), the other way round from `nn.Linear`.

        y = x W + b        x (..., in)   W (in, out)   b (out,)   y (..., out)

    The name is OpenAI's: it was a convolution of width 1. Only the layout of the files keeps it alive.
    """

    def __init__(self, out_features: int, in_features: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(np.zeros((in_features, out_features), dtype=np.float32))
        self.register_parameter("bias", nn.Parameter(np.zeros(out_features, dtype=np.float32)) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        return ops.affine(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in={self.weight.shape[0]}, out={self.weight.shape[1]}, bias={self.bias is not None}"


class GPT2Attention(nn.Module):
    """Causal self-attention.

        [Q K V] = x W_qkv + b_qkv                              x (B, T, C), W_qkv (C, 3 C), split into H heads
        A = softmax(Q K^T / sqrt(d) + M)                       M is 0 for key <= query and -inf beyond
        y = [A_1 V_1 ... A_H V_H] W_o + b_o                    heads side by side again, (B, T, C)

    Source: Vaswani et al. (2017), section 3.2.
    """

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.num_heads = config.n_head
        self.layer = layer
        self.attn_pdrop = config.attn_pdrop
        self.scale = 1 / math.sqrt(config.n_embd // config.n_head) if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= layer + 1
        self.c_attn = Conv1D(3 * config.n_embd, config.n_embd, bias=config.bias)
        self.c_proj = Conv1D(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(
        self,
        x: Tensor,
        cache: KVCache | None = None,
        key_padding_mask: np.ndarray | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, T, C) -> y (B, T, C), and A (B, H, T, T_k) where it is asked for."""
        batch, length, width = x.shape
        q, k, v = (
            part.reshape(batch, length, self.num_heads, -1).transpose(1, 2)  # (B, H, T, d)
            for part in self.c_attn(x).split(width, dim=-1)
        )
        if cache is not None:
            k, v = cache.update(self.layer, k, v)  # (B, H, T_k, d)
        dropout_p = self.attn_pdrop if self.training else 0.0
        weights = None
        if output_attentions:
            weights = nn.attention_weights(q, k, is_causal=True, scale=self.scale, key_padding_mask=key_padding_mask)
            heads = F.dropout(weights, dropout_p, training=self.training) @ v
        else:
            heads = F.scaled_dot_product_attention(
                q, k, v, dropout_p=dropout_p, is_causal=True, scale=self.scale, key_padding_mask=key_padding_mask
            )
        y = heads.transpose(1, 2).reshape(batch, length, width)  # (B, T, C)
        return self.resid_dropout(self.c_proj(y)), weights


class GPT2MLP(nn.Module):
    """The feed-forward layer, the same for every position.

        y = g(x W_1 + b_1) W_2 + b_2        W_1 (C, 4 C), W_2 (4 C, C)

    g is `activation_function`, in GPT-2 the tanh form of GELU (Hendrycks and Gimpel, 2016).
    """

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.c_fc = Conv1D(config.inner_width, config.n_embd, bias=config.bias)
        self.act = nn.get_activation(config.activation_function)
        self.c_proj = Conv1D(config.n_embd, config.inner_width, bias=config.bias)
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(self.act(self.c_fc(x))))


class GPT2Block(nn.Module):
    """One layer: attention and feed-forward, each on the normed input and added to it.

        x <- x + Attention(LayerNorm(x))
        x <- x + MLP(LayerNorm(x))

    The norm stands before each part (pre-norm), so that the sum x runs through the whole stack untouched.
    """

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon, bias=config.bias)
        self.attn = GPT2Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon, bias=config.bias)
        self.mlp = GPT2MLP(config)

    def forward(
        self,
        x: Tensor,
        cache: KVCache | None = None,
        key_padding_mask: np.ndarray | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        attended, weights = self.attn(self.ln_1(x), cache, key_padding_mask, output_attentions)
        x = x + attended
        return x + self.mlp(self.ln_2(x)), weights


class GPT2PreTrainedModel(PreTrainedModel):
    """What the GPT-2 models share: their configuration, their initialisation, the names in their files."""

    config_class = GPT2Config
    base_model_prefix = "transformer"
    # Masks that old versions stored as buffers.
    ignored_weights = (r"(^|\.)h\.\d+\.attn\.(bias|masked_bias)$",)

    def _init_weight(self, name: str, parameter: nn.Parameter) -> None:
        """Matrices from N(0, 0.02^2), and W_o and W_2 of each block from N(0, (0.02 / sqrt(2 n_layer))^2).

        Each block adds two terms to the residual stream; scaled so, the variance of the sum does not grow with the
        number of layers. Source: Radford et al. (2019), section 2.3.
        """
        if name.endswith("c_proj.weight"):
            nn.init.normal_(parameter, std=self.config.initializer_range / math.sqrt(2 * self.config.n_layer))
        else:
            super()._init_weight(name, parameter)


class GPT2Model(GPT2PreTrainedModel):
    """GPT-2 without a head: token ids to hidden states.

    x_0 = W_te[ids] + W_pe[positions]                      W_te (V, C), W_pe (n_positions, C)
    x_l = Block_l(x_{l-1})                                 l = 1 ... n_layer
    out = LayerNorm(x_n)                                   (B, T, C)
    """

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList([GPT2Block(config, layer) for layer in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon, bias=config.bias)
        self.init_weights()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.wte

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        position_ids: Any = None,
        past_key_values: KVCache | None = None,
        use_cache: bool | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> BaseModelOutput:
        """Run the stack over token ids.

        Args:
            input_ids: (B, T) or (T,) integers in [0, V): an array, nested lists or a Tensor. With a cache, only the
                tokens that follow what it has seen.
            attention_mask: (B, T_past + T), 1 for a real token and 0 for padding; None where all are real.
            position_ids: (B, T) or (T,); None counts on from what the cache has seen.
            past_key_values: a cache to go on with; it is extended in place.
            use_cache: return a cache, a new one if none is given. None means yes outside of training, that is under
                `no_grad`, if the configuration says so.
            output_attentions: return the attention weights too (slower, and memory for T * T_k of them).
            output_hidden_states: return the hidden states of every layer too.

        Raises: `TypeError` for ids that are not integers; `ValueError` for ids outside the vocabulary, more tokens
            than positions, or a mask of the wrong shape.
        """
        ids = read_ids(input_ids, self.config.vocab_size)  # (B, T)
        cache = self._cache(past_key_values, use_cache)
        seen = 0 if cache is None else cache.length
        positions = read_position_ids(position_ids, ids.shape, seen, self.config.n_positions)
        mask = read_attention_mask(attention_mask, ids.shape, seen)

        x = self.drop(self.wte(ids) + self.wpe(positions))  # (B, T, C)
        states, attentions = [x], []
        for block in self.h:
            x, weights = block(x, cache, mask, output_attentions)
            states.append(x)
            attentions.append(weights)
        x = states[-1] = self.ln_f(x)
        return BaseModelOutput(
            last_hidden_state=x,
            past_key_values=cache,
            hidden_states=tuple(states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )

    def _cache(self, given: KVCache | None, use_cache: bool | None) -> KVCache | None:
        """The cache of this pass: the one given, a new one, or none."""
        if given is not None:
            if use_cache is False:
                raise ValueError("past_key_values was given with use_cache=False: leave one of them out")
            if not isinstance(given, KVCache):
                raise TypeError(f"past_key_values should be a KVCache, got {type(given).__name__}")
            return given
        wanted = self.config.use_cache and not is_grad_enabled() if use_cache is None else use_cache
        return KVCache() if wanted else None


class GPT2LMHeadModel(GenerationMixin, GPT2PreTrainedModel):
    """GPT-2 as a language model: the probability of each next token.

        p(y | y_<t) = softmax(h_t W_te^T)                      h (B, T, C) from `GPT2Model`, logits (B, T, V)
        loss = -1/N sum_t log p(y_t | y_<t)                    over the N labels that are not -100

    The output layer is the embedding table itself unless `tie_word_embeddings=False` (Press and Wolf, 2017).
    """

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        self.transformer = GPT2Model(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.tie_weights()
        if not config.tie_word_embeddings:
            self.init_weights(["lm_head.weight"])

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        position_ids: Any = None,
        past_key_values: KVCache | None = None,
        labels: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        logits_to_keep: int = 0,
    ) -> CausalLMOutput:
        """Predict each next token; arguments as in `GPT2Model.forward`, and:

        Args:
            labels: (B, T), usually `input_ids` itself: they are shifted here, so that position t is compared with
                the token at t + 1. Positions with -100 (padding, prompts) do not count.
            logits_to_keep: compute logits for the last so many positions only; 0 means all.
            use_cache: with labels, None means no: nothing goes on from there.

        Raises: `ValueError` for labels of the wrong shape or outside the vocabulary, and for logits_to_keep together
            with labels.
        """
        if logits_to_keep < 0:
            raise ValueError(f"logits_to_keep should be at least 0 (0 keeps all), got {logits_to_keep}")
        if labels is not None and logits_to_keep:
            raise ValueError("the loss needs the logits of every position: leave out logits_to_keep or labels")
        if labels is not None and use_cache is None:
            use_cache = past_key_values is not None
        output = self.transformer(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            use_cache,
            output_attentions,
            output_hidden_states,
        )
        hidden = output.last_hidden_state  # (B, T, C)
        if logits_to_keep:
            hidden = hidden[:, -logits_to_keep:]
        logits = self.lm_head(hidden)  # (B, T, V)
        loss = None
        if labels is not None:
            targets = read_labels(labels, logits.shape[:2], self.config.vocab_size)
            # The labels move, not the logits: cutting off the last position would copy (B, T - 1, V) numbers.
            shifted = np.full_like(targets, -100)
            shifted[:, :-1] = targets[:, 1:]
            loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), shifted.reshape(-1))
        return CausalLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )
