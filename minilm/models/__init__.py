"""Models with Transformers' names and files: `from_pretrained` reads what it wrote, `save_pretrained` what it reads."""

from minilm.models.base import LoadingInfo, PreTrainedModel
from minilm.models.config import PretrainedConfig
from minilm.models.gpt2 import GPT2LMHeadModel, GPT2Model, GPT2PreTrainedModel
from minilm.models.gpt2_config import GPT2Config
from minilm.models.outputs import BaseModelOutput, CausalLMOutput

__all__ = [
    "BaseModelOutput",
    "CausalLMOutput",
    "GPT2Config",
    "GPT2LMHeadModel",
    "GPT2Model",
    "GPT2PreTrainedModel",
    "LoadingInfo",
    "PreTrainedModel",
    "PretrainedConfig",
]
