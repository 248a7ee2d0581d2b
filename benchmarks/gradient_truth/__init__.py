# SPDX-License-Identifier: MIT
"""How true are the gradients of visibility? Ten small scenes, their exact derivatives, and what methods find.

`python -m benchmarks.gradient_truth` prints the table. The truth is computed here, from the definition of a
box-filtered image, and shares no code with the library. Numba compiles it, in some 15 seconds in each
process that needs a new truth: a cache on disk would not notice changes in another file.
"""
