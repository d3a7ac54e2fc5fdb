"""PreTrainedModel: what every model has in common: making it, saving it, reading it back, its embedding table."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from minilm import hub, nn
from minilm.generation.config import GenerationConfig
from minilm.generation.generate import GenerationMixin
from minilm.models.config import PretrainedConfig
from minilm.models.weights import INDEX, PICKLED, SINGLE, read_weights, some, write_weights
from minilm.tensor import no_grad

# A dtype, "float32" or "float64": NumPy's products of 16-bit floats are a hundred times slower than these.
_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True)
class LoadingInfo:
    """What reading weights found: names that the file lacks (left as initialised) and names it has in vain."""

    missing_keys: list[str] = field(default_factory=list)
    unexpected_keys: list[str] = field(default_factory=list)


class PreTrainedModel(nn.Module):
    """Base of the models; a subclass sets the class attributes and builds its layers from `config`.

    config_class       the class of its configuration
    base_model_prefix  the attribute that holds the headless model; files with and without this prefix are read
    ignored_weights    patterns of names in files that are no weights (masks and position tables of old versions)
    """

    config_class: ClassVar[type[PretrainedConfig]] = PretrainedConfig
    base_model_prefix: ClassVar[str] = ""
    ignored_weights: ClassVar[tuple[str, ...]] = ()

    config: Any
    generation_config: GenerationConfig

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        if not isinstance(config, self.config_class):
            raise TypeError(
                f"{type(self).__name__} is built from a {self.config_class.__name__}, got {type(config).__name__}: "
                f"{type(self).__name__}.from_pretrained(...) is for names and folders"
            )
        self.config = config
        if isinstance(self, GenerationMixin):
            self.generation_config = _special_tokens(GenerationConfig(), config)

    # --- parameters ------------------------------------------------------------------------------------------------

    @no_grad()
    def init_weights(self, names: Collection[str] | None = None) -> None:
        """Draw new values for the parameters of these names, or for all."""
        for name, parameter in self.named_parameters():
            if names is None or name in names:
                self._init_weight(name, parameter)

    def _init_weight(self, name: str, parameter: nn.Parameter) -> None:
        """Matrices from N(0, initializer_range^2), biases 0, the norms' weights 1; a model may override it."""
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=self.config.initializer_range)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.ones_(parameter)

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """The number of scalars in the parameters, tied ones once; on request without the embedding tables."""
        tables = {
            id(module.weight) for module in self.modules() if isinstance(module, nn.Embedding) and exclude_embeddings
        }
        return sum(
            p.numel() for p in self.parameters() if id(p) not in tables and (p.requires_grad or not only_trainable)
        )

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding table of the tokens: that of the headless model inside, which overrides this."""
        return getattr(self, self.base_model_prefix).get_input_embeddings()

    def get_output_embeddings(self) -> nn.Linear | None:
        """The layer that turns hidden states into logits, None for a model without one."""
        return None

    def tie_weights(self) -> None:
        """Make the output layer's matrix the embedding table itself, if the configuration says so."""
        head = self.get_output_embeddings()
        if head is not None and self.config.tie_word_embeddings:
            head.weight = self.get_input_embeddings().weight

    @no_grad()
    def resize_token_embeddings(self, new_num_tokens: int) -> nn.Embedding:
        """Change the vocabulary's size, keeping the rows that remain; the configuration follows.

        New rows are the mean of the old ones plus N(0, initializer_range^2): near the others, so that a new token
        neither swallows the distribution nor is impossible. Source: Hewitt (2021), "Initializing new word
        embeddings for pretrained language models". An optimiser made before has to be made anew.
        """
        if isinstance(new_num_tokens, bool) or not isinstance(new_num_tokens, int) or new_num_tokens < 1:
            raise ValueError(f"new_num_tokens should be a whole number of at least 1, got {new_num_tokens!r}")
        table, head = self.get_input_embeddings(), self.get_output_embeddings()
        tied = head is not None and head.weight is table.weight
        table.weight = self._resized(table.weight, new_num_tokens)
        table.num_embeddings = new_num_tokens
        if head is not None:
            head.weight = table.weight if tied else self._resized(head.weight, new_num_tokens)
            head.out_features = new_num_tokens
        self._change_config(vocab_size=new_num_tokens)
        return table

    def _change_config(self, **changes: Any) -> None:
        """Replace the frozen configuration, here and in the models inside this one."""
        config = replace(self.config, **changes)
        for module in self.modules():
            if isinstance(module, PreTrainedModel):
                module.config = config

    def _resized(self, old: nn.Parameter, rows: int) -> nn.Parameter:
        kept = min(rows, old.shape[0])
        new = nn.Parameter(np.empty_like(old.data, shape=(rows, old.shape[1])), requires_grad=old.requires_grad)
        nn.init.normal_(new, std=self.config.initializer_range)
        new.data[kept:] += old.data.mean(axis=0)
        new.data[:kept] = old.data[:kept]
        return new

    # --- files -----------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, max_shard_size: int | str = "5GB", dtype: Any = None) -> None:
        """Write `config.json`, the weights, and `generation_config.json` for a model that generates.

        The files are those of Transformers, which reads them. A tied weight is written once, under its first name.
        `max_shard_size` splits the weights into several files; `dtype` stores them in another type, for example
        "float16" to halve the size.
        """
        folder = Path(folder)
        if folder.is_file():
            raise NotADirectoryError(f"{folder} is a file: save_pretrained writes several files into a folder")
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: member.numpy() for name, member in self._members().items()}
        if dtype is not None:
            arrays = {name: _narrowed(name, array, dtype) for name, array in arrays.items()}
        stored = next((str(a.dtype) for a in arrays.values() if a.dtype.kind == "f"), None)
        write_weights(folder, arrays, max_shard_size)
        replace(self.config, architectures=(type(self).__name__,), dtype=stored).save_pretrained(folder)
        if isinstance(self, GenerationMixin):
            self.generation_config.save_pretrained(folder)

    def _members(self) -> dict[str, Any]:
        """Parameters and persistent buffers by name, each once."""
        state = self.state_dict()
        once = dict(self.named_parameters())
        parameters = {name for name, _ in self.named_parameters(remove_duplicate=False)}
        return {name: value for name, value in state.items() if name in once or name not in parameters}

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        config: PretrainedConfig | None = None,
        dtype: Any = None,
        strict: bool = False,
        output_loading_info: bool = False,
        revision: str = "main",
        **config_changes: Any,
    ) -> Any:
        """Read a model from a folder, or by a name that `minilm.hub` resolves to one.

        Args:
            name_or_path: a folder with `config.json` and safetensors weights, or a model's name.
            config: used in place of the file's.
            dtype: float32 or float64; None takes float64 where the file has it and float32 for all else
                (16-bit weights are widened).
            strict: raise where the file lacks weights of the model or has others, in place of a warning.
            output_loading_info: return `(model, LoadingInfo)`.
            revision: the branch, tag or commit of a model on the Hub.
            **config_changes: fields of the configuration to change, for example `attn_pdrop=0.0`.

        The model is in evaluation mode, as in Transformers: call `train()` to train it. Weights that the file lacks
        (the head of a model that is about to be fine-tuned) keep their fresh initialisation, which a warning names.

        Raises: `FileNotFoundError` where there is nothing of that name, `ValueError` for damaged, pickled or foreign
            files, wrong shapes, and with `strict` for missing and unexpected weights.
        """
        folder = hub.resolve(name_or_path, files=("config.json", (SINGLE, INDEX, *PICKLED)), revision=revision)
        wanted = None if dtype is None else _checked_dtype(dtype)
        if config is None:
            config = cls.config_class.from_folder(folder)
        config = config.updated(**config_changes)
        arrays = read_weights(folder)
        with nn.init.skip_draws():
            model = cls(config)
        if wanted is None:
            wanted = np.dtype(np.float64 if any(a.dtype == np.float64 for a in arrays.values()) else np.float32)
        with np.errstate(invalid="ignore"):  # nothing has been read yet: memory may hold numbers that are none
            model.to(wanted)
        info = model._load(arrays, folder)
        model._report(info, folder, strict)
        model.init_weights(info.missing_keys)
        if isinstance(model, GenerationMixin) and (folder / GenerationConfig.file_name).is_file():
            model.generation_config = _special_tokens(GenerationConfig.from_folder(folder), config)
        model.eval()
        return (model, info) if output_loading_info else model

    def _load(self, arrays: Mapping[str, np.ndarray], folder: Path) -> LoadingInfo:
        """Copy arrays into the model by name, with or without the prefix of the headless model."""
        names = set(self.state_dict())
        found: dict[str, np.ndarray] = {}
        unexpected = []
        for key, array in arrays.items():
            name = self._own_name(key, names)
            if name is not None:
                found[name] = array
            elif not any(re.search(pattern, key) for pattern in self.ignored_weights):
                unexpected.append(key)
        if not found:
            raise ValueError(f"no weight in {folder} belongs to {type(self).__name__}: it holds {some(sorted(arrays))}")
        self._untie_where_different(found)
        try:
            result = self.load_state_dict(found, strict=False)
        except RuntimeError as error:
            raise ValueError(f"the weights in {folder} do not fit their config.json: {error}") from error
        return LoadingInfo(list(result.missing_keys), unexpected)

    def _own_name(self, key: str, names: set[str]) -> str | None:
        """This model's name for a tensor of a file, None where it has none."""
        prefix = self.base_model_prefix + "."
        for name in (key, prefix + key, key.removeprefix(prefix)):
            if name in names:
                return name
        return None

    def _untie_where_different(self, found: Mapping[str, np.ndarray]) -> None:
        """Give the output layer a matrix of its own where the file holds one that is not the embedding table."""
        head = self.get_output_embeddings()
        if head is None or not self.config.tie_word_embeddings:
            return
        names = {id(module): name for name, module in self.named_modules()}
        head_name = names[id(head)] + ".weight"
        table_name = names[id(self.get_input_embeddings())] + ".weight"
        if head_name in found and table_name in found and not np.array_equal(found[head_name], found[table_name]):
            head.weight = nn.Parameter(np.empty_like(head.weight.data))
            self._change_config(tie_word_embeddings=False)

    def _report(self, info: LoadingInfo, folder: Path, strict: bool) -> None:
        parts = []
        if info.missing_keys:
            parts.append(f"{some(info.missing_keys)} not in the file, so freshly initialised: train before use")
        if info.unexpected_keys:
            parts.append(f"{some(info.unexpected_keys)} in the file, but not in {type(self).__name__}")
        message = f"weights of {type(self).__name__} from {folder}: {'; '.join(parts)}"
        if parts and strict:
            raise ValueError(message)
        if parts:
            warnings.warn(message, stacklevel=3)


