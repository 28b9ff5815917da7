"""A judge behind a real server on this machine: what it says counts, and how it misbehaves."""

import email.utils
import http.server
import json
import logging
import socket
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.evaluation import judge_client
from scratchlm.evaluation.judge import (
    GIVE_UP,
    PROMPT_WITHOUT_REFERENCE,
    Answer,
    Judge,
    read_key,
)

KEY = "sk-test-7261"
ANSWERS = [
    Answer("2 + 2?", "4", "4"),
    Answer("法国的首都？", "巴黎。", "巴黎"),
    Answer("Hi", "", "Hello"),
]
QUICK = (0.01, 0.02)


def completion(content):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})


class Server:
    """Answers each request by `behave(n, body)`, n from 0 on: (status, headers, text) or a text."""

    def __init__(self, behave):
        self.behave, self.requests, self.lock = behave, [], threading.Lock()
        self.most_at_once = self.at_once = 0

    def answer(self, handler):
        raw = handler.rfile.read(int(handler.headers["Content-Length"]))
        with self.lock:
            n = len(self.requests)
            self.requests.append((handler.path, dict(handler.headers), json.loads(raw)))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            told = self.behave(n, self.requests[n][2])
            if callable(told):
                return told(handler)
            status, headers, text = told if isinstance(told, tuple) else (200, {}, told)
            data = text.encode()
            handler.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with self.lock:
                self.at_once -= 1


@contextmanager
def serving(behave):
    """A server, and the judge's url there."""
    server = Server(behave)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            server.answer(self)

        def do_GET(self):
            server.requests.append((self.path, dict(self.headers), None))
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        server.url = f"http://127.0.0.1:{listening.server_port}/v1"
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()


def judge_at(server, **more):
    return Judge(server.url, "big", **{"pauses_s": QUICK, "timeout_s": 5.0, **more})


def test_each_answer_has_its_score_in_order():
    def behave(_n, body):
        prompt = body["messages"][0]["content"]
        time.sleep(0.1 if "2 + 2" in prompt else 0)  # the first ends last
        return completion("97" if "2 + 2" in prompt else '{"score": 85, "why": "短"}')

    with serving(behave) as server:
        judged = judge_at(server, key=KEY).score(ANSWERS)
    assert judged.scores == [97, 85, 85]
    assert judged.mean == pytest.approx(89)
    assert judged.failures == {}
    assert [one.reply for one in judged.verdicts][1] == '{"score": 85, "why": "短"}'
    path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"]) == ("big", 0)
    assert {request[2]["messages"][0]["content"] for request in server.requests} >= {
        "Given the input `法国的首都？` and correct output `巴黎`, score the model response "
        "`巴黎。` on a scale from 0 to 100, where 100 is the best score. Respond with the integer "
        "number only."
    }
    assert KEY not in repr(judged) + repr(Judge(server.url, "big", KEY))


def test_no_key_no_header_and_either_form_of_the_url():
    with serving(lambda *_: completion("1")) as server:
        judge = Judge(f"{server.url}/chat/completions/", "big")
        assert judge.score(ANSWERS).scores == [1, 1, 1]
    assert all("Authorization" not in headers for _, headers, _ in server.requests)
    assert {path for path, *_ in server.requests} == {"/v1/chat/completions"}


def test_texts_with_braces_are_put_in_as_they_are():
    answer = Answer("{answer} {reference}", "{prompt} %s {0}", "r{")
    with serving(lambda *_: completion("5")) as server:
        judge_at(server, prompt="{prompt}|{answer}|{reference}|{other}").score([answer])
    assert server.requests[0][2]["messages"][0]["content"] == (
        "{answer} {reference}|{prompt} %s {0}|r{|{other}"
    )


def test_other_scales_and_prompts():
    with serving(lambda *_: completion("7")) as server:
        judge = judge_at(server, prompt="{answer}: 1 to 10?", low=1, high=10)
        judged = judge.score([Answer("q", "a")])
        assert (judged.scores, judged.low, judged.high, judged.prompt) == ([7], 1, 10, judge.prompt)
        assert judge_at(server, prompt=PROMPT_WITHOUT_REFERENCE).score([Answer("q", "a")]).mean == 7
        with pytest.raises(ConfigError, match="answer 2 has no reference"):
            judge_at(server).score([ANSWERS[0], Answer("q", "a")])


