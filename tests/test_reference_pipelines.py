# SPDX-License-Identifier: MIT
"""The four oracles in a row, against the golden pipelines: a textured sphere and an environment map."""

from __future__ import annotations

import pytest

from testing import golden


@pytest.mark.skipif(not golden.available(), reason=golden.MISSING)
@pytest.mark.parametrize("name", golden.names("p"))
def test_golden_pipeline(name):
    """Each op stores float32 here as there, so gradients agree to a few 1e-6 of their maximum, not the 2e-3

    that the runner grants pipelines: it multiplies `gtol` by ten.
    """
    assert not golden.failures(golden.reference_functions(), name, gtol=1e-6)
