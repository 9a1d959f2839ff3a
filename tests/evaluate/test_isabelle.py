"""The client of Isabelle's server against a fake one: what is said, and every way to break off."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsm_jax.evaluate.isabelle import IsabelleClient, IsabelleError
from tests.evaluate.fake_isabelle import FakeProver, FakeServer

GOOD = 'theory {name}\n  imports Main\nbegin\nlemma\n  have "easy" by auto\nend\n'
BAD = GOOD.replace("auto", "simp")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeServer]:
    server = FakeServer(tmp_path, FakeProver({"easy": {"by auto"}}, endless={("easy", "by blast")}))
    yield server
    server.close()


def client_of(server: FakeServer, **options: object) -> IsabelleClient:
    return IsabelleClient(server.address, server.password, **{"connect_s": 2.0, "grace_s": 0.3} | options)


def theories(**texts: str) -> dict[str, str]:
    return {name: text.format(name=name) for name, text in texts.items()}


@pytest.mark.parametrize("long_messages", [False, True])
def test_theories_are_checked_side_by_side(server, tmp_path, long_messages):
    server.long_messages = long_messages
    with client_of(server) as client:
        found = client.check(theories(A=GOOD, B=BAD, C=GOOD.replace("auto", "blast")), 5.0)
        assert {name: one.ok for name, one in found.items()} == {"A": True, "B": False, "C": False}
        assert found["B"].errors == ("Failed to finish proof: easy",)
        assert found["A"] == (True, (), ())
        client.check(theories(D=GOOD), 5.0)
    assert [name for name, _ in server.commands] == [
        "session_start", "use_theories", "purge_theories", "use_theories", "purge_theories", "session_stop",
    ]  # fmt: skip
    (start,), (use, _) = server.named("session_start"), server.named("use_theories")
    assert start["session"] == "HOL" and "HOL-Number_Theory" in start["include_sessions"]
    assert use["check_delay"] * use["check_limit"] == use["watchdog_timeout"] == 5.0
    assert server.named("purge_theories")[0]["theories"] == ["A", "B", "C"]
    assert not list(tmp_path.iterdir())  # nothing is left behind


def test_the_folder_may_be_another(server, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    client_of(server, folder=shared).check(theories(A=GOOD), 1.0)
    assert Path(server.named("use_theories")[0]["master_dir"]).parent == shared
    with pytest.raises(IsabelleError, match="give a folder that the server sees under this name"):
        client_of(server, folder=tmp_path / "nowhere").check(theories(A=GOOD), 1.0)


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("localhost", "give host:port"),
        ("localhost:http", "give host:port"),
        ("localhost:99999", "give host:port"),
        ("127.0.0.1:1", "no connection"),
    ],
)
def test_an_address_without_a_server_is_one_line(address, line):
    with pytest.raises(IsabelleError, match=f"^isabelle server {address}: .*{line}"):
        IsabelleClient(address, "x", connect_s=1.0)


@pytest.mark.parametrize("password", ["", "wrong", "123"])
def test_a_wrong_password_is_said_to_be_one(server, password):
    with pytest.raises(IsabelleError, match="hangs up; is the password right\\?"):
        IsabelleClient(server.address, password, connect_s=2.0)


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 400 Bad Request\n", b"OK {\n", b"\x00\xff\n", b"9999999999\n"]
)
def test_another_server_is_none(said):
    """One that says nothing, or something else."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(100)
                connection.sendall(said)
                connection.recv(100)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(IsabelleError, match="is the password right"):
            IsabelleClient(f"127.0.0.1:{listening.getsockname()[1]}", "x", connect_s=0.5)
        thread.join(5)


def test_a_dropped_connection_is_no_verdict_and_is_made_anew(server):
    client = client_of(server)
    server.on_use = lambda *_: True
    with pytest.raises(IsabelleError, match="hangs up"):
        client.check(theories(A=GOOD), 1.0)
    server.on_use = lambda *_: False
    assert client.check(theories(A=GOOD), 1.0)["A"].ok
    assert (server.connections, server.sessions) == (2, 1)  # the session lived on


def test_a_session_that_is_gone_is_started_anew(server):
    client = client_of(server)
    server.sessions = 7  # as another server's
    with pytest.raises(IsabelleError, match="use_theories: No session"):
        client.check(theories(A=GOOD), 1.0)
    assert client.check(theories(A=GOOD), 1.0)["A"].ok


def test_a_server_that_does_not_answer_is_given_up(server):
    client = client_of(server)
    quiet = threading.Event()

    def wait(*_: object) -> bool:
        quiet.wait(5)
        return True

    server.on_use = wait
    start = time.monotonic()
    with pytest.raises(IsabelleError, match="does not answer in time"):
        client.check(theories(A=GOOD), 0.3)
    assert 0.5 < time.monotonic() - start < 3
    quiet.set()
    server.on_use = lambda *_: False
    assert client.check(theories(A=GOOD), 1.0)["A"].ok


def test_notes_do_not_put_the_limit_off(server):
    client = client_of(server)

    def chat(server: FakeServer, send, task: str) -> bool:
        for _ in range(100):
            send("NOTE", {"task": task, "kind": "writeln", "message": "on it"})
            time.sleep(0.05)
        return True

    server.on_use = chat
    start = time.monotonic()
    with pytest.raises(IsabelleError, match="does not answer in time"):
        client.check(theories(A=GOOD), 0.3)
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (("FAILED", {"kind": "error", "message": "No such\n theory"}), "use_theories: No such theory"),
        (("FINISHED", {"ok": False, "errors": [{"kind": "error", "message": "cannot load"}], "nodes": []}),
         "nothing of theory A \\(cannot load\\)"),
        (("FINISHED", {"ok": True}), "nothing of theory A \\(no reason given\\)"),
    ],
)  # fmt: skip
def test_what_says_nothing_of_the_theory_is_no_verdict(server, tmp_path, result, line):
    client = client_of(server)
    name, fields = result

    def answer(server: FakeServer, send, task: str) -> bool:
        send(name, {"task": task} | fields)
        time.sleep(0.2)
        return True

    server.on_use = answer
    with pytest.raises(IsabelleError, match=line):
        client.check(theories(A=GOOD), 1.0)
    assert not list(tmp_path.iterdir())
