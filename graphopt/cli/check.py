"""Say what of a model a target cannot express, where it came from, why, and what helps."""

from __future__ import annotations

import argparse

from graphopt.cli.arguments import add_json, add_model
from graphopt.cli.console import Console
from graphopt.cli.lower import add_target, backend_options

SCHEMA = "graphopt/check/v1"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `check`."""
    add_model(parser)
    add_target(parser, "--target")
    add_json(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Check one model; 1 if something has no form in the target."""
    from graphopt.lowering import check

    findings = check(
        options.model, options.target, inputs=options.inputs, outputs=options.outputs, **backend_options(options)
    )
    partition = getattr(findings, "partition", None)
    if options.json:
        answer = {"schema": SCHEMA, "target": options.target, "findings": [item.as_dict() for item in findings]}
        console.json(answer | ({} if partition is None else {"partition": partition.as_dict()}))
        return 1 if findings else 0
    for finding in findings:
        console.result(finding.sentence)
    for line in partition.lines() if findings and partition is not None else ():
        console.result(line)
    if not findings:
        console.result(f"every operator has a form in {options.target}")
    return 1 if findings else 0
