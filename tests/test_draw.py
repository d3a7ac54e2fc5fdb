"""The picture of a graph: what it shows, how it is laid out, and that it says what it leaves out."""

from __future__ import annotations

import itertools
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import minilm
from minilm import Tensor, nn
from minilm.draw import draw, draw_text
from minilm.draw.graph import collect
from minilm.draw.layout import assign_layers, crossings, place, separate


def small_graph():
    x = Tensor(np.array([[1.0, 2.0]], dtype=np.float32))
    w = Tensor(np.array([[0.5], [-0.25]], dtype=np.float32), requires_grad=True)
    h = x @ w
    loss = ((h - 3.0) ** 2).mean()
    return x, w, h, loss


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


# ------------------------------------------------------------------------------------------------ what is shown


def test_boxes_carry_names_shapes_values_and_gradients():
    x, w, h, loss = small_graph()
    h.retain_grad()
    loss.backward()
    shown = texts(draw(loss, names={"x": x, "w": w, "h": h, "loss": loss, "other": 3}))
    assert {"x", "w", "h = matmul", "sub", "pow", "loss = mean"} <= set(shown)
    assert "(2, 1)" in shown and "scalar" in shown
    assert "9" in shown  # (0 − 3)² is the loss
    assert "∇ -6" in shown  # its gradient with respect to h
    assert "-12" in " ".join(shown)  # and with respect to the second weight
    assert "3" in shown and "2" in shown  # the numbers that were subtracted and raised to
    assert "leaf that requires a gradient" in shown and "leaf that does not" in shown


def test_names_come_from_tensors_modules_and_locals():
    x, w, h, loss = small_graph()
    w.name = "weight"
    assert "weight" in draw_text(loss)
    assert "weight" not in draw_text(loss, names=locals())  # a name given here comes first
    layer = nn.Linear(2, 1)
    assert "bias" in draw_text(layer(x).sum(), names=layer)
    with pytest.raises(TypeError, match="dict of Tensors by name"):
        draw_text(loss, names=[w])


def test_values_can_be_left_out_and_large_arrays_show_their_shape():
    x, w, h, loss = small_graph()
    loss.backward()
    assert "∇" in draw_text(loss)
    assert "∇" not in draw_text(loss, values=False)
    big = Tensor(np.ones((30, 40), dtype=np.float32), requires_grad=True)
    total = big.sum()
    total.backward()
    assert "(30, 40)  ∇ (30, 40)" in draw_text(total)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, -0.5, 100.0], "1.0   -0.5  100.0"),
        ([0.001, 0.25, -1.5], "0.00   0.25  -1.50"),
        ([1e-9, 2e-9, 1.0], "0.00  0.00  1.00"),
        ([1e-9, 2e-9, 0.0], "1.00e-09  2.00e-09  0.00e+00"),
        ([np.nan, np.inf, 1.5], " nan   inf  1.50"),
        ([0.0, 0.0], "0  0"),
    ],
)
def test_numbers_stand_in_columns(values, expected):
    x = Tensor(np.array(values), requires_grad=True)
    assert "= " + expected.strip() == draw_text(x).partition("float64  ")[2]


def test_other_dtypes_and_empty_tensors_are_named():
    x = Tensor(np.zeros((0, 3)), requires_grad=True)
    assert "(0, 3) float64" in draw_text(x.sum())
    assert draw(x.sum()) is not None


def test_a_leaf_alone_and_no_tensor_at_all():
    x = Tensor([1.0, 2.0], requires_grad=True)
    assert draw_text(x) == "leaf  (2,)  = 1  2"
    assert draw(x) is not None
    assert "constant" in draw_text(Tensor([1.0]))
    with pytest.raises(TypeError, match="Tensor whose graph to draw"):
        draw(3.0)
    with pytest.raises(ValueError, match="down"):
        draw(x, direction="up")
    with pytest.raises(ValueError, match="max_nodes"):
        draw(x, max_nodes=0)


def test_inputs_left_out_are_no_boxes():
    x, w = Tensor(np.ones((1, 2), np.float32)), Tensor(np.ones((3, 2), np.float32), requires_grad=True)
    graph = collect(nn.functional.linear(x, w))
    assert [box.title for box in graph.boxes] == ["constant", "leaf", "linear"]


def test_one_input_twice_is_two_arrows():
    x = Tensor(2.0, requires_grad=True)
    y = x * x
    heads = [p for p in draw(y).axes[0].patches if p.get_zorder() == 2]
    assert len(heads) == 2
    assert draw_text(y).count("leaf #1") == 2
    assert "leaf #1 (above)" in draw_text(y)


def test_a_constant_that_is_gone_is_still_a_box():
    w = Tensor(2.0, requires_grad=True)
    y = w * Tensor(3.0)
    assert "constant" in draw_text(y)


def test_drawing_keeps_nothing_alive_and_changes_nothing():
    x, w, h, loss = small_graph()
    before = loss._node.saved
    draw(loss)
    draw_text(loss)
    assert loss._node.saved is before
    loss.backward()
    assert w.grad is not None


# ------------------------------------------------------------------------------------------------ large graphs


def long_chain(n):
    x = Tensor(1.0, requires_grad=True)
    y = x
    for _ in range(n):
        y = y + x
    return y


