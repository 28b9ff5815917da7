"""Templates that loop, fill the memory or reach for the system are stopped; others go on."""

import math
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from scratchlm.base.errors import CheckpointError, DataError
from scratchlm.tokenizer import chat_worker
from scratchlm.tokenizer.chat_worker import SECONDS, Renderer, Task, renderer

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of other systems differ")
TASK = Task([{"role": "user", "content": "x"}], False, {})
GROW = "{% set n = namespace(x='aaaaaaaa', y=[1]) %}{% for i in range(60) %}"
NEST = "{% set n = namespace(x=[1], y=[1]) %}{% for i in range(100) %}{% set n.x = [n.x, n.x] %}"
LONG = "{% set x = 'a' * 4000000 %}"

SLOW = {  # each runs for minutes or longer by itself
    "100 million turns": "{% for a in range(10000) %}{% for b in range(10000) %}"
    "{% endfor %}{% endfor %}",
    "macros that call themselves": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}"
    "{% endmacro %}{{ f(60) }}",
    "lists equal to the depth": NEST + "{% set n.y = [n.y, n.y] %}{% endfor %}{{ n.x == n.y }}",
    "a list that holds itself often": NEST + "{% endfor %}{{ n.x }}",
    "the same as JSON": NEST + "{% endfor %}{{ n.x | tojson }}",
    "numbers of many digits": "{% set n = namespace(x=3) %}{% for i in range(40) %}"
    "{% set n.x = n.x * n.x %}{% endfor %}{{ n.x % 7 }}",
    "searches": LONG + "{% for i in range(100000) %}{{ (x ~ 'b') in (x ~ 'c') }}{% endfor %}",
    "slow filters": "{{ ('http://a.b ' * 500000) | urlize }}",
    "sums of lists": "{{ ([range(100000) | list] * 1000) | sum(start=[]) | length }}",
    "sorting": "{% for i in range(100000) %}{% set x = range(100000) | list | sort %}{% endfor %}",
    "lorem ipsum": "{{ lipsum(n=1000000000) }}",
    "blocks in blocks": "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call m() %}" * 30 + "x" + "{% endcall %}" * 30,
    "a source that takes long to parse": "{{ " + " ~ ".join(["x"] * 200_000) + " }}",
}  # fmt: skip
LARGE = {
    "a product": "{{ 'a' * 1000000000000 }}",
    "a product of lists": "{{ ([0] * 10000000000) | length }}",
    "text doubled by ~": GROW + "{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x | length }}",
    "text doubled by +": GROW + "{% set n.x = n.x + n.x %}{% endfor %}{{ n.x | length }}",
    "a list doubled": GROW + "{% set n.y = n.y + n.y %}{% endfor %}{{ n.y | length }}",
    "output": "{% for a in range(100000) %}{% for b in range(1000) %}" + "x" * 99
    + "{% endfor %}{% endfor %}",
    "a block": "{% set x %}{% for i in range(100000) %}" + "a" * 200
    + "{% endfor %}{% endset %}{{ x | length }}",
    "join": LONG + "{{ ([x] * 1000) | join | length }}",
    "join by text": LONG + "{{ x | join(x) | length }}",
    "a method that joins": LONG + "{{ x.join([x] * 1000) | length }}",
    "replace": LONG + "{{ x | replace('a', x) | length }}",
    "a method that replaces": LONG + "{{ x.replace('a', x) | length }}",
    "center": "{{ 'a' | center(10000000000) }}",
    "methods with a width": "{{ 'a'.ljust(10000000000) }}",
    "tabs": "{{ ('\t' * 1000000).expandtabs(1000000) }}",
    "indent": "{{ ('\n' * 1000000) | indent(1000000, true, true) | length }}",
    "indented JSON": "{{ [[1]] | tojson(indent=1000000000) }}",
    "words wrapped": LONG + "{{ x | wordwrap(1, wrapstring=x) | length }}",
    "batches": "{{ [1] | batch(1000000000, 'x') | list | length }}",
    "slices": "{{ [1] | slice(1000000000, 'x') | list | length }}",
    "a format": "{{ '%1000000000d' | format(1) }}",
    "a format by %": "{{ '%*d' % (1000000000, 1) }}",
    "a format by braces": "{{ '{:1000000000}'.format(1) }}",
    "a format inside a format": "{{ '{:{w}}'.format(1, w='1000000000') }}",
    "a format by name": "{{ ('{0:>999999999}' | attr('format'))('x') }}",
    "bytes": "{{ (5).to_bytes(10000000000, 'big') }}",
    "text as bytes": "{{ 'a'.encode('utf-32').ljust(10000000000) }}",
    "a translation": "{{ 'aaaa'.translate({97: 'b' * 8000000}) }}",
}  # fmt: skip
MANY = (
    "{% set n = namespace(x=[]) %}{% for i in range(100000) %}"
    "{% set n.x = n.x + [range(99999) | list] %}{% endfor %}"
)
RIGHTS = {
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "itself": "{{ self.__init__.__globals__ }}",
    "a namespace": "{{ namespace.__init__.__globals__ }}",
    "a name that begins with _": "{% set n = namespace(__class__=1) %}",
    "an item of that name": "{% set n = namespace() %}{% set n.__class__ = 1 %}",
    "the order of classes": "{{ dict.mro() }}",
    "a file": "{% include '/etc/hostname' %}",
    "a module": "{% import 'os' as os %}",
    "what it is given": "{{ messages.append(1) }}",
    "a power": "{{ 9 ** 9 ** 9 ** 9 }}",
    "a range": "{% for i in range(1000000000) %}x{% endfor %}",
    "no end of calls": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "depth": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
}


