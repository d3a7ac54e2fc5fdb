"""PretrainedConfig: what every model's configuration has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from minilm.generation.jsonconfig import JsonConfig


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig(JsonConfig):
    """Base of the models' configurations; reads and writes `config.json` as Transformers does.

    A subclass sets `model_type` and adds its fields; what else a file holds is kept in `extra` and written back.

    architectures        names of the classes that the weights were saved from
    dtype                the floating type of the saved weights ("torch_dtype" in older files)
    tie_word_embeddings  the output layer is the embedding table itself
    use_cache            forward passes outside of training return a KV cache
    """

    file_name: ClassVar[str] = "config.json"
    model_type: ClassVar[str] = ""
    aliases: ClassVar[Mapping[str, str]] = {"torch_dtype": "dtype"}

    architectures: tuple[str, ...] | None = None
    dtype: str | None = None
    tie_word_embeddings: bool = True
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a configuration from a dictionary. Raises `ValueError` for one of another kind of model."""
        values = dict(values)
        found = values.pop("model_type", cls.model_type)
        if found != cls.model_type:
            raise ValueError(
                f"this is the configuration of a '{found}' model, {cls.__name__} is for '{cls.model_type}': "
                "use the classes of that model"
            )
        return super().from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """Every field, everything in `extra`, and the model type."""
        return {**super().to_dict(), "model_type": self.model_type}
