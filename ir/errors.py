"""Every exception graphopt raises for a reason of the user's: one root, one exit status each."""

from __future__ import annotations


class Error(Exception):
    """Root of everything graphopt raises on purpose.

    The message is one short paragraph: what, which node, which origin, what to do.
    `exit_status` is what the command line ends with.
    """

    exit_status = 70


class CheckError(Error):
    """A check did not hold: a comparison, a numeric verification, a preflight."""

    exit_status = 1


class UsageError(Error):
    """The caller asked for something that makes no sense: an unknown pass, a bad option, a missing name."""

    exit_status = 2


class GraphError(UsageError):
    """An edit that would break the graph; nothing was changed."""


class MalformedError(Error):
    """The input is not a model, or contradicts itself.

    `source` names the file, `node` the node and `field` the field, where known.
    """

    exit_status = 3

    def __init__(self, reason: str, *, source: str = "", node: str = "", field: str = "", offset: int | None = None):
        self.reason, self.source, self.node, self.field, self.offset = reason, source, node, field, offset
        place = ", ".join(
            part
            for part in (
                printable(source),
                f"node '{printable(node)}'" if node else "",
                f"field '{field}'" if field else "",
                f"byte {offset}" if offset is not None else "",
            )
            if part
        )
        super().__init__(f"{place}: {reason}" if place else reason)

    def located(self, source: str) -> MalformedError:
        """The same error with the file named, if it was not yet."""
        if self.source:
            return self
        return type(self)(self.reason, source=source, node=self.node, field=self.field, offset=self.offset)


class ResourceError(MalformedError):
    """The input asks for more memory or work than its size warrants, or than the caller allowed."""


class VerificationError(Error):
    """The graph breaks an invariant of the IR. After a pass, the pass is at fault and is named."""


class UnsupportedError(Error):
    """The target or the format cannot express the model."""

    exit_status = 4


def printable(text: str, limit: int = 200) -> str:
    """`text` with control characters escaped and its length bounded, safe for a terminal or a log."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
