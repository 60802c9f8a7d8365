"""Arrow columns built from buffers: the same as pyarrow's own, and no pandas."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.columns import column, table_of
from stages.tables import FETCHES, IMAGES

_TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
_TIMES = st.datetimes(
    datetime(1901, 1, 1), datetime(2200, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5))])
)
_VALUES = {
    pa.string(): _TEXTS,
    pa.large_binary(): st.binary(max_size=8),
    pa.int8(): st.integers(-128, 127),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.timestamp("us", tz="UTC"): _TIMES,
    pa.list_(pa.string()): st.lists(_TEXTS, max_size=3),
    pa.binary(8): st.binary(min_size=8, max_size=8),
}


@pytest.mark.parametrize("of", _VALUES, ids=str)
@settings(deadline=None)
@given(data=st.data())
def test_columns_equal_those_of_pyarrow(of: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | _VALUES[of], max_size=20))
    made = column(values, of)
    made.validate(full=True)
    assert made.equals(pa.array(values, of)) and made.null_count == values.count(None)


@pytest.mark.parametrize("kind", [FETCHES, IMAGES], ids=lambda kind: kind.name)
def test_tables_have_the_columns_of_their_schema_and_nothing_else(kind) -> None:
    table = table_of([{"url": "a", "stray": 1}, {"source": "s"}], kind.schema)
    assert table.schema == kind.schema and table.num_rows == 2
    assert table["url"].to_pylist() == ["a", None] and table["source"].to_pylist() == [None, "s"]
    assert table_of([], kind.schema).num_rows == 0


@pytest.mark.parametrize(
    ("value", "of"),
    [
        (1.5, pa.int64()), ("1", pa.int32()), (300, pa.int8()), (b"\xff", pa.string()), ("a", pa.large_binary()),
        ("x", pa.float32()), (datetime(2000, 1, 1), pa.timestamp("us", tz="UTC")), ("\ud800", pa.string()),
    ],
)  # fmt: skip
def test_values_of_another_type_are_refused(value: object, of: pa.DataType) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError, AttributeError)):
        column([value], of)


def test_a_crawl_never_imports_pandas(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from PIL import Image
from stages.base import StageContext
from stages.crawl import Crawl, CrawlParams
from stages.in_process import InProcess
home = Path(sys.argv[1])
(home / "in").mkdir()
Image.new("RGB", (32, 32)).save(home / "in" / "a.png")
params = CrawlParams(sources=[str(home / "in")])
result = Crawl(params).run(StageContext(params, home / "out", {}, InProcess()))
print(result.rows_out, "pandas" in sys.modules)
"""
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=60,
    )
    assert done.stdout.split() == ["1", "False"], done.stderr
