"""The programs of the processes that tools/measure_xla.py starts: to lower a model, or to run one when told."""

LOWER_OURS = """
import sys, time
started = time.process_time()
import graphopt
from graphopt.backends.xla.backend import XlaBackend
from graphopt.ir.formats.graphdef import graphdef_bytes
from graphopt.testing import text_model
XlaBackend().lower(graphopt.load(graphdef_bytes(text_model("%y = tf.Relu(%x)"))))  # what is imported at first use
ready = time.process_time()
model = graphopt.load(sys.argv[1])
XlaBackend().lower(model, fallback=False, batch=1)
print(time.process_time() - ready)
"""
LOWER_THEIRS = """
import sys, time
import tensorflow as tf
ready = time.process_time()
graph = tf.compat.v1.GraphDef()
with open(sys.argv[1], "rb") as file:
    graph.ParseFromString(file.read())
wrapped = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(graph, name=""), [])
inputs, outputs = sys.argv[2].split(","), sys.argv[3].split(",")
tensors = [wrapped.graph.get_tensor_by_name(name) for name in inputs]
pruned = wrapped.prune(tensors, [wrapped.graph.get_tensor_by_name(name) for name in outputs])
specs = [tf.TensorSpec([1 if size is None else size for size in item.shape], item.dtype) for item in tensors]
function = tf.function(lambda *values: pruned(*values), jit_compile=True, input_signature=specs)
code = function.experimental_get_compiler_ir(*specs)(stage="stablehlo_serialized")
assert len(code) > 100
print(time.process_time() - ready)
"""
# Arguments: what to run, the platform, and what it is made from. A line of standard input is a number of runs.
WORKER = """
import json, sys, time
name, platform, *arguments = sys.argv[1:]
SHAPE = (224, 224, 3)

def of_runtime(graph, inputs, outputs):
    import graphopt
    from graphopt.benchmark import Timing, prepared_call
    from graphopt.verification import make_samples
    model = graphopt.load(graph, inputs=inputs.split(","), outputs=outputs.split(","))
    signature = next(iter(model.signatures))
    feeds = make_samples(model, None, 1, 0, signature)[0]
    return prepared_call(Timing(name), model, signature, feeds, {"batch": 1} if name == "xla" else {})

def of_artifact(application, folder):
    import numpy as np
    import graphopt
    from graphopt.lowering import lower
    from graphopt.runtimes.xla import XlaRuntime
    import keras
    model = getattr(keras.applications, application)(weights=None, classifier_activation=None, input_shape=SHAPE)
    import tensorflow as tf
    spec = tf.TensorSpec((1, *SHAPE), name="x")
    model.export(folder + "/saved_model", input_signature=[spec], verbose=False)
    model.save_weights(folder + "/model.weights.h5")
    lowered = lower(folder + "/saved_model", "xla", platform=platform, fallback=False).model
    runtime = XlaRuntime()
    name = next(iter(lowered.signatures))
    image = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)
    def call():
        return [np.asarray(found) for found in runtime.call(lowered.signatures[name], [image])]
    np.save(folder + "/output.npy", call()[0])
    return call

def of_jax(application, folder):
    import os
    os.environ["KERAS_BACKEND"] = "jax"
    import jax, keras
    import numpy as np
    model = getattr(keras.applications, application)(weights=None, classifier_activation=None, input_shape=SHAPE)
    model.load_weights(folder + "/model.weights.h5")
    kinds = model.trainable_variables, model.non_trainable_variables
    held = [[jax.device_put(item.value) for item in kind] for kind in kinds]
    image = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)
    run = jax.jit(lambda first, second, x: model.stateless_call(first, second, x)[0])
    def call():
        return np.asarray(run(*held, image))
    ours, theirs = np.load(folder + "/output.npy"), call()
    error = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    assert error < 1e-2, f"the outputs differ by {error} of their scale"
    return call

call = {"jax": of_jax, "xla-artifact": of_artifact}.get(name, of_runtime)(*arguments)
for _ in range(5):
    call()
print("[]", flush=True)
for line in sys.stdin:
    wall, cpu = [], []
    for _ in range(int(line)):
        begun, started = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - started)
    print(json.dumps([wall, cpu]), flush=True)
"""
