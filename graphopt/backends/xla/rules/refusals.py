"""Operators that XLA cannot express whatever the model, and what helps."""

from __future__ import annotations

from typing import NoReturn

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.table import RULES

OUTSIDE = "keep it outside of the model: strip it with --inputs or --outputs"
COUNTED = (
    "tf.Where", "tf.Unique", "tf.UniqueV2", "tf.UniqueWithCounts", "tf.UniqueWithCountsV2", "tf.ListDiff",
    "tf.SetDiff1D", "tf.DynamicPartition", "tf.CTCGreedyDecoder", "tf.CTCBeamSearchDecoder", "tf.SparseFillEmptyRows",
    "tf.SparseReshape", "tf.SparseSlice", "tf.SparseConcat", "tf.SparseAdd", "tf.StringSplit", "tf.StringSplitV2",
)  # fmt: skip
FILES = (
    "tf.ReadFile", "tf.WriteFile", "tf.DecodeJpeg", "tf.DecodePng", "tf.DecodeBmp", "tf.DecodeGif", "tf.DecodeImage",
    "tf.DecodeWav", "tf.DecodeRaw", "tf.EncodePng", "tf.EncodeJpeg", "tf.EncodeWav", "tf.ParseExample",
    "tf.ParseExampleV2", "tf.ParseSingleExample", "tf.ParseTensor", "tf.SaveV2", "tf.RestoreV2",
)  # fmt: skip
TABLES = (
    "tf.HashTable", "tf.HashTableV2", "tf.MutableHashTable", "tf.MutableHashTableV2", "tf.LookupTableFind",
    "tf.LookupTableFindV2", "tf.LookupTableSize", "tf.LookupTableSizeV2", "tf.LookupTableImport",
    "tf.LookupTableImportV2", "tf.LookupTableInsertV2", "tf.LookupTableExportV2", "tf.InitializeTableV2",
    "tf.InitializeTableFromTextFileV2",
)  # fmt: skip
HOST = ("tf.PyFunc", "tf.PyFuncStateless", "tf.EagerPyFunc", "tf.PrintV2")
CUDNN = ("tf.CudnnRNN", "tf.CudnnRNNV2", "tf.CudnnRNNV3")


@RULES.lower(*COUNTED)
def counted(op: Emission) -> NoReturn:
    """Results whose length depends on data."""
    op.refuse("how many elements it yields depends on data", "use a form of fixed size: masks in place of lists")


@RULES.lower(*FILES)
def files(op: Emission) -> NoReturn:
    """Files and encoded data."""
    op.refuse("XLA reads and decodes no files", OUTSIDE)


@RULES.lower(*TABLES)
def tables(op: Emission) -> NoReturn:
    """Lookup tables."""
    op.refuse("XLA has no lookup tables", OUTSIDE)


@RULES.lower(*HOST)
def host(op: Emission) -> NoReturn:
    """Calls of the program around the model."""
    op.refuse("XLA does not call back into the program", OUTSIDE)


@RULES.lower(*CUDNN)
def cudnn(op: Emission) -> NoReturn:
    """Recurrent layers of cuDNN."""
    op.refuse("its weights are laid out as cuDNN wants them", "export the model with layers that run anywhere")
