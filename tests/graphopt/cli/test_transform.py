"""`graphopt transform`: the flags of transform_graph."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest

from graphopt.ir.formats import graphdef
from graphopt.ir.formats.sniff import is_text


@pytest.fixture
def addition(tmp_path: pathlib.Path) -> str:
    """`(a + b) * placeholder`, as text."""
    tensor = "tensor { dtype: DT_FLOAT tensor_shape { dim { size: 2 } } float_val: [%s] }"
    kind = 'attr { key: "T" value { type: DT_FLOAT } }'
    floats = 'attr { key: "dtype" value { type: DT_FLOAT } }'
    constants = "\n".join(
        f'node {{ name: "{name}" op: "Const" {floats} attr {{ key: "value" value {{ {tensor % values} }} }} }}'
        for name, values in (("a_expect_removed", "1, 2"), ("b_expect_removed", "3, 5"))
    )
    path = tmp_path / "in.pbtxt"
    path.write_text(f"""{constants}
node {{ name: "add_expect_removed" op: "Add" input: "a_expect_removed" input: "b_expect_removed" {kind} }}
node {{ name: "placeholder_expect_remains" op: "Placeholder" {floats} }}
node {{
  name: "output_expect_remains" op: "Mul" input: "add_expect_removed" input: "placeholder_expect_remains" {kind}
}}
node {{ name: "group" op: "NoOp" input: "^output_expect_remains" }}
""")
    return str(path)


NAMES = ["--inputs=placeholder_expect_remains", "--outputs=output_expect_remains"]


def names_in(path: str | pathlib.Path) -> list[str]:
    return [node.name for node in graphdef.load(path).graph]


def test_folding_a_text_and_a_binary_file(addition: str, run_cli: Callable, tmp_path: pathlib.Path) -> None:
    binary = tmp_path / "in.pb"
    graphdef.write_graphdef(graphdef.load(addition), binary)
    results = []
    for source in (addition, binary):
        target = tmp_path / f"{pathlib.Path(source).suffix[1:]}.out"
        done = run_cli(
            "transform", f"--in_graph={source}", f"--out_graph={target}", *NAMES, "--transforms=fold_constants"
        )
        assert done.status == 0, done.err
        assert done.out.startswith(f"{target}: 6 -> 3 nodes, 1 transform, ")
        assert not [name for name in names_in(target) if name.endswith("_expect_removed")]
        assert [name for name in names_in(target) if name.endswith("_expect_remains")]
        results.append(target.read_bytes())
    assert results[0] == results[1]


def test_flags_and_their_values_apart(addition: str, run_cli: Callable) -> None:
    arguments = ["--in_graph", addition, "--out_graph", "out.pb", "--outputs", "group", "--transforms"]
    done = run_cli("transform", *arguments, "strip_unused_nodes sort_by_execution_order")
    assert done.status == 0, done.err
    assert len(names_in("out.pb")) == 6


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ([], False),
        (["--output_as_text"], True),
        (["--output_as_text=true"], True),
        (["--output_as_text", "false"], False),
        (["--output_as_text=0"], False),
    ],
)
def test_output_as_text(addition: str, run_cli: Callable, flags: list[str], text: bool) -> None:
    base = [f"--in_graph={addition}", "--out_graph=out.pb", "--transforms=remove_device"]
    done = run_cli("transform", *base, *flags)
    assert done.status == 0, done.err
    assert is_text(pathlib.Path("out.pb").read_bytes()) is text
    assert names_in("out.pb") == names_in(addition)


def test_paths_below_home(addition: str, run_cli: Callable, tmp_path: pathlib.Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    done = run_cli("transform", "--in_graph=~/in.pbtxt", "--out_graph=~/out.pb", "--transforms=remove_device")
    assert done.status == 0, done.err
    assert len(names_in(tmp_path / "out.pb")) == 6


def test_help_lists_flags_and_transforms(run_cli: Callable) -> None:
    done = run_cli("transform", "-h")
    assert done.status == 0
    for word in ("--in_graph", "--output_as_text", "fold_constants", "obsfucate_names"):
        assert word in done.out


def test_standard_output(addition: str, run_cli: Callable) -> None:
    done = run_cli(
        "transform", f"--in_graph={addition}", "--out_graph=-", "--output_as_text", "--transforms=rename_op("
        "old_op_name=Mul, new_op_name=Multiply)",
    )  # fmt: skip
    assert done.status == 0
    assert 'op: "Multiply"' in done.out
    assert "1 transform" in done.err


def test_verbose_says_what_was_left_alone(addition: str, run_cli: Callable) -> None:
    step = "--transforms=remove_attribute(attribute_name=T)"
    done = run_cli("transform", "-v", f"--in_graph={addition}", "--out_graph=out.pb", step)
    assert done.status == 0
    assert "remove-attribute left 2 alone" in done.err
    assert "its operator requires 'T'" in done.err


def test_arguments_of_no_transform_are_told(addition: str, run_cli: Callable) -> None:
    step = "--transforms=remove_device(divice=x)"
    done = run_cli("transform", f"--in_graph={addition}", "--out_graph=out.pb", step)
    assert done.status == 0
    assert "transform 'remove_device' takes no argument 'divice'; it is ignored" in done.err


def test_ignored_errors_are_told(addition: str, run_cli: Callable) -> None:
    step = "--transforms=rename_node(old_node_name=group, new_node_name=output_expect_remains, ignore_errors=true)"
    done = run_cli("transform", f"--in_graph={addition}", "--out_graph=out.pb", step)
    assert done.status == 0
    assert "rename_node: ignoring error: transform 'rename_node' cannot use the name" in done.err
    assert names_in("out.pb") == names_in(addition)


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["--transforms=fold_nothing"], 2, "transform 'fold_nothing' not recognized"),
        (["--transforms=quantize_nodes"], 2, "'quantize_nodes' of transform_graph is not part of this version"),
        (["--transforms="], 2, "at least one transform"),
        (["--transforms=\\\n"], 2, "at least one transform"),
        (["--transforms=foo("], 2, "not closed"),
        (["--transforms=remove_device", "--output_as_text=maybe"], 2, "neither true nor false"),
        (["--transforms=remove_device", "--output_as_txt"], 2, "did you mean '--output_as_text'"),
        (["--transforms=remove_device(ignore_errors=foo)"], 2, "ignore_errors should be true or false"),
        (["--transforms=remove_device", "--in_graph=absent.pb"], 3, "absent.pb"),
        (["--transforms=remove_device", "--in_graph="], 2, "--in_graph must name a file"),
        (["--transforms=remove_device", "--out_graph="], 2, "--out_graph must name a file"),
        (["--transforms=strip_unused_nodes", "--outputs=nowhere"], 2, "there is no 'nowhere' in the graph"),
        ([], 2, "--transforms"),
    ],
)  # fmt: skip
def test_errors(addition: str, run_cli: Callable, arguments: list[str], status: int, reason: str) -> None:
    done = run_cli("transform", f"--in_graph={addition}", "--out_graph=out.pb", *arguments)
    assert done.status == status
    assert reason in done.err
    assert "Traceback" not in done.err
    assert not pathlib.Path("out.pb").exists()


def test_files_that_are_no_graphs(run_cli: Callable, tmp_path: pathlib.Path) -> None:
    bogus = tmp_path / "bogus.pb"
    bogus.write_bytes(b"\xff\xfe\xfd bogus")
    done = run_cli("transform", f"--in_graph={bogus}", "--out_graph=out.pb", "--transforms=remove_device")
    assert done.status == 3
    assert "bogus.pb" in done.err


def test_outputs_that_exist_are_replaced_only_on_request(addition: str, run_cli: Callable) -> None:
    pathlib.Path("out.pb").write_bytes(b"precious")
    base = ["transform", f"--in_graph={addition}", "--out_graph=out.pb", "--transforms=remove_device"]
    assert run_cli(*base).status == 2
    assert pathlib.Path("out.pb").read_bytes() == b"precious"
    assert run_cli(*base, "--force").status == 0
    assert len(names_in("out.pb")) == 6
