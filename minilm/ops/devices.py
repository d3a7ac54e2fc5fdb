"""Moving a tensor between the CPU (NumPy arrays) and a GPU (CuPy arrays)."""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm.tensor import Array, Tensor, apply, define


def is_device(target: Any) -> bool:
    """Whether `target` names a device ("cpu", "cuda", "cuda:1") rather than a dtype."""
    return isinstance(target, str) and (target == "cpu" or target.split(":")[0] == "cuda")


def place(array: Array, device: str) -> Array:
    """The array on that device. Raises RuntimeError where the device cannot be used, with what to install."""
    if device == "cpu":
        return array if isinstance(array, np.ndarray) else array.get()
    try:
        import cupy  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise RuntimeError(
            f"moving to {device!r} needs CuPy, which is not installed: pip install 'minilm[cuda12]' "
            "(or cuda13, for a CUDA 13 driver)"
        ) from None
    if not cupy.cuda.is_available():
        raise RuntimeError(f"moving to {device!r} needs an NVIDIA GPU and its driver; CuPy finds none here")
    with cupy.cuda.Device(int(device.partition(":")[2] or 0)):
        return cupy.asarray(array)


def to_device_forward(x: Array, *, device: str, home: str) -> tuple[Array, tuple[Any, ...]]:
    return place(x, device), (home,)


def to_device_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (home,) = saved
    return (place(grad, home),)


TO_DEVICE = define("to_device", to_device_forward, to_device_backward)


def move(x: Tensor, device: str) -> Tensor:
    """x on another device; the gradient comes back to where x is."""
    full_name = f"{device}:0" if device == "cuda" else device
    return x if x.device == full_name else apply(TO_DEVICE, x, device=device, home=x.device)
