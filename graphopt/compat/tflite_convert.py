"""`tflite_convert`: TensorFlow's command of that name, by its flags.

python -m graphopt.compat.tflite_convert --saved_model_dir=model --output_file=model.tflite
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from graphopt.compat.tflite import OpsSet, TFLiteConverter, TFLiteConverterV1
from graphopt.ir.errors import Error, UsageError
from graphopt.ir.formats.atomic import write_atomically

__all__ = ["tflite_convert"]


def tflite_convert(arguments: Sequence[str] | None = None) -> int:
    """Convert as `arguments`, those of the process by default, say; returns the exit status.

    Raises `SystemExit` for flags that do not go together, and prints errors as `graphopt` does.
    """
    parser = _parser()
    flags = parser.parse_args(arguments)
    if flags.graph_def_file and not (flags.input_arrays and flags.output_arrays):
        parser.error("--graph_def_file needs --input_arrays and --output_arrays")
    if flags.input_shapes and not flags.input_arrays:
        parser.error("--input_shapes needs --input_arrays")
    try:
        write_atomically(flags.output_file, [_converter(flags).convert()], overwrite=True)
    except Error as error:
        print(f"tflite_convert: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tflite_convert", description=__doc__, allow_abbrev=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--saved_model_dir", help="a SavedModel's folder")
    source.add_argument("--keras_model_file", help="a Keras model, .keras or HDF5")
    source.add_argument("--graph_def_file", help="a frozen GraphDef")
    parser.add_argument("--output_file", required=True, help="the .tflite file to write")
    parser.add_argument("--input_arrays", type=_names, help="names of inputs, separated by commas")
    parser.add_argument("--output_arrays", type=_names, help="names of outputs, separated by commas")
    parser.add_argument("--input_shapes", type=_shapes, help="a shape an input, as 1,224,224,3:1,10")
    parser.add_argument("--saved_model_tag_set", type=_names, help="tags of the MetaGraph, separated by commas")
    parser.add_argument("--saved_model_signature_key", help="the signature to convert")
    parser.add_argument("--allow_custom_ops", action="store_true", help="let what has no builtin form be custom")
    parser.add_argument("--target_ops", type=_names, default=[OpsSet.TFLITE_BUILTINS.name], help="sets of operators")
    for flag in ("--enable_v1_converter", "--experimental_new_converter", "--experimental_new_quantizer"):
        parser.add_argument(flag, nargs="?", help="taken, and without effect")
    return parser


def _converter(flags: argparse.Namespace) -> TFLiteConverter:
    shapes = flags.input_shapes or []
    if shapes and len(shapes) != len(flags.input_arrays):
        raise UsageError(f"--input_shapes has {len(shapes)} shapes for {len(flags.input_arrays)} --input_arrays")
    named = dict(zip(flags.input_arrays or [], shapes, strict=False))
    ends = flags.input_arrays, named, flags.output_arrays
    if flags.graph_def_file:
        converter = TFLiteConverter.from_frozen_graph(
            flags.graph_def_file, flags.input_arrays, flags.output_arrays, named
        )
    elif flags.keras_model_file:
        converter = TFLiteConverterV1.from_keras_model_file(flags.keras_model_file, *ends)
    elif named or flags.output_arrays:
        converter = TFLiteConverterV1.from_saved_model(
            flags.saved_model_dir, *ends, flags.saved_model_tag_set, flags.saved_model_signature_key
        )
    else:
        keys = [flags.saved_model_signature_key] if flags.saved_model_signature_key else None
        converter = TFLiteConverter.from_saved_model(flags.saved_model_dir, keys, flags.saved_model_tag_set)
    converter.allow_custom_ops = flags.allow_custom_ops
    converter.target_spec.supported_ops = flags.target_ops
    return converter


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]


def _shapes(text: str) -> list[list[int]]:
    return [[int(dim) for dim in shape.split(",") if dim.strip()] for shape in text.split(":")]


if __name__ == "__main__":
    sys.exit(tflite_convert())
