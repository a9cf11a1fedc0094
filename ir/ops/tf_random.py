"""Operators of TensorFlow that draw numbers: shapes and traits; nothing here is ever evaluated.

Those with a seed among their inputs are functions of it, but of generators whose numbers are TensorFlow's own affair.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.ir.ops.inference import InferenceContext, InferenceError, broadcast_shapes, same_as, scalar
from graphopt.ir.ops.registry import ShapeFunction, register
from graphopt.ir.ops.tf_ordering import size_of
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import SCALAR, UNKNOWN_SHAPE, Shape

DRAWN = Trait.RANDOM | Trait.STATEFUL


def shaped(index: int = 0) -> ShapeFunction:
    """Every output has the shape that input `index` lists."""

    def infer(context: InferenceContext) -> Sequence[Shape]:
        if context.shape(index).rank not in (None, 1):
            raise InferenceError(f"a shape must be a vector, not {context.shape(index)}")
        return [context.as_shape(index)] * context.output_count

    return infer


def _samples_of_each(context: InferenceContext) -> Sequence[Shape]:
    """The shape that input 0 lists, for each parameter in input 1."""
    outer, parameters = shaped()(context)[0], context.shape(1)
    if outer.dims is None or parameters.dims is None:
        return [UNKNOWN_SHAPE]
    return [Shape((*outer.dims, *parameters.dims))]


def _multinomial(context: InferenceContext) -> Sequence[Shape]:
    logits = context.shape(0).merged(Shape([None, None]))
    if logits is None:
        raise InferenceError(f"logits must be a matrix, not {context.shape(0)}")
    return [Shape([logits[0], size_of(context, 1, "the number of samples")])]


def _key_and_counter(context: InferenceContext) -> Sequence[Shape]:
    return [Shape([1]), Shape([None]), SCALAR][: context.output_count]


def _sobol(context: InferenceContext) -> Sequence[Shape]:
    return [Shape([size_of(context, 1, "the number of results"), size_of(context, 0, "the number of dimensions")])]


def _index_shuffle(context: InferenceContext) -> Sequence[Shape]:
    seed = context.shape(1)
    seeds = UNKNOWN_SHAPE if seed.dims is None else Shape(seed.dims[:-1])
    return [broadcast_shapes([context.shape(0), seeds, context.shape(2)])]


SHAPED = (
    "RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal", "ParameterizedTruncatedNormal",
    "NonDeterministicInts",
)  # fmt: skip
SHAPED_BY_SEED = (
    "StatelessRandomUniform", "StatelessRandomUniformV2", "StatelessRandomUniformInt", "StatelessRandomUniformIntV2",
    "StatelessRandomUniformFullInt", "StatelessRandomUniformFullIntV2", "StatelessRandomNormal",
    "StatelessRandomNormalV2", "StatelessTruncatedNormal", "StatelessTruncatedNormalV2", "StatelessRandomGammaV2",
    "StatelessRandomGammaV3", "StatelessRandomPoisson", "StatelessRandomBinomial",
    "StatelessParameterizedTruncatedNormal",
)  # fmt: skip
SHAPED_BY_GENERATOR = (  # resource, algorithm, shape
    "StatefulStandardNormalV2", "StatefulTruncatedNormal", "StatefulUniform", "StatefulUniformFullInt",
    "StatefulUniformInt", "StatefulRandomBinomial",
)  # fmt: skip


def _full(names: Sequence[str]) -> list[str]:
    return [f"tf.{name}" for name in names]


def _register() -> None:
    register(_full(SHAPED), traits=DRAWN, shape=shaped())
    register(_full(SHAPED_BY_SEED), traits=Trait.RANDOM, shape=shaped())
    register(_full(SHAPED_BY_GENERATOR), traits=DRAWN, shape=shaped(2))
    register("tf.StatefulStandardNormal", traits=DRAWN, shape=shaped(1))
    register("tf.RandomCrop", traits=DRAWN, shape=shaped(1))
    register(("tf.RandomGamma", "tf.RandomPoisson", "tf.RandomPoissonV2"), traits=DRAWN, shape=_samples_of_each)
    register("tf.RandomShuffle", traits=DRAWN, shape=same_as())
    register("tf.StatelessShuffle", traits=Trait.RANDOM, shape=same_as())
    register("tf.StochasticCastToInt", traits=Trait.RANDOM, shape=same_as())
    register("tf.Multinomial", traits=DRAWN, shape=_multinomial)
    register("tf.StatelessMultinomial", traits=Trait.RANDOM, shape=_multinomial)
    register("tf.RandomIndexShuffle", traits=Trait.RANDOM, shape=_index_shuffle)
    register("tf.SobolSample", traits=Trait.RANDOM, shape=_sobol)
    names = ("tf.StatelessRandomGetKeyCounter", "tf.StatelessRandomGetKeyCounterAlg")
    register(names, traits=Trait.RANDOM, shape=_key_and_counter)
    register("tf.StatelessRandomGetAlg", traits=Trait.RANDOM, shape=scalar)


_register()
