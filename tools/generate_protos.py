"""Write ir/formats/protos/*_pb2.py and *_pb2.pyi from the .proto files beside them.

    python tools/generate_protos.py

Runs the protoc of one fixed grpcio-tools in a throw-away environment (needs the network), the oldest whose modules
every protobuf that graphopt accepts can import: generated code runs under its own version and newer ones, up to the
end of the next major version.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile
import venv

GRPCIO_TOOLS = "grpcio-tools==1.74.0"  # protoc 31.1, so protobuf 6.31.1 and later
FOLDER = pathlib.Path(__file__).resolve().parent.parent / "ir" / "formats" / "protos"


def main() -> None:
    sources = sorted(FOLDER.glob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        environment = pathlib.Path(scratch) / "environment"
        venv.create(environment, with_pip=True)
        python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", GRPCIO_TOOLS], check=True)
        # Under the import path, so that modules find each other and no other project registers files of these names.
        root = pathlib.Path(scratch) / "tree"
        package = root / "graphopt" / "ir" / "formats" / "protos"
        package.mkdir(parents=True)
        for source in sources:
            (package / source.name).write_bytes(source.read_bytes())
        files = [str((package / source.name).relative_to(root)) for source in sources]
        command = [str(python), "-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--pyi_out=.", *files]
        subprocess.run(command, check=True, cwd=root)
        for made in sorted(package.glob("*_pb2.py*")):
            text = made.read_text(encoding="utf-8")
            if made.suffix == ".pyi":  # strict type checkers refuse the bare `Mapping` that protoc writes
                text = text.replace(", _Mapping]", ", _Mapping[str, _Any]]").replace(
                    "import ClassVar", "import Any as _Any, ClassVar"
                )
            (FOLDER / made.name).write_text(text, encoding="utf-8")
            print(made.name)


if __name__ == "__main__":
    main()
