"""Builds a TensorRT engine from the ONNX model beside this script, and needs nothing but the tensorrt package.

    python build_engine.py [--output model.engine] [--package tensorrt] [--force]

The engine is kept under a name made of the model's contents, TensorRT's version and the GPU: engines run nowhere else.
Precision is that of the types in the model; profiles are those in manifest.json.
"""

import argparse
import hashlib
import importlib
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


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


def parse(trt, logger, path):
    """Builder and strongly typed network of the model."""
    builder = trt.Builder(logger)
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(path):
        reasons = [str(parser.get_error(place)) for place in range(parser.num_errors)]
        sys.exit("TensorRT does not parse the model:\n" + "\n".join(reasons))
    return builder, network, parser


def configure(builder, profiles, cache):
    """Options of the build: a profile for dynamic inputs, and the cache of timings."""
    config = builder.create_builder_config()
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


def main():
    """Build, or take the engine that was built before."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--output", help="where the engine goes (default: the folder engines, by fingerprint)")
    options.add_argument("--package", default="tensorrt", help="tensorrt, or tensorrt_rtx")
    options.add_argument("--force", action="store_true", help="build even if there is an engine already")
    given = options.parse_args()
    trt = importlib.import_module(given.package)
    with open(os.path.join(HERE, "manifest.json")) as file:
        manifest = json.load(file)
    model = os.path.join(HERE, manifest["model"])
    name = fingerprint(model, [trt.__version__, gpu_name(), json.dumps(manifest["profiles"], sort_keys=True)])
    output = given.output or os.path.join(HERE, "engines", name + ".engine")
    if os.path.exists(output) and not given.force and not given.output:
        print(output)
        return
    os.makedirs(os.path.dirname(os.path.abspath(output)), exist_ok=True)
    logger = trt.Logger(trt.Logger.WARNING)
    builder, network, _parser = parse(trt, logger, model)
    cache = os.path.join(HERE, "timing.cache")
    config = configure(builder, manifest["profiles"], cache)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        sys.exit("TensorRT does not build the model; its messages are above")
    write(output, bytes(engine))
    if hasattr(config, "get_timing_cache") and config.get_timing_cache() is not None:
        write(cache, bytes(config.get_timing_cache().serialize()))
    print(output)


if __name__ == "__main__":
    main()
