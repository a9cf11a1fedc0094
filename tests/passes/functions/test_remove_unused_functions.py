"""remove-unused-functions: what the main graph does not reach goes."""

from __future__ import annotations

from graphopt.testing import check_pass

NAME = "remove-unused-functions"
MAIN = """
graph @main(%x: float32[2], %p: bool[]) -> (%y) {
  %i = tf.StatelessIf(%p, %x) {Tin = [float32], Tout = [float32], then_branch = @used, else_branch = @outer}
  %own = tf.operator(%i) : float32[2]
  %y = tf.Neg(%own)
}
"""


def function(name: str, call: str = "", extra: str = "") -> str:
    body = f"tf.PartitionedCall(%a) {{Tin = [float32], Tout = [float32], f = @{call}}}" if call else "tf.Neg(%a)"
    return f"function @{name}(a = %a: float32[2]) -> (r = %r){extra} {{ %r = {body} }}"


KEPT = "\n".join(
    [
        function("used"),
        function("outer", "inner"),
        function("inner"),
        function("operator", extra=" gradient(@slope)"),
        function("slope"),
    ]
)
DEAD = "\n".join([function("dead", "deader"), function("deader", "used"), function("circle")])


def test_what_nothing_reaches_is_dropped() -> None:
    _, report = check_pass(NAME, f"{MAIN}{DEAD}\n{KEPT}", MAIN + KEPT, runtime=None)
    assert report.rules == {NAME: 3}


def test_functions_to_keep_keep_what_they_call() -> None:
    kept = "\n".join([function("dead", "deader"), function("deader", "used")])
    check_pass(
        "remove-unused-functions{keep=[dead,nowhere]}", f"{MAIN}{DEAD}\n{KEPT}", f"{MAIN}{kept}\n{KEPT}", runtime=None
    )


def test_a_function_named_by_an_attribute_of_a_function_stays() -> None:
    body = function("marked", extra=" attrs {forward = @used}")
    text = "graph @main(%x: float32[2]) -> (%y) {\n %y = tf.marked(%x) : float32[2]\n}\n"
    check_pass(NAME, text + body + "\n" + function("used"), runtime=None)
