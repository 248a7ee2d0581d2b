# SPDX-License-Identifier: MIT
"""Pictures in a given order, decoded ahead by threads, and kept while memory allows."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from rastergrad.capture.dataset import Dataset, Picture

CACHE_BYTES = 2**30

Key = tuple[int, int]  # view, level


class PictureCache:
    """Decoded pictures by (view, level), up to some bytes; the longest unused go first. For one thread."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.nbytes = 0
        self._kept: OrderedDict[Key, Picture] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Picture | None:
        picture = self._kept.get(key)
        if picture is not None:
            self._kept.move_to_end(key)
        return picture

    def put(self, key: Key, picture: Picture) -> None:
        if key in self._kept:
            self._kept.move_to_end(key)
            return
        self._kept[key] = picture
        self.nbytes += picture.nbytes
        while self.nbytes > self.limit_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.nbytes -= oldest.nbytes


class Loader:
    """Iterates (view index, Picture) in the order given, decoding ahead.

    The results do not depend on the number of threads. Use it in a `with` block, or call `close`: either
    stops the threads, also amid the order. In memory are the cache and at most `ahead` pictures besides.

    Args:
        dataset: whose views are read.
        order: indices into `dataset.views`, repeated as often as wanted; may be endless, and is read `ahead`
            items ahead.
        level: of the image pyramid.
        ahead: pictures decoded before they are asked for, 1 or more.
        threads: that decode, 1 or more.
        cache_bytes: for pictures kept; a small dataset is decoded once.
        cache: one to share with other loaders of this dataset, instead of `cache_bytes`.
    Errors:
        Iteration raises DatasetError at the item whose file cannot be read, after all items before it;
        IndexError for an index without view. ValueError for `ahead`, `threads` or `level` out of range.
    """

    def __init__(
        self,
        dataset: Dataset,
        order: Iterable[int],
        level: int = 0,
        ahead: int = 4,
        threads: int = 2,
        cache_bytes: int = CACHE_BYTES,
        *,
        cache: PictureCache | None = None,
    ) -> None:
        for name, value, least in (("level", level, 0), ("ahead", ahead, 1), ("threads", threads, 1)):
            if value < least:
                raise ValueError(f"Loader: `{name}` must be {least} or more; got {value}.")
        self.dataset = dataset
        self.level = level
        self.ahead = ahead
        self.cache = PictureCache(cache_bytes) if cache is None else cache
        self._order = iter(order)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rastergrad-loader")
        self._waiting: deque[tuple[int, Picture | Future[Picture]]] = deque()
        self._decoding: dict[int, Future[Picture]] = {}
        self._closed = False

    def __iter__(self) -> Iterator[tuple[int, Picture]]:
        return self

    def __next__(self) -> tuple[int, Picture]:
        try:
            self._fill()
            if not self._waiting:
                raise StopIteration
            index, coming = self._waiting.popleft()
            if isinstance(coming, Picture):
                return index, coming
            picture = coming.result()
        except BaseException:
            self.close()
            raise
        self._decoding.pop(index, None)
        self.cache.put((index, self.level), picture)
        return index, picture

    def _fill(self) -> None:
        while not self._closed and len(self._waiting) < self.ahead:
            index = next(self._order, None)
            if index is None:
                return
            index = int(index)
            coming = self.cache.get((index, self.level)) or self._decoding.get(index)
            if coming is None:
                coming = self._decoding[index] = self._pool.submit(self._decode, index)
            self._waiting.append((index, coming))

    def _decode(self, index: int) -> Picture:
        views = self.dataset.views
        if not 0 <= index < len(views):
            raise IndexError(f"Loader: `order` must name views 0 to {len(views) - 1}; got {index}.")
        return self.dataset.load(views[index], self.level)

    def close(self) -> None:
        """Stop the threads; what they are at is finished, the rest is dropped."""
        self._closed = True
        self._waiting.clear()
        self._decoding.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "Loader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
