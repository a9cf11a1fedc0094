"""Builds a TensorRT engine from the ONNX model beside this script, and needs nothing but the tensorrt package.

    python build_engine.py [--output model.engine] [--package tensorrt] [--force] [--time]

The engine is kept under a name made of the model's contents, TensorRT's version and the GPU: engines run nowhere else.
Precision is that of the types in the model; profiles are those in manifest.json. With --time it is run, on zeros of the
best shapes, through the driver's own library.
"""

import argparse
import ctypes
import hashlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
WARM_UP, ROUNDS = 10, 50
BYTES = {"FLOAT": 4, "HALF": 2, "BF16": 2, "INT32": 4, "INT64": 8, "INT8": 1, "UINT8": 1, "BOOL": 1, "FP8": 1}


def fingerprint(path, parts):
    """A digest of the model, of the file of weights beside it, and of what else an engine depends on."""
    digest = hashlib.sha256("|".join(parts).encode())
    for name in (path, path + ".data"):
        if os.path.exists(name):
            with open(name, "rb") as file:
                for chunk in iter(lambda: file.read(1 << 20), b""):
                    digest.update(chunk)
    return digest.hexdigest()[:24]


def gpu_name():
    """The card and its architecture, as the driver calls them."""
    try:
        query = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader", "--id=0"]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "no card"


def parse(trt, logger, path, plugins):
    """Builder and strongly typed network of the model."""
    if plugins:
        trt.init_libnvinfer_plugins(logger, "")
    builder = trt.Builder(logger)
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(path):
        reasons = [str(parser.get_error(place)) for place in range(parser.num_errors)]
        sys.exit("TensorRT does not parse the model:\n" + "\n".join(reasons))
    return builder, network, parser


def configure(trt, builder, profiles, cache, workspace):
    """Options of the build: a profile for dynamic inputs, the cache of timings, a bound for memory."""
    config = builder.create_builder_config()
    if workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    if profiles:
        profile = builder.create_optimization_profile()
        for name, (least, best, most) in profiles.items():
            profile.set_shape(name, least, best, most)
        config.add_optimization_profile(profile)
    if hasattr(config, "create_timing_cache"):
        data = b""
        if os.path.exists(cache):
            with open(cache, "rb") as file:
                data = file.read()
        config.set_timing_cache(config.create_timing_cache(data), False)
    return config


def write(path, data):
    """Put a file in place as a whole."""
    with open(path + ".tmp", "wb") as file:
        file.write(data)
    os.replace(path + ".tmp", path)


class Driver:
    """The few functions of CUDA's driver that running an engine takes."""

    def __init__(self):
        self.library = ctypes.CDLL("libcuda.so.1" if os.name == "posix" else "nvcuda.dll")
        device, context, self.stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)
        self.call("cuStreamCreate", ctypes.byref(self.stream), 0)

    def call(self, name, *arguments):
        """Call a function; what it returns is zero where it succeeded."""
        status = getattr(self.library, name)(*arguments)
        if status:
            sys.exit(f"CUDA's {name} failed with status {status}")

    def zeros(self, size):
        """The address of so many bytes on the card, all zero."""
        address = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(size, 1)))
        self.call("cuMemsetD8_v2", address, ctypes.c_ubyte(0), ctypes.c_size_t(max(size, 1)))
        return address.value

    def wait(self):
        """Until all is done that was asked for."""
        self.call("cuStreamSynchronize", self.stream)


def milliseconds(trt, logger, data, profiles, driver):
    """What a run of the engine takes, the median and the least."""
    engine = trt.Runtime(logger).deserialize_cuda_engine(data)
    context = engine.create_execution_context()
    names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
    for name in names:
        if name in profiles:
            context.set_input_shape(name, tuple(profiles[name][1]))
    for name in names:
        size, shape = BYTES.get(engine.get_tensor_dtype(name).name, 8), tuple(context.get_tensor_shape(name))
        for dim in shape:
            size *= dim
        if any(dim < 0 for dim in shape):  # follows from data
            size = context.get_max_output_size(name)
        context.set_tensor_address(name, driver.zeros(size))
    taken = []
    for _ in range(WARM_UP + ROUNDS):
        started = time.perf_counter()
        context.execute_async_v3(driver.stream.value)
        driver.wait()
        taken.append((time.perf_counter() - started) * 1e3)
    return {"median": statistics.median(taken[WARM_UP:]), "least": min(taken[WARM_UP:])}


def main():
    """Build, or take the engine that was built before."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--output", help="where the engine goes (default: the folder engines, by fingerprint)")
    options.add_argument("--package", default="tensorrt", help="tensorrt, or tensorrt_rtx")
    options.add_argument("--force", action="store_true", help="build even if there is an engine already")
    options.add_argument("--time", action="store_true", help="run the engine, and print what a run takes")
    given = options.parse_args()
    trt = importlib.import_module(given.package)
    with open(os.path.join(HERE, "manifest.json")) as file:
        manifest = json.load(file)
    model = os.path.join(HERE, manifest["model"])
    name = fingerprint(model, [trt.__version__, gpu_name(), json.dumps(manifest["profiles"], sort_keys=True)])
    output = given.output or os.path.join(HERE, "engines", name + ".engine")
    logger = trt.Logger(trt.Logger.WARNING)
    if not os.path.exists(output) or given.force or given.output:
        build(trt, logger, manifest, model, output)
    print(output)
    if given.time:
        with open(output, "rb") as file:
            print(json.dumps(milliseconds(trt, logger, file.read(), manifest["profiles"], Driver())))


def build(trt, logger, manifest, model, output):
    """Write the engine, and the timings that building it took."""
    os.makedirs(os.path.dirname(os.path.abspath(output)), exist_ok=True)
    builder, network, _parser = parse(trt, logger, model, manifest.get("plugins"))
    cache = os.path.join(HERE, "timing.cache")
    config = configure(trt, builder, manifest["profiles"], cache, manifest.get("workspace", 0))
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        sys.exit("TensorRT does not build the model; its messages are above")
    write(output, bytes(engine))
    if hasattr(config, "get_timing_cache") and config.get_timing_cache() is not None:
        write(cache, bytes(config.get_timing_cache().serialize()))


if __name__ == "__main__":
    main()
