"""Operators of TensorFlow's input pipelines: every dataset is a scalar handle, whatever its elements are."""

from __future__ import annotations

from graphopt.ir.ops.inference import scalar
from graphopt.ir.ops.registry import register

_DATASETS = """
    AssertCardinalityDataset AssertNextDataset AssertPrevDataset AutoShardDataset BatchDataset BatchDatasetV2
    BytesProducedStatsDataset CSVDataset CSVDatasetV2 CacheDataset CacheDatasetV2 ChooseFastestBranchDataset
    ChooseFastestDataset ConcatenateDataset DataServiceDataset DataServiceDatasetV2 DataServiceDatasetV3
    DataServiceDatasetV4 DatasetFromGraph DenseToSparseBatchDataset DirectedInterleaveDataset
    ExperimentalAssertNextDataset ExperimentalAutoShardDataset ExperimentalBytesProducedStatsDataset
    ExperimentalCSVDataset ExperimentalChooseFastestDataset ExperimentalDenseToSparseBatchDataset
    ExperimentalDirectedInterleaveDataset ExperimentalGroupByReducerDataset ExperimentalGroupByWindowDataset
    ExperimentalIgnoreErrorsDataset ExperimentalLMDBDataset ExperimentalLatencyStatsDataset
    ExperimentalMapAndBatchDataset ExperimentalMapDataset ExperimentalMatchingFilesDataset
    ExperimentalMaxIntraOpParallelismDataset ExperimentalNonSerializableDataset ExperimentalParallelInterleaveDataset
    ExperimentalParseExampleDataset ExperimentalPrivateThreadPoolDataset ExperimentalRandomDataset
    ExperimentalRebatchDataset ExperimentalScanDataset ExperimentalSetStatsAggregatorDataset ExperimentalSleepDataset
    ExperimentalSlidingWindowDataset ExperimentalSqlDataset ExperimentalTakeWhileDataset ExperimentalThreadPoolDataset
    ExperimentalUnbatchDataset ExperimentalUniqueDataset FilterByLastComponentDataset FilterDataset FinalizeDataset
    FixedLengthRecordDataset FixedLengthRecordDatasetV2 FlatMapDataset GeneratorDataset GlobalShuffleDataset
    GroupByReducerDataset GroupByWindowDataset IgnoreErrorsDataset IndexFlatMapDataset InterleaveDataset LMDBDataset
    LatencyStatsDataset LegacyParallelInterleaveDatasetV2 ListDataset ListSnapshotChunksDataset LoadDataset
    MapAndBatchDataset MapDataset MatchingFilesDataset MaxIntraOpParallelismDataset ModelDataset NonSerializableDataset
    OptimizeDataset OptimizeDatasetV2 OptionsDataset PaddedBatchDataset PaddedBatchDatasetV2 ParallelBatchDataset
    ParallelFilterDataset ParallelInterleaveDataset ParallelInterleaveDatasetV2 ParallelInterleaveDatasetV3
    ParallelInterleaveDatasetV4 ParallelMapDataset ParallelMapDatasetV2 ParseExampleDataset ParseExampleDatasetV2
    PrefetchDataset PrivateThreadPoolDataset RandomDataset RandomDatasetV2 RangeDataset RebatchDataset RebatchDatasetV2
    RepeatDataset RewriteDataset SamplingDataset SaveDatasetV2 ScanDataset SetStatsAggregatorDataset ShardDataset
    ShuffleAndRepeatDataset ShuffleAndRepeatDatasetV2 ShuffleDataset ShuffleDatasetV2 ShuffleDatasetV3 SkipDataset
    SleepDataset SlidingWindowDataset SnapshotChunkDataset SnapshotDataset SnapshotDatasetReader SnapshotDatasetV2
    SnapshotNestedDatasetReader SparseTensorSliceDataset SqlDataset TFRecordDataset TFRecordDatasetV2 TakeDataset
    TakeWhileDataset TensorDataset TensorSliceDataset TextLineDataset ThreadPoolDataset UnbatchDataset UniqueDataset
    UnwrapDatasetVariant WeightedFlatMapDataset WindowDataset WrapDatasetVariant ZipDataset
"""

register((f"tf.{name}" for name in _DATASETS.split()), shape=scalar)
register(("tf.IteratorToStringHandle", "tf.IteratorFromStringHandle", "tf.IteratorFromStringHandleV2"), shape=scalar)
register(("tf.DatasetCardinality", "tf.DatasetFingerprint", "tf.DatasetToGraph", "tf.DatasetToGraphV2"), shape=scalar)
