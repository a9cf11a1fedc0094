"""Modules as portable bytecode (VHLO) that older and newer releases read."""

from __future__ import annotations

from typing import Any

from graphopt.backends.xla.bindings import bindings
from graphopt.ir.errors import MalformedError, UnsupportedError, UsageError, printable

HEADER = b"StableHLO_v"
BYTECODE = b"ML\xefR"
EXPAND = "builtin.module(func.func(chlo-legalize-to-stablehlo))"


def serialized(module: Any, minimum_version: str) -> bytes:
    """`module` as VHLO bytecode of `minimum_version`, checked. Raises `UsageError` where that cannot hold it."""
    hlo, ir = bindings().stablehlo, bindings().ir
    try:
        module.operation.verify()
    except ir.MLIRError as error:
        raise UnsupportedError(f"XLA does not accept the lowered model: {_brief(error)}") from error
    _expand(module)
    try:
        return bytes(hlo.serialize_portable_artifact(module, minimum_version))
    except ValueError as error:
        newest = hlo.get_current_version()
        raise UsageError(
            f"the model cannot be written for StableHLO {printable(minimum_version)} ({_brief(error)}); "
            f"versions from {hlo.get_minimum_version()} to {newest} can be asked for"
        ) from error


def _expand(module: Any) -> None:
    """CHLO's operations become StableHLO's."""
    from jaxlib.mlir.passmanager import PassManager

    bindings().stablehlo.register_stablehlo_passes()
    with module.context:
        PassManager.parse(EXPAND).run(module.operation)


def parse_module(code: bytes, context: Any) -> Any:
    """The module that VHLO or MLIR bytecode holds. Raises `MalformedError`."""
    mlir, told = bindings(), list[str]()

    def listen(diagnostic: Any) -> bool:
        try:
            told.append(str(diagnostic.message))
        except (UnicodeDecodeError, RuntimeError):  # it quotes bytes that are no text
            told.append("there are names in it that are not text")
        return True  # nothing is printed

    handler = context.attach_diagnostic_handler(listen)
    try:
        if HEADER in code[:32]:
            return mlir.stablehlo.deserialize_portable_artifact(context, code)
        return mlir.ir.Module.parse(code, context)
    except (ValueError, mlir.ir.MLIRError) as error:
        reason = printable(" ".join(told[0].split()), 400) if told else _brief(error)
        raise MalformedError(f"this is no StableHLO module: {reason}") from error
    finally:
        handler.detach()


def _brief(error: Exception) -> str:
    return printable(" ".join(str(error).split()), 400)
