"""Suppression of overlapping boxes: round after round the best box that is left, for many rows of boxes at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.rules.indexing import take
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import FLOAT32, INT32

PADDED = "ask for results of a fixed size (pad_to_max_output_size, or combined_non_max_suppression)"


class _Selected(NamedTuple):
    """Of each row: places of the boxes that were selected, zeros after them; their scores; how many they are."""

    places: Operand
    scores: Operand
    found: Operand


def _numbers(op: Emission, place: int) -> Operand:
    return op.build.convert(op.input(place), FLOAT32)


def _limit(op: Emission, place: int) -> int:
    return int(op.constant_input(place, "the number of boxes to select").reshape(-1)[0])


class _Corners(NamedTuple):
    """Coordinates `[rows, boxes]`, in order whatever corners a box was given by, and areas."""

    top: Operand
    left: Operand
    bottom: Operand
    right: Operand
    area: Operand


def _corners(op: Emission, boxes: Operand) -> _Corners:
    b = op.build
    rows, count, _ = boxes.dims
    one, two, three, four = (
        b.reshape(b.slice(boxes, [0, 0, place], [rows, count, place + 1]), (rows, count)) for place in range(4)
    )
    top, bottom, left, right = b.min(one, three), b.max(one, three), b.min(two, four), b.max(two, four)
    return _Corners(top, left, bottom, right, b.mul(b.sub(bottom, top), b.sub(right, left)))


def _overlaps(op: Emission, corners: _Corners, hit: Operand) -> Operand:
    """Of every box with the one at `hit` of its row: what both cover over what either does."""
    b = op.build
    own = _Corners(*(b.picked(hit, part, 1) for part in corners))
    height = b.sub(b.min(corners.bottom, own.bottom), b.max(corners.top, own.top))
    width = b.sub(b.min(corners.right, own.right), b.max(corners.left, own.left))
    shared = b.mul(b.max(height, 0), b.max(width, 0))
    whole = b.sub(b.add(corners.area, own.area), shared)
    is_real = b.binary("and_", b.compare("GT", corners.area, 0), b.compare("GT", own.area, 0))
    return b.select(is_real, b.div(shared, b.select(is_real, whole, b.like(1, whole))), b.like(0, shared))


def select_boxes(
    op: Emission,
    boxes: Operand,
    scores: Operand,
    limit: int,
    threshold: Operand,
    least: Operand,
    sigma: float = 0.0,
) -> _Selected:
    """Up to `limit` of the boxes `[rows, count, 4]`, by falling score; with `sigma`, overlaps lower scores instead."""
    b, corners = op.build, _corners(op, boxes)
    rows = scores.dims[0]
    out = b.like(-np.inf, scores)
    start = b.select(b.compare("GT", scores, least), scores, out)
    wanted = (rows, limit)

    def choose(number: Operand, state: list[Operand]) -> list[Operand]:
        left, places, kept, found = state
        top, place, hit = b.first_largest(left, 1)
        is_found = b.compare("GT", top, b.broadcast(least, top.dims))
        is_found = b.binary("and_", is_found, b.compare("GT", top, -np.inf))
        overlaps = _overlaps(op, corners, hit)
        if sigma > 0:
            falling = b.unary("exponential", b.mul(b.mul(overlaps, overlaps), -0.5 / sigma))
            after = b.select(b.compare("EQ", left, -np.inf), left, b.mul(left, falling))
        else:
            after = b.select(b.compare("GT", overlaps, threshold), out, left)
        after = b.select(hit, out, after)
        column = b.binary("and_", b.compare("EQ", b.iota(INT32, wanted, 1), number), b.broadcast(is_found, wanted))
        return [
            after,
            b.select(column, b.broadcast(place, wanted), places),
            b.select(column, b.broadcast(top, wanted), kept),
            b.add(found, b.convert(b.reshape(is_found, (rows,)), INT32)),
        ]

    state = [start, b.full(0, INT32, wanted), b.full(0, FLOAT32, wanted), b.full(0, INT32, (rows,))]
    _, places, kept, found = b.repeat(limit, state, choose)
    return _Selected(places, kept, found)


@RULES.lower("tf.NonMaxSuppressionV4", "tf.NonMaxSuppressionV5")
def padded_suppression(op: Emission) -> list[Operand | None]:
    """Boxes of one image, padded to the number asked for; the fifth version also by lowering scores."""
    if not op.attr("pad_to_max_output_size"):
        op.refuse("how many boxes it yields depends on data", PADDED)
    b, limit = op.build, _limit(op, 2)
    boxes, scores = _numbers(op, 0), _numbers(op, 1)
    is_fifth = op.node.op.endswith("V5")
    sigma = float(op.constant_input(5, "the spread").reshape(-1)[0]) if is_fifth else 0.0
    rows = b.reshape(boxes, (1, *boxes.dims)), b.reshape(scores, (1, *scores.dims))
    made = select_boxes(op, *rows, limit, _numbers(op, 3), _numbers(op, 4), sigma)
    places, count = b.reshape(made.places, (limit,)), b.reshape(made.found, ())
    if is_fifth:
        return [places, b.convert(b.reshape(made.scores, (limit,)), op.input(1).dtype), count]
    return [places, count]


@RULES.lower(
    "tf.NonMaxSuppression", "tf.NonMaxSuppressionV2", "tf.NonMaxSuppressionV3", "tf.NonMaxSuppressionWithOverlaps"
)
def plain_suppression(op: Emission) -> Operand:
    """As many boxes as are left: a size that XLA cannot know."""
    op.refuse("how many boxes it yields depends on data", PADDED)


@RULES.lower("tf.CombinedNonMaxSuppression")
def combined_suppression(op: Emission) -> list[Operand | None]:
    """Suppression class by class, then the best boxes of all classes, for each image of a batch."""
    b, boxes, scores = op.build, _numbers(op, 0), _numbers(op, 1)
    batch, count = boxes.static[:2]
    classes = scores.static[2]
    each = min(_limit(op, 2), count)
    wide = b.broadcast(boxes, (batch, count, classes, 4))
    rows = b.reshape(b.transpose(wide, (0, 2, 1, 3)), (batch * classes, count, 4))
    by_class = b.reshape(b.transpose(scores, (0, 2, 1)), (batch * classes, count))
    made = select_boxes(op, rows, by_class, each, _numbers(op, 4), _numbers(op, 5))
    grid = (batch, classes * each)
    is_real = b.compare("LT", b.iota(INT32, (batch * classes, each), 1), b.reshape(made.found, (batch * classes, 1)))
    known = b.reshape(b.select(is_real, made.scores, b.like(-np.inf, made.scores)), grid)
    offsets = b.mul(b.iota(INT32, (batch * classes, each), 0), count)
    flat = b.reshape(b.add(made.places, offsets), grid)
    kind = b.reshape(b.iota(INT32, (batch, classes, each), 1), grid)
    ordered = b.sort("GT", known, [flat, kind], 1)
    return _best(op, b.reshape(rows, (batch * classes * count, 4)), ordered, b.reshape(made.found, (batch, classes)))


def _best(op: Emission, boxes: Operand, ordered: list[Operand], counts: Operand) -> list[Operand | None]:
    """What of all classes' boxes is kept, zeros after it."""
    b = op.build
    batch, there = ordered[0].static
    wanted = op.static(1)[1]
    short = min(wanted, there)
    known, flat, kind = (b.slice(part, [0, 0], [batch, short]) for part in ordered)
    is_real = b.compare("GT", known, -np.inf)
    picked = take(op, boxes, flat, 0)
    picked = b.min(b.max(picked, 0), 1) if op.attr("clip_boxes", True) else picked
    picked = b.select(b.broadcast(is_real, picked.dims, (0, 1)), picked, b.like(0, picked))
    results = [picked, *(b.select(is_real, part, b.like(0, part)) for part in (known, b.convert(kind, FLOAT32)))]
    grown = [[0, wanted - short, *[0] * (part.rank - 2)] for part in results]
    padded = [b.pad(part, [0] * part.rank, high) for part, high in zip(results, grown, strict=True)]
    total = b.min(b.reduce("add", counts, [1]), wanted)
    return [*padded, total]
