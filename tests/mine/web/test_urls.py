"""URLs: spellings of one page agree, other pages stay apart, domains are registered ones, nothing fails."""

import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dsm_jax.mine.web.urls import canonical_url, domain_of, host_of, key_of, url_folder

LABEL = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)
HOST = st.builds(".".join, st.lists(LABEL, min_size=2, max_size=4)).map(lambda host: host + ".org")
PATH = st.lists(st.from_regex(r"[A-Za-z0-9._~%-]{1,6}", fullmatch=True), max_size=4).map("/".join)
QUERY = st.lists(st.sampled_from(["a=1", "b=2", "id=www.", "q"]), max_size=3, unique=True)
TRACKING = ["utm_source=x", "UTM_Campaign=y", "gclid=3", "fbclid=4", "PHPSESSID=5", "mc_eid=6", "_ga=7"]


@given(HOST, PATH, QUERY, st.data())
def test_spellings_of_one_page_agree(host, path, query, data):
    choose = lambda *options: data.draw(st.sampled_from(options))
    spelled = (
        choose("http", "https", "HTTPS") + "://" + choose("", "user:secret@") + choose("", "www.", "WWW.")
    )
    spelled += choose(host, host.upper(), host.title()) + choose("", ":80", ":443", ":")
    spelled += "/" + path + (choose("", "/") if path else "")
    tracked = [*query]
    for extra in data.draw(st.lists(st.sampled_from(TRACKING), max_size=2)):
        tracked.insert(data.draw(st.integers(0, len(tracked))), extra)
    spelled += ("?" + "&".join(tracked) if tracked else "") + choose("", "#part", "#!/a?b=1")
    plain = f"{host}/{path}".rstrip("/") + ("?" + "&".join(query) if query else "")
    assert canonical_url(spelled) == plain == canonical_url("https://" + plain)
    assert host_of(spelled) == host and domain_of(spelled) == domain_of("https://" + plain)


def test_other_pages_stay_apart():
    pages = [
        "https://a.org/x",
        "https://a.org/X",
        "https://a.org/x?p=1",
        "https://a.org/x?p=2",
        "https://a.org/x?source=utm_source",
        "https://a.org:8080/x",
        "https://b.a.org/x",
        "https://wwwa.org/x",
        "https://a.org/x/y",
        "https://a.org/x%2F",
        "https://a.org/www.a.org/x",
    ]
    assert len({canonical_url(page) for page in pages}) == len(pages)


@given(
    st.text()
    | st.builds("https://{}".format, st.text())
    | st.builds("http://www.{}/{}".format, st.text(), st.text())
)
@example("http://[broken/")
@example("https://www.www.a.org/x")
@example("http://a.org:80:443/")
@example("http://\u2100.org/")
@example("https://xn--zzzzz-.org/\ud800")
def test_any_text_has_a_canonical_form_that_stays(url):
    canonical = canonical_url(url)
    if host_of(url):
        assert canonical_url("https://" + canonical) == canonical
    else:
        assert canonical == url and domain_of(url) == ""
    assert host_of(url).endswith(domain_of(url))
    assert canonical.startswith(url_folder(url))
    assert 0 < key_of(url) < 2**64


@pytest.mark.parametrize(
    ("url", "domain"),
    [
        ("https://math.stackexchange.com/questions/1", "stackexchange.com"),
        ("https://bookofproofs.github.io/x", "bookofproofs.github.io"),
        ("https://github.io/", "github.io"),
        ("https://www.maths.ox.ac.uk/people", "ox.ac.uk"),
        ("https://a.b.co.jp/", "b.co.jp"),
        ("https://数学.中国/", "数学.中国"),
        ("https://127.0.0.1:8000/x", "127.0.0.1"),
        ("http://[::1]/x", "::1"),
        ("http://localhost/x", "localhost"),
        ("https://sympy/polys/rings", "sympy"),
        ("hard::page.html", ""),
        ("mailto:someone@a.org", ""),
        ("", ""),
    ],
)
def test_domains_are_registered_ones(url, domain):
    assert domain_of(url) == domain


def test_folders():
    assert url_folder("https://www.a.org/b/c.html?x=/y/z") == "a.org/b"
    assert url_folder("https://a.org/b/") == "a.org"  # most sites write every page so
    assert url_folder("https://a.org/x") == "a.org"
    assert url_folder("https://a.org/?p=12") == url_folder("https://a.org") == "a.org"
    assert url_folder("hard::page.html") == ""


def test_keys_are_the_same_everywhere_and_never_0():
    assert key_of("a.org/x") == 5055400889654963181  # in the files of runs: another one is another format
    code = "from dsm_jax.mine.web.urls import key_of; print(key_of('a.org/x'), key_of('\\ud800'))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert list(map(int, printed.split())) == [key_of("a.org/x"), key_of("\ud800")]
    assert len({key_of(str(i)) for i in range(10_000)}) == 10_000