def test_what_got_no_score_is_counted_and_not_guessed():
    replies = ["90", "I would say 80", "<b>garbage"]
    with serving(lambda n, _: completion(replies[n]) if n < 2 else replies[n]) as server:
        judged = judge_at(server, concurrency=1).score(ANSWERS)
    assert [one.score for one in judged.verdicts] == [90, None, None]
    assert judged.mean == 90
    assert judged.verdicts[1].reply == "I would say 80"
    assert judged.failures == {"the reply is no score": 1, "not a chat completion: <b>garbage": 1}


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"choices": []}', '{"choices": [{"message": {"content": null}}]}', "{" * 9],
)
def test_answers_that_are_no_chat(text):
    with (
        serving(lambda *_: text) as server,
        pytest.raises(DataError, match="gave no score to any of 3 answers: not a chat completion"),
    ):
        judge_at(server).score(ANSWERS)


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_failure_that_passes_is_tried_again(status):
    with serving(lambda n, _: (status, {}, "busy") if n < 2 else completion("60")) as server:
        assert judge_at(server, concurrency=1).score(ANSWERS[:1]).scores == [60]
    assert len(server.requests) == 3


def test_retry_after_is_obeyed_and_too_long_a_wait_is_not():
    times = []

    def behave(n, _body):
        times.append(time.monotonic())
        return (429, {"Retry-After": "1"}, "slow down") if n == 0 else completion("60")

    with serving(behave) as server:
        assert judge_at(server).score(ANSWERS[:1]).scores == [60]
    assert times[1] - times[0] >= 1
    said = r"429: wait\."
    with (
        serving(lambda *_: (429, {"Retry-After": "3600"}, "wait")) as server,
        pytest.raises(DataError, match=said),
    ):
        judge_at(server).score(ANSWERS[:1])
    assert len(server.requests) == 1
    soon = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 27 < judge_client._seconds(soon) <= 30
    assert judge_client._seconds("Mon, 01 Jan 2001 00:00:00 GMT") == 0
    assert judge_client._seconds("soon") is None
    assert judge_client._seconds("") is None


def test_a_judge_that_is_gone_is_not_asked_for_ever(capsys):
    def behave(n, _body):
        return completion("50") if n == 0 else (500, {}, '{"error": {"message": "out of memory"}}')

    with serving(behave) as server:
        judged = judge_at(server, concurrency=1).score(ANSWERS * 10)
    assert judged.scores == [50]
    assert judged.failures == {
        "not asked, since the endpoint was gone: the endpoint answers 500: out of memory": 24,
        "the endpoint answers 500: out of memory": GIVE_UP,
    }
    assert len(server.requests) == 1 + GIVE_UP * (1 + len(QUICK))
    assert "judging done: 30 answers" in capsys.readouterr().err


def test_nobody_listens():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        judge = Judge(url, "big", pauses_s=QUICK)
        with pytest.raises(DataError, match="gave no score to any of 3 answers: no connection:"):
            judge.score(ANSWERS)


@pytest.mark.parametrize(
    ("status", "headers", "text", "said"),
    [
        (401, {}, '{"error": {"message": "bad key KEY"}}', r"401: bad key \(the key\)\. Check"),
        (403, {}, "", r"the endpoint answers 403\. Check the judge's key"),
        (404, {}, '{"error": "no model big"}', r"404: no model big\. Check .* url and model"),
        (302, {"Location": "http://127.0.0.1:9/x"}, "", r"sends us on to http://127\.0\.0\.1:9/x"),
        (307, {"Location": "/v1/other"}, "", r"sends us on to /v1/other"),
    ],
)  # fmt: skip
def test_a_refusal_ends_it_at_once_with_what_the_endpoint_said(status, headers, text, said):
    with (
        serving(lambda *_: (status, headers, text.replace("KEY", KEY))) as server,
        pytest.raises(ConfigError, match=said) as raised,
    ):
        judge_at(server, key=KEY, concurrency=1).score(ANSWERS * 5)
    assert len(server.requests) == 1
    assert KEY not in str(raised.value)


def test_a_redirect_is_not_followed_and_the_key_stays_here():
    with serving(lambda *_: completion("1")) as other:
        place = {"Location": f"{other.url}/chat/completions"}
        with (
            serving(lambda *_: (303, place, "")) as server,
            pytest.raises(ConfigError, match="not followed, since the key would go there"),
        ):
            judge_at(server, key=KEY).score(ANSWERS)
    assert other.requests == []


