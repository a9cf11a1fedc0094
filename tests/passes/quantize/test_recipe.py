"""Recipes: which rule decides, JSON in both directions, and ai-edge-quantizer's."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import MalformedError, UnsupportedError, UsageError
from graphopt.ir.model import Function, Model, Signature
from graphopt.passes.quantize.matching import RecipeMatcher
from graphopt.passes.quantize.methods import RangeMethod
from graphopt.passes.quantize.recipe import (
    FLOAT,
    MODES,
    PRESETS,
    OperatorRecipe,
    Recipe,
    Rule,
    load_recipe,
    preset,
    read_recipe,
    recipe_bytes,
    save_recipe,
)


@pytest.fixture
def model() -> Model:
    """Two signatures: one convolution for both, one softmax for the second alone, which calls a function."""
    model = Model()
    graph = model.graph
    source = graph.create_node("tfl.INPUT", name="x")
    conv = graph.create_node("tfl.CONV_2D", [source.output], name="conv", origins=("body/conv1", "body/relu1"))
    softmax = graph.create_node("tfl.SOFTMAX", [conv.output], {"f": FunctionRef("inner")}, name="softmax")
    graph.inputs, graph.outputs = [source.output], [conv.output, softmax.output]
    function = Function("inner")
    function.create_node("tfl.FULLY_CONNECTED", name="dense").output.name = "head/dense/MatMul"
    model.add_function(function)
    model.signatures = {
        "features": Signature(graph, {"x": 0}, {"y": 0}),
        "classes": Signature(graph, {"x": 0}, {"p": 1}),
    }
    return model


def test_what_no_rule_matches_stays_float(model: Model) -> None:
    assert Recipe().for_node(model.graph.node("conv")) == FLOAT
    recipe = Recipe((Rule(operators=("ADD",), mode="int8"),))
    assert recipe.for_node(model.graph.node("conv")).mode == "float"
    assert RecipeMatcher(recipe, model).rule_for(model.graph.node("conv")) is None


def test_the_last_rule_that_matches_decides_alone(model: Model) -> None:
    recipe = Recipe(
        (
            Rule(mode="int8", symmetric=True, calibration=RangeMethod("mse")),
            Rule(mode="int16x8", operators=("CONV_2D",)),
            Rule(mode="float16", operators=("SOFTMAX",)),
        )
    )
    matcher = RecipeMatcher(recipe, model)
    conv, softmax = model.graph.node("conv"), model.graph.node("softmax")
    assert matcher.for_node(conv) == OperatorRecipe(mode="int16x8")
    assert matcher.for_node(softmax) == OperatorRecipe(mode="float16")
    assert [matcher.rule_for(node) for node in (conv, softmax, model.graph.node("x"))] == [1, 2, 0]


@pytest.mark.parametrize(
    ("rule", "matched"),
    [
        (Rule(operators=("tfl.CONV_2D",)), ["conv"]),
        (Rule(operators=("CONV_2D", "SOFTMAX")), ["conv", "softmax"]),
        (Rule(operators=("tf.CONV_2D",)), []),
        (Rule(layers="^body/"), ["conv"]),
        (Rule(layers="relu1$"), ["conv"]),
        (Rule(layers="softmax|head/dense"), ["softmax", "dense"]),
        (Rule(subgraph="^inner$"), ["dense"]),
        (Rule(subgraph="^$"), ["x", "conv", "softmax"]),
        (Rule(signature="features"), ["x", "conv"]),
        (Rule(signature="classes"), ["x", "conv", "softmax", "dense"]),
        (Rule(signature="classes", operators=("SOFTMAX",)), ["softmax"]),
    ],
)
def test_scopes(model: Model, rule: Rule, matched: list[str]) -> None:
    matcher = RecipeMatcher(Recipe((rule,)), model)
    assert [node.name for graph in model.graphs for node in graph if matcher.rule_for(node) is not None] == matched


def test_a_signature_that_is_not_there_is_refused(model: Model) -> None:
    with pytest.raises(UsageError, match="'faces'"):
        Recipe((Rule(signature="faces"),)).for_node(model.graph.node("conv"))


def test_presets() -> None:
    assert set(PRESETS) == set(MODES) - {"float"}
    for name in PRESETS:
        (rule,) = preset(name).rules
        assert rule.mode == name
        assert preset(name).needs_statistics == (name in ("int8", "int16x8")) == rule.is_static
    assert (Rule(mode="int8").activation_bits, Rule(mode="int16x8").activation_bits) == (8, 16)
    assert preset("dynamic").rules[0].activation_bits is None
    with pytest.raises(UsageError, match="'int7'"):
        preset("int7")


def test_rules_can_be_added_and_methods_are_listed() -> None:
    recipe = preset("int8").with_rules(Rule(mode="int8", layers="a", calibration=RangeMethod("ema")))
    assert len(recipe.rules) == 2
    assert recipe.range_methods == (RangeMethod("ema"),)


RULES = st.builds(
    Rule,
    mode=st.sampled_from(("float", "dynamic", "weight-only")),
    weight_bits=st.sampled_from((4, 8)),
    granularity=st.sampled_from(("tensor", "channel")),
    minimum_elements=st.integers(0, 5000),
    clip_weights=st.booleans(),
    operators=st.lists(st.sampled_from(("ADD", "tfl.CONV_2D"))).map(tuple),
    layers=st.sampled_from(("", "^a/.*b$")),
    calibration=st.none() | st.builds(RangeMethod, st.sampled_from(("ema", "mse")), st.floats(0, 0.99)),
)


@given(st.builds(Recipe, st.lists(RULES, max_size=4).map(tuple), st.sampled_from(("float32", "int8"))))
def test_recipes_round_trip(recipe: Recipe) -> None:
    assert read_recipe(recipe_bytes(recipe)) == recipe


def test_files(tmp_path) -> None:
    path = tmp_path / "recipe.json"
    recipe = Recipe((Rule(mode="weight-only", weight_bits=4, granularity="block", block_size=32),))
    save_recipe(recipe, path)
    assert load_recipe(path) == recipe
    with pytest.raises(UsageError, match="exists"):
        save_recipe(recipe, path, overwrite=False)
    with pytest.raises(MalformedError, match="cannot be read"):
        load_recipe(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ('{"mode": "int7"}', r"rules\[0\].mode"),
        ('{"mode": "int8", "layer": "x"}', "unknown field `layer`"),
        ('{"layers": "("}', "'layers' is no regular expression"),
        ('{"subgraph": "*"}', "'subgraph' is no regular expression"),
        ('{"weight_bits": 3}', "weight_bits"),
        ('{"block_size": 32}', "granularity 'block'"),
        ('{"granularity": "block"}', "needs a block_size"),
        ('{"granularity": "block", "block_size": 7}', "one of"),
        ('{"mode": "int8", "granularity": "block", "block_size": 32}', "no kernel"),
        ('{"minimum_elements": -1}', "below zero"),
        ('{"calibration": {"name": "ema", "decay": 1.5}}', "decay"),
        ('{"calibration": {"name": "median"}}', "calibration"),
    ],
)
def test_malformed_rules_say_what_is_wrong(rule: str, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        read_recipe(f'{{"schema": "graphopt.recipe/1", "rules": [{rule}]}}'.encode())


@pytest.mark.parametrize("data", [b"", b"{", b"3", b"{}", b'{"schema": "graphopt.recipe/2"}', b"[3]", b"[" * 100_000])
def test_what_is_no_recipe_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError, match=r"file\.json"):
        read_recipe(data, source="file.json")


# ai-edge-quantizer's ------------------------------------------------------------------------------------------


def tensor(bits: int = 8, symmetric: bool = True, granularity: str = "CHANNELWISE", dtype: str = "INT") -> dict:
    return {"num_bits": bits, "symmetric": symmetric, "granularity": granularity, "dtype": dtype}


def entry(config: dict | None, regex: str = ".*", operation: str = "*", algorithm: str = "min_max_uniform_quantize"):
    given = {"regex": regex, "operation": operation, "algorithm_key": algorithm}
    return given if config is None else {**given, "op_config": config}


STATIC = {
    "activation_tensor_config": tensor(8, False, "TENSORWISE"),
    "weight_tensor_config": tensor(),
    "compute_precision": "INTEGER",
    "explicit_dequantize": False,
    "skip_checks": False,
    "min_weight_elements": 0,
}


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (entry(STATIC), Rule(mode="int8")),
        (entry({**STATIC, "activation_tensor_config": tensor(16, True)}), Rule(mode="int16x8")),
        (entry({**STATIC, "activation_tensor_config": tensor(8, True)}), Rule(mode="int8", symmetric=True)),
        (entry({"weight_tensor_config": tensor(), "compute_precision": "INTEGER"}), Rule(mode="dynamic")),
        (
            entry({"weight_tensor_config": tensor(4), "explicit_dequantize": True, "min_weight_elements": 9}, "^a"),
            Rule(mode="weight-only", weight_bits=4, minimum_elements=9, layers="^a"),
        ),
        (
            entry({"weight_tensor_config": tensor(4, granularity="BLOCKWISE_64")}, operation="FULLY_CONNECTED"),
            Rule(
                mode="weight-only",
                weight_bits=4,
                granularity="block",
                block_size=64,
                operators=("FULLY_CONNECTED",),
            ),
        ),
        (
            entry({"weight_tensor_config": {**tensor(8), "block_size": 32}, "compute_precision": "INTEGER"}),
            Rule(mode="dynamic", granularity="block", block_size=32),
        ),
        (entry(STATIC, algorithm="MSE"), Rule(mode="int8", clip_weights=True)),
        (entry(None, "head", "CONV_2D_TRANSPOSE", "no_quantize"), Rule(layers="head", operators=("TRANSPOSE_CONV",))),
        (
            entry({"weight_tensor_config": tensor(16, dtype="FLOAT")}, algorithm="float_casting"),
            Rule(mode="float16"),
        ),
        (
            entry({**STATIC, "weight_tensor_config": tensor(granularity="TENSORWISE")}),
            Rule(mode="int8", granularity="tensor"),
        ),
    ],
)
def test_rules_of_ai_edge_quantizer(given: dict, rule: Rule) -> None:
    assert read_recipe(json.dumps([given]).encode()) == Recipe((rule,))


def test_entries_of_one_expression_stand_together_and_one_for_all_takes_their_place() -> None:
    entries = [
        entry(STATIC, "a", "ADD"),
        entry(None, "b", "CONV_2D", "no_quantize"),
        entry(STATIC, "a"),
        entry(None, "a", "SOFTMAX", "no_quantize"),
    ]
    found = read_recipe(json.dumps(entries).encode())
    assert [(rule.layers, rule.operators) for rule in found.rules] == [
        ("a", ()),
        ("a", ("SOFTMAX",)),
        ("b", ("CONV_2D",)),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (entry(STATIC, algorithm="GPTQ"), "'GPTQ' has no counterpart"),
        (entry({"weight_tensor_config": tensor(2)}), "2 bits"),
        (entry({"weight_tensor_config": tensor(8, dtype="FLOAT")}), "8 bits"),
        (entry({**STATIC, "activation_tensor_config": tensor(4)}), "4 bits"),
        (entry({"weight_tensor_config": tensor(4, granularity="BLOCKWISE_16")}), "blocks of 16"),
    ],
)
def test_what_has_no_counterpart_is_refused(given: dict, message: str) -> None:
    with pytest.raises(UnsupportedError, match=f"rule 0: .*{message}"):
        read_recipe(json.dumps([given]).encode())


@pytest.mark.parametrize(
    "given", [{"regex": 3}, entry({"weight_tensor_config": tensor(granularity="ROW")}), entry(STATIC, "(")]
)
def test_malformed_lists_are_refused(given: dict) -> None:
    with pytest.raises(MalformedError, match=r"file\.json"):
        read_recipe(json.dumps([given]).encode(), source="file.json")


@pytest.mark.parametrize("given", [{"decoder": [], "embedder": []}, {"default": "dynamic_wi8_afp32_recipe.json"}])
def test_recipes_of_ai_edge_quantizer_for_a_bundle_are_told_apart(given: dict[str, object]) -> None:
    with pytest.raises(UnsupportedError, match="for the models of a bundle"):
        read_recipe(json.dumps(given).encode())