def _special_tokens(generation: GenerationConfig, config: PretrainedConfig) -> GenerationConfig:
    """The generation configuration with the special tokens that it leaves out taken from the model's."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return generation.updated(**{n: getattr(config, n) for n in names if getattr(generation, n) is None})


def _narrowed(name: str, array: np.ndarray, dtype: Any) -> np.ndarray:
    """A floating array in another floating type. Raises `ValueError` where a number does not fit into it."""
    if getattr(dtype, "__name__", str(dtype)) not in ("float16", "float32", "float64"):
        raise ValueError(f"weights are saved as 'float16', 'float32' or 'float64', got dtype={dtype!r}")
    if array.dtype.kind != "f":
        return array
    with np.errstate(over="ignore"):
        narrow = array.astype(dtype)
    if not np.array_equal(np.isfinite(narrow), np.isfinite(array)):
        raise ValueError(
            f"{name} holds numbers up to {np.abs(array).max():.3g}, too large for {dtype}: nothing was saved"
        )
    return narrow


def _checked_dtype(dtype: Any) -> np.dtype:
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        wanted = np.dtype(object)  # a name that NumPy does not know, such as bfloat16
    if wanted not in _DTYPES:
        raise ValueError(f"dtype should be float32 or float64, the types that NumPy computes fast in, got {dtype!r}")
    return wanted
