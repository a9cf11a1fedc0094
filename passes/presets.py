"""Named pipelines. Each is a string that can be printed, copied and edited."""

from __future__ import annotations

from collections.abc import Mapping

PRESETS: Mapping[str, str] = {
    # Exact: every value that is left is computed as before.
    "cleanup": "strip-unused,remove-nodes,infer-shapes,fold-constants,simplify,merge-duplicates,strip-unused",
    # What a deployed model needs: functions inlined, batch norms folded into the weights before or after them.
    "inference": (
        "strip-unused,inline-functions,remove-nodes{dropout=true,assertions=true},infer-shapes,fold-constants,"
        "simplify,fold-batch-norms,merge-duplicates,strip-unused,sort"
    ),
}
