import http.client
import json
import random
import threading
import time

import pytest

from dsm_jax.errors import UserError
from dsm_jax.mine.annotate import state
from dsm_jax.mine.annotate.annotations import Decision, append_decision, read_annotations
from dsm_jax.mine.annotate.server import AnnotationServer
from dsm_jax.mine.annotate.state import AnnotationState
from tests.mine.annotate.candidate_files import invented_pages, page, write_iteration


@pytest.fixture
def run(tmp_path):
    rng = random.Random(0)
    folders = {"maths/": (30, 0.8), "maths/old/": (5, 0.7), "shop/": (40, 0.2)}
    pages = {
        "a.org": invented_pages("a.org", folders, rng),
        "b.org": invented_pages("b.org", {"": (9, 0.7)}, rng),
    }
    write_iteration(tmp_path, 1, pages)
    return tmp_path


class Client:
    """What a browser with the page open would send; options change its headers."""

    def __init__(self, server):
        self.server = server

    def __call__(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        own = {"Host": f"127.0.0.1:{self.server.port}"}
        if method == "POST":
            own |= {"Origin": self.server.url.rstrip("/"), "Content-Type": "application/json"}
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {name: value for name, value in (own | headers).items() if value is not None}
        connection.putrequest(method, path, skip_host=True)
        for name, value in sent.items():
            connection.putheader(name.replace("_", "-"), value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content, answer.headers

    def json(self, method, path, body=None, **headers):
        status, content, _ = self(method, path, body, **headers)
        return status, json.loads(content)


@pytest.fixture
def serve(run):
    servers = []

    def start(by="ann"):
        server = AnnotationServer(AnnotationState(run, by), 0)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return Client(server)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


DECISION = {"domain": "a.org", "prefix": "a.org/maths/", "accept": True}


def test_the_page_and_its_parts_come_with_a_policy_that_runs_only_them(serve):
    client = serve()
    for path in (
        "/",
        "/page.js",
        "/tree.js",
        "/saving.js",
        "/page.css",
    ):
        status, content, headers = client("GET", path)
        assert status == 200 and content
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; ") and "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and "Access-Control-Allow-Origin" not in headers
    html = client("GET", "/")[1].decode()
    assert (
        "<script type" in html
        and html.count("<script") == 1
        and " on" + "click=" not in html
        and "style=" not in html
    )


def test_domains_prefixes_and_samples(serve):
    client = serve()
    status, overview = client.json("GET", "/api/overview")
    assert status == 200 and [one["domain"] for one in overview["domains"]] == ["a.org", "b.org"]
    assert (overview["iteration"], overview["by"]) == (1, "ann")
    domain = client.json("GET", "/api/domain?domain=a.org")[1]
    assert [(row["prefix"], row["depth"], row["pages"]) for row in domain["prefixes"]] == [
        ("a.org/", 0, 75),
        ("a.org/shop/", 1, 40),
        ("a.org/maths/", 1, 35),
        ("a.org/maths/old/", 2, 5),
    ]
    samples = client.json("GET", "/api/samples?domain=a.org&prefix=a.org/maths/")[1]
    kept = [row["kept"] for row in samples["samples"]]
    assert len(kept) == 35 and kept == sorted(kept) and samples["sampled"] == 75


def test_a_decision_is_in_the_file_when_the_answer_comes(serve, run):
    client = serve()
    status, answer = client.json("POST", "/api/decision", DECISION)
    assert status == 200 and answer["verdict"] is True and answer["marks"]["accepted"] == 1
    (row,) = map(json.loads, (run / "annotations.jsonl").read_text().splitlines())
    assert (row["prefix"], row["accept"], row["by"]) == ("a.org/maths/", True, "ann") and row["at"].endswith(
        "Z"
    )
    client.json("POST", "/api/decision", DECISION)  # sent again
    assert len((run / "annotations.jsonl").read_text().splitlines()) == 1
    status, answer = client.json("POST", "/api/decision", DECISION | {"accept": None})
    assert answer["verdict"] is None and answer["votes"] == [] and answer["marks"]["accepted"] == 0
    assert len((run / "annotations.jsonl").read_text().splitlines()) == 2
    assert read_annotations([run / "annotations.jsonl"]).prefixes == {}


def test_annotators_on_one_run_see_each_other_and_their_conflicts(serve):
    ann, bob, cal = serve("ann"), serve("bob"), serve("cal")
    ann.json("POST", "/api/decision", DECISION)
    answer = bob.json("POST", "/api/decision", DECISION | {"accept": False})[1]
    assert answer["verdict"] is None and answer["marks"] == {"accepted": 0, "rejected": 0, "conflicts": 1}
    assert [(vote["by"], vote["accept"]) for vote in answer["votes"]] == [("ann", True), ("bob", False)]
    assert cal.json("GET", "/api/overview")[1]["domains"][0]["conflicts"] == 1
    assert cal.json("POST", "/api/decision", DECISION | {"accept": False})[1]["verdict"] is False


def test_a_decision_by_hand_is_shown_and_can_be_voted_on(serve, run):
    append_decision(run / "annotations.jsonl", Decision("a.org/mat", False, "hand.csv"))
    append_decision(run / "annotations.jsonl", Decision("elsewhere.org/", False, "hand.csv"))
    client = serve()
    rows = {row["prefix"]: row for row in client.json("GET", "/api/domain?domain=a.org")[1]["prefixes"]}
    assert rows["a.org/mat"]["pages"] is None and rows["a.org/mat"]["verdict"] is False
    assert rows["a.org/mat"]["depth"] == 1 and rows["a.org/maths/"]["depth"] == 2
    assert client.json("POST", "/api/decision", DECISION | {"prefix": "a.org/mat"})[1]["verdict"] is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example:80"}, 403),
        ({"Host": None}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": None}, 403),
        ({"Content_Type": "text/plain", "Content-Type": None}, 415),
    ],
)
def test_other_sites_decide_nothing(serve, run, headers, status):
    got, answer = serve().json("POST", "/api/decision", DECISION, **headers)
    assert got == status and answer["error"] and not (run / "annotations.jsonl").exists()


def test_pages_by_another_name_for_this_machine_are_refused(serve):
    client = serve()
    for path in ("/", "/api/overview", "/api/domain?domain=a.org", "/page.js"):
        status, content, _ = client("GET", path, Host=f"rebound.example:{client.server.port}")
        assert status == 403 and b"a.org" not in content
    assert client("GET", "/", Host=f"localhost:{client.server.port}")[0] == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b"[" * 60_000, 400),
        (b"x" * 70_000, 413),
        ({}, 400),
        (DECISION | {"accept": "yes"}, 400),
        (DECISION | {"accept": 1}, 400),
        ({"domain": "a.org", "prefix": "a.org/"}, 400),
        (DECISION | {"domain": ["a.org"]}, 400),
        (DECISION | {"domain": "none.org"}, 409),
        (DECISION | {"prefix": "b.org/"}, 409),
        (DECISION | {"prefix": "\ud800"}, 409),
    ],
)
def test_a_bad_decision_is_refused_in_one_line(serve, run, body, status):
    got, answer = serve().json("POST", "/api/decision", body)
    assert got == status and "\n" not in answer["error"] and not (run / "annotations.jsonl").exists()


