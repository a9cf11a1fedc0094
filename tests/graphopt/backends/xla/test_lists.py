"""Lists of tensors that passes leave: tensors of their elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

SCALAR = "%zero = tf.Const() {value = int32[] 0}\n%three = tf.Const() {value = int32[] 3}\n"
ANY = "%any = tf.Const() {value = int32[] -1}\n"


def test_elements_are_pushed_and_popped(agrees: Callable[..., Any]) -> None:
    body = (
        SCALAR
        + ANY
        + (
            "%l = tf.EmptyTensorList(%any, %three) {element_dtype = float32}\n%a = tf.TensorListPushBack(%l, %x)\n"
            "%b = tf.TensorListPushBack(%a, %z)\n%s = tf.TensorListStack(%b, %any) {element_dtype = float32}\n"
            "%p = tf.TensorListPopBack(%b, %any) {element_dtype = float32}\n%n = tf.TensorListLength(%p)"
        )
    )
    agrees(body, "%x: float32[2], %z: float32[2]", "%s, %p:1, %n")


def test_elements_are_gathered_scattered_and_joined(operations: Callable[..., dict[str, int]]) -> None:
    body = (
        SCALAR
        + ANY
        + (
            "%e = tf.Const() {value = int32[1] [2]}\n%l = tf.TensorListFromTensor(%x, %e) {element_dtype = float32}\n"
            "%g = tf.TensorListGather(%l, %i, %e) {element_dtype = float32}\n"
            "%c = tf.TensorListConcatV2(%l, %e, %k) {element_dtype = float32}\n"
            "%k = tf.Const() {value = int64[0] []}\n"
            "%t = tf.TensorListScatterV2(%x, %i, %e, %three) {element_dtype = float32}\n"
            "%y = tf.TensorListStack(%t, %e) {element_dtype = float32}"
        )
    )
    found = operations(body, "%x: float32[3, 2], %i: int32[3]", "%g, %c, %y")
    assert (found["gather"], found["scatter"]) == (1, 1)


def test_elements_of_different_shapes_are_refused(refusal: Callable[..., Any]) -> None:
    body = (
        SCALAR
        + ANY
        + (
            "%l = tf.EmptyTensorList(%any, %three) {element_dtype = float32}\n%a = tf.TensorListPushBack(%l, %x)\n"
            "%b = tf.TensorListPushBack(%a, %z)\n%y = tf.TensorListLength(%b)"
        )
    )
    finding = refusal(body, "%x: float32[2], %z: float32[3]")
    assert finding.node == "b"
    assert "different shapes" in finding.reason
    assert "pad" in finding.remedy
