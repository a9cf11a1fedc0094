"""Passes: the rewrite engine, the pass manager, and every pass."""

from graphopt.passes.base import Exactness, Pass, PassContext, PassError
from graphopt.passes.catalog import find_pass, pass_names, register_pass
from graphopt.passes.manager import PassManager, preset, run_pass
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, either, known, maybe, rest, where
from graphopt.passes.presets import PRESETS
from graphopt.passes.report import PassReport, RunReport
from graphopt.passes.rewriter import RewritePass, apply_rules
from graphopt.passes.rule import Editor, Rule
from graphopt.passes.spec import format_pipeline, parse_pipeline

__all__ = [
    "ANY",
    "PRESETS",
    "Editor",
    "Exactness",
    "Match",
    "Pass",
    "PassContext",
    "PassError",
    "PassManager",
    "PassReport",
    "RewritePass",
    "Rule",
    "RunReport",
    "apply_rules",
    "either",
    "find_pass",
    "format_pipeline",
    "known",
    "maybe",
    "parse_pipeline",
    "pass_names",
    "preset",
    "register_pass",
    "rest",
    "run_pass",
    "where",
]
