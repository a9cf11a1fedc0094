"""One call that checks a pass on an example: what it makes, and that it keeps everything a pass has to keep."""

from __future__ import annotations

from typing import Any

from graphopt.ir.model import Model
from graphopt.ir.text import parse_model, print_model
from graphopt.ir.verifier import verify
from graphopt.passes.base import Pass
from graphopt.passes.manager import run_pass
from graphopt.passes.report import PassReport
from graphopt.passes.spec import parse_pipeline
from graphopt.testing.equivalence import assert_contract_kept, assert_equivalent
from graphopt.testing.structure import Strictness, assert_same_structure, differences

EXPECTED = Strictness(order=False, origins=False, shapes=False, rtol=1e-6)


def check_pass(
    item: Pass | str,
    before: str,
    after: str | None = None,
    *,
    strictness: Strictness = EXPECTED,
    runtime: str | None = "reference",
    feeds: Any = None,
    keeps_contract: bool = True,
    allow_flat: bool = False,
    **options: Any,
) -> tuple[Model, PassReport]:
    """Run one pass on the text `before` and compare with the text `after`; without it nothing may change.

    Also checked: the invariants, that signatures, names and dtypes are kept (`keeps_contract`), that a second run
    changes nothing, and that outputs are the same within the exactness that the pass states (`runtime`; None leaves
    that out). The order of nodes, origins, shapes and the last digits of float tensors do not count; `strictness`
    changes that. `options` go to the `PassManager`. Returns the model and the report for further questions.
    """
    single = item if isinstance(item, Pass) else _only(item)
    source = parse_model(before)
    verify(source)
    model = source.clone()
    report = run_pass(model, single, **options)
    verify(model)
    expected = source if after is None else parse_model(after)
    found = next(differences(expected, model, strictness), None)
    if found is not None:
        raise AssertionError(f"'{single}' made something else: {found}\nIt made:\n{print_model(model)}")
    if keeps_contract:
        assert_contract_kept(source, model)
    again = model.clone()
    run_pass(again, single, **options)
    assert_same_structure(model, again)
    if runtime is not None:
        assert_equivalent(source, model, feeds, runtime=runtime, exactness=single.exactness, allow_flat=allow_flat)
    return model, report


def _only(text: str) -> Pass:
    (single,) = parse_pipeline(text)
    return single
