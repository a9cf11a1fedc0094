"""Say what of a model a target cannot express, where it came from, why, and what helps."""

from __future__ import annotations

import argparse

from graphopt.cli.arguments import add_json, add_model
from graphopt.cli.console import Console
from graphopt.cli.lower import add_target, backend_options
from graphopt.cli.tensorrt import gates_alone

SCHEMA = "graphopt/check/v1"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `check`."""
    add_model(parser)
    add_target(parser, "--target")
    parser.add_argument("--source", metavar="M", help="the model whose outputs the gate onnxruntime compares with")
    add_json(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Check one model; 1 if something has no form in the target."""
    from graphopt.lowering import check

    findings = check(
        options.model, options.target, inputs=options.inputs, outputs=options.outputs, **backend_options(options)
    )
    partition = getattr(findings, "partition", None)
    gates = gates_alone(options) if options.gates else []
    status = 1 if findings or any(gate.status == "failed" for gate in gates) else 0
    if options.json:
        answer = {"schema": SCHEMA, "target": options.target, "findings": [item.as_dict() for item in findings]}
        answer |= {} if partition is None else {"partition": partition.as_dict()}
        console.json(answer | ({"gates": [gate.as_dict() for gate in gates]} if gates else {}))
        return status
    for finding in findings:
        console.result(finding.sentence)
    for line in partition.lines() if findings and partition is not None else ():
        console.result(line)
    if not findings:
        console.result(f"every operator has a form in {options.target}")
    for gate in gates:
        console.result(f"gate {gate.sentence}")
    return status
