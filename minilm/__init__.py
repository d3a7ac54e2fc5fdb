"""minilm: large language models from first principles, in NumPy you can read, with kernels you can swap in.

>>> from minilm import Tensor, GPT2LMHeadModel, GPT2Tokenizer

Everything public is importable from here under the field's names. Names are looked up when they are first used, so
that `import minilm` stays fast.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

# module -> the public names it contributes. A name equal to the module's last part is what the module defines under
# that name, or else the module itself.
_EXPORTS: dict[str, tuple[str, ...]] = {
    "minilm.kernels": ("kernels",),
    "minilm.random": ("random", "seed"),
    "minilm.ops": (
        "ops", "Tensor", "tensor", "abs", "arange", "argmax", "argmin", "cat", "clamp", "clip", "cos", "einsum",
        "erf", "exp", "eye", "full", "full_like", "gather", "linspace", "log", "log_softmax", "logsumexp",
        "masked_fill", "matmul", "max", "maximum", "mean", "min", "minimum", "ones", "ones_like", "rand", "randint",
        "randn", "randperm", "scatter_add", "sigmoid", "sin", "softmax", "split", "sqrt", "stack", "std", "sum",
        "tanh", "tril", "triu", "var", "where", "zeros", "zeros_like", "OPERATIONS", "Operation", "add", "affine",
        "amax", "amin", "apply", "cast", "chunk", "clone", "contiguous", "cross_entropy", "cumsum", "define", "div",
        "dropout", "embedding", "expand", "flatten", "flip", "gelu", "getitem", "layer_norm", "linear", "mul", "neg",
        "pad", "permute", "pow", "relu", "reshape", "rms_norm", "scaled_dot_product_attention", "silu", "squeeze",
        "sub", "transpose", "unbind", "unsqueeze", "view",
    ),
    "minilm.viz": ("viz",),
    "minilm.exercises": ("exercises",),
    "minilm.draw": ("draw", "draw_text"),
    "minilm.gradcheck": (
        "gradcheck", "gradcheck_module", "GradcheckError", "GradcheckResult", "InputCheck", "Report", "check_all",
        "check_case",
    ),
    "minilm.nn": (
        "nn", "Module", "Parameter", "ACTIVATIONS", "GELU", "CrossEntropyLoss", "Dropout", "Embedding", "FeedForward",
        "KeyValueCache", "LayerNorm", "LearnedPositionalEmbedding", "Linear", "MSELoss", "ModuleDict", "ModuleList",
        "MultiHeadAttention", "RMSNorm", "ReLU", "RotaryEmbedding", "Sequential", "SiLU",
        "SinusoidalPositionalEmbedding", "Tanh", "TransformerBlock", "TransformerDecoder", "TransformerDecoderLayer",
        "TransformerEncoder", "TransformerEncoderLayer", "attention_weights", "get_activation", "sinusoidal_table",
    ),
    "minilm.optim": (
        "optim", "SGD", "Adam", "AdamW", "get_constant_schedule_with_warmup", "get_cosine_schedule_with_warmup",
        "get_linear_schedule_with_warmup", "get_scheduler", "SCHEDULES", "LRScheduler", "LambdaLR", "Optimizer",
        "get_constant_schedule", "get_cosine_with_min_lr_schedule_with_warmup",
    ),
    "minilm.tokenizers": (
        "BatchEncoding", "CharTokenizer", "GPT2Tokenizer", "PreTrainedTokenizer", "AddedToken", "BytePairEncoder",
        "learn_merges",
    ),
    "minilm.models": (
        "GPT2Config", "GPT2LMHeadModel", "GPT2Model", "PreTrainedModel", "PretrainedConfig", "BaseModelOutput",
        "CausalLMOutput", "GPT2PreTrainedModel", "LoadingInfo",
    ),
    "minilm.generation": (
        "GenerationConfig", "KVCache", "LogitsProcessor", "LogitsProcessorList", "StoppingCriteriaList",
        "TextStreamer", "BeamSearch", "ForcedBOSTokenLogitsProcessor", "ForcedEOSTokenLogitsProcessor",
        "GenerateOutput", "GenerationMixin", "Hypothesis", "LogitNormalization", "MinLengthLogitsProcessor",
        "MinNewTokensLengthLogitsProcessor", "MinPLogitsWarper", "ModelOutput", "NoBadWordsLogitsProcessor",
        "NoRepeatNGramLogitsProcessor", "RepetitionPenaltyLogitsProcessor", "StopStringCriteria", "Streamer",
        "SuppressTokensAtBeginLogitsProcessor", "SuppressTokensLogitsProcessor", "TemperatureLogitsWarper",
        "TopKLogitsWarper", "TopPLogitsWarper", "TypicalLogitsWarper",
    ),
    "minilm.evaluation": (
        "NGramModel", "perplexity", "score_text", "sequence_log_probability", "token_log_probabilities", "TextScore",
    ),
    "minilm.data": (
        "RandomWindows", "SequentialWindows", "TokenDataset", "embedded_text", "TextFile", "embedded_documents",
        "text_files",
    ),
    "minilm.training": (
        "TrainingConfig", "TrainingLoop", "PRESETS", "CheckpointError", "Preset", "TrainingDiverged",
        "TrainingResult", "latest_checkpoint", "list_checkpoints", "model_loss", "next_token_loss",
        "parameter_groups", "plot_training", "read_checkpoint", "read_log", "resume_pretraining", "start_pretraining",
    ),
    "minilm.tensor": ("enable_grad", "grad", "is_grad_enabled", "no_grad", "set_grad_enabled"),
}  # fmt: skip

_HOME = {name: module for module, names in _EXPORTS.items() for name in names}
_FUNCTIONS = {"draw", "gradcheck", "tensor"}  # each shares its name with the module that it comes from
__all__ = sorted(["__version__", *_HOME])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'minilm' has no attribute {name!r}")
    module = importlib.import_module(_HOME[name])
    importlib.import_module("minilm.ops")  # a Tensor is complete only with its methods attached
    value = getattr(module, name, module) if _HOME[name] == f"minilm.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """Keeps `minilm.tensor`, `minilm.draw` and `minilm.gradcheck` functions: Python's import would put the module in
    the function's place, as soon as anybody writes `from minilm.tensor import …`."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _FUNCTIONS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
