"""Operators of TensorFlow with state: variables, tables, queues, readers, iterators."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.handles import declared_shape, listed_shapes, maker
from graphopt.ir.ops.inference import InferenceContext, same_as, scalar, unknown
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import UNKNOWN_SHAPE, Shape
from graphopt.ir.value import Value

PAIR = Shape((2,))  # of the handles of old, a container's name and the resource's
VECTOR = Shape((None,))
_STATE = Trait.STATEFUL  # also where TensorFlow does not say so: operators on references write through them


def _pair(context: InferenceContext) -> Sequence[Shape]:
    return [PAIR] * context.output_count


# Variables -------------------------------------------------------------------------------------------------------


def _variable(context: InferenceContext) -> Sequence[Shape]:
    shape = context.attrs.get("shape")
    return [shape if isinstance(shape, Shape) else UNKNOWN_SHAPE]


def _variable_of_old(context: InferenceContext) -> Sequence[Shape]:
    """`Variable` cannot tell a scalar from the unknown."""
    shape = context.attrs.get("shape")
    return [shape if isinstance(shape, Shape) and shape.rank else UNKNOWN_SHAPE]


def _read(context: InferenceContext) -> Sequence[Shape]:
    return [declared_shape(value) for value in context.node._inputs]


def _assign(context: InferenceContext) -> Sequence[Shape]:
    """What was assigned and, where the operator checks that, what the variable was declared as."""
    variable, value = context.shape(0), context.shape(1)
    if not context.attrs.get("validate_shape", True):
        return [value]
    merged = variable.merged(value)
    return [variable if merged is None else merged]


register("tf.VariableV2", traits=_STATE, shape=_variable)
register("tf.TemporaryVariable", traits=_STATE, shape=_variable)
register("tf.Variable", traits=_STATE, shape=_variable_of_old)
register("tf.DestroyTemporaryVariable", traits=_STATE, shape=same_as())
register(("tf.VarHandleOp", "tf._VarHandlesOp"), traits=_STATE, shape=scalar)
register(("tf.ReadVariableOp", "tf._ReadVariablesOp"), traits=_STATE, shape=_read)
register(("tf.VarIsInitializedOp", "tf.IsVariableInitialized"), traits=_STATE, shape=scalar)
register(("tf.CountUpTo", "tf.ResourceCountUpTo"), traits=_STATE, shape=scalar)
register(("tf.Assign", "tf.AssignAdd", "tf.AssignSub"), traits=_STATE, shape=_assign)
register(
    ("tf.AssignVariableOp", "tf.AssignAddVariableOp", "tf.AssignSubVariableOp", "tf.DestroyResourceOp"),
    traits=_STATE,
    shape=unknown,
)
register("tf.DisableCopyOnRead", traits=_STATE, shape=unknown)
_UPDATES = ("Add", "Sub", "Mul", "Div", "Min", "Max", "Update")
register([f"tf.Scatter{name}" for name in _UPDATES], traits=_STATE, shape=same_as())
register([f"tf.ResourceScatter{name}" for name in _UPDATES], traits=_STATE, shape=unknown)
_ND_UPDATES = ("Add", "Sub", "Min", "Max", "Update")
register([f"tf.ScatterNd{name}" for name in _ND_UPDATES], traits=_STATE, shape=same_as())
register([f"tf.ResourceScatterNd{name}" for name in _ND_UPDATES], traits=_STATE, shape=unknown)
register("tf.StridedSliceAssign", traits=_STATE, shape=same_as())
register("tf.ResourceStridedSliceAssign", traits=_STATE, shape=unknown)

# Tables ----------------------------------------------------------------------------------------------------------

# Tables whose values are scalars, one for each key.
_SCALAR_TABLES = frozenset(
    f"tf.{name}"
    for name in (
        "HashTable", "HashTableV2", "AnonymousHashTable", "MutableHashTable", "MutableHashTableV2",
        "AnonymousMutableHashTable",
    )
)  # fmt: skip


def _found(context: InferenceContext) -> Sequence[Shape]:
    table = maker(context.node._inputs[0])
    return [context.shape(1) if table is not None and table.op in _SCALAR_TABLES else UNKNOWN_SHAPE]


def _exported(context: InferenceContext) -> Sequence[Shape]:
    table = maker(context.node._inputs[0])
    return [VECTOR, VECTOR] if table is not None and table.op in _SCALAR_TABLES else [UNKNOWN_SHAPE] * 2


register(("tf.HashTable", "tf.MutableHashTable"), traits=_STATE, shape=_pair)
register(("tf.MutableHashTableOfTensors", "tf.MutableDenseHashTable"), traits=_STATE, shape=_pair)
register(
    (
        "tf.HashTableV2", "tf.AnonymousHashTable", "tf.MutableHashTableV2", "tf.AnonymousMutableHashTable",
        "tf.MutableHashTableOfTensorsV2", "tf.AnonymousMutableHashTableOfTensors", "tf.MutableDenseHashTableV2",
        "tf.AnonymousMutableDenseHashTable",
    ),
    traits=_STATE,
    shape=scalar,
)  # fmt: skip
register(("tf.LookupTableFind", "tf.LookupTableFindV2"), traits=_STATE, shape=_found)
register(("tf.LookupTableSize", "tf.LookupTableSizeV2"), traits=_STATE, shape=scalar)
register(("tf.LookupTableExport", "tf.LookupTableExportV2"), traits=_STATE, shape=_exported)
register(
    (
        "tf.LookupTableInsert", "tf.LookupTableInsertV2", "tf.LookupTableImport", "tf.LookupTableImportV2",
        "tf.LookupTableRemoveV2", "tf.InitializeTable", "tf.InitializeTableV2", "tf.InitializeTableFromTextFile",
        "tf.InitializeTableFromTextFileV2",
    ),
    traits=_STATE,
    shape=unknown,
)  # fmt: skip

# Queues, barriers and accumulators -------------------------------------------------------------------------------


def _queued(value: Value | None, count: int) -> Sequence[Shape]:
    queue = maker(value)
    return listed_shapes(queue.attrs.get("shapes") if queue is not None else None, count)


def _dequeued(context: InferenceContext) -> Sequence[Shape]:
    return _queued(context.node._inputs[0], context.output_count)


def _dequeued_many(context: InferenceContext) -> Sequence[Shape]:
    count: Dim = context.constant_int(1) if "UpTo" not in context.node.op else None
    rows = _queued(context.node._inputs[0], context.output_count)
    return [UNKNOWN_SHAPE if row.dims is None else Shape((count, *row.dims)) for row in rows]


_QUEUES = ("FIFOQueue", "PaddingFIFOQueue", "PriorityQueue", "RandomShuffleQueue")
register([f"tf.{name}" for name in _QUEUES], traits=_STATE, shape=_pair)
register([f"tf.{name}V2" for name in _QUEUES], traits=_STATE, shape=scalar)
register(("tf.QueueDequeue", "tf.QueueDequeueV2"), traits=_STATE, shape=_dequeued)
register(
    ("tf.QueueDequeueMany", "tf.QueueDequeueManyV2", "tf.QueueDequeueUpTo", "tf.QueueDequeueUpToV2"),
    traits=_STATE,
    shape=_dequeued_many,
)
register(("tf.QueueSize", "tf.QueueSizeV2", "tf.QueueIsClosed", "tf.QueueIsClosedV2"), traits=_STATE, shape=scalar)
register(
    (
        "tf.QueueEnqueue", "tf.QueueEnqueueV2", "tf.QueueEnqueueMany", "tf.QueueEnqueueManyV2", "tf.QueueClose",
        "tf.QueueCloseV2",
    ),
    traits=_STATE,
    shape=unknown,
)  # fmt: skip
register(("tf.Barrier", "tf.ConditionalAccumulator", "tf.SparseConditionalAccumulator"), traits=_STATE, shape=_pair)
register("tf.ResourceConditionalAccumulator", traits=_STATE, shape=scalar)
register(
    ("tf.BarrierReadySize", "tf.BarrierIncompleteSize", "tf.AccumulatorNumAccumulated"), traits=_STATE, shape=scalar
)
register(
    (
        "tf.BarrierInsertMany", "tf.BarrierTakeMany", "tf.BarrierClose", "tf.AccumulatorApplyGradient",
        "tf.AccumulatorSetGlobalStep", "tf.AccumulatorTakeGradient", "tf.SparseAccumulatorApplyGradient",
        "tf.SparseAccumulatorTakeGradient",
    ),
    traits=_STATE,
    shape=unknown,
)  # fmt: skip

# Readers and iterators -------------------------------------------------------------------------------------------


def _components(context: InferenceContext) -> Sequence[Shape]:
    return listed_shapes(context.attrs.get("output_shapes"), context.output_count)


_READERS = ("FixedLengthRecordReader", "IdentityReader", "TextLineReader", "TFRecordReader", "WholeFileReader")
register([f"tf.{name}" for name in _READERS], traits=_STATE, shape=_pair)
register([f"tf.{name}V2" for name in _READERS], traits=_STATE, shape=scalar)
register(("tf.ReaderRead", "tf.ReaderReadV2"), traits=_STATE, shape=scalar)
register(
    (
        "tf.ReaderNumRecordsProduced", "tf.ReaderNumRecordsProducedV2", "tf.ReaderNumWorkUnitsCompleted",
        "tf.ReaderNumWorkUnitsCompletedV2", "tf.ReaderSerializeState", "tf.ReaderSerializeStateV2",
    ),
    traits=_STATE,
    shape=scalar,
)  # fmt: skip
register(("tf.ReaderReadUpTo", "tf.ReaderReadUpToV2"), traits=_STATE, shape=lambda context: [VECTOR, VECTOR])
register(
    ("tf.ReaderRestoreState", "tf.ReaderRestoreStateV2", "tf.ReaderReset", "tf.ReaderResetV2"),
    traits=_STATE,
    shape=unknown,
)
register(("tf.Iterator", "tf.IteratorV2", "tf.OneShotIterator"), traits=_STATE, shape=scalar)
register(("tf.IteratorGetNext", "tf.IteratorGetNextSync"), traits=_STATE, shape=_components)
register("tf.IteratorGetNextAsOptional", traits=_STATE, shape=scalar)
register("tf.MakeIterator", traits=_STATE, shape=unknown)
