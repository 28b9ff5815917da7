"""Lengths of time as people write them."""

import re
from datetime import datetime, timedelta

from scratchlm.base.errors import ConfigError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MANY_WORDS = {
    "sec": "s", "secs": "s", "second": "s", "seconds": "s", "秒": "s",
    "min": "m", "mins": "m", "minute": "m", "minutes": "m", "分": "m", "分钟": "m",
    "hr": "h", "hrs": "h", "hour": "h", "hours": "h", "小时": "h",
    "day": "d", "days": "d", "天": "d",
}  # fmt: skip


def duration(seconds: float) -> str:
    """A time for people: 0.4 s, 42 s, 3:05, 1:02:03."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def parse_duration(text: str) -> float:
    """Seconds of "90s", "20m", "1h30m", "1.5h", "2d", "20 minutes".

    raises   ConfigError for anything else, and for a time of no length
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([^\W\d]+)", text)
    left = re.sub(r"(\d+(?:\.\d+)?)\s*([^\W\d]+)", "", text).strip()
    units = [MANY_WORDS.get(unit.lower(), unit.lower()) for _, unit in parts]
    if left or not parts or any(unit not in UNITS for unit in units):
        raise ConfigError(f"{text!r} is no length of time. Write 90s, 20m, 2h, 1h30m or 1d.")
    seconds = sum(float(n) * UNITS[unit] for (n, _), unit in zip(parts, units, strict=True))
    if not seconds:
        raise ConfigError(f"{text!r} is no time at all. Write 90s, 20m, 2h, 1h30m or 1d.")
    return seconds


def next_time(text: str, now: datetime) -> datetime:
    """When it will next be "18:00"; or the very day and time of "2026-11-21 18:00".

    now      with its time zone, which `text` shares
    raises   ConfigError for anything else, and for what is past
    """
    if found := re.fullmatch(r"(\d{1,2}):(\d{2})", text.strip()):
        hour, minute = int(found[1]), int(found[2])
        if hour < 24 and minute < 60:
            then = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            return then if then > now else then + timedelta(days=1)
    else:
        try:
            then = datetime.fromisoformat(text.strip())
        except ValueError:
            pass
        else:
            then = then if then.tzinfo else then.replace(tzinfo=now.tzinfo)
            if then <= now:
                raise ConfigError(f"{text} is past: it is {now:%Y-%m-%d %H:%M}.")
            return then
    raise ConfigError(f"{text!r} is no time of day. Write 18:00, or 2026-11-21 18:00.")
