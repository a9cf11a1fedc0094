"""Compilation ahead of time: a program as object files and a header of C++, by TensorFlow's own compiler (tfcompile).

What is compiled is our StableHLO, as TensorFlow's operator XlaCallModule, so the object has what our rules chose.
"""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass

from graphopt.backends.xla.program import Program
from graphopt.backends.xla.tensorflow_process import run_tensorflow
from graphopt.backends.xla.weights import write_weights
from graphopt.ir.errors import UnsupportedError, UsageError, printable
from graphopt.ir.types import TensorType

MAKEFILE, OUTPUT = "Makefile", "out"
PLATFORMS = ("cpu",)
_CLASS = re.compile(r"[A-Za-z_]\w*(::[A-Za-z_]\w*)*\Z", re.ASCII)

# What the other process runs, in a folder of its own: its argument is a description of the program, as JSON.
PROGRAM = """
import json, os, sys
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false --xla_cpu_experimental_ynn_fusion_type= "
import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.compiler.tf2xla import tf2xla_pb2
from tensorflow.compiler.tf2xla.python import xla
from tensorflow.python import _pywrap_tfcompile
told = json.loads(sys.argv[1])
with open("program.stablehlo", "rb") as file:
    code = file.read()
weights = np.load("weights.npz") if told["weights"] else {}
config = tf2xla_pb2.Config()
def add_end(entry, kind, name, tensor):
    entry.id.node_name, entry.name, entry.type = tensor.op.name, kind + "_" + name, tensor.dtype.as_datatype_enum
    entry.shape.CopyFrom(tensor.shape.as_proto())
with tf.Graph().as_default() as graph:
    inputs = [tf.compat.v1.placeholder(dtype, shape, name="feed_" + name) for name, dtype, shape in told["inputs"]]
    held = [tf.constant(weights[key].view(tf.as_dtype(dtype).as_numpy_dtype)) for key, dtype in told["weights"]]
    made = xla.call_module(
        [*inputs, *held], version=9, module=code, platforms=("CPU",),
        Tout=[dtype for _, dtype, _ in told["outputs"]], Sout=[shape for _, _, shape in told["outputs"]],
    )
    for (name, _, _), tensor in zip(told["inputs"], inputs):
        add_end(config.feed.add(), "feed", name, tensor)
    for (name, _, _), value in zip(told["outputs"], made):
        add_end(config.fetch.add(), "fetch", name, tf.identity(value, name="fetch_" + name))
with open("graph.pb", "wb") as file:
    file.write(graph.as_graph_def(add_shapes=True).SerializeToString())
with open("config.pbtxt", "w") as file:
    file.write(text_format.MessageToString(config))
prefix = told["prefix"]
os.makedirs(os.path.dirname(prefix))
_pywrap_tfcompile.Compile(
    graph="graph.pb", config="config.pbtxt", cpp_class=told["class"], target_triple=told["triple"],
    target_cpu=told["cpu"], entry_point=told["entry"], out_function_object=prefix + ".o", out_header=prefix + ".h",
    out_metadata_object=prefix + "_metadata.o", out_constant_buffers_object=prefix + "_constants.o",
    gen_name_to_index=True, gen_program_shape=False,
)
"""


@dataclass(frozen=True)
class AheadOptions:
    """`class_name` is that of the class in C++, within namespaces if it has any; where there are several programs, each
    one's name is added. `cpu` and `triple` are LLVM's names of the processor and the machine: any processor of this
    machine's kind unless given.
    """

    class_name: str
    cpu: str = ""
    triple: str = ""

    def __post_init__(self) -> None:
        if not _CLASS.match(self.class_name):
            raise UsageError(f"'{printable(self.class_name)}' is no name of a class in C++")
        for given in (self.cpu, self.triple):
            if not re.fullmatch(r"[\w.+-]*", given, re.ASCII):
                raise UsageError(f"'{printable(given)}' is no name of a processor or machine")

    @property
    def machine(self) -> str:
        """The triple of the machine that is compiled for."""
        return self.triple or f"{platform.machine()}-pc-linux"


