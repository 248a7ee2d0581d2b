# SPDX-License-Identifier: MIT
"""Benchmarks: `python -m benchmarks [--quick] [--only ROOM]`. Each result is checked against the oracle
before it is timed, and other programs that are installed do the same work in the same run.
"""
