"""Where the pages of SGLang's host pools lie, in columns: Python's loops over pages cost more than the pages' way over a network."""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple, Union

import numpy
import torch

_NO_META = (ValueError, NotImplementedError, AttributeError, AssertionError, TypeError)
_PROBES = 8  # pages on which the arithmetic is checked against the pool's own


class Memory(NamedTuple):
    """Pieces of blocks, block after block: addresses and sizes in bytes, how many pieces a block has, and what keeps them."""

    addresses: array[int]
    sizes: array[int]
    pieces: int
    keep: Any


class PagesInPlace:
    """Pages that are read and written where they lie. A page is `parts` blocks (one, but for split heads) of `block_bytes`
    bytes in `pieces` pieces each. Thread: any."""

    def __init__(self, pool: Any, step: int, parts: int) -> None:
        self.pool, self.step, self.parts = pool, step, parts
        self._keep = buffers_of(pool)
        addresses, sizes = self._ask(torch.arange(step))
        self._order = _flat_order(pool, len(addresses)) if parts == 1 else None
        self.pieces = len(addresses) // parts
        self._sizes = array("Q", self._ordered(sizes))
        self.block_bytes = sum(self._sizes[: self.pieces])
        self._first, self._stride = self._arithmetic(self._ordered(addresses))

    def _ask(self, indices: torch.Tensor) -> tuple[list[int], list[int]]:
        """Addresses and sizes of all pieces of these pages, from the pool itself."""
        if self.parts > 1:
            addresses, sizes = self.pool.get_split_heads_page_buffer_meta(indices, self.parts)
        else:
            addresses, sizes = self.pool.get_page_buffer_meta(indices)
        return list(addresses), list(sizes)

    def _ordered(self, column: list[int]) -> list[int]:
        if self._order is None:
            return column
        page = len(self._order)
        return [column[start + piece] for start in range(0, len(column), page) for piece in self._order]

    def _arithmetic(self, first: list[int]) -> tuple[Any, Any]:
        """Addresses as first + page * stride, if the pool's own answers say that they are; else (None, None)."""
        pages = int(getattr(self.pool, "page_num", 0) or self.pool.size // self.pool.page_size)
        if pages < 2:
            return None, None
        base = numpy.array(first, dtype=numpy.int64)
        stride = numpy.array(self._of_page(1), dtype=numpy.int64) - base
        for page in {pages - 1, *range(1, pages, max(1, pages // _PROBES))}:
            if (base + page * stride).tolist() != self._of_page(page):
                return None, None
        return base, stride

    def _of_page(self, page: int) -> list[int]:
        return self._ordered(self._ask(torch.arange(page * self.step, (page + 1) * self.step))[0])

    def _addresses(self, indices: torch.Tensor) -> array[int]:
        starts = indices[:: self.step].numpy()
        if self._first is None or (starts % self.step).any():
            return array("Q", self._ordered(self._ask(indices)[0]))
        column = self._first + (starts // self.step)[:, None] * self._stride
        return array("Q", column.tobytes())

    def _place(self, indices: torch.Tensor, count: int) -> Memory:
        return Memory(self._addresses(indices), self._sizes * count, self.pieces, self._keep)

    def source(self, indices: torch.Tensor, count: int) -> Memory:
        """What is to be written of `count` pages."""
        return self._place(indices, count)

    def target(self, indices: torch.Tensor, count: int) -> Memory:
        """Where to read `count` pages to."""
        return self._place(indices, count)

    def landed(self, indices: torch.Tensor, memory: Memory, done: list[bool]) -> None:
        """The pages that are `done` have been read."""


class PagesCopied:
    """Pages of a pool that cannot say where they lie: through flat copies."""

    parts = pieces = 1

    def __init__(self, pool: Any, step: int) -> None:
        self.pool, self.step = pool, step
        self.block_bytes = _bytes_of(pool.get_dummy_flat_data_page())
        if _bytes_of(pool.get_data_page(0, flat=True)) != self.block_bytes:
            raise ValueError("its flat pages are read and written in different sizes")

    def _memory(self, copies: list[torch.Tensor]) -> Memory:
        return Memory(array("Q", [copy.data_ptr() for copy in copies]), array("Q", map(_bytes_of, copies)), 1, copies)

    def source(self, indices: torch.Tensor, count: int) -> Memory:
        return self._memory([self.pool.get_data_page(index, flat=True).contiguous() for index in self._starts(indices)])

    def target(self, indices: torch.Tensor, count: int) -> Memory:
        return self._memory([self.pool.get_dummy_flat_data_page() for _ in range(count)])

    def landed(self, indices: torch.Tensor, memory: Memory, done: list[bool]) -> None:
        for index, copy, ok in zip(self._starts(indices), memory.keep, done):
            if ok:
                self.pool.set_from_flat_data_page(index, copy)

    def _starts(self, indices: torch.Tensor) -> list[int]:
        starts: list[int] = indices[:: self.step].tolist()
        return starts


Pages = Union[PagesInPlace, PagesCopied]


def _bytes_of(tensor: torch.Tensor) -> int:
    return int(tensor.numel() * tensor.element_size())


def _flat_order(pool: Any, pieces: int) -> list[int] | None:
    """The order of pieces that makes a block's bytes those of get_data_page(): K of all layers, then V. layer_first is told
    layer by layer."""
    if pool.layout != "layer_first" or pieces != 2 * pool.layer_num or not hasattr(pool, "v_buffer"):
        return None
    return [*range(0, pieces, 2), *range(1, pieces, 2)]


def indices_per_page(pool: Any) -> int:
    return int(getattr(pool, "logical_page_size", 0) or pool.page_size or 1)


def pages_of(pool: Any, name: str, split_heads: int = 1) -> Pages | None:
    """The pages of a pool; None = it has none (the anchor of a model whose pages are all in side pools).

    ValueError: it gives its pages neither in place nor as copies."""
    if getattr(pool, "kv_buffer", pool) is None:
        return None
    step = indices_per_page(pool)
    try:
        if getattr(pool, "shared_allocation_domain", None) is None:  # else pages move, and addresses with them
            return PagesInPlace(pool, step, split_heads)
    except _NO_META:
        if split_heads > 1:
            raise
    try:
        return PagesCopied(pool, step)
    except _NO_META as e:
        what = f"the host pool {name} ({type(pool).__name__}, layout {pool.layout})"
        raise ValueError(f"memkv: {what} gives no pages: {e}; try another --hicache-mem-layout") from e


def buffers_of(pool: Any) -> list[torch.Tensor]:
    """The tensors that hold a pool's pages."""
    tell = getattr(pool, "get_hybrid_pool_buffer", None)
    found = tell() if tell else getattr(pool, "kv_buffer", None)
    listed = found if isinstance(found, (list, tuple)) else [found]
    return [tensor for tensor in listed if isinstance(tensor, torch.Tensor) and tensor.numel()]
