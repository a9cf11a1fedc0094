"""The documents say what the code says: pages are up to date, links resolve, every verb, option and name is in them."""

from __future__ import annotations

import argparse
import importlib
import pathlib
import re
import subprocess
import sys

import pytest

import graphopt
from graphopt.cli.arguments import VerbParser, add_common
from graphopt.cli.main import VERBS
from graphopt.example import mobile_network
from graphopt.passes import PassManager

ROOT = pathlib.Path(__file__).parents[1].resolve()
DOCS = ROOT / "docs"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
COMMAND_LINE = (DOCS / "command-line.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchor(heading: str) -> str:
    """The fragment that GitHub and MyST give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(document: pathlib.Path) -> list[str]:
    prose = FENCED.sub("", document.read_text(encoding="utf-8"))
    return [anchor(heading) for heading in re.findall(r"^#+ (.+)$", prose, re.MULTILINE)]


def section_of(verb: str) -> str:
    """What the page of the command line says of one verb."""
    found = re.search(rf"^## graphopt {verb}$(.*?)(?=^## |\Z)", COMMAND_LINE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/command-line.md has no section 'graphopt {verb}'"
    return found[1]


def parser_of(verb: str, *, common: bool = False) -> argparse.ArgumentParser:
    parser = VerbParser(prog=f"graphopt {verb}")
    importlib.import_module(VERBS[verb].module).configure(parser)
    if common:
        add_common(parser)
    return parser


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Every spelling of every option, `--help` aside."""
    return {spelling for action in parser._actions for spelling in action.option_strings} - {"-h", "--help"}


def test_pages_of_passes_are_up_to_date() -> None:
    """In a process of its own: the catalogue without what other tests registered."""
    command = [sys.executable, str(ROOT / "tools" / "generate_pass_docs.py"), "--check"]
    done = subprocess.run(command, cwd=DOCS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", sorted((DOCS / "passes").glob("*-*.md")), ids=lambda path: path.stem)
def test_every_pass_says_what_becomes_of_what_and_when_it_refuses(page: pathlib.Path) -> None:
    text = page.read_text(encoding="utf-8").partition("## Exactness")[0]
    assert "**Given**" in text
    assert "**Result**" in text
    assert re.search(r"\bRefuses\s", text)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_their_fragments_resolve(document: pathlib.Path) -> None:
    prose = FENCED.sub("", document.read_text(encoding="utf-8"))
    broken = []
    for link in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", prose):
        path, _, fragment = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    assert not broken


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = {"index"}
    for page in (DOCS / "index.md", DOCS / "passes" / "index.md"):
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
            names = [line for line in block.splitlines() if line and not line.startswith(":")]
            listed |= {(page.parent / name).relative_to(DOCS).as_posix() for name in names}
    assert {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")} == listed


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_every_verb_is_documented_and_no_other(verb: str) -> None:
    rows = re.findall(r"^\| (`-.*?) \|", section_of(verb), re.MULTILINE)
    documented = set(re.findall(r"`(-[\w-]+)`", " ".join(rows)))
    assert documented == options_of(parser_of(verb))


@pytest.mark.parametrize("verb", VERBS)
def test_usage_of_every_verb_names_its_arguments(verb: str) -> None:
    usage = re.search(r"```text\n(.*?)```", section_of(verb), re.DOTALL)
    assert usage
    assert usage[1].startswith(f"graphopt {verb} ")
    for action in parser_of(verb)._actions:
        name = action.option_strings[0] if action.option_strings else str(action.metavar)
        assert name == "-h" or name in usage[1], f"the usage of {verb} lacks {name}"


def test_options_that_all_verbs_share_are_documented() -> None:
    shared = options_of(parser_of("print", common=True)) - options_of(parser_of("print"))
    assert shared
    assert shared <= set(re.findall(r"`(-[\w-]+)`", COMMAND_LINE.partition("## graphopt inspect")[0]))


def test_table_of_verbs_says_what_help_says() -> None:
    rows = dict(re.findall(r"^\| \[`(\w+)`\]\(#graphopt-\w+\) \| (.*) \|$", COMMAND_LINE, re.MULTILINE))
    assert rows == {name: verb.summary for name, verb in VERBS.items()}


def test_exit_statuses_of_all_errors_are_documented() -> None:
    documented = {int(status) for status in re.findall(r"^\| (\d+) \|", COMMAND_LINE, re.MULTILINE)}
    pending, statuses = [graphopt.Error], {0, 130, 141}
    while pending:
        error = pending.pop()
        statuses.add(error.exit_status)
        pending += error.__subclasses__()
    assert documented == statuses


def test_every_public_name_is_documented() -> None:
    table = (DOCS / "getting-started.md").read_text().partition("## The Python names")[2]
    assert set(graphopt.__all__) == set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.M)))) | {
        "CheckError", "MalformedError", "UnsupportedError", "UsageError",
    }  # fmt: skip
    for error in ("CheckError", "MalformedError", "UnsupportedError", "UsageError"):
        assert f"`{error}`" in table


def test_changelog_names_every_verb_and_every_pass() -> None:
    from graphopt.passes.catalog import _CATALOG

    text = (ROOT / "CHANGELOG.md").read_text()
    assert [name for name in (*VERBS, *_CATALOG) if not re.search(rf"\b{name}\b", text)] == []


def test_picture_of_the_readme_is_true() -> None:
    readme, model = (ROOT / "README.md").read_text(), mobile_network()
    beginning = ("pictures", "rescale/", "stem/")
    before = sum(node.name.startswith(beginning) for node in model.graph)
    PassManager("inference").run(model)
    after = [node.op_type for node in model.graph if node.name.startswith(beginning)]
    assert f"before: the first {before} nodes" in readme
    assert f"after `graphopt optimize`: {len(after)} nodes" in readme
    chain = [op for op in after if op not in ("Const", "Placeholder")]
    assert f"pictures ─▶ {' ─▶ '.join(chain)}\n" in readme
