"""Module, Parameter, the containers and the state dictionary."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import minilm
from minilm import nn
from minilm.tensor import Tensor, no_grad


class Tied(nn.Module):
    """An embedding whose table is also the output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 3)
        self.head = nn.Linear(3, 7, bias=False)
        self.head.weight = self.embed.weight


class Counter(nn.Module):
    """A parameter, a persistent and a non-persistent buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(np.ones(2, np.float32))
        self.register_buffer("count", Tensor(np.array(5)))
        self.register_buffer("table", Tensor(np.arange(3.0)), persistent=False)


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


# ---- registration ------------------------------------------------------------------------------------------------


def test_attributes_are_registered_by_their_type() -> None:
    module = Counter()
    assert [name for name, _ in module.named_parameters()] == ["scale"]
    assert [name for name, _ in module.named_buffers()] == ["count", "table"]
    module.child = nn.Linear(2, 2)
    assert [name for name, _ in module.named_parameters()] == ["scale", "child.weight", "child.bias"]
    assert [name for name, _ in module.named_modules()] == ["", "child"]
    module.scale = None
    assert [name for name, _ in module.named_parameters()] == ["child.weight", "child.bias"]
    del module.child
    assert list(module.named_parameters()) == []
    with pytest.raises(AttributeError, match="child"):
        module.child  # noqa: B018


def test_an_attribute_can_change_its_kind() -> None:
    module = nn.Module()
    module.x = 3
    module.x = nn.Parameter(np.ones(1))
    assert "x" not in module.__dict__ and [n for n, _ in module.named_parameters()] == ["x"]
    module.x = nn.Linear(1, 1)
    assert [n for n, _ in module.named_parameters()] == ["x.weight", "x.bias"]


def test_assignment_before_init_is_refused() -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\)"):
        Forgetful()


def test_a_parameter_cannot_become_a_plain_tensor_unnoticed() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="weight is a parameter"):
        layer.weight = Tensor(np.ones((2, 2)))
    with pytest.raises(TypeError, match="buffer"):
        Counter().count = 3


def test_a_plain_list_of_modules_is_refused_and_a_tuple_is_left_alone() -> None:
    module = nn.Module()
    with pytest.raises(TypeError, match="ModuleList"):
        module.layers = [nn.Linear(1, 1)]
    module.layers = (nn.Linear(1, 1),)
    assert list(module.parameters()) == []


@pytest.mark.parametrize("name", ["", "a.b", "forward", "training"])
def test_bad_names_are_refused(name: str) -> None:
    module = nn.Module()
    with pytest.raises(ValueError):
        module.register_buffer(name, None)
    with pytest.raises(ValueError):
        module.register_parameter(name, None)
    with pytest.raises(ValueError):
        module.add_module(name, None)


def test_wrong_types_are_refused_by_the_register_methods() -> None:
    module = nn.Module()
    with pytest.raises(TypeError):
        module.register_parameter("w", Tensor(np.ones(1)))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        module.register_buffer("w", np.ones(1))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        module.add_module("w", 3)  # type: ignore[arg-type]


def test_parameter_shares_its_array_and_wants_a_gradient() -> None:
    array = np.ones((2, 2))
    param = nn.Parameter(array)
    assert param.data is array and param.requires_grad and param.is_leaf and isinstance(param, Tensor)
    assert not nn.Parameter(array, requires_grad=False).requires_grad
    (param * 2).sum().backward()
    assert np.array_equal(param.grad.numpy(), np.full((2, 2), 2.0))


def test_forward_must_be_defined() -> None:
    with pytest.raises(NotImplementedError, match="no forward"):
        nn.Module()(1)


# ---- walks -------------------------------------------------------------------------------------------------------


def test_shared_parameters_and_modules_appear_once() -> None:
    model = Tied()
    assert [name for name, _ in model.named_parameters()] == ["embed.weight"]
    assert len(list(model.parameters())) == 1
    assert model.num_parameters() == 21
    assert [n for n, _ in model.named_parameters(remove_duplicate=False)] == ["embed.weight", "head.weight"]
    layer = nn.Linear(2, 2)
    twice = nn.Sequential(layer, layer)
    assert [name for name, _ in twice.named_modules()] == ["", "0"]
    assert len(list(twice.children())) == 1
    assert list(twice.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_num_parameters_of_trainable_ones() -> None:
    model = small()
    assert model.num_parameters() == 3 * 4 + 4 + 4 * 2 + 2
    model[0].requires_grad_(False)
    assert model.num_parameters(only_trainable=True) == 10
    assert not model[0].weight.requires_grad and model[2].weight.requires_grad


def test_get_submodule() -> None:
    model = nn.ModuleDict({"blocks": nn.ModuleList([small(), small()])})
    assert model.get_submodule("blocks.1.2") is model["blocks"][1][2]
    assert model.get_submodule("") is model
    with pytest.raises(AttributeError, match="no child '7'"):
        model.get_submodule("blocks.7.2")


def test_apply_visits_children_first() -> None:
    seen: list[str] = []
    small().apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "ReLU", "Linear", "Sequential"]


def test_train_and_eval_reach_every_module_and_dropout_listens() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
    x = Tensor(np.ones((50, 50), np.float32))
    assert model.eval() is model and not any(m.training for m in model.modules())
    assert np.array_equal(model(x).numpy(), x.numpy())
    model.train()
    assert all(m.training for m in model.modules())
    assert (model(x).numpy() == 0).mean() > 0.5
    with pytest.raises(TypeError):
        model.train("yes")  # type: ignore[arg-type]


def test_zero_grad() -> None:
    model = small()
    model(Tensor(np.ones((1, 3), np.float32))).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad(set_to_none=False)
    assert all(not p.grad.numpy().any() for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_to_casts_floats_and_leaves_integers() -> None:
    module = Counter()
    param = module.scale
    (module.scale * 2.0).sum().backward()
    assert module.to(np.float64) is module
    assert module.scale is param and param.dtype == np.float64 and param.grad.dtype == np.float64
    assert module.count.dtype.kind == "i" and module.table.dtype == np.float64
    assert module.float().scale.dtype == np.float32
    assert module.double().scale.dtype == np.float64
    with pytest.raises(TypeError, match="floating-point"):
        module.to(np.int64)


def test_to_keeps_ties() -> None:
    model = Tied().double()
    assert model.head.weight is model.embed.weight
    assert model.embed.weight.dtype == np.float64


def test_forward_hooks_see_and_replace_the_output() -> None:
    model = small()
    x = Tensor(np.ones((1, 3), np.float32))
    seen: list[np.ndarray] = []
    with model[0].register_forward_hook(lambda module, args, output: seen.append(output.numpy())):
        plain = model(x).numpy()
    assert np.array_equal(seen[0], model[0](x).numpy())
    handle = model[1].register_forward_hook(lambda module, args, output: output * 0.0)
    assert np.allclose(model(x).numpy(), model[2].bias.numpy())
    handle.remove()
    assert np.array_equal(model(x).numpy(), plain)
    assert len(seen) == 1


def test_deepcopy_and_pickle_keep_values_and_ties_and_share_nothing() -> None:
    model = Tied()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.head.weight is other.embed.weight
        assert np.array_equal(other.embed.weight.numpy(), model.embed.weight.numpy())
        assert not np.shares_memory(other.embed.weight.data, model.embed.weight.data)
        assert isinstance(other.embed.weight, nn.Parameter) and other.embed.weight.requires_grad


# ---- repr --------------------------------------------------------------------------------------------------------


def test_repr_shows_the_tree_with_counts_and_folds_equal_layers() -> None:
    model = nn.ModuleDict({"blocks": nn.ModuleList([small(), small(), small()]), "head": nn.Linear(2, 1)})
    assert repr(model) == "\n".join(
        [
            "ModuleDict(  # 81 parameters",
            "  (blocks): ModuleList(  # 78",
            "    (0-2): 3 x Sequential(  # 26 each",
            "      (0): Linear(in_features=3, out_features=4, bias=True)  # 16",
            "      (1): ReLU()",
            "      (2): Linear(in_features=4, out_features=2, bias=True)  # 10",
            "    )",
            "  )",
            "  (head): Linear(in_features=2, out_features=1, bias=True)  # 3",
            ")",
        ]
    )
    assert repr(nn.ReLU()) == "ReLU()"
    assert repr(nn.Linear(1, 1, bias=False)).endswith("bias=False)  # 1 parameter")


def test_repr_counts_a_tied_parameter_once() -> None:
    assert repr(Tied()).splitlines()[0] == "Tied(  # 21 parameters"


def test_parameter_repr() -> None:
    assert repr(nn.Parameter(np.ones(1, np.float32))).startswith("Parameter containing:")


# ---- state dictionary --------------------------------------------------------------------------------------------


def test_state_dict_has_parameters_and_persistent_buffers_and_shares_memory() -> None:
    module = Counter()
    state = module.state_dict()
    assert list(state) == ["scale", "count"]
    assert state["scale"].data is module.scale.data and not state["scale"].requires_grad
    assert list(module.state_dict(prefix="a.")) == ["a.scale", "a.count"]


def test_round_trip_through_arrays() -> None:
    source, target = small(), small()
    result = target.load_state_dict({k: v.numpy() for k, v in source.state_dict().items()})
    assert result.missing_keys == [] and result.unexpected_keys == []
    for a, b in zip(source.parameters(), target.parameters(), strict=True):
        assert np.array_equal(a.numpy(), b.numpy()) and not np.shares_memory(a.data, b.data)


def test_load_keeps_dtype_and_bumps_the_version() -> None:
    model = nn.Linear(2, 1)
    x = Tensor(np.ones((1, 2), np.float32), requires_grad=True)
    out = model(x)
    model.load_state_dict({"weight": np.ones((1, 2)), "bias": np.zeros(1)})
    assert model.weight.dtype == np.float32
    with pytest.raises(RuntimeError, match="changed in place"):
        out.sum().backward()


def test_every_problem_is_in_one_error_and_nothing_is_changed() -> None:
    model = small()
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    state = {k: v + 1.0 for k, v in before.items()}
    del state["0.bias"]
    state["2.weight"] = np.ones((5, 4), np.float32)
    state["2.bias"] = np.array(["a", "b"])
    state["extra.weight"] = np.ones(1)
    with pytest.raises(RuntimeError) as error:
        model.load_state_dict(state)
    for part in (
        "Sequential",
        "0.bias",
        "extra.weight",
        "2.weight",
        "(2, 4)",
        "(5, 4)",
        "2.bias",
        "nothing was changed",
    ):
        assert part in str(error.value)
    for key, value in model.state_dict().items():
        assert np.array_equal(value.numpy(), before[key])


def test_not_strict_loads_what_fits_but_never_a_wrong_shape() -> None:
    model = small()
    result = model.load_state_dict({"0.bias": np.full(4, 7.0), "other": np.ones(1)}, strict=False)
    assert np.array_equal(model[0].bias.numpy(), np.full(4, 7.0, np.float32))
    assert result.missing_keys == ["0.weight", "2.weight", "2.bias"] and result.unexpected_keys == ["other"]
    with pytest.raises(RuntimeError, match="expected shape"):
        model.load_state_dict({"0.bias": np.ones(5)}, strict=False)


def test_floats_are_not_loaded_into_integer_buffers() -> None:
    module = Counter()
    with pytest.raises(RuntimeError, match="expected int64, got float64"):
        module.load_state_dict({"scale": np.ones(2), "count": np.array(1.5)})
    module.load_state_dict({"scale": np.ones(2), "count": np.array(9, np.int32)})
    assert module.count.item() == 9


def test_long_lists_of_keys_are_cut() -> None:
    with pytest.raises(RuntimeError, match="and 80 more"):
        nn.Linear(1, 1).load_state_dict({f"k{i}": np.ones(1) for i in range(100)})


def test_what_is_no_state_dictionary_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a state dictionary"):
        nn.Linear(1, 1).load_state_dict([1, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["embed.weight", "head.weight"])
def test_a_tied_weight_may_be_given_under_either_name(name: str) -> None:
    model = Tied()
    assert list(model.state_dict()) == ["embed.weight", "head.weight"]
    values = np.arange(21.0).reshape(7, 3)
    model.load_state_dict({name: values})
    assert np.array_equal(model.head.weight.numpy(), values) and model.head.weight is model.embed.weight


def test_tied_weights_given_twice_must_agree() -> None:
    model = Tied()
    values = np.arange(21.0).reshape(7, 3)
    model.load_state_dict({"embed.weight": values, "head.weight": values.copy()})
    with pytest.raises(RuntimeError, match="their values differ"):
        model.load_state_dict({"embed.weight": values, "head.weight": values + 1})
    with pytest.raises(RuntimeError, match="missing keys"):
        model.load_state_dict({})
    assert np.array_equal(model.embed.weight.numpy(), values)


# ---- containers --------------------------------------------------------------------------------------------------


def test_sequential_runs_in_order_and_takes_names() -> None:
    first, second = nn.Linear(3, 4), nn.Linear(4, 2)
    named = nn.Sequential({"first": first, "second": second})
    x = Tensor(np.ones((2, 3), np.float32))
    assert np.array_equal(named(x).numpy(), second(first(x)).numpy())
    assert list(named.state_dict()) == ["first.weight", "first.bias", "second.weight", "second.bias"]
    assert named.first is first and named[0] is first and named[-1] is second
    with pytest.raises(TypeError, match="holds modules"):
        nn.Sequential(first, lambda x: x)  # type: ignore[arg-type]


def test_module_list_acts_like_a_list() -> None:
    a, b, c, d = (nn.Linear(1, n + 1) for n in range(4))
    layers = nn.ModuleList([a, b])
    layers.append(d)
    layers.insert(2, c)
    assert list(layers) == [a, b, c, d] and len(layers) == 4
    assert layers[-1] is d and list(layers[1:3]) == [b, c] and isinstance(layers[1:3], nn.ModuleList)
    layers[0] = d
    del layers[1]
    assert list(layers) == [d, c, d] and list(layers._modules) == ["0", "1", "2"]
    del layers[1:]
    assert list(layers) == [d]
    with pytest.raises(IndexError, match="out of range"):
        layers[1]
    with pytest.raises(TypeError, match="holds modules"):
        layers[0] = 3  # type: ignore[assignment]


def test_a_name_is_not_taken_twice_by_append() -> None:
    with pytest.raises(ValueError, match="already has"):
        nn.Sequential({"1": nn.ReLU()}).append(nn.ReLU())


def test_module_dict_acts_like_a_dict() -> None:
    layers = nn.ModuleDict({"a": nn.Linear(1, 1)})
    layers["b"] = nn.ReLU()
    assert list(layers) == list(layers.keys()) == ["a", "b"] and "b" in layers and len(layers) == 2
    assert [type(m).__name__ for m in layers.values()] == ["Linear", "ReLU"]
    assert [name for name, _ in layers.items()] == ["a", "b"]
    assert isinstance(layers.pop("b"), nn.ReLU) and "b" not in layers
    with pytest.raises(KeyError, match="there are: a"):
        layers["z"]
    del layers["a"]
    assert len(layers) == 0


def test_frozen_parameters_get_no_gradient() -> None:
    model = small()
    model[0].requires_grad_(False)
    model(Tensor(np.ones((1, 3), np.float32))).sum().backward()
    assert model[0].weight.grad is None and model[2].weight.grad is not None
    with no_grad():
        assert not model(Tensor(np.ones((1, 3), np.float32))).requires_grad


def test_the_same_seed_gives_the_same_model() -> None:
    minilm.random.seed(3)
    first = small()
    minilm.random.seed(3)
    second = small()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert np.array_equal(a.numpy(), b.numpy())
