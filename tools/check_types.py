"""Type-check all three floors under their import names: `python tools/check_types.py [mypy's arguments]`.

mypy started at the root sees only graphopt/ and reports success, because it does not know that ir/ is graphopt.ir.
So it is pointed at a tree of links laid out as the package is installed, and must have checked every source file.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1].resolve()
PACKAGE = ROOT / "build" / "types" / "graphopt"
FLOORS = {"ir": "ir/", "passes": "passes/"}  # folder at the root and under its import name


def lay_links() -> None:
    """Make `PACKAGE` hold a link to every entry of graphopt/ and to the floors below it, and nothing else."""
    PACKAGE.mkdir(parents=True, exist_ok=True)
    wanted = {entry.name: entry for entry in (ROOT / "graphopt").iterdir() if entry.name != "__pycache__"}
    wanted |= {name: ROOT / name for name in FLOORS}
    for link in PACKAGE.iterdir():
        if link.name not in wanted:
            link.unlink()
    for name, target in wanted.items():
        if not (PACKAGE / name).is_symlink():
            (PACKAGE / name).symlink_to(target)


def at_home(line: str) -> str:
    """The line with paths of the link tree turned into those of the repository."""
    line = re.sub(rf"^{re.escape(str(PACKAGE.relative_to(ROOT)))}/(?=({'|'.join(FLOORS)})/)", "", line)
    return line.replace(f"{PACKAGE.relative_to(ROOT)}/", "graphopt/")


def main(arguments: list[str]) -> int:
    lay_links()
    command = [sys.executable, "-m", "mypy", *arguments, str(PACKAGE.relative_to(ROOT))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print("\n".join(at_home(line) for line in done.stdout.splitlines()))
    print(done.stderr, end="", file=sys.stderr)
    sources = sum(1 for floor in ("graphopt", *FLOORS) for _ in (ROOT / floor).rglob("*.py"))
    match = re.search(r"(?:in|checked) (\d+) source file", done.stdout)
    checked = int(match[1]) if match else 0
    if done.returncode == 0 and checked < sources:
        print(f"mypy checked {checked} files, but the three floors hold {sources}", file=sys.stderr)
        return 1
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
