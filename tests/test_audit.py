"""What reading and optimising a model may touch: the model's own file, and Python's modules. Nothing in it is run."""

from __future__ import annotations

import ast
import json
import os
import pathlib
import subprocess
from collections.abc import Callable, Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1].resolve()
FLOORS = ("ir", "passes", "graphopt")
Run = Callable[..., subprocess.CompletedProcess[str]]

# Reads every file given, optimises it if it loads, saves the result beside it; says what else happened meanwhile.
AUDITED = """
import json, os, sys, sysconfig, typing

folder, *paths = sys.argv[1:]
installed = map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib"))
modules = [os.path.realpath(path) for path in {*sys.path, *installed, *FLOORS} if path]
violations, model = [], None
QUIET = ("object.", "sys._getframe", "sys.getframemodule", "gc.", "mmap.__new__", "cpython.", "builtins.id")

def importing():
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib.") or frame.f_code.co_filename == typing.__file__:
            return True  # a module, or the annotations of one
        frame = frame.f_back
    return False

def is_module(path):
    path = os.path.realpath(path)
    return any(path == root or path.startswith(root + os.sep) for root in modules)

def hook(event, args):
    if model is None or event.startswith(QUIET):
        return
    if event == "import" and args[0].partition(".")[0] not in FORBIDDEN:
        return
    if event == "open" and isinstance(args[0], (str, bytes)):
        path, writes = os.fsdecode(args[0]), args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if path == model or (not writes and is_module(path)):
            return
        if saving and folder in (os.path.abspath(path), os.path.dirname(os.path.abspath(path))):
            return
    if saving and event in ("os.rename", "os.remove", "os.chmod", "tempfile.mkstemp") or importing():
        return
    violations.append(f"{os.path.basename(model)}: {event} {args!r}"[:300])

import graphopt
saving = False
sys.addaudithook(hook)
counts = {"optimised": 0, "refused": 0}
for path in paths:
    model = path
    try:
        optimised = graphopt.optimize(path).model
        saving = True
        graphopt.save(optimised, os.path.join(folder, "out.pb"), overwrite=True)
        counts["optimised"] += 1
    except graphopt.Error:
        counts["refused"] += 1
    finally:
        saving, model = False, None
print(json.dumps({"violations": violations, "counts": counts}))
"""
FORBIDDEN = ("tensorflow", "pickle", "socket", "subprocess", "ctypes", "urllib", "http", "asyncio", "multiprocessing")
FLOOR_PATHS = [str(ROOT / floor) for floor in FLOORS]
PREAMBLE = f"FORBIDDEN, FLOORS = {FORBIDDEN!r}, {FLOOR_PATHS!r}\n"


def audited(run_python: Run, folder: pathlib.Path, *paths: pathlib.Path) -> tuple[list[str], dict[str, int]]:
    """What was forbidden, and how many models ended how."""
    done = run_python(PREAMBLE + AUDITED, str(folder.resolve()), *map(str, paths))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    return report["violations"], report["counts"]


