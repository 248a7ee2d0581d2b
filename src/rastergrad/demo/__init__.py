# SPDX-License-Identifier: MIT
"""Experiments that show the whole library at work; `rastergrad demo NAME` runs them."""
