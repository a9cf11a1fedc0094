"""Attributes of `tf.lite.TFLiteConverter`: what they are at first, and which of them ask for what is not built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graphopt.ir.errors import UnsupportedError


def _always(value: Any) -> Callable[[], Any]:
    return lambda: value


# Attributes that are acted upon, or must be what they are at first.
DEFAULTS: Mapping[str, Callable[[], Any]] = {
    "allow_custom_ops": _always(False),
    "optimizations": set,
    "representative_dataset": _always(None),
    "inference_type": _always(None),
    "inference_input_type": _always(None),
    "inference_output_type": _always(None),
    "exclude_conversion_metadata": _always(False),
    "output_format": _always("TFLITE"),
    "quantized_input_stats": dict,
    "default_ranges_stats": _always(None),
    "quantize_to_float16": _always(False),
    "post_training_quantize": _always(False),
    "dump_graphviz_dir": _always(None),
    "conversion_summary_dir": _always(None),
    "experimental_stablehlo_quantizer_config": _always(None),
    "experimental_use_stablehlo_quantizer": _always(False),
    "serialize_debug_metadata": _always(False),
    "_experimental_calibrate_only": _always(False),
    "_experimental_disable_per_channel": _always(False),
    "_experimental_disable_per_channel_quantization_for_dense_layers": _always(False),
    "_experimental_use_buffer_offset": _always(False),
    "_experimental_sparsify_model": _always(False),
    "_experimental_low_bit_qat": _always(False),
    "_experimental_variable_quantization": _always(False),
    "_experimental_strict_qdq": _always(False),
    "_experimental_allow_all_select_tf_ops": _always(False),
    "_experimental_preserve_assert_op": _always(False),
    "_experimental_reduce_type_precision": _always(False),
    "_experimental_full_integer_quantization_bias_type": _always(None),
    "_experimental_quantization_options": _always(None),
    "_experimental_tf_quantization_mode": _always(None),
    "_experimental_qdq_conversion_mode": _always(None),
}
ACTED_UPON = frozenset(
    {
        "allow_custom_ops", "exclude_conversion_metadata", "optimizations", "representative_dataset",
        "quantize_to_float16", "post_training_quantize", "_experimental_disable_per_channel",
        "_experimental_disable_per_channel_quantization_for_dense_layers", "_experimental_use_buffer_offset",
    }
)  # fmt: skip

# Attributes that choose how tf.lite's converter goes about its work, or a form of what comes out; any value will do.
IMMATERIAL: Mapping[str, Any] = {
    **dict.fromkeys(
        (
            "canonicalizing_inf_as_min_max_float", "drop_control_dependency", "experimental_enable_resource_variables",
            "experimental_lower_tensor_list_ops", "experimental_lower_to_saved_model", "experimental_new_converter",
            "experimental_new_dynamic_range_quantizer", "experimental_new_quantizer",
            "_experimental_enable_composite_direct_lowering", "_experimental_lower_tensor_list_ops",
        ),
        True,
    ),
    **dict.fromkeys(
        (
            "change_concat_input_ranges", "dump_graphviz_video", "legalize_custom_tensor_list_ops",
            "reorder_across_fake_quant", "unfold_batchmatmul",
            "_experimental_default_to_single_batch_in_tensor_list_ops", "_experimental_disable_fuse_mul_and_fc",
            "_experimental_enable_dynamic_update_slice", "_experimental_guarantee_all_funcs_one_use",
            "_experimental_unfold_large_splat_constant", "_experimental_unsafe_fuse_dynamic_shaped_broadcast",
        ),
        False,
    ),
    **dict.fromkeys(
        (
            "elide_elementsattrs_if_larger", "enable_timing", "ir_dump_dir", "ir_dump_func_regex",
            "ir_dump_pass_regex", "model_origin_framework", "print_ir_after", "print_ir_before",
            "print_ir_module_scope", "saved_model_dir",
        )
    ),
}  # fmt: skip
UNBUILT_OF_TARGETS = (
    "experimental_select_user_tf_ops", "experimental_supported_backends", "_experimental_custom_op_registerers",
    "_experimental_supported_accumulation_type",
)  # fmt: skip
_ENDS = frozenset({None, "float32", "int8", "uint8", "int16"})
_SETS = frozenset(
    {
        "TFLITE_BUILTINS", "SELECT_TF_OPS", "TFLITE_BUILTINS_INT8",
        "EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8",
    }
)  # fmt: skip


def unbuilt(converter: Any) -> None:
    """Raise `UnsupportedError` for the first attribute of `converter` that asks for what is not built."""
    for name, first in DEFAULTS.items():
        value = getattr(converter, name)
        held = not value or value == first()
        if name == "inference_type":
            held = type_name(value) in (None, "float32")
        elif name.startswith("inference_"):
            held = type_name(value) in _ENDS
        if name not in ACTED_UPON and not held:
            raise UnsupportedError(f"graphopt does not build what TFLiteConverter.{name} asks for yet: leave it unset")
    spec = converter.target_spec
    for name in UNBUILT_OF_TARGETS:
        if getattr(spec, name, None):
            raise UnsupportedError(f"graphopt does not build what target_spec.{name} asks for yet: leave it empty")
    if {type_name(value) for value in spec.supported_types or ()} - {"float32", "float16", "int8"}:
        raise UnsupportedError("target_spec.supported_types are float32, float16 and int8; others are not built yet")
    for item in spec.supported_ops:
        if str(getattr(item, "name", item)) not in _SETS:
            raise UnsupportedError(f"graphopt does not build target_spec.supported_ops with {item} yet: leave it out")


def type_name(value: Any) -> str | None:
    """`float16` of an element type of TensorFlow's or NumPy's, or of its name."""
    if value is None:
        return None
    name = getattr(value, "name", None) or getattr(value, "__name__", None) or value
    return str(name)
