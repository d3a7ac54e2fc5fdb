"""Places the boxes of a directed acyclic graph in layers: only numbers go in and come out, nothing is drawn.

The steps are those of Sugiyama, Tagawa and Toda (1981): every node gets a layer below all of its parents, an edge
that crosses layers gets a waypoint in each, neighbours are sorted to cross little, and last the positions
within the layers are chosen so that edges run straight. The last step is exact for one layer at a time: the
positions nearest to the wished ones that keep the order and the distances are an isotonic regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

SWEEPS = 24  # of ordering, and again of placing; small graphs settle in under ten


@dataclass(frozen=True)
class Layout:
    """centres[i]: (along, across) of box i; routes[(parent, child)]: the points its edge passes through."""

    centres: tuple[tuple[float, float], ...]
    routes: dict[tuple[int, int], list[tuple[float, float]]]
    size: tuple[float, float]  # (along, across)


def place(
    parents: Sequence[Sequence[int]],
    sizes: Sequence[tuple[float, float]],
    layer_gap: float,
    box_gap: float,
) -> Layout:
    """Positions for boxes of sizes[i] = (along, across) with edges from parents[i] to i, parents before children."""
    layers = assign_layers(parents)
    extents = list(sizes)
    parents_of = [list(dict.fromkeys(ps)) for ps in parents]
    waypoints = _insert_waypoints(parents_of, layers, extents, box_gap)
    rows = _rows(layers)
    rows = _order(rows, parents_of)
    across = _straighten(rows, parents_of, [extent[1] for extent in extents], waypoints, box_gap)

    starts, thickness, at = [], [], 0.0
    for row in rows:
        thickness.append(max(extents[i][0] for i in row))
        starts.append(at)
        at += thickness[-1] + layer_gap
    left = min(across[i] - extents[i][1] / 2 for i in range(len(extents)))
    right = max(across[i] + extents[i][1] / 2 for i in range(len(extents)))
    centre = [(starts[layers[i]] + thickness[layers[i]] / 2, across[i] - left) for i in range(len(extents))]

    routes = {}
    for child, ps in enumerate(parents):
        for parent in dict.fromkeys(ps):
            route = [centre[parent]]
            for stop in (parent, *waypoints.get((parent, child), ()), child):
                # Within a layer the edge runs straight, between the boxes: it bends only in the gaps.
                side, start = centre[stop][1], starts[layers[stop]]
                route += [(start, side)] if stop != parent else []
                route += [(start + thickness[layers[stop]], side)] if stop != child else []
            routes[parent, child] = [*route, centre[child]]
    return Layout(tuple(centre[: len(parents)]), routes, (at - layer_gap, right - left))


def assign_layers(parents: Sequence[Sequence[int]]) -> list[int]:
    """The longest path from a source; a source itself moves down to the layer above its first consumer."""
    layers = [0] * len(parents)
    for i, ps in enumerate(parents):
        layers[i] = 1 + max((layers[p] for p in ps), default=-1)
    for i, ps in enumerate(parents):
        consumers = [layers[c] for c, qs in enumerate(parents) if i in qs]
        if not ps and consumers:
            layers[i] = min(consumers) - 1
    return layers


def _insert_waypoints(
    parents: list[list[int]], layers: list[int], extents: list[tuple[float, float]], width: float
) -> dict[tuple[int, int], list[int]]:
    """Splits every edge that spans several layers; the new nodes are appended to all three lists."""
    chains: dict[tuple[int, int], list[int]] = {}
    for child in range(len(parents)):
        for k, parent in enumerate(list(parents[child])):
            above = parent
            for layer in range(layers[parent] + 1, layers[child]):
                parents.append([above])
                layers.append(layer)
                extents.append((0.0, width))
                above = len(parents) - 1
                chains.setdefault((parent, child), []).append(above)
            parents[child][k] = above
    return chains


def _rows(layers: Sequence[int]) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(max(layers) + 1)]
    for i, layer in enumerate(layers):
        rows[layer].append(i)
    return rows


def _children(parents: Sequence[Sequence[int]]) -> list[list[int]]:
    children: list[list[int]] = [[] for _ in parents]
    for i, ps in enumerate(parents):
        for p in ps:
            children[p].append(i)
    return children


def _order(rows: list[list[int]], parents: Sequence[Sequence[int]]) -> list[list[int]]:
    """Sorts each layer by the mean position of its neighbours, down and up in turn; keeps the best order seen."""
    children = _children(parents)
    rows = [list(row) for row in rows]
    best, fewest = [list(row) for row in rows], crossings(rows, parents)
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        neighbours = parents if downwards else children
        for row in rows if downwards else reversed(rows):
            position = {i: k for other in rows for k, i in enumerate(other)}
            mean = {
                i: sum(position[n] for n in neighbours[i]) / len(neighbours[i]) if neighbours[i] else position[i]
                for i in row
            }
            row.sort(key=mean.__getitem__)
        now = crossings(rows, parents)
        if now < fewest:
            best, fewest = [list(row) for row in rows], now
    return best


def crossings(rows: Sequence[Sequence[int]], parents: Sequence[Sequence[int]]) -> int:
    """How many pairs of edges between neighbouring layers cross."""
    position = {i: k for row in rows for k, i in enumerate(row)}
    count = 0
    for row in rows:
        ends = [position[p] for i in row for p in sorted(parents[i], key=position.__getitem__)]
        owners = [i for i in row for _ in parents[i]]
        count += sum(
            ends[a] > ends[b] for b in range(len(ends)) for a in range(b) if owners[a] != owners[b]
        )
    return count


def _straighten(
    rows: Sequence[Sequence[int]],
    parents: Sequence[Sequence[int]],
    widths: Sequence[float],
    waypoints: dict[tuple[int, int], list[int]],
    gap: float,
) -> list[float]:
    """Positions across the layers that pull every node to the mean of its neighbours, without overlaps.

    A waypoint is pulled to the mean of all the waypoints of its edge instead, and harder, so that long edges
    run straight.
    """
    children = _children(parents)
    edges = {w: (chain, ends) for ends, chain in waypoints.items() for w in chain}
    at = [0.0] * len(widths)
    for row in rows:
        edge = 0.0
        for i in row:
            at[i] = edge + widths[i] / 2
            edge += widths[i] + gap
        for i in row:
            at[i] -= edge / 2  # start with every layer centred
    for sweep in range(SWEEPS):
        settled = sweep >= 2 * SWEEPS // 3
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wishes, weights = [], []
            for i in row:
                if i in edges:
                    chain, ends = edges[i]
                    towards = 0.0 if settled else 0.2
                    line, middle = fmean(at[w] for w in chain), fmean(at[e] for e in ends)
                    wishes.append((1 - towards) * line + towards * middle)
                    weights.append(1e4 if settled else 8.0)  # at last the boxes make room, not the edge
                else:
                    neighbours = (*parents[i], *children[i])
                    wishes.append(fmean(at[n] for n in neighbours) if neighbours else at[i])
                    weights.append(len(neighbours) or 1)
            distances = [(widths[a] + widths[b]) / 2 + gap for a, b in pairwise(row)]
            for i, position in zip(row, separate(wishes, weights, distances), strict=True):
                at[i] = position
    return at


def separate(wishes: Sequence[float], weights: Sequence[float], distances: Sequence[float]) -> list[float]:
    """Minimises Σ weightᵢ·(xᵢ − wishᵢ)² subject to x[i+1] − x[i] ≥ distances[i], by pooling adjacent violators."""
    offsets = [0.0]
    for distance in distances:
        offsets.append(offsets[-1] + distance)
    blocks: list[list[float]] = []  # [mean, weight, count], means rising
    for wish, weight, offset in zip(wishes, weights, offsets, strict=True):
        blocks.append([wish - offset, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, heavy, count = blocks.pop()
            last = blocks[-1]
            last[0] = (last[0] * last[1] + mean * heavy) / (last[1] + heavy)
            last[1] += heavy
            last[2] += count
    means = [mean for mean, _, count in blocks for _ in range(int(count))]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
