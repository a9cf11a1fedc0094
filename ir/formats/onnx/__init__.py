"""ONNX files, read and written without the onnx package: the `onnx` dialect (`onnx.Conv`, `com.microsoft.Gelu`).

A graph's inputs are `onnx.Input` nodes, initializers `onnx.Initializer` nodes with a `value`. The body of an If or Loop
is a function of the library: what it captures from around it are inputs of its own, given to the node after the
operator's own inputs. Field numbers are those of onnx.proto (github.com/onnx/onnx).
"""

from graphopt.ir.formats.onnx.reader import read_onnx
from graphopt.ir.formats.onnx.writer import onnx_pieces, write_onnx

__all__ = ["onnx_pieces", "read_onnx", "write_onnx"]
