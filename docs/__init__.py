# SPDX-License-Identifier: MIT
"""Sources of the documentation; `make docs` builds it."""
