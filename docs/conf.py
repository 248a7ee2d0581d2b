# SPDX-License-Identifier: MIT
"""Sphinx configuration. Nothing is fetched from a network, neither by the build nor by the pages."""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import rastergrad  # noqa: E402
from docs.figures import draw_missing  # noqa: E402
from docs.pages_from_code import (  # noqa: E402
    benchmark_table,
    bounds_table,
    example_pages,
    gradient_tables,
    instruction_table,
)

project = "rastergrad"
author = "The rastergrad authors"
project_copyright = author
release = version = rastergrad.__version__

extensions = ["myst_parser", "docstrings"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
add_module_names = False

html_theme = "furo"
html_title = f"rastergrad {release}"
html_theme_options = {
    variables: {"code-font-size": "0.75rem"} for variables in ("light_css_variables", "dark_css_variables")
}
html_copy_source = False
html_show_sphinx = False
pygments_style, pygments_dark_style = "friendly", "github-dark"


def make_pages(app: Any) -> None:
    draw_missing()
    example_pages(HERE / "examples" / "generated")
    tables = HERE / "figures" / "generated"
    (tables / "benchmarks.txt").write_text(benchmark_table(), encoding="utf-8")
    (tables / "bounds.txt").write_text(bounds_table(), encoding="utf-8")
    (tables / "instructions.txt").write_text(instruction_table(), encoding="utf-8")
    (tables / "gradient-truth.txt").write_text(gradient_tables(), encoding="utf-8")


def setup(app: Any) -> None:
    app.connect("builder-inited", make_pages)
