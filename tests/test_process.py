# SPDX-License-Identifier: MIT
"""The library inside a process: fork, many Python threads, interrupts."""

import os
import subprocess
import sys
import textwrap
import threading

import pytest
import torch

import rastergrad as rg


def render(seed: int = 0, size: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    """An image and a gradient through all four primitives; equal for equal seeds."""
    g = torch.Generator().manual_seed(seed)
    pos = torch.cat([torch.rand(1, 60, 3, generator=g) * 2 - 1, torch.ones(1, 60, 1)], -1).requires_grad_()
    tri = torch.randint(0, 60, (200, 3), generator=g)
    uv = torch.rand(60, 2, generator=g)
    tex = torch.rand(1, 32, 32, 3, generator=g)
    rast, rast_db = rg.rasterize(pos, tri, (size, size))
    coords, coords_da = rg.interpolate(uv, rast, tri, rast_db, "all")
    image = rg.antialias(rg.texture(tex, coords, coords_da), rast, pos, tri)
    image.square().sum().backward()
    assert pos.grad is not None
    return image.detach(), pos.grad


def test_eight_python_threads_at_once() -> None:
    expected = [render(s) for s in range(8)]
    failures: list[int] = []

    def work(seed: int) -> None:
        for _ in range(10):
            image, grad = render(seed)
            if not (torch.equal(image, expected[seed][0]) and torch.equal(grad, expected[seed][1])):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(s,)) for s in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_after_use_as_data_loaders_do() -> None:
    """In a process of its own: pytest's is multi-threaded, and Python warns about forking such a one."""
    code = """
        import torch, rastergrad as rg
        from torch.utils.data import DataLoader, Dataset
        from tests.test_process import render

        class Scenes(Dataset):
            def __len__(self):
                return 8
            def __getitem__(self, k):
                torch.set_num_threads(2)
                return render(int(k))[0]

        if __name__ == "__main__":
            torch.set_num_threads(2)
            wanted = [render(k)[0] for k in range(8)]
            loader = DataLoader(Scenes(), batch_size=None, num_workers=3, multiprocessing_context="fork")
            for k, image in enumerate(loader):
                assert torch.equal(image, wanted[k]), k
            assert torch.equal(render(3)[0], wanted[3])
            print("done")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=os.getcwd(),
    )
    assert done.stdout.strip() == "done", done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT to a process is POSIX")
def test_keyboard_interrupt_ends_a_loop_and_leaves_the_library_usable() -> None:
    code = """
        import os, signal, threading, torch, rastergrad as rg
        from tests.test_process import render
        wanted = render(1)[0]
        threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            while True:
                render(2, 512)
        except KeyboardInterrupt:
            pass
        assert torch.equal(render(1)[0], wanted)
        print("usable")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=os.getcwd(),
    )
    assert done.stdout.strip() == "usable", done.stderr
    assert done.returncode == 0


def test_threads_are_torch_s_and_results_do_not_depend_on_them() -> None:
    before = torch.get_num_threads()
    try:
        results = []
        for n in (1, 2, 3, 5, 5):
            torch.set_num_threads(n)
            results.append(render(4, 300))
    finally:
        torch.set_num_threads(before)
    for image, grad in results[1:]:
        assert torch.equal(image, results[0][0])
        assert torch.equal(grad, results[0][1])
