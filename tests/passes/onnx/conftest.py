"""Tests of ONNX's passes import their helpers from this folder."""

from __future__ import annotations

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent.resolve()))
