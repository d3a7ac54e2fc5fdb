"""`Optimizer`: parameter groups, gradients set back, state saved and restored. The update itself is a subclass's.

A parameter group is a dictionary: "params" and the hyper-parameters that hold for them, so that, say, biases and norms
can go without weight decay:

    AdamW([{"params": matrices}, {"params": vectors, "weight_decay": 0.0}], lr=3e-4, weight_decay=0.1)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from minilm.tensor import Tensor

State = dict[str, Any]
Group = dict[str, Any]


class Optimizer:
    """What every optimiser shares. A subclass defines `update`, and checks its hyper-parameters in `check`.

    Args:
        params: parameters, or dictionaries with "params" and hyper-parameters of their own.
        defaults: the hyper-parameters for groups that do not set them.

    Raises:
        ValueError: without parameters, for a parameter given twice, for one that cannot be trained (no
            `requires_grad`, or computed from others), and for hyper-parameters out of range.
        TypeError: for what is not a Tensor, and for unknown hyper-parameters.
    """

    def __init__(self, params: Iterable[Tensor] | Iterable[Group], defaults: Group) -> None:
        if isinstance(params, (Tensor, Mapping)):
            raise TypeError(f"params must be an iterable of tensors or of groups, got one {type(params).__name__}.")
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self.state: dict[Tensor, State] = {}
        given: list[Any] = list(params)
        if not given:
            raise ValueError(f"{type(self).__name__} got no parameters: is the model empty, or a generator used up?")
        groups = given if isinstance(given[0], Mapping) else [{"params": given}]
        for group in groups:
            self.add_param_group(group)
        if not any(group["params"] for group in self.param_groups):
            raise ValueError(f"{type(self).__name__} got groups without any parameter.")

    def check(self, group: Group) -> None:
        """Raise ValueError for hyper-parameters that are out of range."""

    def update(self, param: Tensor, grad: Any, group: Group, state: State) -> None:
        """Change the array `param.data` in place by its gradient, the array `grad`, which must not be changed.

        `state` is empty at the first call and is this parameter's own.
        """
        raise NotImplementedError(f"{type(self).__name__} has no update(); define it in the class.")

    def step(self) -> None:
        """Change every parameter that has a gradient."""
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self.update(param, param.grad.data, group, self.state.setdefault(param, {}))
                    param.bump_version()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients, or fill them with zeros. Without it, the next backward adds to them."""
        for group in self.param_groups:
            for param in group["params"]:
                if set_to_none:
                    param.grad = None
                elif param.grad is not None:
                    param.grad.zero_()

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add a group; what it leaves out comes from the defaults."""
        unknown = group.keys() - self.defaults.keys() - {"params", "initial_lr"}
        if unknown:
            raise TypeError(
                f"{type(self).__name__} knows no {', '.join(sorted(unknown))}; it knows {', '.join(self.defaults)}."
            )
        if "params" not in group:
            raise ValueError(f'a parameter group needs "params", got only {", ".join(group) or "nothing"}.')
        params = group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        known = {id(p) for g in self.param_groups for p in g["params"]}
        for index, param in enumerate(params):
            self._check_param(index, param)
            if id(param) in known:
                raise ValueError(
                    f"parameter {index} of shape {param.shape} was given twice: each is updated once a step."
                )
            known.add(id(param))
        complete = {**self.defaults, **group, "params": params}
        self.check(complete)
        self.param_groups.append(complete)

    def _check_param(self, index: int, param: Any) -> None:
        if not isinstance(param, Tensor):
            raise TypeError(f"expected tensors to optimise, got {type(param).__name__} at place {index}.")
        if not param.is_leaf:
            raise ValueError(
                f"parameter {index} of shape {param.shape} was computed from others: only leaves are trained."
            )
        if not param.requires_grad:
            raise ValueError(
                f"parameter {index} of shape {param.shape} does not require a gradient: leave frozen parameters out, "
                "as in [p for p in model.parameters() if p.requires_grad]."
            )

    def state_dict(self) -> dict[str, Any]:
        """The state as NumPy arrays and plain numbers.

            {"state": {0: {"step": 7, "exp_avg": array, …}, …}, "param_groups": [{"lr": …, "params": [0, 1]}, …]}

        Parameters are numbered in the order of the groups. On the CPU the arrays are the optimiser's own: copy them
        if they are to outlast the next step.
        """
        order = {id(p): i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}
        return {
            "state": {
                order[id(param)]: {name: _to_numpy(value) for name, value in state.items()}
                for param, state in self.state.items()
            },
            "param_groups": [
                {**group, "params": [order[id(p)] for p in group["params"]]} for group in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave, also after a round through JSON (lists for tuples, "0" for 0).

        Raises:
            ValueError: if the groups, their sizes or an array's shape do not fit; nothing has been changed then.
        """
        groups, states = self._checked(state_dict)
        params = [p for group in self.param_groups for p in group["params"]]
        for group, saved in zip(self.param_groups, groups, strict=True):
            group.update(saved)
        self.state = {params[i]: state for i, state in states.items()}

    def _checked(self, state_dict: Mapping[str, Any]) -> tuple[list[Group], dict[int, State]]:
        """The groups' hyper-parameters and copies of the states, after all checks."""
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= state_dict.keys():
            raise ValueError('expected a state dictionary with "state" and "param_groups", as state_dict() gives it.')
        saved_groups = state_dict["param_groups"]
        sizes = [len(group["params"]) for group in self.param_groups]
        saved_sizes = [len(group["params"]) for group in saved_groups]
        if sizes != saved_sizes:
            raise ValueError(f"this optimiser has groups of {sizes} parameters, the saved one had {saved_sizes}.")
        groups = []
        for saved in saved_groups:
            group = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items() if k != "params"}
            unlike = (group.keys() ^ self.defaults.keys()) - {"initial_lr"}
            if unlike:
                raise ValueError(f"the state of another optimiser: its groups differ in {', '.join(sorted(unlike))}.")
            self.check(group)
            groups.append(group)
        params = [p for group in self.param_groups for p in group["params"]]
        # Parameters may be numbered otherwise in the file: the places in its groups say which is which.
        numbers = [int(i) for group in saved_groups for i in group["params"]]
        saved_states = {int(i): state for i, state in state_dict["state"].items()}
        if not saved_states.keys() <= set(numbers):
            raise ValueError(
                f"the saved state names parameters {sorted(saved_states.keys() - set(numbers))}, unknown to its groups."
            )
        states = {}
        for place, number in enumerate(numbers):
            if number in saved_states:
                states[place] = {k: _from_numpy(k, v, params[place]) for k, v in saved_states[number].items()}
        return groups, states

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__}("]
        for index, group in enumerate(self.param_groups):
            count = sum(p.numel() for p in group["params"])
            settings = ", ".join(f"{k}={v}" for k, v in group.items() if k != "params")
            lines.append(f"  group {index}: {len(group['params'])} tensors, {count:,} numbers; {settings}")
        return "\n".join([*lines, ")"])


def _to_numpy(value: Any) -> Any:
    return Tensor(value).numpy() if hasattr(value, "shape") else value


def _from_numpy(name: str, value: Any, param: Tensor) -> Any:
    """A copy in the dtype and place of the parameter; plain numbers as they are."""
    if not hasattr(value, "shape"):
        return value
    if value.shape != param.shape:
        raise ValueError(f"the saved {name} has shape {value.shape}, its parameter {param.shape}.")
    copied = np.empty_like(param.data)
    copied[...] = np.asarray(value, like=param.data)
    return copied


def check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise ValueError unless low <= value < high (NaN is refused too)."""
    if not low <= value < high:
        above = "" if high == float("inf") else f" and below {high:g}"
        raise ValueError(f"{name} must be at least {low:g}{above}, got {value}.")
