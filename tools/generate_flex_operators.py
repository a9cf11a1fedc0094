"""Write graphopt/backends/tflite/flex_operators.txt: the operators that LiteRT's Flex delegate runs, one a line.

    python tools/generate_flex_operators.py            # needs the extra `tensorflow`
    python tools/generate_flex_operators.py --check    # exit status 1 where the file is not up to date

TensorFlow is asked about every operator of its registry. Those of TensorFlow Text and SentencePiece, which it admits
where these are installed, are listed here.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pathlib
import sys

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

TARGET = pathlib.Path(__file__).resolve().parents[1] / "graphopt" / "backends" / "tflite" / "flex_operators.txt"
QUESTION = "_ZN6tflite4flex19IsAllowlistedFlexOpERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
TEXT = """
    CaseFoldUTF8 ConstrainedSequence MaxSpanningTree NormalizeUTF8 NormalizeUTF8WithOffsetsMap RegexSplitWithOffsets
    RougeL SentenceFragments SentencepieceDecode SentencepieceDetokenizeOp SentencepieceEncodeDense
    SentencepieceEncodeSparse SentencepieceGetPieceSize SentencepieceIdToPiece SentencepieceOp SentencepiecePieceToId
    SentencepieceTokenizeOp SentencepieceTokenizeWithOffsetsOp SentencepieceVocabSizeOp SplitMergeTokenizeWithOffsets
    UnicodeScriptTokenizeWithOffsets WhitespaceTokenizeWithOffsets WordpieceTokenizeWithOffsets
"""


class _String(ctypes.Structure):
    """A `std::string` of libstdc++."""

    _fields_ = (("data", ctypes.c_char_p), ("size", ctypes.c_size_t), ("local", ctypes.c_char * 16))


def operators() -> list[str]:
    """Names, sorted."""
    import tensorflow as tf
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    listed = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    library = ctypes.CDLL(os.path.join(os.path.dirname(tf.__file__), "libtensorflow_cc.so.2"))
    allowed = getattr(library, QUESTION)
    allowed.restype = ctypes.c_bool
    names = (op.name for op in listed.op)
    return sorted(
        {*TEXT.split(), *(n for n in names if allowed(ctypes.byref(_String(n.encode(), len(n.encode()), b""))))}
    )


def main() -> int:
    """Write the file, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    content = "".join(f"{name}\n" for name in operators())
    if not parser.parse_args().check:
        TARGET.write_text(content, encoding="utf-8")
        return 0
    if TARGET.read_text(encoding="utf-8") != content:
        print(f"{TARGET.name} is not up to date: python tools/generate_flex_operators.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
