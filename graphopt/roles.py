"""What part an operator plays for whoever looks for inputs and outputs: a source, a leftover of training, a check."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from graphopt.ir.value import Node, Value


def _operators(names: str) -> frozenset[str]:
    return frozenset(f"tf.{name}" for name in names.split())


# Sources besides those that the operator table calls so: values come from a queue or a data set.
FEEDS = _operators(
    """
    IteratorGetNext IteratorGetNextSync IteratorGetNextAsOptional QueueDequeue QueueDequeueV2 QueueDequeueMany
    QueueDequeueManyV2 QueueDequeueUpTo QueueDequeueUpToV2 Unstage StagePeek MapUnstage
    RecvTPUEmbeddingActivations InfeedDequeue InfeedDequeueTuple _Recv _HostRecv Recv
    """
)
PLACEHOLDERS = _operators(
    """
    Placeholder PlaceholderV2 PlaceholderWithDefault _Arg _DeviceArg
    """
)
CONSTANTS = _operators(
    """
    Const HostConst ImmutableConst
    """
)
VARIABLES = _operators(
    """
    Variable VariableV2 VarHandleOp VarHandlesOp TemporaryVariable AutoReloadVariable ReadVariableOp
    _ReadVariablesOp VarIsInitializedOp IsVariableInitialized VariableShape HashTable HashTableV2 MutableHashTable
    MutableHashTableV2 AnonymousHashTable LookupTableSizeV2
    """
)
ASIDE = _operators(
    """
    Assert PrintV2 Abort NoOp ScalarSummary HistogramSummary ImageSummary ImageSummaryV2 AudioSummary
    AudioSummaryV2 TensorSummary TensorSummaryV2 MergeSummary WriteSummary WriteScalarSummary
    WriteHistogramSummary WriteImageSummary WriteAudioSummary WriteGraphSummary WriteRawProtoSummary Save SaveV2
    SaveSlices Restore RestoreV2 RestoreSlice ShardedFilename MergeV2Checkpoints Assign AssignAdd AssignSub
    AssignVariableOp AssignAddVariableOp AssignSubVariableOp InitializeTable InitializeTableV2
    InitializeTableFromTextFile InitializeTableFromTextFileV2 LookupTableImport LookupTableImportV2
    LookupTableInsert LookupTableInsertV2 QueueEnqueue QueueEnqueueV2 QueueEnqueueMany QueueEnqueueManyV2
    QueueClose QueueCloseV2 DestroyResourceOp DeleteIterator MakeIterator WriteFile DebugNumericSummary _Retval
    _Send _HostSend Send ControlTrigger CloseSummaryWriter FlushSummaryWriter SummaryWriter
    CreateSummaryFileWriter CreateSummaryDbWriter
    """
)
ASIDE_PREFIXES = ("tf.Apply", "tf.SparseApply", "tf.ResourceApply", "tf.ResourceSparseApply")
LEFT_OVER = _operators(
    """
    Switch RefSwitch Enter RefEnter Exit RefExit NextIteration RefNextIteration LoopCond
    """
)
FIRST_ONLY = _operators(
    """
    FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 SoftmaxCrossEntropyWithLogits
    SparseSoftmaxCrossEntropyWithLogits Merge RefMerge
    TensorArrayConcatV2 TensorArrayConcatV3 TensorListConcat TensorListConcatV2
    """
)
# Parts of a name's path that frameworks give to what they add for training.
SCOPES: Mapping[str, str] = {
    "Regularizer": "a regularization loss",
    "Initializer": "an initial value",
    "save": "part of a saver",
    "report_uninitialized_variables": "reports on variables",
}


CHECKS = _operators("Assert PrintV2 Abort")
GRADIENTS = "gradients"  # the scope of what computes them


class Doubt(NamedTuple):
    """Why a value that nothing reads may not be an output. Only `eligible` ones are ever chosen, for want of better."""

    reason: str
    eligible: bool = True


NONE = Doubt("nothing reads it")
WATCHED = Doubt("only summaries or savers read it")
CHECKED = Doubt("only a check reads it")
LOOP_REMAINS = Doubt("left over from a loop or a branch")
ORDER_ONLY = Doubt("other nodes only wait for it")
NO_INPUT = Doubt("it depends on no input")
VARIABLE = Doubt("it only reads a variable or table")
GRADIENT = Doubt("part of a gradient")
CONSTANT = Doubt("a constant that nothing reads")
SOURCE = Doubt("a source that nothing reads")
HANDLE = Doubt("a handle, which cannot be fetched", False)
TRAINING = Doubt("training, saving, summary or a check", False)
_SCOPED: Mapping[str, Doubt] = {
    GRADIENTS: GRADIENT,
    **{scope: Doubt(reason, False) for scope, reason in SCOPES.items()},
}
DOUBTS = (NONE, WATCHED, LOOP_REMAINS, NO_INPUT, ORDER_ONLY, CHECKED, GRADIENT, VARIABLE, CONSTANT, SOURCE)
"""What makes an output, the best first: all values of the first doubt that any candidate has are chosen."""


def is_source(node: Node) -> bool:
    """Its value comes from outside."""
    return node.op in PLACEHOLDERS or node.op in FEEDS


def is_optional_source(node: Node) -> bool:
    """It has a value of its own when nothing is fed."""
    return node.op == "tf.PlaceholderWithDefault"


def is_aside(node: Node) -> bool:
    """It never matters at inference: training, saving, summaries, checks."""
    return _is_aside(node.op)


@cache
def _is_aside(op: str) -> bool:
    return op in ASIDE or op.startswith(ASIDE_PREFIXES)


def primary_outputs(node: Node) -> list[Value]:
    """The outputs that make sense to fetch: not handles, and of some operators only the first."""
    only_first = node.op in FIRST_ONLY or (node.op == "tf.Svd" and node.attr("compute_uv") is False)
    values = node.outputs[:1] if only_first else node.outputs
    return [value for value in values if not value.dtype.is_handle] or values[:1]


def doubt_of(node: Node, depends_on_input: bool) -> Doubt:
    """Why a node of which no output is really read may not be an output of the graph."""
    op = node.op
    if is_source(node):
        return SOURCE
    if _is_aside(op):
        return TRAINING
    scoped = _scope(node.name)
    if scoped is not None:
        return scoped
    if all(value.dtype.is_handle for value in node.outputs):
        return HANDLE
    if op in CONSTANTS:
        return CONSTANT
    if op in VARIABLES or _reads_variable(node):
        return VARIABLE
    if op in LEFT_OVER:
        return LOOP_REMAINS
    if not depends_on_input:
        return NO_INPUT
    readers = [user.op for value in node.outputs for user in value.users]
    if readers:
        return CHECKED if CHECKS.issuperset(readers) else WATCHED
    return ORDER_ONLY if node.control_users else NONE


def _scope(name: str) -> Doubt | None:
    if "/" not in name:
        return None
    for part in name.split("/")[:-1]:
        found = _SCOPED.get(part.rstrip("0123456789").rstrip("_"))
        if found is not None:
            return found
    return None


def _reads_variable(node: Node) -> bool:
    """An identity right behind a variable, as v1 puts one behind each."""
    if node.op != "tf.Identity" or not node.input_count:
        return False
    return node.input(0).node.op in VARIABLES