def mutants(data: bytes) -> Iterator[bytes]:
    """A few damaged copies."""
    yield data[: len(data) // 2]
    yield data[:40] + b"\xff" * 4 + data[44:]
    yield data.replace(b"Const", b"PyFun").replace(b"Add", b"Py")
    yield data + b"\x80\x04\x95" + data
    yield b"\x80\x04\x95" + data


def hostile() -> bytes:
    """A model whose operators, devices, names and strings ask for files, code and hosts."""
    from graphopt.ir.formats.protos import graph_pb2

    graph = graph_pb2.GraphDef()
    value = graph_pb2.AttrValue
    texts = (b"/etc/passwd", b"__import__('os').system('id')", b"http://127.0.0.1:9/", b"../../../../etc/hostname")
    for place, op in enumerate(("PyFunc", "EagerPyFunc", "ReadFile", "WriteFile", "LoadLibrary", "XlaCustomCallV2")):
        node = graph.node.add(name=f"{op}/{texts[place % 4].decode()}".replace(":", ""), op=op, device="/job:127.0.0.1")
        for key in ("token", "pointer", "shared_name", "filename", "_origin"):
            node.attr.add(key=key, value=value(s=texts[place % 4]))
    name = graph.node.add(name="name", op="Const")
    name.attr.add(key="dtype", value=value(type=7))
    name.attr.add(key="value", value=value(tensor=graph_pb2.TensorProto(dtype=7, string_val=[b"/etc/passwd"])))
    graph.node.add(name="read", op="ReadFile", input=["name"])
    graph.node.add(name="write", op="WriteFile", input=["name", "read"])
    return bytes(graph.SerializeToString())


def test_nothing_but_the_model_is_opened_and_nothing_is_run(run_python: Run, tmp_path: pathlib.Path) -> None:
    from graphopt.ir.formats.graphdef import graphdef_bytes
    from graphopt.testing import random_model

    files = []
    for seed in range(4):
        data = graphdef_bytes(random_model(seed, 15))
        files += [data, *mutants(data)]
    files.append(hostile())
    paths = [tmp_path / f"{place}.pb" for place in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    violations, counts = audited(run_python, tmp_path, *paths)
    assert violations == []
    assert sum(counts.values()) == len(paths)
    assert counts["optimised"] >= 4
    assert counts["refused"] >= 4


def test_models_of_the_corpus_open_nothing_else(run_python: Run, tmp_path: pathlib.Path, corpus: pathlib.Path) -> None:
    candidates = sorted((corpus / "graphdef").rglob("*.pb*"), key=lambda path: (path.stat().st_size, path))
    chosen = [path for path in candidates if path.stat().st_size < 1 << 16][::12]
    violations, counts = audited(run_python, tmp_path, *chosen)
    assert violations == []
    assert counts["optimised"] > len(chosen) // 2


def test_the_audit_sees_what_it_is_for(run_python: Run, tmp_path: pathlib.Path) -> None:
    """The same hook, around a reader that opens, runs and connects."""
    path = tmp_path / "model.pb"
    path.write_bytes(b"1 + 1")
    spy = """
class graphopt:
    class Error(Exception): pass
    @staticmethod
    def optimize(path):
        open("/etc/hostname").close(); eval(open(path).read()); import socket, subprocess; os.listdir("/")
        subprocess.run(["true"]); socket.socket().close()
        raise graphopt.Error
"""
    done = run_python(PREAMBLE + AUDITED.replace("import graphopt\n", spy), str(tmp_path), str(path))
    for event in (
        "open ('/etc/hostname'",
        "compile",
        "exec",
        "import ('socket'",
        "os.listdir",
        "subprocess.Popen",
        "socket.__new__",
    ):
        assert event in done.stdout, (event, done.stdout, done.stderr)


# Paths that are no files --------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path: pathlib.Path) -> dict[str, str]:
    """Things a path may lead to."""
    fifo, link, loop, away = (tmp_path / name for name in ("fifo", "link", "loop", "away"))
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    loop.symlink_to(loop)
    away.symlink_to(tmp_path / "nothing")
    return {
        "directory": str(tmp_path), "fifo": str(fifo), "link to a fifo": str(link), "link to itself": str(loop),
        "link to nothing": str(away), "nothing": str(tmp_path / "nothing"), "device": "/dev/zero",
        "terminal": "/dev/tty", "NUL": str(tmp_path / "a\0b"), "empty": "", "too long": "x" * 5000,
        "beneath a file": "/etc/hostname/x",
    }  # fmt: skip


KINDS = ("directory", "fifo", "link to a fifo", "link to itself", "link to nothing", "nothing", "device", "terminal",
         "NUL", "empty", "too long", "beneath a file")  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_refused(kind: str, places: dict[str, str]) -> None:
    import graphopt

    with pytest.raises(graphopt.MalformedError) as caught:
        graphopt.load(places[kind])
    assert caught.value.exit_status == 3
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


def test_a_link_to_a_model_is_the_model(tmp_path: pathlib.Path) -> None:
    import graphopt
    from graphopt.testing import random_model

    graphopt.save(random_model(0), tmp_path / "model.pb")
    (tmp_path / "link.pb").symlink_to("model.pb")
    assert len(graphopt.load(tmp_path / "link.pb").graph) == len(graphopt.load(tmp_path / "model.pb").graph)


# The source ---------------------------------------------------------------------------------------------------

RUNNERS = ("eval", "exec", "compile", "__import__")
LOADERS = (
    "pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "jsonpickle",
    "marshal",
    "shelve",
    "runpy",
    "code",
    "codeop",
)
DOORS = ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen", "importlib.reload", "torch.load")


def doors(source: str) -> list[str]:
    """Calls and imports by which data could become code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in RUNNERS + DOORS or any(
                k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords
            ):
                found.append(f"line {node.lineno}: {called}")
            if any(k.arg == "shell" for k in node.keywords):
                found.append(f"line {node.lineno}: a shell")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"line {node.lineno}: {name}" for name in names if name.partition(".")[0] in LOADERS]
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_no_code_comes_from_data(floor: str) -> None:
    files = sorted((ROOT / floor).rglob("*.py"))
    found = {path.relative_to(ROOT).as_posix(): doors(path.read_text()) for path in files}
    assert {path: lines for path, lines in found.items() if lines} == {}
    assert len(files) > 10


@pytest.mark.parametrize(
    "line",
    ["eval(x)", "exec(x)", "import pickle", "from marshal import loads", "yaml.load(x)",
     "np.load(x, allow_pickle=True)", "subprocess.run(x, shell=True)"],
)  # fmt: skip
def test_the_lint_sees_what_it_is_for(line: str) -> None:
    assert len(doors(line)) == 1
