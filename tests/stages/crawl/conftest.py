from collections.abc import Iterator

import pytest

from tests.stages.crawl.loopback import Web


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.close()
