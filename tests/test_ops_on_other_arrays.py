"""The operations run on arrays that are not NumPy's, as they will on a GPU: nothing converts on the way.

`Elsewhere` behaves as a CuPy 13 array does where it differs from a NumPy array. It refuses to become one (`__array__`
raises) and to meet one in an operation; what it is asked through NumPy's dispatch protocols it answers with its own
kind, 0-d arrays included; `reduceat` is not dispatched, and reductions take neither `initial` nor `where`.
"""

from __future__ import annotations

import weakref

import numpy as np
import pytest

import minilm
from minilm import Tensor
from minilm.gradcheck import gradcheck
from minilm.gradcheck.cases import Operations, all_cases

CASES = [case for case in all_cases() if case.operation != "to_device"]  # which is the one to leave the GPU


@pytest.fixture(autouse=True)
def reference_kernels():
    """Of the kernels, the reference is the one that runs on any array."""
    with minilm.kernels.use("numpy"):
        yield


class _Device:
    id = 0


class Elsewhere(np.lib.mixins.NDArrayOperatorsMixin):
    """An array whose numbers NumPy cannot reach."""

    device = _Device()
    _owners: weakref.WeakValueDictionary[int, Elsewhere] = weakref.WeakValueDictionary()

    def __init__(self, hidden):
        assert isinstance(hidden, np.ndarray)
        self._hidden = hidden
        root = hidden
        while isinstance(root.base, np.ndarray):
            root = root.base
        self.base = None
        if root is not hidden:
            owner = self._owners.get(id(root))
            self.base = owner if owner is not None and owner._hidden is root else Elsewhere(root)
        else:
            self._owners[id(root)] = self

    # --- no way to NumPy but .get()

    def get(self):
        return self._hidden.copy()

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion to a NumPy array is not allowed; use .get()")

    def __float__(self):
        return float(self._hidden)

    def __int__(self):
        return int(self._hidden)

    def __bool__(self):
        return bool(self._hidden)

    __index__ = __int__

    def item(self):
        return self._hidden.item()

    def tolist(self):
        return self._hidden.tolist()

    # --- the protocols

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        if method == "reduceat" or not set(kwargs) <= {"axis", "keepdims", "dtype", "casting"}:
            return NotImplemented
        if out is not None:
            kwargs["out"] = tuple(_hidden(o) for o in out)
        return _shown(getattr(ufunc, method)(*(_hidden(x) for x in inputs), **kwargs))

    def __array_function__(self, function, types, args, kwargs):
        reductions = (np.max, np.min, np.amax, np.amin, np.sum, np.prod, np.mean, np.any, np.all)
        if function in reductions and {"initial", "where"} & set(kwargs):
            raise TypeError(f"{function.__name__}() got an unexpected keyword argument")
        if function in (np.asarray, np.array):  # with like=: what comes from the host is copied over
            return args[0] if isinstance(args[0], Elsewhere) else Elsewhere(np.array(*args, **kwargs))
        return _shown(function(*_hidden(args), **_hidden(kwargs)))

    # --- the methods of an array

    shape = property(lambda self: self._hidden.shape)
    ndim = property(lambda self: self._hidden.ndim)
    size = property(lambda self: self._hidden.size)
    dtype = property(lambda self: self._hidden.dtype)
    flags = property(lambda self: self._hidden.flags)
    strides = property(lambda self: self._hidden.strides)
    itemsize = property(lambda self: self._hidden.itemsize)
    T = property(lambda self: Elsewhere(self._hidden.T))

    def __len__(self):
        return len(self._hidden)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        return Elsewhere(np.asarray(self._hidden[_with_dots(_hidden(index))]))

    def __setitem__(self, index, value):
        whole = index is Ellipsis or index == slice(None) if not isinstance(index, (tuple, Elsewhere)) else False
        self._hidden[_hidden(index)] = value if whole and isinstance(value, np.ndarray) else _hidden(value)


def _method(name):
    def call(self, *args, **kwargs):
        return _shown(getattr(self._hidden, name)(*_hidden(args), **_hidden(kwargs)))

    return call


for _name in ("reshape", "transpose", "swapaxes", "astype", "copy", "sum", "mean", "max", "min", "any", "all", "ravel"):
    setattr(Elsewhere, _name, _method(_name))


def _with_dots(index):
    """x[0] of a vector is a 0-d view, not a number."""
    parts = index if isinstance(index, tuple) else (index,)
    basic = all(isinstance(p, (int, np.integer, slice)) or p is None or p is Ellipsis for p in parts)
    return (*parts, ...) if basic and not any(p is Ellipsis for p in parts) else index


