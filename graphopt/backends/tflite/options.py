"""What a caller may ask of the TFLite backend."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TFLiteOptions:
    """`signatures` are the ones to lower, all if none is named. `allow_flex` lets operators without a builtin form
    become Flex operators, which need TensorFlow's kernels beside LiteRT; `allow_custom_ops` lets them become custom
    operators that the application registers. `unroll` writes loops out whose number of iterations is known.
    `fuse_lstm` makes one operator of a loop over LSTM cells, whose state the application then has to reset before every
    sequence (`reset_all_variables`); a loop, which is the default, starts anew by itself. `conversion_metadata` has the
    file say what it was converted from, by what, and which runtime it needs.
    """

    signatures: tuple[str, ...] = ()
    allow_flex: bool = False
    allow_custom_ops: bool = False
    unroll: bool = False
    fuse_lstm: bool = False
    conversion_metadata: bool = True
