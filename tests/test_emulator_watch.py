"""Looking inside a running kernel: shared memory at each barrier, and the steps of chosen threads."""

from __future__ import annotations

import numpy as np
import pytest

from minilm_kernels.emulator import EmulatedModule, KernelError, build

if build.find_compiler() is None:
    pytest.skip(f"no C++ compiler: {build.how_to_install_compiler()}", allow_module_level=True)

SOURCE = """extern "C" __global__ void tree(const float* in, float* out) {
    __shared__ float sums[2][8];
    DYNAMIC_SHARED(int, stamps);
    const int i = threadIdx.x;
    sums[0][i] = in[8 * blockIdx.x + i];
    stamps[i] = 100 + i;
    __syncthreads();
    for (int half = 4; half > 0; half /= 2) {
        if (i < half) sums[0][i] += sums[0][i + half];
        __syncthreads();
    }
    if (i == 0) out[blockIdx.x] = sums[0][0];
}
extern "C" __global__ void vectors(const float4* in, float4* out) {
    const float4 four = in[threadIdx.x];
    out[threadIdx.x] = four;
    __syncwarp();
}
"""


@pytest.fixture(scope="module")
def module():
    return EmulatedModule(SOURCE, name="watch.cu")


def run_tree(module, blocks=2):
    x, out = np.arange(8 * blocks, dtype=np.float32), np.zeros(blocks, np.float32)
    module.get_function("tree")((blocks,), (8,), (x, out), shared_mem=8 * 4)
    assert out.tolist() == x.reshape(blocks, 8).sum(1).tolist()


def test_snapshots_at_barriers(module):
    seen = []
    with module.at_barrier(seen.append):
        run_tree(module)
    assert [(s.block, s.barrier) for s in seen] == [((b, 0, 0), i) for b in range(2) for i in range(4)]
    assert [s.place for s in seen[:4]] == ["watch.cu:7"] + ["watch.cu:10"] * 3
    assert seen[0].shared["sums"].shape == (2, 8) and seen[0].shared["sums"].dtype == np.float32
    assert [s.shared["sums"][0, 0] for s in seen[:4]] == [0, 0 + 4, 0 + 4 + 2 + 6, 28]
    assert np.isnan(seen[3].shared["sums"][1]).all()  # nobody writes the second row
    assert seen[0].shared["stamps"].tolist() == [100 + i for i in range(8)]
    assert seen[4].shared["sums"][0].tolist() == [
        8,
        9,
        10,
        11,
        12,
        13,
        14,
        15,
    ]  # copies, not views: the first still holds
    run_tree(module)
    assert len(seen) == 8  # the context has ended


def test_an_error_in_the_callback_ends_the_launch(module):
    def stop(snapshot):
        raise LookupError(f"seen enough at barrier {snapshot.barrier}")

    with module.at_barrier(stop), pytest.raises(LookupError, match="seen enough at barrier 0"):
        run_tree(module)
    run_tree(module)


def test_trace_of_two_threads(module):
    with module.trace(threads=[0, 5], block=(1, 0, 0)) as trace:
        run_tree(module)
    assert {s.block for s in trace.steps} == {(1, 0, 0)} and {s.thread for s in trace.steps} == {(0, 0, 0), (5, 0, 0)}
    five = [(s.kind, s.space, s.array, s.index, s.value) for s in trace.of(5)]
    assert five == [
        ("read", "global", "in", (13,), 13),
        ("write", "shared", "sums", (0, 5), 13),
        ("write", "shared", "stamps", (5,), 105),
        *[("barrier", "", "", (), None)] * 4,
    ]
    zero = trace.of((0, 0, 0))
    writes = [s.value for s in zero if s.kind == "write" and s.array == "sums"]
    assert writes == [8, 8 + 12, 8 + 12 + 10 + 14, 92]
    assert [s.step for s in zero] == sorted(s.step for s in zero)
    last = zero[-1]
    assert (last.kind, last.array, last.index, last.value, last.place) == ("write", "out", (1,), 92, "watch.cu:12")
    assert str(last) == "thread (0, 0, 0) write out[1] = 92.0  (watch.cu:12)"
    assert "read sums[0][4] = 12.0" in str(trace)


def test_trace_of_all_blocks_and_of_indices(module):
    with module.trace(threads=[(3, 0)], block=None) as trace:
        run_tree(module)
    assert {s.block for s in trace.steps} == {(0, 0, 0), (1, 0, 0)} and {s.thread for s in trace.steps} == {(3, 0, 0)}
    count = len(trace.steps)
    run_tree(module)
    assert len(trace.steps) == count


def test_trace_sees_vector_loads_as_parts(module):
    x = np.arange(16, dtype=np.float32)
    with module.trace(threads=[1]) as trace:
        module.get_function("vectors")((1,), (4,), (x, np.zeros_like(x)))
    read = [v for s in trace.steps if s.kind == "read" for v in np.atleast_1d(s.value)]
    assert read == [4, 5, 6, 7] and trace.steps[-1].kind == "warp operation"


def test_what_cannot_be_traced(module):
    with (
        module.trace(threads=[64]),
        pytest.raises(ValueError, match=r"no thread 64 to trace in a block of \(8, 1, 1\)"),
    ):
        run_tree(module)
    with module.trace(block=(5, 0, 0)), pytest.raises(ValueError, match=r"no block \(5, 0, 0\) to trace"):
        run_tree(module)
    with (
        pytest.raises(ValueError, match="tracing needs a module with checks"),
        EmulatedModule(SOURCE, checks=()).trace(),
    ):
        pass


def test_a_trace_ends_somewhere(module, monkeypatch):
    monkeypatch.setattr("minilm_kernels.emulator.module.EVENT_LIMIT", 5)
    with module.trace(threads=[0]), pytest.raises(KernelError, match="trace too long in tree.*more than 5 steps"):
        run_tree(module)


def test_lockstep_interleaves_the_threads(module, monkeypatch):
    """Thread after thread makes one access: the reads of all come before the second step of any."""
    monkeypatch.setattr(module, "order", "lockstep")
    with module.trace(threads=range(8)) as trace:
        run_tree(module, blocks=1)
    first = [s for s in trace.steps[:8]]
    assert [s.thread[0] for s in first] == list(range(8)) and {s.array for s in first} == {"in"}
