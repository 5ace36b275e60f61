"""How much of a prefix can be restored, from which pages are there: SGLang's hit policies. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from sglang.srt.mem_cache.hicache_storage import PoolHitPolicy, PoolTransfer


def leading(present: Sequence[bool]) -> int:
    """How many are there from the start without a gap."""
    return next((place for place, there in enumerate(present) if not there), len(present))


def trailing_ends(present: Sequence[bool], window: int) -> set[int]:
    """Prefix lengths whose last `window` pages (or all, if it has fewer) are there."""
    ends, run = set(), 0
    for length, there in enumerate(present, 1):
        run = run + 1 if there else 0
        if run >= min(window, length):
            ends.add(length)
    return ends


def grouped_pages(present: Sequence[bool], group: int, block: int) -> int:
    """Pages of the prefix that leading complete groups cover: each `group` keys stand for `block` pages."""
    if group <= 0 or block <= 0:
        return 0
    return leading(present) // group * block


def boundary(transfer: PoolTransfer, present: Sequence[bool], kv_pages: int) -> tuple[int, set[int] | None]:
    """A side pool's own verdict in pages, and the prefix lengths that it can serve; None = it does not gate.

    present: of its keys; for BLOCK_GROUPS those of the transfer, else one a page of the prefix. ValueError: another policy."""
    if transfer.hit_policy == PoolHitPolicy.ALL_PAGES:
        pages = leading(present[:kv_pages])
        return pages, set(range(1, pages + 1))
    if transfer.hit_policy == PoolHitPolicy.TRAILING_PAGES:
        ends = trailing_ends(present[:kv_pages], max(1, len(transfer.keys or ())))
        return max(ends, default=0), ends
    if transfer.hit_policy == PoolHitPolicy.BLOCK_GROUPS:
        return grouped_pages(present, transfer.group_pages, transfer.block_pages), None
    raise ValueError(f"memkv: the hit policy {transfer.hit_policy} of pool {transfer.name} is not known")
