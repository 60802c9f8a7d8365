from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.samples import sample_rows
from tests.training.shards.arbitrary import write
from training.shards import ShardError, ShardReader


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield write(Path(name), sample_rows(17), rows_per_shard=7, rows_per_batch=3)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_found_with_its_rows(folder: Path, data: st.DataObject) -> None:
    reader = ShardReader(folder)
    number = data.draw(st.integers(0, len(reader.files) - 1))
    entry = reader.files[number]
    position, bit = data.draw(st.integers(0, entry.bytes - 1)), data.draw(st.integers(0, 7))
    path = folder / entry.name
    whole = path.read_bytes()
    spoilt = bytearray(whole)
    spoilt[position] ^= 1 << bit
    try:
        path.write_bytes(spoilt)
        (damage,) = ShardReader(folder).damage()
    finally:
        path.write_bytes(whole)
    assert damage.name == entry.name
    block = next(b for b in range(len(entry.crc32)) if position < entry.offsets[b + 1])
    rows_per_batch = 3 if number < len(reader.entries) else len(reader)
    first, stop = (number * 7, number * 7 + entry.rows) if number < len(reader.entries) else (0, len(reader))
    if 1 <= block <= entry.batches:
        start = first + (block - 1) * rows_per_batch
        assert (damage.first, damage.stop) == (start, min(start + rows_per_batch, stop))
    else:
        assert damage.first == damage.stop
    assert ShardReader(folder).damaged() == []


def test_any_flipped_bit_of_the_index_is_found(folder: Path) -> None:
    path = folder / "index.json"
    whole = path.read_bytes()
    harmless = 0
    try:
        for position in range(len(whole)):
            spoilt = bytearray(whole)
            spoilt[position] ^= 1
            path.write_bytes(spoilt)
            try:
                harmless += ShardReader(folder).damaged() == []
            except ShardError:
                continue
    finally:
        path.write_bytes(whole)
    # between the values of JSON one kind of white space is as good as another
    assert harmless <= whole.count(b"\n") + whole.count(b" ")
    assert ShardReader(folder).damaged() == []


def test_cut_off_and_missing_files_name_their_rows(folder: Path) -> None:
    reader = ShardReader(folder)
    entry = reader.entries[1]
    path = folder / entry.name
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: entry.offsets[2] + 10])
        damage = list(ShardReader(folder).damage())
        assert [(d.first, d.stop) for d in damage] == [(10, 13), (13, 14), (7, 7)]
        with pytest.raises(ShardError, match="curatrain shard verify"):
            ShardReader(folder).encoded(8)
        path.unlink()
        (damage_,) = ShardReader(folder).damage()
        assert (damage_.name, damage_.first, damage_.stop) == (entry.name, 7, 14)
        assert damage_.what.startswith("unreadable")
    finally:
        path.write_bytes(whole)


def test_damaged_offsets_are_an_error_and_not_a_crash(folder: Path) -> None:
    """Offsets that point past the mapped file would otherwise end the process."""
    entry = ShardReader(folder).entries[0]
    path = folder / entry.name
    whole = path.read_bytes()
    start, stop = entry.span(1)
    told = 0
    try:
        for position in range(start, min(start + 1200, stop), 4):
            spoilt = bytearray(whole)
            spoilt[position] ^= 0x40
            path.write_bytes(spoilt)
            try:
                ShardReader(folder).sample(1)
            except (ShardError, UnicodeDecodeError):
                told += 1
    finally:
        path.write_bytes(whole)
    assert told > 50
