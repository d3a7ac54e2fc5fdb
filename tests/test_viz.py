"""Pictures show what they are given: the right numbers in the right cells, tokens in order, readable in any print."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb

import minilm
from minilm import viz
from minilm.viz.matrices import _luminance

TOKENS = ["the", "cat", "sat"]
WEIGHTS = np.array([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.125, 0.5, 0.375]])
FUTURE = np.triu(np.ones((3, 3), dtype=bool), 1)


def cells(ax):
    """The numbers in the cells of a picture, as {(row, column): text}."""
    return {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in ax.texts}


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def png_size(figure):
    data = figure._repr_png_()
    assert data.startswith(b"\x89PNG")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_attention_puts_each_weight_into_its_cell_and_tokens_on_both_axes():
    figure = viz.attention(WEIGHTS, TOKENS, titles="head 0", hidden=FUTURE)
    (ax,) = figure.axes
    expected = {(i, j): f"{WEIGHTS[i, j]:.2f}" for i in range(3) for j in range(i + 1)}
    assert cells(ax) == expected  # and nothing in the hidden cells
    assert labels(ax.xaxis) == labels(ax.yaxis) == TOKENS
    assert ax.get_title() == "head 0"
    assert ax.yaxis_inverted()  # the first query is at the top
    assert len(ax.patches) == FUTURE.sum()
    assert all(patch.get_hatch() for patch in ax.patches)


def test_cross_attention_has_queries_down_and_keys_across():
    figure = viz.attention(np.full((2, 4), 0.25), ["le", "chat"], ["the", "cat", "sat", "."])
    (ax,) = figure.axes
    assert labels(ax.yaxis) == ["le", "chat"]
    assert labels(ax.xaxis) == ["the", "cat", "sat", "."]
    assert "query" in ax.get_ylabel() and "key" in ax.get_xlabel()


def test_heads_stand_side_by_side_on_one_scale():
    heads = np.random.default_rng(0).dirichlet(np.ones(6), size=(3, 6))
    figure = viz.attention(heads, list("abcdef"), titles=["x", "y", "z"])
    panels = figure.axes[:3]
    assert [ax.get_title() for ax in panels] == ["x", "y", "z"]
    for ax, head in zip(panels, heads, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), head)
        assert ax.images[0].get_clim() == (0, 1)
    assert len(figure.axes) == 4  # no room for numbers: a scale says what the colours mean
    assert figure.axes[3].get_ylabel() == "attention weight"


def test_tensors_are_taken_as_they_are():
    weights = minilm.tensor(WEIGHTS).softmax(dim=-1)
    figure = viz.attention(weights, TOKENS)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), weights.numpy())


@pytest.mark.parametrize(
    ("matrix", "limits"),
    [
        (WEIGHTS * 0.5, (0, 1)),
        ([[0.0, 5.0]], (0, 7.5)),
        ([[-1.0, 0.5]], (-1.5, 1.5)),
        ([[-np.inf, 2.0]], (0, 3)),
        ([[0.0, 0.0]], (0, 1)),
    ],
)
def test_the_scale_puts_zero_at_white(matrix, limits):
    image = viz.heatmap(matrix).axes[0].images[0]
    assert image.get_clim() == pytest.approx(limits)
    assert image.to_rgba(np.array([0.0]))[0] == pytest.approx([1, 1, 1, 1], abs=0.01)


def test_minus_infinity_is_hidden():
    (ax,) = viz.heatmap([[0.0, -np.inf], [1.5, -2.25]]).axes
    assert cells(ax) == {(0, 0): "0", (1, 0): "1.50", (1, 1): "−2.25"}
    (patch,) = ax.patches
    assert (patch.get_x() + 0.5, patch.get_y() + 0.5) == (1, 0)


@pytest.mark.parametrize(("value", "text"), [(0.001, "1.0e−03"), (12345.5, "1.2e+04"), (7, "7"), (0.5, "0.50")])
def test_numbers_are_short(value, text):
    assert cells(viz.heatmap([[value]]).axes[0]) == {(0, 0): text}


def test_large_matrices_carry_no_numbers_unless_asked():
    matrix = np.random.default_rng(0).random((4, 11))
    assert cells(viz.heatmap(matrix).axes[0]) == {}
    assert len(cells(viz.heatmap(matrix, numbers=".1f").axes[0])) == 44


def test_mask_hatches_what_is_hidden_and_fills_the_rest():
    allowed = np.tri(2, 4, k=2, dtype=bool)
    (ax,) = viz.mask(allowed, ["q0", "q1"], list("abcd"), title="causal").axes
    hidden = {(round(p.get_y() + 0.5), round(p.get_x() + 0.5)) for p in ax.patches}
    assert hidden == {(0, 3)}
    colour = ax.images[0].to_rgba(np.array(ax.images[0].get_array()))
    assert _luminance(colour[0, 0]) < 0.3
    assert ax.get_title() == "causal"


def test_only_the_first_of_several_masks_names_its_rows():
    figure, axes = viz.subplots(1, 2, sharey=True)
    for ax in axes:
        assert viz.mask(np.eye(2, dtype=bool), list("ab"), ax=ax) is figure
    assert [ax.get_ylabel() for ax in axes] == ["query", ""]


def test_white_space_and_dollars_in_tokens_are_shown_as_they_are():
    (ax,) = viz.attention(np.eye(3), [" a", "$x$", "\n"]).axes
    assert labels(ax.xaxis) == ["␣a", r"\$x\$", "↵"]
    png_size(ax.figure)  # and it can be drawn


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: viz.attention(WEIGHTS, ["a", "b"]), "3 rows.*2 names"),
        (lambda: viz.attention(np.ones((2, 3, 3)), TOKENS, titles=["one"]), "2 heads need 2 titles"),
        (lambda: viz.attention(np.ones((1, 2, 3, 3)), TOKENS), r"\(Tq, Tk\) or \(H, Tq, Tk\)"),
        (lambda: viz.attention(np.ones((2, 3, 3)), TOKENS, ax=viz.subplots()[1]), "do not fit into one"),
        (lambda: viz.heatmap(np.ones(3)), "two axes"),
        (lambda: viz.heatmap(np.ones((0, 3))), "two axes of at least one entry"),
        (lambda: viz.heatmap(WEIGHTS, hidden=np.ones((2, 2))), r"shape of the matrix, \(3, 3\)"),
        (lambda: viz.mask(np.ones((2, 2))), "must be boolean"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_figures_show_themselves_at_80_dpi():
    figure, _ = viz.subplots(1, 2)
    assert png_size(figure) == (720, 256)


def test_nothing_touches_pyplot_or_its_settings():
    program = """
