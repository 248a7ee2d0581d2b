# SPDX-License-Identifier: MIT
"""Plays recorded kernel calls back (testing/instructions.py), with nothing but Python and the shared library:
`python replay.py LIBRARY TAPE`.
"""

import ctypes
import pickle
import sys
from pathlib import Path

PAGE = 4096


def placed(content: bytes) -> tuple[object, int]:
    """A copy that starts on a page, as the number of some loops' rounds depends on alignment: (owner, address)."""
    owner = ctypes.create_string_buffer(len(content) + PAGE)
    address = -(-ctypes.addressof(owner) // PAGE) * PAGE
    ctypes.memmove(address, content, len(content))
    return owner, address


def main() -> None:
    library = ctypes.CDLL(sys.argv[1])
    library.rg_run_kernel.restype = ctypes.c_int64
    for kernel, fields, blocks in pickle.loads(Path(sys.argv[2]).read_bytes()):
        memory = [placed(block) for block in blocks]
        values = [memory[f[0]][1] + f[1] if isinstance(f, tuple) else f for f in fields]
        number = library.rg_find_kernel(kernel.encode())
        library.rg_run_kernel(number, (ctypes.c_int64 * len(values))(*values))


if __name__ == "__main__":
    main()