def test_no_other_file_is_served(serve):
    client = serve()
    for path in (
        "/../annotations.py",
        "/annotations.py",
        "//etc/passwd",
        "/page.html",
        "/%2e%2e/setup.py",
    ):
        assert client("GET", path)[0] == 404
    assert client("GET", "/api/domain")[0] == 400 and client("GET", "/api/domain?domain=none")[0] == 409
    assert client("POST", "/api/other", {})[0] == 404 and client("PUT", "/api/decision")[0] == 501


def test_what_cannot_be_saved_is_an_error_and_not_forgotten(serve, run, monkeypatch):
    def full(path, decision):
        raise OSError(28, "No space left on device")

    client = serve()
    with monkeypatch.context() as patch:
        patch.setattr(state, "append_decision", full)
        status, answer = client.json("POST", "/api/decision", DECISION)
    assert status == 500 and "annotations.jsonl: No space left on device" in answer["error"]
    assert client.json("POST", "/api/decision", DECISION)[0] == 200
    (run / "annotations.jsonl").write_text("not a row\n")
    assert "annotations.jsonl:1" in client.json("GET", "/api/overview")[1]["error"]


def test_many_decisions_at_once_are_all_saved(serve, run):
    client = serve()
    accepts = {
        prefix: bool(i % 2)
        for i, prefix in enumerate(("a.org/", "a.org/maths/", "a.org/shop/", "a.org/maths/old/"))
    }

    def decide(prefix):
        for accept in (not accepts[prefix], None, accepts[prefix]):
            assert (
                client.json("POST", "/api/decision", DECISION | {"prefix": prefix, "accept": accept})[0]
                == 200
            )

    threads = [threading.Thread(target=decide, args=(prefix,)) for prefix in accepts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_annotations([run / "annotations.jsonl"]).prefixes == accepts


def test_a_new_iteration_is_shown_without_a_restart(serve, run):
    client = serve()
    client.json("POST", "/api/decision", DECISION)
    write_iteration(run, 2, {"a.org": [page("https://a.org/maths/1", 0.5, False, "x")]})
    overview = client.json("GET", "/api/overview")[1]
    assert overview["iteration"] == 2 and [one["accepted"] for one in overview["domains"]] == [1]


def test_a_run_without_domains_is_no_mistake(tmp_path):
    write_iteration(tmp_path, 1, {})
    overview = AnnotationState(tmp_path, "ann").overview()
    assert overview["domains"] == [] and overview["iteration"] == 1


def test_a_taken_port_is_one_line(serve, run):
    port = serve().server.port
    with pytest.raises(UserError, match=rf"--port {port}: another program has it"):
        AnnotationServer(AnnotationState(run, "bob"), port)


def test_only_this_machine_is_answered(serve):
    assert serve().server.server_address[0] == "127.0.0.1"


def test_five_thousand_domains_are_quick(tmp_path):
    folder = tmp_path / "many"
    pages = {
        f"site{i}.org": [page(f"https://site{i}.org/x/{j}", 0.5, False, "x") for j in range(3)]
        for i in range(5000)
    }
    write_iteration(folder, 1, pages)
    rows = [{"prefix": f"site{i}.org/x/", "accept": True, "by": "bob"} for i in range(0, 5000, 2)]
    (folder / "annotations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    state = AnnotationState(folder, "ann")
    start = time.process_time()
    overview = state.overview()
    state.decide("site1.org", "site1.org/x/", True)
    assert time.process_time() - start < 3
    assert sum(one["accepted"] for one in overview["domains"]) == 2500
