"""The settings of fetching, and what is said against wrong ones."""

import pytest

from scratchlm import __version__
from scratchlm.base.errors import ConfigError
from scratchlm.web.fetch_config import FetchConfig


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [("1/s", 1.0), ("4/s", 0.25), ("10/m", 6.0), ("100/h", 36.0), ("0.5/s", 2.0), (" 0 ", 0.0)],
)
def test_rates(rate, seconds):
    assert FetchConfig(per_host=rate).interval == seconds


@pytest.mark.parametrize("rate", ["", "1", "1/d", "-1/s", "0/s", "s", "1 per s", "inf/s", "1/s 2"])
def test_what_is_no_rate(rate):
    with pytest.raises(ConfigError, match=r"fetch\.per_host = .* is no rate\. Write 1/s, 10/m"):
        FetchConfig(per_host=rate)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("workers", 0, r"fetch\.workers = 0 must be at least 1\."),
        ("host_connections", 0, r"fetch\.host_connections = 0 must be at least 1\."),
        ("retries", -1, r"fetch\.retries = -1 must be at least 0\."),
        ("limit", -1, r"fetch\.limit = -1 must be at least 0\."),
        ("timeout", 0.0, r"fetch\.timeout = 0\.0 must be above 0\."),
        ("timeout", float("nan"), r"fetch\.timeout = nan must be above 0\."),
        ("max_mb", -1.0, r"fetch\.max_mb = -1\.0 must be above 0\."),
        ("chunk_mb", float("inf"), r"fetch\.chunk_mb = inf must be above 0\."),
        ("max_crawl_delay", -1.0, r"fetch\.max_crawl_delay = -1\.0 must be 0 or more\."),
        ("user_agent", "a\r\nX-Evil: 1", r"fetch\.user_agent = .* must be one line of ASCII\."),
        ("contact", "\u4f60", r"fetch\.contact = .* must be one line of ASCII\."),
        ("user_agent", "/1.0", r"fetch\.user_agent = '/1\.0' must begin with a name that the"),
        ("types", (), r"fetch\.types is empty: no page would be kept"),
        ("types", ("text/html", "html"), r"fetch\.types: 'html' is no content type"),
        ("user_agent", " bot", r"fetch\.user_agent = ' bot' must begin with a name"),
    ],
)
def test_wrong_settings(field, value, message):
    with pytest.raises(ConfigError, match=message):
        FetchConfig(**{field: value})


def test_the_user_agent():
    assert FetchConfig().agent == f"scratchlm/{__version__}"
    assert FetchConfig(contact="https://a.org").agent == f"scratchlm/{__version__} (+https://a.org)"
    mine = FetchConfig(user_agent="my-bot/2", contact="mail")
    assert mine.agent == "my-bot/2 (+mail)"
