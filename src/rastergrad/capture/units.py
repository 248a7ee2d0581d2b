# SPDX-License-Identifier: MIT
"""How large a world unit is: said by the dataset, or seen from the template's size."""

import math
from pathlib import Path

from rastergrad.capture.problems import DatasetError
from rastergrad.capture.template import Template

MILLIMETRES = {
    **dict.fromkeys(("metres", "metre", "meters", "meter", "m"), 1000.0),
    **dict.fromkeys(("centimetres", "centimetre", "centimeters", "centimeter", "cm"), 10.0),
    **dict.fromkeys(("millimetres", "millimetre", "millimeters", "millimeter", "mm"), 1.0),
}
# A template is a face (0.15 m) to a bust (0.5 m); these ranges in metres, centimetres and millimetres do
# not meet.
HEAD_MM = (100.0, 700.0)
# With a stated unit other subjects are possible, but a head in a unit that is wrong tenfold is not.
SUBJECT_MM = (50.0, 1500.0)


def millimetres(
    stated: str | None, where: str, template: Template, template_path: Path
) -> tuple[float, list[str]]:
    """Millimetres in a world unit, and notes about what was assumed.

    Errors:
        DatasetError for an unknown unit, or one in which the template has the wrong size for a head.
    """
    extent = float((template.positions.amax(0) - template.positions.amin(0)).max())
    remedy = (
        'Set "units" in transforms.json or --units to metres, centimetres, millimetres, or to the number of '
        "millimetres in a world unit, which is not checked."
    )
    if stated is None:
        for name, mm in (("metres", 1000.0), ("centimetres", 10.0), ("millimetres", 1.0)):
            if HEAD_MM[0] <= extent * mm <= HEAD_MM[1]:
                return mm, [
                    f"no units are given: {name} are assumed, for the template measures {extent:.4g} units."
                ]
        raise DatasetError(
            f"{where}: no units are given, and {template_path}, whose longest side is {extent:.4g}, is no "
            f"head in metres, centimetres or millimetres. {remedy}"
        )
    mm = MILLIMETRES.get(stated.strip().lower())
    if mm is None:
        try:
            mm = float(stated)
        except ValueError:
            mm = math.nan
        if not 0 < mm < math.inf:
            raise DatasetError(f"{where}: unknown unit {stated!r}. {remedy}")
        return mm, []
    if not SUBJECT_MM[0] <= extent * mm <= SUBJECT_MM[1]:
        raise DatasetError(
            f"{where}: in {stated}, {template_path} would measure {extent * mm / 1000:.4g} m, which is no "
            f"head. {remedy}"
        )
    return mm, []
