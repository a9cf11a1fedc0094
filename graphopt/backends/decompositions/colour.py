"""Colours: contrast, hue and saturation."""

from __future__ import annotations

from graphopt.backends.decompositions.formulas import Terms
from graphopt.backends.legalization import Lowering
from graphopt.ir.types import FLOAT32
from graphopt.ir.value import Value

# Distances from a hue in sixths of the circle: the sign of the distance, the hue, and what is added.
SHADES = ((1, 3, -1), (-1, 2, 2), (-1, 4, 2))


def contrast(op: Lowering) -> Value:
    """The distance of each pixel from the mean of its channel, multiplied."""
    value, rank = op.input(0), op.rank(op.input(0))
    mean = op.step("Mean", value, op.integers([rank - 3, rank - 2], name=f"{op.node.name}/axes"), keep_dims=True)
    return op.step("AddV2", op.step("Mul", op.step("Sub", value, mean), op.input(1)), mean)


def to_hue(op: Lowering) -> Value:
    """Hue, saturation and value of red, green and blue."""
    return _joined(op, *_hue_saturation_value(op, op.input(0)))


def from_hue(op: Lowering) -> Value:
    """Red, green and blue of hue, saturation and value."""
    return _joined(op, *_red_green_blue(Terms(op), *_channels(op, op.input(0))))


def turned_hue(op: Lowering) -> Value:
    """Hues moved along the circle."""
    f = Terms(op)
    hue, saturation, value = _hue_saturation_value(op, op.input(0))
    turned = f("AddV2", hue, op.input(1))
    return _joined(op, *_red_green_blue(f, f("Sub", turned, f("Floor", turned)), saturation, value))


def saturation(op: Lowering) -> Value:
    """Saturations multiplied, and kept between zero and one."""
    f = Terms(op)
    hue, strength, value = _hue_saturation_value(op, op.input(0))
    kept = f("Minimum", f("Maximum", f("Mul", strength, op.input(1)), 0), 1)
    return _joined(op, *_red_green_blue(f, hue, kept, value))


def _channels(op: Lowering, images: Value) -> list[Value]:
    """The three channels, each an image of one. Refuses types that are not float32."""
    if images.dtype is not FLOAT32:
        op.refuse(f"colours are only lowered for float32, not for {images.dtype.name}", "build it in float32")
    last = op.integers(op.rank(images) - 1, name=f"{op.node.name}/last")
    return op.edit.node("tf.Split", [last, images], {"num_split": 3}).outputs


def _joined(op: Lowering, *channels: Value) -> Value:
    last = op.integers(op.rank(op.input(0)) - 1, name=f"{op.node.name}/last")
    return op.edit.node("tf.ConcatV2", [*channels, last], {"N": len(channels)}).output


def _hue_saturation_value(op: Lowering, images: Value) -> tuple[Value, Value, Value]:
    f = Terms(op)
    red, green, blue = _channels(op, images)
    value = f("Maximum", f("Maximum", red, green), blue)
    spread = f("Sub", value, f("Minimum", f("Minimum", red, green), blue))
    unit = f("RealDiv", 1 / 6, spread)
    after_green = f("AddV2", f("Mul", f("Sub", blue, red), unit), 2 / 6)
    after_blue = f("AddV2", f("Mul", f("Sub", red, green), unit), 4 / 6)
    hue = f("SelectV2", f("Equal", green, value), after_green, after_blue)
    hue = f("SelectV2", f("Equal", red, value), f("Mul", f("Sub", green, blue), unit), hue)
    hue = f("SelectV2", f("Greater", spread, 0), hue, 0)
    hue = f("SelectV2", f("Less", hue, 0), f("AddV2", hue, 1), hue)
    strength = f("SelectV2", f("Greater", value, 0), f("RealDiv", spread, value), 0)
    return hue, strength, value


def _red_green_blue(f: Terms, hue: Value, strength: Value, value: Value) -> list[Value]:
    sixths, pale = f("Mul", hue, 6), f("Sub", 1, strength)
    made = []
    for sign, centre, more in SHADES:
        distance = f("Abs", f("Sub", sixths, centre))
        shade = f("AddV2", distance, more) if sign > 0 else f("Sub", more, distance)
        shade = f("Minimum", f("Maximum", shade, 0), 1)
        made.append(f("Mul", f("AddV2", pale, f("Mul", strength, shade)), value))
    return made
