"""`TFLiteConverter`: what a script gets that changes one import."""

from __future__ import annotations

import importlib.util
import pathlib
import sys
from typing import Any

import numpy as np
import pytest

import graphopt
from graphopt.compat import OpsSet, Optimize, TargetSpec, TFLiteConverter, TFLiteConverterV1
from graphopt.compat.tflite_attributes import DEFAULTS, IMMATERIAL
from graphopt.ir.formats.tflite.metadata import read_conversion_metadata
from graphopt.testing.lowering import text_model


def signatures(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_content=content).get_signature_list()


def run(content: bytes, key: str | None = None, **feeds: Any) -> dict[str, Any]:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_content=content).get_signature_runner(key)(**feeds)


@pytest.fixture
def frozen(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "frozen.pb"
    graphopt.save(text_model("%y = tf.Relu(%x)", "%x: float32[?, 3]"), path)
    return str(path)


@pytest.fixture(scope="module")
def tf() -> Any:
    import tensorflow

    return tensorflow


class TestConstructors:
    pytestmark = pytest.mark.tensorflow

    def test_of_a_saved_model_with_two_signatures(self, tf: Any, tmp_path: pathlib.Path) -> None:
        class Module(tf.Module):
            def __init__(self) -> None:
                self.weights = tf.Variable(tf.random.stateless_normal([3, 4], [0, 1]))

            @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "pictures")])
            def score(self, pictures: Any) -> Any:
                return {"scores": pictures @ self.weights, "doubled": pictures * 2.0}

            @tf.function(input_signature=[tf.TensorSpec([2, 4], tf.float32, "codes")])
            def decode(self, codes: Any) -> Any:
                return tf.matmul(codes, self.weights, transpose_b=True)

        module, folder = Module(), str(tmp_path / "model")
        tf.saved_model.save(module, folder, signatures={"score": module.score, "decode": module.decode})
        for keys in (None, ["decode"], ["score", "decode"]):
            theirs = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=keys).convert()
            ours = TFLiteConverter.from_saved_model(folder, signature_keys=keys).convert()
            assert signatures(ours) == signatures(theirs)
            data = np.ones((2, 4), np.float32)
            expected = run(theirs, "decode", codes=data)
            np.testing.assert_allclose(run(ours, "decode", codes=data)["output_0"], expected["output_0"], rtol=1e-5)

    def test_of_a_keras_model(self, tf: Any) -> None:
        first = tf.keras.Input([4], name="first")
        second = tf.keras.Input([4], name="second")
        output = tf.keras.layers.Dense(3, name="scores")(first + second)
        model = tf.keras.Model([first, second], output)
        theirs = tf.lite.TFLiteConverter.from_keras_model(model).convert()
        ours = TFLiteConverter.from_keras_model(model).convert()
        assert signatures(ours) == signatures(theirs)
        feeds = {name: np.random.default_rng(0).normal(size=(1, 4)).astype(np.float32) for name in ("first", "second")}
        np.testing.assert_allclose(run(ours, **feeds)["output_0"], run(theirs, **feeds)["output_0"], rtol=1e-5)

    def test_of_a_subclass_of_keras_models(self, tf: Any) -> None:
        class Doubling(tf.keras.Model):
            def __init__(self) -> None:
                super().__init__()
                self.dense = tf.keras.layers.Dense(2)

            def call(self, x: Any) -> Any:
                return self.dense(x) * 2.0

        model = Doubling()
        with pytest.raises(graphopt.UsageError, match="no inputs"):
            TFLiteConverter.from_keras_model(model).convert()
        model(np.zeros((1, 4), np.float32))
        theirs = tf.lite.TFLiteConverter.from_keras_model(model).convert()
        ours = TFLiteConverter.from_keras_model(model).convert()
        assert signatures(ours) == signatures(theirs)
        feeds = {"args_0": np.ones((1, 4), np.float32)}
        np.testing.assert_allclose(run(ours, **feeds)["output_0"], run(theirs, **feeds)["output_0"], rtol=1e-5)

    def test_of_concrete_functions(self, tf: Any) -> None:
        variable = tf.Variable([1.0, 2.0, 3.0])
        one = tf.function(lambda x: x * variable).get_concrete_function(tf.TensorSpec([2, 3], tf.float32, "x"))
        converter = TFLiteConverter.from_concrete_functions([one])
        assert signatures(converter.convert()) == {"serving_default": {"inputs": ["x"], "outputs": ["output_0"]}}

        owner = tf.Module()
        owner.variable = variable
        owner.one = tf.function(lambda x: x * variable)
        owner.other = tf.function(lambda y: {"sum": y + variable})
        named = []
        for name in ("one", "other"):
            argument = tf.TensorSpec([3], tf.float32, "xy"[name == "other"])
            named.append(getattr(owner, name).get_concrete_function(argument))
            named[-1].graph.name = name
        theirs = tf.lite.TFLiteConverter.from_concrete_functions(named, owner).convert()
        ours = TFLiteConverter.from_concrete_functions(named, owner).convert()
        assert signatures(ours) == signatures(theirs)
        assert len(signatures(ours)) == 2
        feeds = {"y": np.ones(3, np.float32)}
        key = next(key for key, item in signatures(ours).items() if item["inputs"] == ["y"])
        np.testing.assert_allclose(run(ours, key, **feeds)["sum"], [2, 3, 4])

    def test_of_a_session(self, tf: Any) -> None:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            x = tf.compat.v1.placeholder(tf.float32, [1, 3], "x")
            weights = tf.compat.v1.get_variable("weights", initializer=[1.0, 2.0, 3.0])
            y = tf.identity(x * weights, "y")
            session.run(tf.compat.v1.global_variables_initializer())
            content = TFLiteConverter.from_session(session, [x], [y]).convert()
        assert signatures(content) == {"serving_default": {"inputs": ["x"], "outputs": ["y"]}}
        np.testing.assert_allclose(run(content, x=np.ones((1, 3), np.float32))["y"], [[1, 2, 3]])

    def test_what_is_no_concrete_function_is_refused(self, tf: Any) -> None:
        with pytest.raises(graphopt.UsageError, match="get_concrete_function"):
            TFLiteConverter.from_concrete_functions([tf.function(lambda x: x)])

    def test_attributes_are_those_of_tf_lite(self, tf: Any) -> None:
        """All that tf.lite's converter has are known, and start as they do there."""
        theirs = tf.lite.TFLiteConverter.from_concrete_functions(
            [tf.function(lambda x: x).get_concrete_function(tf.TensorSpec([1], tf.float32))], tf.Module()
        )
        ours = TFLiteConverter.from_frozen_graph("unread.pb", ["x"], ["y"])
        kept = {"target_spec", "inference_input_type", "inference_output_type"}  # of other classes
        internal = {"_collected_converter_params", "_debug_info", "_funcs", "_metadata", "_saved_model_exported_names",
                    "_saved_model_tags", "_saved_model_version", "_tflite_metrics", "_trackable_obj",
                    "model_origin_framework"}  # fmt: skip
        for name in vars(theirs).keys() - internal - kept:
            assert getattr(ours, name) == getattr(theirs, name), name

    def test_enumerations_are_those_of_tf_lite(self, tf: Any) -> None:
        assert [item.name for item in Optimize] == [item.name for item in tf.lite.Optimize]
        assert {item.name for item in OpsSet} >= {item.name for item in tf.lite.OpsSet}
        assert vars(TargetSpec()).keys() <= vars(tf.lite.TargetSpec()).keys()

    def test_enumerations_of_tf_lite_will_do(self, tf: Any, tmp_path: pathlib.Path) -> None:
        graphopt.save(text_model("%y = tf.StringLower(%x)", "%x: string[2]"), tmp_path / "strings.pb")
        converter = TFLiteConverter.from_frozen_graph(str(tmp_path / "strings.pb"), ["x"], ["y"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        converter.inference_input_type = tf.float32
        assert b"FlexStringLower" in converter.convert()


class TestFrozenGraphs:
    def test_shapes_may_be_set(self, frozen: str) -> None:
        content = TFLiteConverter.from_frozen_graph(frozen, ["x"], ["y"], {"x": [5, 3]}).convert()
        (value,) = graphopt.load(content).graph.inputs
        assert value.shape.static == (5, 3)
        content = TFLiteConverter.from_frozen_graph(frozen, ["x"], ["y"], {"x": None}).convert()
        (value,) = graphopt.load(content).graph.inputs
        assert value.shape.static is None

    def test_shapes_that_are_none_are_refused(self, frozen: str) -> None:
        with pytest.raises(graphopt.UsageError, match="no list of dimensions"):
            TFLiteConverter.from_frozen_graph(frozen, ["x"], ["y"], {"x": ["a"]}).convert()

    def test_v1_constructor_of_saved_models_takes_tensors(self, frozen: str, tmp_path: pathlib.Path) -> None:
        model = graphopt.load(frozen)
        graphopt.save(model, f"{tmp_path}/saved/")
        for options in ({}, {"signature_key": "serving_default"}, {"input_arrays": ["x"], "output_arrays": ["y"]}):
            content = TFLiteConverterV1.from_saved_model(f"{tmp_path}/saved", **options).convert()
            np.testing.assert_allclose(run(content, x=np.full((1, 3), -1, np.float32))["y"], [[0, 0, 0]])


class TestAttributes:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("inference_type", np.uint8),
            ("inference_input_type", np.int32),
            ("output_format", "GRAPHVIZ_DOT"),
            ("quantized_input_stats", {"x": (0.0, 1.0)}),
            ("_experimental_strict_qdq", True),
        ],
    )
    def test_one_that_is_not_built_says_so(self, frozen: str, name: str, value: Any) -> None:
        converter = TFLiteConverter.from_frozen_graph(frozen, ["x"], ["y"])
        setattr(converter, name, value)
        with pytest.raises(graphopt.Error, match=f"TFLiteConverter.{name} asks for yet"):
            converter.convert()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("supported_ops", [OpsSet.EXPERIMENTAL_STABLEHLO_OPS]),
            ("supported_types", [np.int16]),
            ("experimental_supported_backends", ["GPU"]),
        ],
    )
    def test_a_target_that_is_not_built_says_so(self, frozen: str, name: str, value: Any) -> None:
        converter = TFLiteConverter.from_frozen_graph(frozen, ["x"], ["y"])
        converter.target_spec = TargetSpec(**{name: value})
        with pytest.raises(graphopt.Error, match=f"target_spec.{name}.* yet"):
            converter.convert()

    def test_those_that_choose_a_way_may_be_anything(self, frozen: str) -> None:
        converter = TFLiteConverter.from_frozen_graph(frozen, ["x"], ["y"])
        plain = converter.convert()
        for name, first in IMMATERIAL.items():
            setattr(converter, name, not first)
        converter.optimizations = []
        converter.inference_input_type = np.float32
        converter.target_ops = {OpsSet.TFLITE_BUILTINS}
        assert converter.convert() == plain

    def test_those_of_no_converter_are_told_apart(self, frozen: str) -> None:
        converter = TFLiteConverter.from_frozen_graph(frozen, ["x"], ["y"])
        with pytest.raises(AttributeError, match="did you mean 'optimizations'"):
            converter.optimisations = [Optimize.DEFAULT]
        assert not DEFAULTS.keys() & IMMATERIAL.keys()
        with pytest.raises(AttributeError, match="TargetSpec has no attribute 'suported_ops'; did you mean"):
            converter.target_spec.suported_ops = [OpsSet.SELECT_TF_OPS]

    @pytest.mark.tensorflow
    def test_every_attribute_of_tf_lites_is_there(self, tf: Any, frozen: str, tmp_path: pathlib.Path) -> None:
        """Those that its constructors set are there to be set; what else is public is there to be called."""
        one = tf.function(lambda x: x + 1.0).get_concrete_function(tf.TensorSpec((1, 3)))
        tf.saved_model.save(tf.Module(), str(tmp_path / "model"), signatures=one)
        keras = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(3)])
        theirs = tf.lite.TFLiteConverter
        made = [theirs.from_saved_model(str(tmp_path / "model")), theirs.from_keras_model(keras),
                theirs.from_concrete_functions([one])]  # fmt: skip
        inner = {
            "_collected_converter_params", "_debug_info", "_funcs", "_keras_model", "_metadata", "_saved_model_tags",
            "_saved_model_exported_names", "_saved_model_version", "_tflite_metrics", "_trackable_obj",
        }  # fmt: skip
        ours = TFLiteConverter.from_frozen_graph(frozen, ["x"], ["y"])
        for converter in made:
            assert set(vars(converter)) - inner <= set(vars(ours))
            assert {name for name in dir(converter) if not name.startswith("_")} <= set(dir(ours))
            assert set(vars(converter.target_spec)) <= set(vars(ours.target_spec))
        older = {name for name in dir(tf.compat.v1.lite.TFLiteConverter) if not name.startswith("_")}
        assert older <= set(dir(TFLiteConverterV1))
        assert {item.name for item in tf.lite.OpsSet} <= {item.name for item in OpsSet}
        assert {item.name for item in tf.lite.Optimize} <= {item.name for item in Optimize}

    def test_names_of_inputs_as_version_1_gives_them(self, frozen: str) -> None:
        assert TFLiteConverterV1.from_frozen_graph(frozen, ["x"], ["y"]).get_input_arrays() == ["x"]

    def test_conversion_metadata_may_be_left_out(self, frozen: str) -> None:
        converter = TFLiteConverter.from_frozen_graph(frozen, ["x"], ["y"])
        converter.allow_custom_ops = True
        found = read_conversion_metadata(graphopt.load(converter.convert()))
        assert found is not None
        assert found.environment is not None
        assert found.options is not None
        assert (found.environment.model_type, found.options.allow_custom_ops) == ("TF_GRAPH_DEF", True)
        converter.exclude_conversion_metadata = True
        assert read_conversion_metadata(graphopt.load(converter.convert())) is None

    def test_custom_operators_are_allowed_or_not(self, tmp_path: pathlib.Path) -> None:
        graphopt.save(text_model("%y = tf.Erfinv(%x)", "%x: float32[2]"), tmp_path / "model.pb")
        converter = TFLiteConverter.from_frozen_graph(str(tmp_path / "model.pb"), ["x"], ["y"])
        with pytest.raises(graphopt.UnsupportedError, match="Erfinv"):
            converter.convert()
        converter.allow_custom_ops = True
        assert b"Erfinv" in converter.convert()


