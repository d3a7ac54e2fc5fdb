"""Choosing implementations: nothing falls back silently, and a choice belongs to a thread."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import threading
import types

import numpy as np
import pytest

import minilm.kernels as kernels
from minilm_kernels import contract, registry


@pytest.fixture
def add_implementation(monkeypatch):
    """Registers throw-away implementations: add(name, functions, **fields)."""
    monkeypatch.setattr(registry, "IMPLEMENTATIONS", dict(registry.IMPLEMENTATIONS))
    registry._function.cache_clear()

    def add(name, functions=(), **fields):
        module = types.ModuleType(f"fake_{name}")
        for key, value in dict(functions).items():
            setattr(module, key, value)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        registry.register(registry.Implementation(name, "a test double", module.__name__, **fields))

    yield add
    registry._function.cache_clear()
    registry._module.cache_clear()


def constant(value):
    return lambda *args, **kwargs: value


def test_every_implementation_takes_what_the_contract_says():
    """The same parameters, kinds and defaults; what a ladder passes on as **options may hold more."""
    for name, implementation in registry.IMPLEMENTATIONS.items():
        if implementation.problem() is not None:
            continue
        for operation, signature in contract.OPERATIONS.items():
            found = inspect.signature(registry._function(operation, name)).parameters
            passed_on = any(p.kind is p.VAR_KEYWORD for p in found.values())
            for wanted in inspect.signature(signature).parameters.values():
                if wanted.name in found:
                    mine = found[wanted.name]
                    assert (mine.kind, mine.default) == (wanted.kind, wanted.default), (name, operation, wanted)
                else:
                    assert passed_on and wanted.kind is wanted.KEYWORD_ONLY, (name, operation, wanted)


def test_use_as_function_and_as_context(add_implementation):
    add_implementation("double", {"global_norm": constant("double")}, inherits="numpy")
    with kernels.use("double"):
        assert kernels.global_norm([]) == "double"
        with kernels.use(global_norm="numpy"):
            assert kernels.global_norm([]) == 0.0
        assert kernels.active()["global_norm"] == "double"
    assert kernels.active()["global_norm"] == "numpy"


def test_an_operation_name_covers_forward_and_backward(add_implementation):
    add_implementation("double", {}, inherits="numpy")
    with kernels.use(attention="double"):
        chosen = kernels.active()
        assert chosen["attention_forward"] == chosen["attention_backward"] == "double"
        assert chosen["matmul"] == "numpy"


def test_rungs(add_implementation):
    add_implementation("ladder", {"RUNGS": {"matmul": {"01": constant("naive")}}}, inherits="numpy")
    with kernels.use(matmul="ladder/01"):
        assert kernels.matmul(1, 2) == "naive"
        assert kernels.active()["matmul"] == "ladder/01"
    with pytest.raises(ValueError, match="no rung '07' of matmul; it has: ladder/01"):
        kernels.use(matmul="ladder/07")
    with pytest.raises(ValueError, match="a rung belongs to one operation"):
        kernels.use("ladder/01")


def test_what_cannot_run_raises_with_the_reason_and_the_command(add_implementation):
    add_implementation("absent", problem=constant("no GPU found"), install="pip install something")
    with pytest.raises(RuntimeError, match="no GPU found. Install it with: pip install something"):
        kernels.use("absent")
    table = str(kernels.available())
    assert re.search(r"absent +not available: no GPU found", table) and "install: pip install something" in table


def test_a_missing_operation_is_not_replaced_silently(add_implementation):
    add_implementation("partial", {"global_norm": constant(1.0)})
    with pytest.raises(RuntimeError, match="does not compute"):
        kernels.use("partial")
    with kernels.use(global_norm="partial"):
        assert kernels.global_norm([]) == 1.0


def test_unknown_names_say_what_is_known():
    with pytest.raises(ValueError, match="unknown kernel implementation 'nunpy'; known: auto, numpy"):
        kernels.use("nunpy")
    with pytest.raises(ValueError, match="unknown operation 'convolution'"):
        kernels.use(convolution="numpy")
    with pytest.raises(ValueError, match="needs a name"):
        kernels.use()


def test_a_refused_choice_changes_nothing():
    before = kernels.active()
    with pytest.raises(ValueError):
        kernels.use(matmul="nunpy")
    assert kernels.active() == before


def test_a_choice_belongs_to_its_thread(add_implementation):
    add_implementation("double", {}, inherits="numpy")
    seen = {}
    with kernels.use("double"):
        thread = threading.Thread(target=lambda: seen.update(kernels.active()))
        thread.start()
        thread.join()
    assert set(seen.values()) == {"numpy"}


def test_auto_takes_the_first_preferred_that_runs(add_implementation, monkeypatch):
    add_implementation("absent", problem=constant("not today"))
    add_implementation("double", {}, inherits="numpy")
    monkeypatch.setattr(registry, "PREFERENCE", ["absent", "double", "numpy"])
    with kernels.use("auto"):
        assert set(kernels.active().values()) == {"double"}
    assert "absent, double, numpy" in str(kernels.available())


def test_environment_variable_sets_the_default():
    script = "import minilm_kernels as k; print(k.active()['matmul']); k.global_norm([])"
    path = ":".join(p for p in sys.path if p)

    def run(value):
        env = {"MINILM_KERNELS": value, "PYTHONPATH": path}
        return subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)

    fine, wrong = run("numpy"), run("nunpy")
    assert fine.stdout.strip() == "numpy", fine.stderr
    assert wrong.returncode != 0
    assert "MINILM_KERNELS says 'nunpy': unknown kernel implementation" in wrong.stderr


def test_what_is_inherited_exists():
    for implementation in registry.IMPLEMENTATIONS.values():
        assert implementation.inherits in ("", *registry.IMPLEMENTATIONS)


def test_a_name_cannot_be_registered_twice():
    with pytest.raises(ValueError, match="registered already"):
        kernels.register(registry.Implementation("numpy", "", "nowhere"))


def test_reference_runs_on_plain_arrays():
    out = kernels.matmul(np.eye(2), np.ones((2, 3)))
    assert np.array_equal(out, np.ones((2, 3)))
