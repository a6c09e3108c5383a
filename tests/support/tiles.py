"""Which tiles and entry bundles a log has, as the C2SP specification tlog-tiles counts them."""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.journal.tiles import WIDTH, Bundle, Tile


def tiles_of(size: int) -> Iterator[Tile]:
    """Every tile of a log of this size, full and partial: level by level upwards, each from the left."""
    level = 0
    while size > 0:
        for number in range(size // WIDTH):
            yield Tile(level, number)
        if size % WIDTH:
            yield Tile(level, size // WIDTH, size % WIDTH)
        size //= WIDTH
        level += 1


def bundles_of(size: int) -> Iterator[Bundle]:
    """Every entry bundle of a log of this size, from the left."""
    return (Bundle(tile.number, tile.width) for tile in tiles_of(size) if tile.level == 0)