def _hidden(x):
    if isinstance(x, Elsewhere):
        return x._hidden
    if isinstance(x, np.ndarray):
        raise TypeError("a NumPy array met an array that lives elsewhere")
    if isinstance(x, (tuple, list)):
        return type(x)(_hidden(item) for item in x)
    if isinstance(x, dict):
        return {key: _hidden(item) for key, item in x.items()}
    return x


def _shown(x):
    if isinstance(x, (np.ndarray, np.generic)):
        return Elsewhere(np.asarray(x))
    if isinstance(x, (tuple, list)):
        return type(x)(_shown(item) for item in x)
    return x


class OperationsElsewhere(Operations):
    """The operations, with the constants of the table put where the inputs are."""

    @staticmethod
    def tensor(data):
        return Tensor(Elsewhere(np.array(data)))


def run(case, place):
    """Outputs and gradients of a case, with its inputs put somewhere by `place`."""
    random = np.random.default_rng(4)
    leaves = [Tensor(place(points.draw(random)), requires_grad=True) for points in case.inputs]
    returned = case.function(Operations() if place is np.array else OperationsElsewhere())(*leaves)
    outputs = list(returned) if isinstance(returned, tuple) else [returned]
    for out in outputs:
        if out.requires_grad:
            out.backward(Tensor(place(random.standard_normal(out.shape))), retain_graph=True)
    return outputs, [leaf.grad for leaf in leaves]


def test_the_double_refuses_what_cupy_refuses():
    x, y = Elsewhere(np.ones((2, 3))), np.ones((2, 3))
    with pytest.raises(TypeError, match="implicit conversion"):
        np.array(x)
    with pytest.raises(TypeError, match="implicit conversion"):
        np.asarray(x)
    for function in (lambda: x + y, lambda: y + x, lambda: np.where(y > 0, x, x), lambda: np.concatenate([x, y])):
        with pytest.raises(TypeError, match="a NumPy array met"):
            function()
    with pytest.raises(TypeError):
        np.max(x, axis=0, initial=-np.inf)
    with pytest.raises(TypeError):
        np.add.reduceat(x, [0, 1])
    for result in (x.sum(), np.exp(x[0, 0]), x[0, 0] * 2):
        assert isinstance(result, Elsewhere)
    assert x[0].base is x and (x + 1).base is None
    assert isinstance(np.zeros_like(x, shape=(4,)), Elsewhere) and isinstance(np.arange(3, like=x), Elsewhere)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_operation_stays_where_its_arrays_are(case):
    outputs, gradients = run(case, lambda array: Elsewhere(np.array(array)))
    expected_outputs, expected_gradients = run(case, np.array)
    pairs = [*zip(outputs, expected_outputs, strict=True), *zip(gradients, expected_gradients, strict=True)]
    for found, expected in pairs:
        if expected is None:
            assert found is None
            continue
        assert isinstance(found.data, Elsewhere) and found.device == "cuda:0"
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12, atol=1e-14)


def test_results_come_back_only_when_asked():
    x = Tensor(Elsewhere(np.array([1.0, -2.0])), requires_grad=True)
    y = (x * x).sum()
    assert y.item() == 5.0 and float(y) == 5.0 and (x * 1.0).tolist() == [1.0, -2.0]
    assert isinstance(x.numpy(), np.ndarray)
    with pytest.raises(TypeError, match="a NumPy array met"):
        x + np.ones(2)


def test_gradients_accumulate_where_they_are():
    x = Tensor(Elsewhere(np.array([1.0, -2.0])), requires_grad=True)
    for _ in range(3):
        (x * x).sum().backward()
    assert isinstance(x.grad.data, Elsewhere) and x.grad.tolist() == [6.0, -12.0]
    x.grad = None
    minilm.grad((x * 3.0).sum(), x)[0].data.get()
    with minilm.no_grad():
        x -= 0.5
        x.mul_(2.0)
        x[0] = 7.0
    assert x.tolist() == [7.0, -5.0]


def test_in_place_changes_of_saved_values_are_noticed_there_too():
    x = Tensor(Elsewhere(np.array([1.0, 2.0])), requires_grad=True)
    y = x.exp()
    with minilm.no_grad():
        y[:1].add_(1.0)  # through a view
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


@pytest.mark.parametrize("mode", ["exhaustive", "projection"])
def test_gradients_can_be_checked_there(mode):
    inputs = [Elsewhere(np.random.default_rng(i).standard_normal((3, 3))) for i in range(2)]
    assert gradcheck(lambda x, y: (x @ y).softmax(dim=-1), inputs, mode=mode)
