"""Tests of the IR import their helpers from their own folder."""

from __future__ import annotations

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent.resolve()))
