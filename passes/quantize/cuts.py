"""The cheapest cut through a network: Dinic's algorithm, with no recursion."""

from __future__ import annotations

UNLIMITED = 1 << 60


class Network:
    """Places 0 (source), 1 (sink) and those that are added; capacities are whole numbers."""

    def __init__(self) -> None:
        self._edges: list[list[int]] = [[], []]  # of each place, numbers of edges out of it; odd ones lead back
        self._ends: list[int] = []
        self._capacities: list[int] = []

    def add(self) -> int:
        """The number of a new place."""
        self._edges.append([])
        return len(self._edges) - 1

    def join(self, start: int, end: int, capacity: int) -> None:
        """An edge from `start` to `end`."""
        for first, second, amount in ((start, end, capacity), (end, start, 0)):
            self._edges[first].append(len(self._ends))
            self._ends.append(second)
            self._capacities.append(amount)

    def source_side(self) -> list[bool]:
        """For each place, whether a cheapest cut leaves it with the source; of several such cuts, that nearest it."""
        while True:
            levels = self._levels()
            if levels[1] < 0:
                return [level >= 0 for level in levels]
            self._block(levels)

    def _levels(self) -> list[int]:
        levels = [-1] * len(self._edges)
        levels[0] = 0
        queue = [0]
        for place in queue:
            for edge in self._edges[place]:
                end = self._ends[edge]
                if self._capacities[edge] and levels[end] < 0:
                    levels[end] = levels[place] + 1
                    queue.append(end)
        return levels

    def _block(self, levels: list[int]) -> None:
        """Fill the shortest paths until each has an edge that is full."""
        tried = [0] * len(self._edges)
        path: list[int] = []
        place = 0
        while True:
            if place == 1:
                self._fill(path)
                path, place = [], 0
                continue
            edges = self._edges[place]
            while tried[place] < len(edges):
                edge = edges[tried[place]]
                if self._capacities[edge] and levels[self._ends[edge]] == levels[place] + 1:
                    break
                tried[place] += 1
            else:
                if not path:
                    return
                place = self._ends[path.pop() ^ 1]
                tried[place] += 1
                continue
            path.append(edge)
            place = self._ends[edge]

    def _fill(self, path: list[int]) -> None:
        amount = min(self._capacities[edge] for edge in path)
        for edge in path:
            self._capacities[edge] -= amount
            self._capacities[edge ^ 1] += amount
