# SPDX-License-Identifier: MIT
"""A program that says "cuda" in every way there is. `python -m rastergrad.compat` runs it without a GPU.

Not a test of its own: tests/test_compat_program.py runs it, as a script and inside `cuda_on_cpu()`.
"""

import io
import sys
import threading

import hard_coded_module
import numpy as np
import nvdiffrast.torch as dr
import torch
from torch import Tensor, nn, zeros
from torch.cuda.amp import GradScaler, autocast
from torch.utils.data import DataLoader, TensorDataset

glctx = dr.RasterizeCudaContext(device="cuda:0")
device = torch.device("cuda")


def tensors() -> None:
    made = [
        torch.tensor([1.0], device="cuda"),
        torch.zeros(2, device="cuda:0"),
        zeros(2, 3, device=device),
        torch.empty(2, device=torch.device("cuda", 0), pin_memory=True),
        torch.full((2,), 1.0, device=0),
        torch.arange(3, device=torch.device("cuda:1")),
        torch.linspace(0, 1, 3, device="cuda"),
        torch.eye(3, device="cuda"),
        torch.rand(2, device="cuda", generator=torch.Generator(device="cuda").manual_seed(1)),
        torch.randn(2, device="cuda"),
        torch.randint(0, 5, (2,), device="cuda"),
        torch.randperm(4, device="cuda"),
        torch.as_tensor(np.ones(2), dtype=torch.float32, device="cuda"),
        torch.asarray([1.0], device="cuda"),
        torch.fft.fftfreq(4, device="cuda"),
        torch.hann_window(4, device="cuda"),
        torch.sparse_coo_tensor([[0], [0]], [1.0], (2, 2), device="cuda").to_dense(),
        torch.tril_indices(2, 2, device="cuda"),
        torch.meshgrid(torch.arange(2, device="cuda"), torch.arange(2, device="cuda"), indexing="ij")[0],
        torch.ones(2).cuda(),
        torch.ones(2).cuda(0, non_blocking=True),
        torch.ones(2).cuda(device),
        torch.ones(2).to("cuda"),
        torch.ones(2).to("cuda:0", torch.float16, non_blocking=True),
        torch.ones(2).to(device),
        torch.ones(2).to(device=device, dtype=torch.float64),
        torch.ones(2).to(0),
        torch.ones(2).pin_memory().to("cuda", non_blocking=True),
        torch.ones(2).type("torch.cuda.DoubleTensor"),
        torch.ones(2).type(torch.cuda.LongTensor),
        torch.cuda.FloatTensor(3).zero_(),
        torch.cuda.LongTensor([1, 2]),
        torch.zeros_like(torch.ones(2), device="cuda"),
        torch.rand_like(torch.ones(2), device="cuda"),
        torch.ones(2).new_zeros(3, device="cuda"),
        torch.ones(2).new_tensor([1.0], device="cuda"),
    ]
    assert {x.device for x in made} == {device}
    assert torch.ones(2).to("cuda:0", torch.float16).dtype == torch.float16
    assert torch.ones(2).type(torch.cuda.LongTensor).dtype == torch.int64
    assert isinstance(torch.zeros(1).cuda(), torch.cuda.FloatTensor)
    torch.ones(2).cuda().record_stream(torch.cuda.current_stream())
    with torch.device("cuda"):
        assert torch.zeros(1).device == device
    torch.set_default_device("cuda")
    assert torch.zeros(1).device == device
    torch.set_default_device(None)
    torch.set_default_tensor_type("torch.cuda.FloatTensor")
    assert torch.zeros(1).device == device


def copies() -> None:
    """What crosses is a copy, and a leaf that is there stays a leaf."""
    source = np.zeros(3, dtype=np.float32)
    sent = torch.from_numpy(source).cuda()
    sent += 1
    torch.as_tensor(source, device="cuda").add_(1)
    torch.from_numpy(source).to(device).add_(1)
    assert source.sum() == 0
    leaf = sent.requires_grad_()
    history = [leaf.detach().cpu(), leaf.detach().cpu().numpy(), leaf.detach().to("cpu")]
    with torch.no_grad():
        leaf += 1
    assert all(float(h.sum()) == 3 for h in history)
    assert leaf.cuda() is leaf
    assert leaf.to(device) is leaf
    torch.optim.Adam([leaf.to("cuda")])


def modules() -> None:
    net = nn.Sequential(nn.Linear(3, 4, device="cuda"), nn.ReLU(), nn.BatchNorm1d(4)).cuda()
    for moved in (net.to("cuda"), net.to(device), net.to(0), net.cuda(0), net.to(device="cuda:0")):
        assert moved is net
    assert all(p.device == device and p.is_leaf for p in net.parameters())
    parallel = nn.DataParallel(net).cuda()
    assert parallel(torch.ones(5, 3, device="cuda")).shape == (5, 4)
    assert nn.Linear(2, 2).to_empty(device="cuda").weight.device == device
    assert hard_coded_module.Layer()(torch.ones(2, 3).cuda()).device == device


