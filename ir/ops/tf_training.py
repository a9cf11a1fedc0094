"""Operators of TensorFlow: training: optimisers, savers, summaries and samplers. Declared, never evaluated."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.inference import InferenceContext, scalar, unknown
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.tf_windows import ranked, settled
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import Shape

DENSE_OPTIMISERS = (
    "AdaMax", "Adadelta", "Adagrad", "AdagradDA", "AdagradV2", "Adam", "AddSign", "CenteredRMSProp", "Ftrl", "FtrlV2",
    "GradientDescent", "Momentum", "PowerSign", "ProximalAdagrad", "ProximalGradientDescent", "RMSProp",
)  # fmt: skip
SPARSE_OPTIMISERS = (
    "Adadelta", "Adagrad", "AdagradDA", "AdagradV2", "CenteredRMSProp", "Ftrl", "FtrlV2", "Momentum",
    "ProximalAdagrad", "ProximalGradientDescent", "RMSProp",
)  # fmt: skip
SUMMARIES = (
    "AudioSummary", "AudioSummaryV2", "HistogramSummary", "ImageSummary", "MergeSummary", "ScalarSummary",
    "TensorSummary", "TensorSummaryV2",
)  # fmt: skip
SUMMARY_WRITERS = (
    "CloseSummaryWriter", "CreateSummaryDbWriter", "CreateSummaryFileWriter", "FlushSummaryWriter", "ImportEvent",
    "SummaryWriter", "WriteAudioSummary", "WriteGraphSummary", "WriteHistogramSummary", "WriteImageSummary",
    "WriteRawProtoSummary", "WriteScalarSummary", "WriteSummary",
)  # fmt: skip
SAMPLERS = (
    "AllCandidateSampler", "FixedUnigramCandidateSampler", "LearnedUnigramCandidateSampler",
    "LogUniformCandidateSampler", "ThreadUnsafeUnigramCandidateSampler", "UniformCandidateSampler",
)  # fmt: skip


def _variable_shape(context: InferenceContext) -> Sequence[Shape]:
    """The variable itself comes out; a resource has no output."""
    return [context.shape(0)] * context.output_count


@settled("num_sampled", "num_true")
def _sampled_shape(context: InferenceContext) -> Sequence[Shape]:
    drawn, true = context.attrs.get("num_sampled"), context.attrs.get("num_true")
    classes = ranked(context.shape(0), 2, "the true classes")
    count = Shape((drawn if type(drawn) is int else None,))
    width: Dim = true if type(true) is int else classes[1]
    return [count, Shape((classes[0], width)), count]


def _distorted_box_shape(context: InferenceContext) -> Sequence[Shape]:
    return [Shape((3,)), Shape((3,)), Shape((1, 1, 4))]


def _accidental_hits_shape(context: InferenceContext) -> Sequence[Shape]:
    return [Shape((None,))] * 3


_EFFECT = Trait.TRAINING | Trait.STATEFUL

register([f"tf.Apply{name}" for name in DENSE_OPTIMISERS], traits=_EFFECT, shape=_variable_shape)
register([f"tf.SparseApply{name}" for name in SPARSE_OPTIMISERS], traits=_EFFECT, shape=_variable_shape)
register(
    [f"tf.ResourceApply{name}" for name in (*DENSE_OPTIMISERS, "AdamWithAmsgrad", "KerasMomentum")],
    traits=_EFFECT,
    shape=_variable_shape,
)
register(
    [f"tf.ResourceSparseApply{name}" for name in (*SPARSE_OPTIMISERS, "KerasMomentum")],
    traits=_EFFECT,
    shape=_variable_shape,
)
register([f"tf.{name}" for name in SUMMARIES], traits=Trait.TRAINING, shape=scalar)
register([f"tf.{name}" for name in SUMMARY_WRITERS], traits=_EFFECT, shape=scalar)

register(("tf.Save", "tf.SaveV2", "tf.SaveSlices", "tf.MergeV2Checkpoints"), traits=_EFFECT, shape=unknown)
register(("tf.Restore", "tf.RestoreV2", "tf.RestoreSlice"), traits=_EFFECT, shape=unknown)

register([f"tf.{name}" for name in SAMPLERS], traits=Trait.TRAINING | Trait.RANDOM, shape=_sampled_shape)
register("tf.ComputeAccidentalHits", traits=Trait.TRAINING, shape=_accidental_hits_shape)
register(
    ("tf.SampleDistortedBoundingBox", "tf.SampleDistortedBoundingBoxV2"),
    traits=Trait.RANDOM,
    shape=_distorted_box_shape,
)
register("tf.StatelessSampleDistortedBoundingBox", shape=_distorted_box_shape)
