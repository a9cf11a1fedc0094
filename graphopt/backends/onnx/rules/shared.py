"""Operators that are written with other operators of TensorFlow, whatever the target: by TFLite's rules for them."""

from __future__ import annotations

from graphopt.backends.onnx.table import RULES
from graphopt.backends.tflite.rules import blocks, composed, fake_quantization, filling, joining, ordering, recurrent
from graphopt.backends.tflite.rules import reduction as reductions

RULES.legalize("tf.Lgamma")(composed.formula)
RULES.legalize("tf.SigmoidGrad", "tf.TanhGrad")(composed.formula_of_two)
RULES.legalize("tf.MulNoNan")(composed.zero_for_zero)
RULES.legalize(*composed.SHIELDED)(composed.shielded)
RULES.legalize("tf.ApproximateEqual")(composed.approximately_equal)
RULES.legalize("tf.ReluGrad", "tf.Relu6Grad")(composed.rectified_gradient)
RULES.legalize("tf.SpaceToBatch", "tf.BatchToSpace")(blocks.batches_of_squares)
RULES.legalize("tf.LinSpace")(filling.evenly_spaced)
RULES.legalize("tf.Roll")(joining.roll)
RULES.legalize("tf.Reverse")(joining.reverse_flagged)
RULES.legalize("tf.BiasAddGrad")(reductions.sum_beside_channels)
RULES.legalize("tf.SoftmaxCrossEntropyWithLogits")(reductions.cross_entropy)
RULES.legalize("tf.SparseSoftmaxCrossEntropyWithLogits")(reductions.sparse_cross_entropy)
RULES.legalize("tf.Cumprod")(reductions.cumulative_product)
RULES.legalize("tf.NthElement")(ordering.nth_element)
RULES.legalize("tf.LowerBound", "tf.UpperBound")(ordering.bound)
RULES.legalize("tf.LSTMBlockCell")(recurrent.lstm_block_cell)
RULES.legalize("tf.BlockLSTM", "tf.BlockLSTMV2")(recurrent.block_lstm)
RULES.legalize("tf.GRUBlockCell")(recurrent.gru_block_cell)
RULES.legalize(
    "tf.FakeQuantWithMinMaxArgs", "tf.FakeQuantWithMinMaxVars", "tf.FakeQuantWithMinMaxVarsPerChannel"
)(fake_quantization.fake_quantization_by_steps)  # fmt: skip