@pytest.fixture(scope="module")
def worker():
    made = Renderer()
    yield made
    made.close()


def seconds_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


@on_linux
@pytest.mark.parametrize("name", SLOW)
def test_a_slow_template_is_stopped_within_a_second(worker, name):
    worker.close()
    before = seconds_of_children()
    with pytest.raises(DataError, match=f"refuses .* it ran for {SECONDS} s and was stopped"):
        worker.render(SLOW[name], TASK)
    taken = seconds_of_children() - before  # the clock on the wall depends on who else is there
    assert SECONDS <= taken < 1.0
    assert worker.render("{{ 1 }}", TASK).text == "1"


@on_linux
def test_parsing_has_a_limit_too(worker):
    with pytest.raises(CheckpointError, match="does not parse: it ran for"):
        worker.check(SLOW["a source that takes long to parse"])


def peak_mb(worker: Renderer) -> int:
    assert worker._process
    with open(f"/proc/{worker._process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) >> 10


@on_linux
@pytest.mark.parametrize("name", LARGE)
def test_a_large_template_is_refused_before_it_is_large(worker, name):
    """By sizes alone, which every system has: the process lives and was never large."""
    worker.close()
    with pytest.raises(DataError, match=r"refuses .* it (makes|formats|calls)"):
        worker.render(LARGE[name], TASK)
    assert peak_mb(worker) < 256


@on_linux
def test_memory_has_a_limit(worker):
    with pytest.raises(DataError, match="it takes over 192 MB of memory"):
        worker.render(MANY, TASK)
    assert worker.render("{{ 1 }}", TASK).text == "1"


@pytest.mark.parametrize("name", RIGHTS)
def test_a_template_reaches_nothing(worker, name):
    with pytest.raises((DataError, CheckpointError), match="chat template"):
        worker.render(RIGHTS[name], TASK)


@pytest.mark.parametrize(
    "source", ["{{ '' | attr('__class__') }}", "{{ '{0.__class__}'.format(1) }}"]
)
def test_what_it_may_not_read_is_not_there(worker, source):
    assert worker.render(source, TASK).text == ""


@on_linux
def test_its_process_can_open_nothing():
    code = (
        "from scratchlm.tokenizer import chat_worker, chat_sandbox\n"
        "def run(self, variables):\n"
        "    if 'messages' not in variables: return '', []\n"  # what is imported early
        "    return open('/etc/hostname').read(), []\n"
        "chat_sandbox.Program.run = run\n"
        "chat_worker.serve()\n"
    )
    broken = Renderer()
    start = chat_worker._START
    chat_worker._START = start.replace("from scratchlm.tokenizer.chat_worker import serve\n", code)
    chat_worker._START = chat_worker._START.removesuffix("serve()\n")
    try:
        with pytest.raises(DataError, match="Too many open files"):
            broken.render("{{ 1 }}", TASK)
    finally:
        chat_worker._START = start
        broken.close()


def test_the_clock_stops_it_where_there_is_no_limit_of_processor_time(monkeypatch):
    """Windows has no setitimer; here it is taken away on both sides."""
    start = chat_worker._START.replace(
        "\nserve()", "\nimport signal; del signal.setitimer\nserve()"
    )
    monkeypatch.setattr(chat_worker, "_START", start)
    monkeypatch.delattr(signal, "setitimer", raising=False)
    without = Renderer()
    try:
        assert without.render("{{ 1 }}", TASK).text == "1"
        with pytest.raises(DataError, match="it ran for"):
            without.render(SLOW["lists equal to the depth"], TASK)
    finally:
        without.close()


def test_many_threads_share_it(worker):
    def ask(n: int) -> str:
        return worker.render("{{ messages[0].n }}", Task([{"n": n}], False, {})).text

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(200))) == [str(n) for n in range(200)]


def test_one_process_keeps_so_many_templates(worker, monkeypatch):
    monkeypatch.setattr(chat_worker, "_MOST_TEMPLATES", 3)
    worker.close()
    for n in [*range(5), *range(5)]:
        assert worker.render(f"{{{{ {n} }}}}", TASK).text == str(n)
        assert len(worker._numbers) <= 3


def test_an_interrupt_leaves_no_answer_behind(worker, monkeypatch):
    real = chat_worker._receive

    def interrupted(stream):
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return real(stream)

    worker.render("{{ 1 }}", TASK)
    monkeypatch.setattr(chat_worker, "_receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        worker.render("{{ 2 }}", TASK)
    monkeypatch.undo()
    assert worker.render("{{ 3 }}", TASK).text == "3"


def test_it_ends_with_its_program():
    code = (
        "import os\n"
        "from scratchlm.tokenizer.chat_worker import renderer\n"
        "one = renderer(os.getpid()); one.check('{{ 1 }}'); print(one._process.pid)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="ascii")
    assert (answer.returncode, answer.stderr) == (0, "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(answer.stdout), 0)


def test_a_program_has_one():
    assert renderer(os.getpid()) is renderer(os.getpid())


def test_numbers_that_are_large_but_harmless(worker):
    source = (
        "{{ [1700000000, 86400 * 365] | join(' ') }} {{ '%d' % 1700000000 }} {{ 'a'.center(9) }}"
    )
    assert worker.render(source, TASK).text == "1700000000 31536000 1700000000     a    "
    source = "{{ [1] | tojson(indent=2) }}{{ 'a b' | indent(4) }}{{ 'ab' | replace('a', 'c') }}"
    assert worker.render(source, TASK).text == "[\n  1\n]a bcb"
    assert worker.render("{{ namespace(self=1, context=2).context }}", TASK).text == "2"
    assert (
        worker.render("{{ math }}", Task([], False, {"math": math.pi})).text == "3.141592653589793"
    )
