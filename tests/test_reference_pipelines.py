# SPDX-License-Identifier: MIT
"""The four oracles in a row, against the golden pipelines: a textured sphere and an environment map."""

from __future__ import annotations

import pytest

from testing import golden


@pytest.mark.skipif(not golden.available(), reason=golden.MISSING)
@pytest.mark.parametrize("name", golden.names("p"))
def test_golden_pipeline(name):
    """Gradients to 1e-5 of their maximum (the runner multiplies `gtol` by ten), its own default is 2e-3."""
    assert not golden.failures(golden.reference_functions(), name, gtol=1e-6)