def test_one_prompt_that_is_refused_is_that_answers_alone():
    def behave(_n, body):
        is_long = "巴黎" in body["messages"][0]["content"]
        return (400, {}, '{"error": {"message": "too long"}}') if is_long else completion("40")

    with serving(behave) as server:
        judged = judge_at(server).score(ANSWERS)
    assert [one.score for one in judged.verdicts] == [40, None, 40]
    assert judged.failures == {"the endpoint answers 400: too long": 1}
    assert len(server.requests) == 3  # it was not tried again


def drop_by_drop(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def silent(_handler):
    time.sleep(1.5)


def cut_short(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(completion("99").encode())
    handler.close_connection = True


def no_http(handler):
    handler.wfile.write(b"\x00\xff not http at all\r\n\r\n")
    handler.close_connection = True


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (drop_by_drop, r"no reply in 0\.3 s"),
        (silent, r"no reply in 0\.3 s"),
        (cut_short, "no connection: it broke off within the reply"),
        (no_http, "no connection: "),
    ],
)
def test_servers_that_dawdle_or_break_off(behaviour, said):
    with serving(lambda n, _: completion("10") if n == 0 else behaviour) as server:
        judge = judge_at(server, timeout_s=0.3, pauses_s=(0.01,), concurrency=1)
        began = time.monotonic()
        judged = judge.score(ANSWERS[:2])
        assert time.monotonic() - began < 5
    assert judged.scores == [10]
    assert next(iter(judged.failures)).startswith(said.replace("\\", ""))
    assert len(server.requests) == 3


def test_a_reply_without_end_is_cut_off(monkeypatch):
    monkeypatch.setattr(judge_client, "_MOST_BYTES", 10_000)
    with serving(lambda n, _: completion("1" if n == 0 else "x" * 99_999)) as server:
        judged = judge_at(server, concurrency=1).score(ANSWERS)
    assert judged.failures == {"a reply of over 10,000 bytes": 2}


def test_several_answers_are_asked_about_at_a_time():
    with serving(lambda *_: (time.sleep(0.1), completion("3"))[1]) as server:
        judge_at(server, concurrency=3).score(ANSWERS * 3)
    assert server.most_at_once == 3


def test_what_an_endpoint_says_cannot_move_the_cursor():
    text = json.dumps({"error": {"message": "\x1b[2Jred\x00 \u202eevil" + "x" * 900}})
    with (
        serving(lambda *_: (404, {}, text)) as server,
        pytest.raises(ConfigError) as raised,
    ):
        judge_at(server).score(ANSWERS)
    assert "404: [2Jred evilxxx" in str(raised.value)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "127.0.0.1:8000/v1"}, "is not the address of an endpoint"),
        ({"url": "ftp://host/v1"}, "is not the address"),
        ({"url": "http://host:port/v1"}, "is not the address"),
        ({"url": "https://me:" + "secret@host/v1"}, r"'\.\.\.@host/v1' is not the address"),
        ({"url": "https://host/v1?key=1"}, "is not the address"),
        ({"prompt": "How good is it?"}, r"judge prompt does not have \{answer\}"),
        ({"low": 10, "high": 10}, "judge scale 10 to 10 has no room"),
        ({"concurrency": 0}, "judge concurrency = 0"),
        ({"timeout_s": 0}, "timeout_s = 0"),
        ({"model": ""}, "judge model is empty"),
        ({"key": "a\nb"}, "key has characters that no key has"),
    ],
)
def test_settings_that_cannot_be(settings, said):
    with pytest.raises(ConfigError, match=said) as raised:
        Judge(**{"url": "http://127.0.0.1:1/v1", "model": "big", **settings})
    assert "secret" not in str(raised.value)


def test_a_key_in_clear_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        Judge("http://127.0.0.1:1/v1", "big", KEY)
        Judge("https://judge.example/v1", "big", KEY)
        assert caplog.text == ""
        Judge("http://judge.example/v1", "big", KEY)
    assert "travels in clear to http://judge.example/v1" in caplog.text
    assert KEY not in caplog.text


def test_the_key_is_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    assert read_key("JUDGE_KEY") == KEY
    assert read_key("") is None
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(ConfigError, match="judge key = 'JUDGE_KEY' names an environment variable"):
        read_key("JUDGE_KEY")


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(lambda *_: completion("8")) as server:
        assert judge_at(server).score(ANSWERS).mean == 8
