# SPDX-License-Identifier: MIT
"""Sphinx extension: docstrings of this project's shape (Args, Returns, Gradients, Errors, Cost, Source,
Example) as reStructuredText.

Their text is plain: `|x|`, `*` and `_` mean themselves, a word in single backticks is code, and an indented
block after an empty line is a drawing.
"""

import re
from typing import Any

TITLES = {
    "Args": "Arguments",
    "Returns": "Returns",
    "Gradients": "Gradients",
    "Errors": "Errors",
    "Cost": "Cost",
    "Source": "Source",
    "Example": "Example",
}
_HEADING = re.compile(rf"^({'|'.join(TITLES)}):$")
_CODE = re.compile(r"``(.+?)``|`([^`]+)`")


def inline(text: str) -> str:
    """One line of docstring text, with everything escaped that reStructuredText would take for markup."""
    parts, last = [], 0
    for code in _CODE.finditer(text):
        parts.append(re.sub(r"([\\*|_`])", r"\\\1", text[last : code.start()]))
        parts.append(f"``{code[1] or code[2]}``")
        last = code.end()
        if text[last : last + 1].isalnum():
            parts.append("\\ ")
    parts.append(re.sub(r"([\\*|_`])", r"\\\1", text[last:]))
    return "".join(parts)


def prose(lines: list[str]) -> list[str]:
    """Paragraphs, and drawings as literal blocks."""
    result: list[str] = []
    drawing = False
    for number, line in enumerate(lines):
        indented = line.startswith("    ")
        if indented and not drawing and (number == 0 or not lines[number - 1].strip()):
            result += [".. code-block:: text", ""]
            drawing = True
        elif line.strip() and not indented:
            drawing = False
        result.append(line if drawing else inline(line.removesuffix(":") if line.endswith("::") else line))
    return result


def arguments(lines: list[str]) -> list[str]:
    """`name: text` entries as a definition list."""
    result: list[str] = []
    for line in lines:
        entry = re.match(r"^([\w*]+(?:, [\w*]+)*):(?: (.*))?$", line)
        if entry:
            names = ", ".join(f"``{name}``" for name in entry[1].split(", "))
            result += ["", names, f"    {inline(entry[2] or '')}"]
        elif line.strip():
            result.append(f"    {inline(line.strip())}")
    return [*result, ""]


def converted(lines: list[str]) -> list[str]:
    """A whole docstring, dedented."""
    sections: list[tuple[str, list[str]]] = [("", [])]
    for line in lines:
        heading = _HEADING.match(line)
        if heading:
            sections.append((heading[1], []))
        else:
            sections[-1][1].append(line)
    result: list[str] = []
    for title, body in sections:
        if not title:
            result += prose(body)
            continue
        body = [line[4:] if line.startswith("    ") else line.strip() for line in body]
        result += ["", f".. rubric:: {TITLES[title]}", ""]
        if title == "Args":
            result += arguments(body)
        elif title == "Example":
            result += [".. code-block:: pycon", "", *(f"    {line}" for line in body), ""]
        else:
            result += prose(body)
    return result


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = converted(lines)


def setup(app: Any) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
