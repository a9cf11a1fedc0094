"""Sphinx configuration: plain CommonMark pages through MyST."""

import importlib.metadata

project = "graphopt"
author = "The graphopt authors"
copyright = "The graphopt authors, Apache-2.0"
release = importlib.metadata.version("graphopt")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # commands over several lines, with output, are no console session
html_theme = "furo"
html_title = "graphopt"
