"""Named pipelines. Each is a string that can be printed, copied and edited."""

from __future__ import annotations

from collections.abc import Mapping

_CLEAN = "prune-control-dependencies,remove-nodes,infer-shapes,fold-constants,simplify,merge-duplicates,strip-unused"
_SORT = "sort{canonical=true}"

PRESETS: Mapping[str, str] = {
    # What every graph may lose: what is unused, passed on, constant, neutral or there twice.
    "cleanup": f"strip-unused,{_SORT},{_CLEAN},{_SORT}",
    # What a deployed model needs: functions inlined, dropout and assertions gone, flags at their
    # defaults, only branches that may be taken, batch norms folded into weights.
    "inference": (
        "strip-unused,sort{canonical=true},take-constant-branches,inline-functions,"
        "remove-nodes{dropout=true,assertions=true,defaults=true},"
        "prune-control-dependencies,remove-nodes,infer-shapes,fold-constants,simplify,fold-batch-norms,"
        "merge-duplicates,strip-unused,remove-unused-functions,sort{canonical=true}"
    ),
}
