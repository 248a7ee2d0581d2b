# SPDX-License-Identifier: MIT
"""Performance capture: calibrated footage and a template in, a moving textured mesh out."""
