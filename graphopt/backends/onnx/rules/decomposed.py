"""Operators that are written with other operators of TensorFlow, whatever the target."""

from __future__ import annotations

from graphopt.backends.decompositions import (
    colour,
    crops,
    fake_quantization,
    formulas,
    passing,
    rearranging,
    recurrent,
    reduction,
)
from graphopt.backends.onnx.table import RULES

RULES.legalize("tf.Lgamma")(formulas.formula)
RULES.legalize("tf.SigmoidGrad", "tf.TanhGrad")(formulas.formula_of_two)
RULES.legalize("tf.MulNoNan")(formulas.zero_for_zero)
RULES.legalize(*formulas.SHIELDED)(formulas.shielded)
RULES.legalize("tf.ApproximateEqual")(formulas.approximately_equal)
RULES.legalize("tf.ReluGrad", "tf.Relu6Grad")(formulas.rectified_gradient)
RULES.legalize("tf.SpaceToBatch", "tf.BatchToSpace")(rearranging.batches_of_squares)
RULES.legalize("tf.LinSpace")(rearranging.evenly_spaced)
RULES.legalize("tf.AdjustContrastv2")(colour.contrast)
RULES.legalize("tf.RGBToHSV")(colour.to_hue)
RULES.legalize("tf.HSVToRGB")(colour.from_hue)
RULES.legalize("tf.AdjustHue")(colour.turned_hue)
RULES.legalize("tf.AdjustSaturation")(colour.saturation)
RULES.legalize("tf.CropAndResize")(crops.crop_and_resize)
RULES.legalize(*passing.PASSING)(passing.passed_on)
RULES.legalize("tf.IdentityN")(passing.all_passed_on)
RULES.legalize("tf.Roll")(rearranging.roll)
RULES.legalize("tf.Reverse")(rearranging.reverse_flagged)
RULES.legalize("tf.BiasAddGrad")(reduction.sum_beside_channels)
RULES.legalize("tf.SoftmaxCrossEntropyWithLogits")(reduction.cross_entropy)
RULES.legalize("tf.SparseSoftmaxCrossEntropyWithLogits")(reduction.sparse_cross_entropy)
RULES.legalize("tf.Cumprod")(reduction.cumulative_product)
RULES.legalize("tf.NthElement")(rearranging.nth_element)
RULES.legalize("tf.LowerBound", "tf.UpperBound")(rearranging.bound)
RULES.legalize("tf.LSTMBlockCell")(recurrent.lstm_block_cell)
RULES.legalize("tf.BlockLSTM", "tf.BlockLSTMV2")(recurrent.block_lstm)
RULES.legalize("tf.GRUBlockCell")(recurrent.gru_block_cell)
RULES.legalize(
    "tf.FakeQuantWithMinMaxArgs", "tf.FakeQuantWithMinMaxVars", "tf.FakeQuantWithMinMaxVarsPerChannel"
)(fake_quantization.fake_quantization_by_steps)  # fmt: skip
