import gc
import io
import json
import subprocess
import sys
import zlib

import psutil
import pytest
from PIL import Image

from stages.ingest.isolation import IsolatedInspector, Limits

MISBEHAVE = "tests.stages.ingest.bad_decoders:misbehave"


def _inspector(cpu_s=0.5, **options):
    return IsolatedInspector(MISBEHAVE, options, Limits(cpu_s=cpu_s, memory=1 << 30))


def test_what_kills_the_process_is_named_and_the_next_file_is_read():
    inspect = _inspector(x=3)
    wanted = {
        b"fine": None, b"abort": "decoder_crash", b"segfault": "decoder_crash", b"spin": "decoder_timeout",
        b"grow": "out_of_memory", b"raise": "decoder_crash", b"x" * 3_000_000: None,
    }  # fmt: skip
    found = {data: inspect(data) for data in wanted}
    assert {data: finding.get("reason") for data, finding in found.items()} == wanted
    assert found[b"fine"] == {"length": 4, "x": 3} and found[b"x" * 3_000_000]["length"] == 3_000_000
    assert "SIGABRT" in found[b"abort"]["detail"] and "0.5 CPU seconds" in found[b"spin"]["detail"]
    inspect.close()


def test_a_process_that_sleeps_for_ever_is_given_up(monkeypatch):
    monkeypatch.setattr("stages.ingest.isolation._WALL_EXTRA_S", 1)
    inspect = _inspector(cpu_s=0.05)
    assert inspect(b"sleep")["reason"] == "decoder_timeout" and inspect(b"fine") == {"length": 4}
    inspect.close()


def test_nothing_runs_on_when_the_inspector_is_gone():
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    inspect = _inspector()
    inspect(b"fine")
    assert {process.pid for process in psutil.Process().children(recursive=True)} > before
    del inspect
    gc.collect()
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before


def test_a_function_that_is_not_there_says_so():
    with pytest.raises(RuntimeError, match="no_such_module"):
        IsolatedInspector("no_such_module:f", {}, Limits())(b"")


def _chunk(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def _huge_png(side):
    """A valid PNG of side x side black RGB pixels: one compressed block of rows, repeated."""
    rows = bytes((1 + 3 * side) * 100)
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(rows) + packer.flush(zlib.Z_FULL_FLUSH)
    check = 1
    for _ in range(side // 100):
        check = zlib.adler32(rows, check)
    pixels = b"\x78\xda" + block * (side // 100) + b"\x03\x00" + check.to_bytes(4, "big")
    header = side.to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


_PEAK = """
import json, resource, sys
from stages.ingest.inspecting import inspect
inspect(open(sys.argv[2], "rb").read(), 100_000_000, 8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
finding = inspect(open(sys.argv[1], "rb").read(), 100_000_000, 8)
print(json.dumps({"finding": finding, "grown_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before}))
"""


@pytest.mark.parametrize("kind", ["png", "gif", "webp-header"])
def test_four_hundred_megapixels_cost_little_memory(tmp_path, kind):
    if kind == "png":
        data = _huge_png(20_000)
        assert 1_000_000 < len(data) < 2_000_000
    elif kind == "gif":
        out = io.BytesIO()
        Image.new("P", (10, 10)).save(out, "GIF")
        data = bytearray(out.getvalue())
        data[6:10] = b"\xff\xff\xff\xff"
    else:
        out = io.BytesIO()
        Image.new("RGB", (64, 64)).save(out, "WEBP", lossless=True)
        data = bytearray(out.getvalue())
        data[21:25] = (16382 | 16382 << 14).to_bytes(4, "little")
    small = io.BytesIO()
    Image.new("RGB", (64, 64)).save(small, "PNG")
    (tmp_path / "bomb").write_bytes(data)
    (tmp_path / "small").write_bytes(small.getvalue())
    command = [sys.executable, "-c", _PEAK, str(tmp_path / "bomb"), str(tmp_path / "small")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["finding"]["reason"] == "too_many_pixels"
    assert told["grown_kb"] < 50_000
