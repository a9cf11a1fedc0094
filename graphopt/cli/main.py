"""`graphopt VERB …`: finds the verb, runs it, and turns whatever happens into an exit status and one paragraph.

Exit status: 0 done; 1 a check did not hold; 2 usage; 3 unreadable or malformed input; 4 the target cannot express
the model; 70 an internal error; 130 interrupted. Only the chosen verb's module is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, NoReturn

USAGE, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


class Verb(NamedTuple):
    """Module and one line of help."""

    module: str
    summary: str


VERBS = {
    "inspect": Verb("graphopt.cli.inspect", "signatures and why, operators, parameters, bytes, dynamic shapes"),
    "optimize": Verb("graphopt.cli.optimize", "run a pipeline of passes over a model and write the result"),
    "freeze": Verb("graphopt.cli.freeze", "make constants of variables: a SavedModel in, one graph out"),
    "lower": Verb("graphopt.cli.lower", "lower a model to TFLite, ONNX, TensorRT or XLA"),
    "calibrate": Verb("graphopt.cli.calibrate", "gather statistics of a model's tensors on samples"),
    "quantize": Verb("graphopt.cli.quantize", "store and compute with fewer bits"),
    "sensitivity": Verb("graphopt.cli.sensitivity", "which layers hurt when a model is quantized to int8"),
    "search": Verb("graphopt.cli.search", "meet an accuracy with the fewest bytes above int8"),
    "check": Verb("graphopt.cli.check", "what of a model a target cannot express, and why"),
    "print": Verb("graphopt.cli.print", "the model as readable text"),
    "passes": Verb("graphopt.cli.passes", "the passes and pipelines there are; one of them in full"),
    "verify": Verb("graphopt.cli.verify", "compare what two models compute"),
    "diff": Verb("graphopt.cli.diff", "compare how two models are built"),
    "bench": Verb("graphopt.cli.bench", "time a model in several runtimes, side by side"),
    "why": Verb("graphopt.cli.why", "what a rule makes of a model, and why it leaves a node alone"),
    "transform": Verb("graphopt.cli.transform", "transform_graph's flags and transforms"),
    "example": Verb("graphopt.cli.example", "write a small model to try things on"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on `arguments`, those of the process by default; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    verb = given[0] if given else ""
    if verb in ("-h", "--help", "help"):
        print(usage())
        return 0
    if verb in ("-V", "--version"):
        from graphopt import __version__

        print(f"graphopt {__version__}")
        return 0
    if verb not in VERBS:
        return _no_such_verb(verb)
    with _garbage_held():
        return _run(verb, given[1:])


def usage() -> str:
    """What `graphopt --help` prints."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: graphopt VERB [arguments]      graphopt VERB --help      graphopt --version",
            "",
            "Rewrites TensorFlow models into smaller and faster ones that compute the same.",
            "",
            *lines,
        ]
    )


def _no_such_verb(verb: str) -> int:
    from difflib import get_close_matches

    if not verb:
        print(usage(), file=sys.stderr)
        return USAGE
    close = get_close_matches(verb, VERBS, 1)
    hint = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(VERBS)}"
    print(f"graphopt: there is no verb {verb[:80]!a}; {hint}", file=sys.stderr)
    return USAGE


def _run(verb: str, arguments: list[str]) -> int:
    import os
    from importlib import import_module

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # should the verb need TensorFlow: errors alone
    from graphopt.cli.arguments import VerbParser, add_common
    from graphopt.cli.console import Console

    module = import_module(VERBS[verb].module)
    parser = VerbParser(prog=f"graphopt {verb}", description=module.__doc__)
    module.configure(parser)
    add_common(parser)
    options = None
    try:
        options = parser.parse_args(arguments)
        status = int(module.run(options, Console(options.quiet, options.verbose)))
        sys.stdout.flush()
        return status
    except SystemExit as leave:  # argparse: help, or a usage error it has reported
        return leave.code if isinstance(leave.code, int) else USAGE
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        print("graphopt: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        from graphopt.cli.failures import report

        return report(error, verb, arguments, options)


@contextmanager
def _garbage_held() -> Iterator[None]:
    """No collections in the midst of building graphs, whose objects nearly all stay alive."""
    import gc

    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


def _silence_stdout() -> None:
    """The reader has gone: keep the interpreter from complaining when it flushes at exit."""
    import os

    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, sys.stdout.fileno())
    except (OSError, ValueError):  # stdout is no file of the operating system
        sys.stdout = os.fdopen(null, "w")


def run_process() -> NoReturn:
    """`main`, then the end of the process without taking a large graph apart first."""
    import os

    status = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        status = BROKEN_PIPE
    os._exit(status)
