# SPDX-License-Identifier: MIT
"""How true are the gradients of visibility? Ten small scenes, their exact derivatives, and what methods find.

`python -m benchmarks.gradient_truth` prints the table. The truth is computed here, from the definition of a
box-filtered image, and shares no code with the library.
"""

from rastergrad.scene.extra import require

require("numba", "the benchmark of gradients", extra="bench")
