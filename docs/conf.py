"""Sphinx configuration: plain CommonMark pages through MyST."""

import importlib.metadata

project = "graphopt"
author = "The graphopt authors"
copyright = "The graphopt authors, Apache-2.0"
release = importlib.metadata.version("graphopt")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.intersphinx"]
exclude_patterns = ["_build"]
nitpicky = True
myst_heading_anchors = 3
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", None),
    "numpy": ("https://numpy.org/doc/stable", None),
}
html_theme = "furo"
html_title = "graphopt"