import sys, matplotlib
before = dict(matplotlib.rcParams)
from minilm import viz
viz.heatmap([[1.0]])._repr_png_()
assert dict(matplotlib.rcParams) == before
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run(
        [sys.executable, "-c", program], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )


def test_numbers_can_be_read_on_every_colour():
    for matrix in (np.linspace(0, 0.999, 10)[None], np.linspace(-1, 1, 9)[None]):
        (ax,) = viz.heatmap(matrix, limits=(min(0, matrix.min()), 1)).axes
        ground = ax.images[0].to_rgba(np.array(ax.images[0].get_array()))[0]
        for text in ax.texts:
            light, dark = sorted(
                (_luminance(to_rgb(text.get_color())), _luminance(ground[round(text.get_position()[0])])), reverse=True
            )
            assert (light + 0.05) / (dark + 0.05) > 4.5  # WCAG 2.2, AA


def test_both_scales_keep_their_order_in_grey_print():
    shades = [_luminance(viz.SEQUENTIAL(x)) for x in np.linspace(0, 1, 101)]
    assert (np.diff(shades) < 0).all()
    shades = [_luminance(viz.DIVERGING(x)) for x in np.linspace(0, 1, 101)]
    assert (np.diff(shades[:51]) > 0).all() and (np.diff(shades[50:]) < 0).all()
