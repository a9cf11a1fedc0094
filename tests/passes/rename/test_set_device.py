"""set-device."""

from __future__ import annotations

from graphopt.testing import check_pass

BEFORE = """
function @f(%a: float32[2]) -> (%b) { %b = tf.Neg(%a) device("/device:GPU:0") }
graph @main(%x: float32[2]) -> (%z) {
  %c = tf.PartitionedCall(%x) {f = @f}
  %y = tf.Mul(%c, %c) device("/device:GPU:1")
  %z = tf.Add(%y, %y)
}
"""
CPU = 'device("/device:CPU:0")'
ALL = f"""
function @f(%a: float32[2]) -> (%b) {{ %b = tf.Neg(%a) {CPU} }}
graph @main(%x: float32[2]) -> (%z) {{
  %x = tf.Placeholder() {{dtype = float32, shape = shape[2]}} {CPU} : float32[2]
  %c = tf.PartitionedCall(%x) {{f = @f}} {CPU}
  %y = tf.Mul(%c, %c) {CPU}
  %z = tf.Add(%y, %y) {CPU}
}}
"""


def test_all_nodes() -> None:
    _, report = check_pass('set-device{device="/device:CPU:0"}', BEFORE, ALL)
    assert report.rules == {"set-device": 5}


def test_if_default() -> None:
    after = ALL.replace(f"tf.Neg(%a) {CPU}", 'tf.Neg(%a) device("/device:GPU:0")')
    after = after.replace(f"tf.Mul(%c, %c) {CPU}", 'tf.Mul(%c, %c) device("/device:GPU:1")')
    check_pass('set-device{device="/device:CPU:0",if-default}', BEFORE, after)


def test_no_device() -> None:
    after = BEFORE.replace(' device("/device:GPU:0")', "").replace(' device("/device:GPU:1")', "")
    _, report = check_pass("set-device", BEFORE, after)
    assert report.rules == {"set-device": 2}
