# SPDX-License-Identifier: MIT
"""The loader: in order, ahead but bounded, each error at its item, nothing left running."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rastergrad.capture.dataset import Dataset, DatasetError, Picture, View, open_dataset
from rastergrad.capture.loader import Loader, PictureCache
from testing.performances import small_performance, write_dataset

pytest.importorskip("PIL.Image", reason="needs pip install 'rastergrad[capture]'")

PICTURE_BYTES = 4 * 4 * 96 * 112


class Counting(Dataset):
    """Counts what is decoded."""

    def load(self, view: View, level: int = 0) -> Picture:
        loads[view.label] += 1
        return super().load(view, level)


loads: Counter[str] = Counter()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("footage"), small_performance(frames=2))


@pytest.fixture
def dataset(folder: Path) -> Iterator[Dataset]:
    loads.clear()
    found = open_dataset(folder, folder / "template.obj")
    yield Counting(**vars(found))
    assert not [t for t in threading.enumerate() if t.name.startswith("rastergrad-loader")]


ORDER = [3, 0, 5, 5, 1, 3, 3, 2, 4, 0]


@pytest.mark.parametrize("ahead", [1, 3, 20])
@pytest.mark.parametrize("threads", [1, 3])
def test_pictures_come_in_order_and_are_decoded_once(dataset: Dataset, ahead: int, threads: int) -> None:
    loader = Loader(dataset, ORDER, level=1, ahead=ahead, threads=threads)
    found = list(loader)
    assert [index for index, _ in found] == ORDER
    assert set(loads.values()) == {1}
    for index, picture in found:
        wanted = dataset.load(dataset.views[index], 1)
        assert torch.equal(picture.color, wanted.color)
        assert picture.mask is not None
        assert wanted.mask is not None
        assert torch.equal(picture.mask, wanted.mask)
    assert list(loader) == []


def test_memory_is_bounded_by_the_cache(dataset: Dataset) -> None:
    """With room for two, the least recently used goes: 0 1 0 2 keeps 0 and 2."""
    loader = Loader(dataset, [0, 1, 0, 2, 0, 1], ahead=1, cache_bytes=int(2.5 * PICTURE_BYTES))
    for _ in loader:
        assert loader.cache.nbytes <= 2.5 * PICTURE_BYTES
        assert loader.cache.nbytes == PICTURE_BYTES * len(loader.cache)
    assert loads == {"camera 0, timestep 0": 1, "camera 1, timestep 0": 2, "camera 2, timestep 0": 1}
    loads.clear()
    list(Loader(dataset, [0, 0, 0], ahead=1, cache_bytes=0))
    assert loads["camera 0, timestep 0"] == 3


def test_loaders_can_share_a_cache(dataset: Dataset) -> None:
    cache = PictureCache()
    list(Loader(dataset, [0, 1], cache=cache))
    list(Loader(dataset, [1, 0], cache=cache))
    assert set(loads.values()) == {1}
    list(Loader(dataset, [0], level=2, cache=cache))
    assert loads["camera 0, timestep 0"] == 2


def test_endless_orders_are_read_ahead_only_so_far(dataset: Dataset) -> None:
    asked = 0

    def endless() -> Iterator[int]:
        nonlocal asked
        for k in itertools.count():
            asked += 1
            yield k % 6

    with Loader(dataset, endless(), ahead=3) as loader:
        for _ in range(10):
            next(loader)
        assert 10 <= asked <= 13
    with pytest.raises(StopIteration):
        next(loader)


def test_an_unreadable_picture_raises_at_its_item(dataset: Dataset) -> None:
    path = dataset.views[2].image
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    try:
        loader = Loader(dataset, [0, 1, 2, 3], ahead=4)
        assert [next(loader)[0], next(loader)[0]] == [0, 1]
        with pytest.raises(DatasetError, match=r"camera 2, timestep 0: .*00000_02.png cannot be read"):
            next(loader)
        assert list(loader) == []
    finally:
        path.write_bytes(whole)


def test_leaving_the_block_amid_an_order_stops_the_threads(dataset: Dataset) -> None:
    with Loader(dataset, [0, 1, 2, 3, 4, 5] * 50, ahead=40) as loader:
        next(loader)
    assert loads.total() <= 6


@pytest.mark.parametrize("wrong", [{"ahead": 0}, {"threads": 0}, {"level": -1}])
def test_numbers_out_of_range_are_refused(dataset: Dataset, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=rf"`{next(iter(wrong))}` must be"):
        Loader(dataset, [0], **wrong)


@pytest.mark.parametrize("index", [6, -1])
def test_indices_without_a_view_are_refused(dataset: Dataset, index: int) -> None:
    with pytest.raises(IndexError, match=f"views 0 to 5; got {index}"):
        list(Loader(dataset, [index]))


def test_an_order_that_fails_stops_the_threads(dataset: Dataset) -> None:
    def failing() -> Iterator[int]:
        yield 0
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(Loader(dataset, failing()))
