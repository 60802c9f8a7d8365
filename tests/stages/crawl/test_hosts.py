from stages.crawl.hosts import Breaker, Host, Pace, Patience, TokenBucket


def test_a_bucket_lets_its_size_through_at_once_and_then_its_rate():
    bucket, now, starts = TokenBucket(rate=4.0, size=3.0, now=100.0), 100.0, []
    for _ in range(11):
        now = bucket.ready_at(now)
        bucket.take(now)
        starts.append(round(now - 100.0, 6))
    assert starts == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]


def test_a_breaker_opens_half_opens_and_gives_up():
    breaker = Breaker(Patience(failures=3, pause_s=5.0, openings=2))
    breaker.failed(0.0)
    breaker.failed(0.0)
    breaker.succeeded()
    for _ in range(3):
        breaker.failed(10.0)
    assert breaker.open_until == 15.0 and breaker.half_open and not breaker.given_up
    breaker.failed(11.0)  # one that was under way
    assert breaker.open_until == 15.0
    breaker.failed(15.0)
    assert breaker.open_until == 35.0 and not breaker.given_up
    breaker.failed(35.0)
    assert breaker.given_up


def test_a_breaker_closes_when_the_single_try_succeeds():
    breaker = Breaker(Patience(failures=1, pause_s=5.0))
    breaker.failed(0.0)
    assert breaker.half_open
    breaker.succeeded()
    assert not breaker.half_open
    breaker.failed(10.0)
    assert breaker.open_until == 15.0


def _host(pace):
    return Host("h", pace, Breaker(Patience()))


def test_a_host_is_asked_once_until_its_rules_are_known_and_then_at_its_pace():
    host = _host(Pace(width=4, rate=2.0))
    host.running = 1
    assert not host.has_room()
    host.open(0.0, None)
    assert host.has_room() and host.bucket.rate == 2.0


def test_a_crawl_delay_is_kept_between_any_two_requests():
    host = _host(Pace(width=4, rate=0.0))
    host.open(0.0, 3.0)
    assert host.width == 1 and host.ready_at(0.0) == 3.0
    host.bucket.take(3.0)
    assert host.ready_at(3.5) == 6.0
    host.open(4.0, 1.0)  # a shorter one, of another port, loosens nothing
    assert host.ready_at(4.0) == 6.0


def test_a_busy_host_is_left_alone_and_asked_less():
    host = _host(Pace(width=4, rate=0.0))
    host.open(0.0, None)
    host.slow_down(10.0, 7.0)
    assert host.ready_at(10.0) == 17.0 and host.width == 2
