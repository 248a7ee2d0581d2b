# SPDX-License-Identifier: MIT
"""Draw all figures: `python -m docs.figures`."""

from . import draw_missing

if __name__ == "__main__":
    draw_missing()