class TestJax:
    """What functions of JAX become is compared in tests/graphopt/importers/stablehlo/test_networks.py."""

    @pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX: pip install 'graphopt[xla]'")
    def test_a_function_is_converted(self) -> None:
        inputs = [("x", np.ones([2], np.float32)), ("y", np.ones([2], np.float32))]
        content = TFLiteConverter.experimental_from_jax([lambda x, y: x + y], [inputs]).convert()
        assert signatures(content) == {"serving_default": {"inputs": ["x", "y"], "outputs": ["output_0"]}}

    @pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX: pip install 'graphopt[xla]'")
    def test_a_function_of_other_inputs_is_refused(self) -> None:
        with pytest.raises(graphopt.UsageError, match="does not export the function"):
            TFLiteConverter.experimental_from_jax([lambda x, y: x], [[("x", np.ones(2, np.float32))]]).convert()

    def test_what_is_missing_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "jax", None)
        monkeypatch.setitem(sys.modules, "tensorflow", None)
        with pytest.raises(graphopt.UsageError, match="pip install"):
            TFLiteConverter.experimental_from_jax([abs], [[("x", np.ones(2, np.float32))]]).convert()
        with pytest.raises(graphopt.UsageError, match="one function"):
            TFLiteConverter.experimental_from_jax([], [])