class Square(torch.autograd.Function):
    """Asks for CUDA in forward and in backward."""

    @staticmethod
    @torch.cuda.amp.custom_fwd(cast_inputs=torch.float32)
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        assert x.dtype == torch.float32
        return x * x * torch.ones(1, device="cuda")

    @staticmethod
    @torch.cuda.amp.custom_bwd
    def backward(ctx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * 2 * x.cuda() * torch.full((1,), 1.0, device="cuda:0")


def gradients() -> None:
    x = torch.tensor([3.0], device="cuda", requires_grad=True)
    x.register_hook(lambda g: g * torch.ones(1, device="cuda"))
    Square.apply(x).sum().backward()
    assert x.grad is not None
    assert x.grad.item() == 6
    y = torch.utils.checkpoint.checkpoint(Square.apply, x, use_reentrant=False)
    assert torch.autograd.grad(y.sum(), x)[0].item() == 6
    results: list[Tensor] = []
    work = threading.Thread(target=lambda: results.append(Square.apply(torch.ones(1).cuda())))
    work.start()
    work.join()
    assert results[0].device == device


def mixed_precision() -> None:
    net, x = nn.Linear(8, 8).cuda(), torch.rand(4, 8, device="cuda")
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for scaler, cast in (
        (GradScaler(), autocast()),
        (torch.amp.GradScaler("cuda"), torch.autocast("cuda")),
        (torch.amp.GradScaler(), torch.amp.autocast(device_type="cuda", dtype=torch.float16)),
    ):
        with cast:
            assert torch.is_autocast_enabled()
            assert torch.get_autocast_gpu_dtype() == torch.float16
            y = net(x)
            assert y.dtype == torch.float16
            assert Square.apply(y).dtype == torch.float32
        before = net.weight.detach().clone()
        scaler.scale(y.float().square().mean()).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        assert not torch.equal(before, net.weight)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert net(x).dtype == torch.bfloat16
    with torch.autocast("cuda", enabled=False):
        assert net(x).dtype == torch.float32


def cuda_module() -> None:
    assert torch.cuda.is_available()
    assert torch.cuda.device_count() == 1
    assert torch.cuda.current_device() == 0
    torch.cuda.set_device(device)
    torch.cuda.init()
    assert torch.cuda.get_device_name(0)
    assert torch.cuda.get_device_capability() >= (7, 0)
    assert torch.cuda.get_device_properties("cuda").total_memory > 2**28
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.memory.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    assert torch.cuda.max_memory_allocated() + torch.cuda.memory_reserved(0) == 0
    assert torch.cuda.memory_stats()["allocated_bytes.all.current"] == 0
    free, total = torch.cuda.mem_get_info()
    assert 0 < free <= total
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    stream = torch.cuda.Stream()
    start.record()
    with torch.cuda.stream(stream), torch.cuda.device(0), torch.cuda.nvtx.range("work"):
        torch.ones(100, 100, device="cuda").sum()
    stream.wait_stream(torch.cuda.current_stream())
    end.record(stream)
    end.synchronize()
    stream.synchronize()
    assert start.elapsed_time(end) > 0
    torch.cuda.nvtx.range_push("a")
    torch.cuda.nvtx.range_pop()
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    for seed in (torch.manual_seed, torch.cuda.manual_seed, torch.cuda.manual_seed_all):
        seed(5)
        first = torch.rand(3, device="cuda")
        seed(5)
        assert torch.equal(first, torch.rand(3, device="cuda"))
    state = torch.cuda.get_rng_state()
    first = torch.rand(3, device="cuda")
    torch.cuda.set_rng_state(state)
    assert torch.equal(first, torch.rand(3, device="cuda"))
    with torch.random.fork_rng(devices=[0]):
        torch.rand(1)


@torch.jit.script
def scripted(x: Tensor) -> Tensor:
    return x + torch.zeros(1) + torch.ones_like(x)


def files_and_loaders() -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2).cuda(), "device": device}, buffer)
    for place in (None, "cuda", "cuda:0", device, {"cuda:1": "cuda:0"}, lambda storage, _: storage.cuda(0)):
        buffer.seek(0)
        loaded = torch.load(buffer, map_location=place)
        assert loaded["a"].device == loaded["device"] == device
    data = TensorDataset(torch.arange(8.0))
    for (batch,) in DataLoader(data, batch_size=4, pin_memory=True):
        assert batch.cuda(non_blocking=True).device == device
    for (batch,) in DataLoader(data, batch_size=4, pin_memory=True, num_workers=1):
        assert batch.to(device).device == device
    assert scripted(torch.ones(1, device="cuda")).item() == 2
    buffer = io.BytesIO()
    torch.jit.save(scripted, buffer)
    buffer.seek(0)
    assert torch.jit.load(buffer, map_location="cuda")(torch.ones(1)).item() == 2


def picture() -> None:
    pos = torch.tensor([[[-0.8, -0.8, 0, 1], [0.8, -0.8, 0, 1], [0, 0.8, 0, 1]]], device="cuda")
    pos.requires_grad_()
    tri = torch.tensor([[0, 1, 2]], dtype=torch.int32, device="cuda")
    rast, rast_db = dr.rasterize(glctx, pos, tri, resolution=[16, 16])
    color, _ = dr.interpolate(torch.eye(3, device="cuda"), rast, tri)
    image = dr.antialias(color.contiguous(), rast, pos, tri)
    nn.functional.mse_loss(image, torch.zeros_like(image)).backward()
    assert pos.grad is not None
    assert pos.grad.abs().sum() > 0
    assert rast_db.device == device


def main() -> None:
    for work in (
        tensors,
        copies,
        modules,
        gradients,
        mixed_precision,
        cuda_module,
        files_and_loaders,
        picture,
    ):
        work()
    sys.stdout.write("everything landed\n")


if __name__ == "__main__":
    main()