def compile_ahead(program: Program, name: str, class_name: str, options: AheadOptions) -> dict[str, bytes]:
    """Name -> contents of the files of a program: `NAME.h`, objects, and `NAME_main.cc`, an example that runs it.

    Raises `UnsupportedError` where a dimension is not known, the program is not for CPUs, or TensorFlow fails.
    """
    shown = printable(program.signatures[0])
    if program.platforms != PLATFORMS:
        given = ", ".join(program.platforms)
        raise UnsupportedError(f"'{shown}' is lowered for {given}; only CPUs alone are compiled for ahead of time")
    if program.is_dynamic:
        raise UnsupportedError(f"'{shown}' has sizes that are not known: give them numbers (--batch, --unknown)")
    inputs, outputs = identifiers(program.inputs), identifiers(program.outputs)
    keys = [f"w{place}" for place in range(len(program.weights))]
    told = {
        "inputs": _described(inputs, program.inputs.values()),
        "outputs": _described(outputs, program.outputs.values()),
        "weights": [(key, held.dtype.name) for key, held in zip(keys, program.weights.values(), strict=True)],
        "prefix": f"{OUTPUT}/{name}", "entry": f"__xla_{identifiers([class_name])[0]}",
        "class": class_name, "cpu": options.cpu, "triple": options.machine,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "program.stablehlo"), "wb") as file:
            file.write(program.code)
        write_weights(os.path.join(folder, "weights.npz"), dict(zip(keys, program.weights.values(), strict=True)))
        run_tensorflow(PROGRAM, json.dumps(told), what="TensorFlow's compilation ahead of time", folder=folder)
        made = os.path.join(folder, OUTPUT)
        files = {}
        for entry in sorted(os.listdir(made)):
            if entry.endswith((".h", ".o")):
                with open(os.path.join(made, entry), "rb") as file:
                    files[entry] = file.read()
    files[f"{name}_main.cc"] = _example(name, class_name, inputs, outputs).encode()
    return files


def _described(names: Iterable[str], kinds: Iterable[TensorType]) -> list[tuple[str, str, tuple[int, ...] | None]]:
    return [(name, kind.dtype.name, kind.shape.static) for name, kind in zip(names, kinds, strict=True)]


def identifiers(names: Iterable[str]) -> list[str]:
    """Names of inputs or outputs as identifiers of C++, each another."""
    found: dict[str, None] = {}
    for name in names:
        plain = base = re.sub(r"\W", "_", name, flags=re.ASCII)
        count = 0
        while plain in found:
            count += 1
            plain = f"{base}_{count}"
        found[plain] = None
    return list(found)


def class_names(names: list[str], options: AheadOptions) -> list[str]:
    """The class of each program: the one asked for, or with the program's name where there are several."""
    if len(names) == 1:
        return [options.class_name]
    return [f"{options.class_name}_{plain}" for plain in identifiers(names)]


def _example(name: str, class_name: str, inputs: list[str], outputs: list[str]) -> str:
    """A program that reads the inputs from files of raw numbers and writes the outputs to such files."""
    reads = "".join(f"  read(argv[{place + 1}], model.arg_feed_{key}_data(), model.arg_feed_{key}_size());\n"
                    for place, key in enumerate(inputs))  # fmt: skip
    writes = "".join(
        f"  write(argv[{len(inputs) + place + 1}], model.result_fetch_{key}_data(), model.result_fetch_{key}_size());\n"
        for place, key in enumerate(outputs)
    )
    usage = " ".join([f"./{name}", *(key.upper() for key in (*inputs, *outputs))])
    return f"""\
// Runs the model once on files of raw numbers: {usage}
#include "{name}.h"

#include <cstdio>
#include <cstdlib>

static void fail(const char* what) {{
  std::fprintf(stderr, "%s\\n", what);
  std::exit(1);
}}

static void read(const char* path, void* data, std::size_t size) {{
  std::FILE* file = std::fopen(path, "rb");
  if (!file || std::fread(data, 1, size, file) != size) fail(path);
  std::fclose(file);
}}

static void write(const char* path, const void* data, std::size_t size) {{
  std::FILE* file = std::fopen(path, "wb");
  if (!file || std::fwrite(data, 1, size, file) != size || std::fclose(file)) fail(path);
}}

int main(int argc, char** argv) {{
  if (argc != {len(inputs) + len(outputs) + 1}) fail("usage: {usage}");
  static {class_name} model;
{reads}  if (!model.Run()) fail(model.error_msg().c_str());
{writes}}}
"""


def makefile(objects: dict[str, list[str]]) -> str:
    """Rules that build the examples; `objects` has the objects of each program."""
    names = " ".join(objects)
    rules = "".join(f"\n{name}: {name}_main.cc {' '.join(files)}\n\t$(BUILD)\n" for name, files in objects.items())
    return f"""\
# `make` builds the examples. They need a C++17 compiler and the TensorFlow that compiled the objects.
PYTHON ?= python3
FIND = import importlib.util as util; print(*util.find_spec("tensorflow").submodule_search_locations)
TENSORFLOW ?= $(shell $(PYTHON) -c '$(FIND)')
RUNTIME = $(wildcard $(TENSORFLOW)/xla_aot_runtime_src/tensorflow/compiler/tf2xla/xla_compiled_cpu_function.cc)
LIBRARIES = -L$(TENSORFLOW) -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2 -Wl,-rpath,$(TENSORFLOW)
CXXFLAGS ?= -O2
BUILD = $(CXX) -std=c++17 -w -I. -I$(TENSORFLOW)/include $(CXXFLAGS) $^ $(RUNTIME) $(LDFLAGS) $(LIBRARIES) -o $@

all: {names}
{rules}
clean:
\trm -f {names}

.PHONY: all clean
"""