def test_of_a_large_graph_the_newest_operations_are_drawn_and_the_rest_counted():
    y = long_chain(100)
    graph = collect(y, max_nodes=40)
    assert sum(box.kind in ("operation", "output") for box in graph.boxes) == 40
    assert [box.kind for box in graph.boxes].count("more") == 1
    assert graph.note.startswith("the last 40 of 100 operations")
    figure = draw(y)
    assert any("the last 40 of 100" in text for text in texts(figure))
    assert "the last 12 of 100 operations" in draw_text(y, max_nodes=12)


def test_a_hundred_thousand_operations_do_not_recurse():
    y = long_chain(100_000)
    assert "of 100000 operations" in draw_text(y, max_nodes=5)


# ------------------------------------------------------------------------------------------------ files and notebooks


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_it_is_written_where_asked(tmp_path, suffix):
    path = tmp_path / f"graph.{suffix}"
    figure = draw(small_graph()[-1], path)
    assert path.stat().st_size > 1000
    assert isinstance(figure, matplotlib.figure.Figure)


def test_a_notebook_can_show_it_without_pyplot():
    figure = minilm.draw(small_graph()[-1])
    assert figure._repr_png_().startswith(b"\x89PNG")
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


def test_every_text_fits_its_box():
    x, w, h, loss = small_graph()
    block = nn.TransformerBlock(8, 2)
    total = block(Tensor(np.ones((1, 2, 8), np.float32))).sum()
    for tensor, direction in itertools.product((loss, total), ("down", "right")):
        figure = draw(tensor, direction=direction, names=block)
        figure.set_dpi(150)
        renderer = FigureCanvasAgg(figure).get_renderer()
        boxes = [p.get_window_extent(renderer) for p in figure.axes[0].patches if p.get_zorder() == 3]
        for text in figure.axes[0].texts:
            if text.get_zorder() == 4:
                extent = text.get_window_extent(renderer)
                assert any(
                    b.x0 <= extent.x0 and extent.x1 <= b.x1 and b.y0 <= extent.y0 and extent.y1 <= b.y1 for b in boxes
                )
        for a, b in itertools.combinations(boxes, 2):
            assert a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0, "two boxes overlap"


# ------------------------------------------------------------------------------------------------ the layout


def test_children_lie_below_their_parents_and_sources_above_their_first_child():
    parents = [[], [0], [1], [], [2, 3], [0, 4]]
    layers = assign_layers(parents)
    assert all(layers[p] < layers[i] for i, ps in enumerate(parents) for p in ps)
    assert layers[3] == layers[4] - 1


@pytest.mark.parametrize("seed", range(20))
def test_no_two_boxes_of_a_layer_overlap_and_edges_pass_between_boxes(seed):
    random = np.random.default_rng(seed)
    n = int(random.integers(2, 25))
    parents = [sorted(set(random.integers(0, i, size=random.integers(0, 3)).tolist())) if i else [] for i in range(n)]
    sizes = [(float(random.uniform(0.3, 1)), float(random.uniform(0.3, 2))) for _ in range(n)]
    layout = place(parents, sizes, layer_gap=0.4, box_gap=0.2)
    rectangles = [
        (a - h / 2, a + h / 2, c - w / 2, c + w / 2) for (a, c), (h, w) in zip(layout.centres, sizes, strict=True)
    ]
    for one, other in itertools.combinations(rectangles, 2):
        apart = one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] + 1e-9 or other[3] <= one[2] + 1e-9
        assert apart
    assert min(r[2] for r in rectangles) >= -1e-9 and max(r[3] for r in rectangles) <= layout.size[1] + 1e-9
    for (parent, child), route in layout.routes.items():
        for along, across in route[1:-1]:
            inside = [
                i for i, (top, bottom, left, right) in enumerate(rectangles)
                if i not in (parent, child) and top < along < bottom and left < across < right
            ]  # fmt: skip
            assert not inside


def test_an_edge_past_many_layers_runs_straight():
    parents = [[]] + [[i] for i in range(8)] + [[0, 8]]
    layout = place(parents, [(0.5, 1.0)] * 10, layer_gap=0.4, box_gap=0.2)
    across = [point[1] for point in layout.routes[0, 9]][2:-2]
    assert max(across) - min(across) < 1e-3  # inches: a tenth of a pixel


def test_separation_is_the_nearest_placement_without_overlap():
    assert separate([0.0, 5.0], [1, 1], [1.0]) == [0.0, 5.0]
    assert separate([0.0, 0.0], [1, 1], [1.0]) == [-0.5, 0.5]
    assert separate([0.0, 0.0], [3, 1], [1.0]) == [-0.25, 0.75]
    scipy = pytest.importorskip("scipy.optimize")
    random = np.random.default_rng(0)
    for _ in range(5):
        wishes, weights = random.normal(size=5), random.uniform(0.5, 2, size=5)
        gaps = random.uniform(0.1, 1, size=4)
        found = np.array(separate(wishes.tolist(), weights.tolist(), gaps.tolist()))
        best = scipy.minimize(
            lambda x, w=weights, t=wishes: float((w * (x - t) ** 2).sum()),
            np.cumsum([0, *gaps]),
            constraints=[{"type": "ineq", "fun": lambda x, g=gaps: np.diff(x) - g}],
            options={"ftol": 1e-12},
        ).x
        assert np.abs(found - best).max() < 1e-4


def test_crossings_are_counted():
    assert crossings([[0, 1], [2, 3]], [[], [], [0], [1]]) == 0
    assert crossings([[0, 1], [2, 3]], [[], [], [1], [0]]) == 1
