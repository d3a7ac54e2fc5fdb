"""Prints a collected graph as a tree, for terminals and logs."""

from __future__ import annotations

from minilm.draw.graph import Box, Graph


def tree(graph: Graph) -> str:
    """The result at the top and what it was made from below it; a box that is used twice is printed once.

    Boxes with several consumers carry a number, and every later mention refers back to it.
    """
    boxes = graph.boxes
    uses = [0] * len(boxes)
    for box in boxes:
        for parent in box.parents:
            uses[parent] += 1
    numbers: dict[int, int] = {}
    lines: list[str] = []
    stack = [(len(boxes) - 1, "", "")]  # box, what stands before its branch, its branch
    while stack:
        at, before, branch = stack.pop()
        box = boxes[at]
        again = at in numbers
        if uses[at] > 1:
            numbers.setdefault(at, len(numbers) + 1)
        mark = f" #{numbers[at]}" if at in numbers else ""
        lines.append(before + branch + (f"{box.title}{mark} (above)" if again else _describe(box, mark)))
        if again:
            continue
        below = before + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
        for k, parent in reversed(list(enumerate(box.parents))):
            last = k == len(box.parents) - 1
            stack.append((parent, below, "└─ " if last else "├─ "))
    if graph.note:
        lines.append(graph.note)
    return "\n".join(lines)


def _describe(box: Box, mark: str) -> str:
    words = [box.title + mark]
    plain = [line.text for line in box.lines if not line.mono]
    value = [line.text.strip() for line in box.lines if line.mono and not line.gradient]
    gradient = [line.text.strip() for line in box.lines if line.gradient]
    words += plain
    if value:
        words.append("= " + "; ".join(value))
    if gradient:
        words.append("; ".join(gradient))
    return "  ".join(words)
