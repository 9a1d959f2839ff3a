"""What a URL says: its canonical form, its registered domain, the folder it lies in.

Left out on purpose: which of two canonical URLs is the page's own (a `<link rel=canonical>` may lie), redirects.
"""

import re
from functools import lru_cache
from hashlib import blake2b
from urllib.parse import urlsplit

import tldextract

# The public suffix list that comes with tldextract, its private part too: each of bookofproofs.github.io and
# other.github.io is a domain. Nothing is fetched.
_SUFFIXES = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=True)
_TRACKING = re.compile(
    r"(?:utm_\w+|gclid|dclid|fbclid|msclkid|yclid|igshid|mc_[ce]id|_ga|_hs(?:enc|mi)|phpsessid|jsessionid)=",
    re.IGNORECASE,
)
_WWW, _USUAL_PORT = re.compile(r"(?:www\.)+"), re.compile(r"(?::(?:80|443)?)+$")


def canonical_url(url: str) -> str:
    """What tells pages apart: without scheme, www, port 80 or 443, fragment, tracking parameters, the host's case and a
    last slash. A URL without a host stays as it is."""
    host = host_of(url)
    if not host:
        return url
    parts = urlsplit(url)
    netloc = _without_www(_USUAL_PORT.sub("", parts.netloc.rpartition("@")[2].lower()))
    query = "&".join(one for one in parts.query.split("&") if one and not _TRACKING.match(one))
    return netloc + parts.path.rstrip("/") + (f"?{query}" if query else "")


def host_of(url: str) -> str:
    """The host in lower case, without www and port; "" where the URL has none."""
    try:
        return _without_www(urlsplit(url).hostname or "")
    except ValueError:
        return ""


def domain_of(url: str) -> str:
    """The registered domain, by the public suffix list with its private part; the host where it has none (an address, a
    name without a dot); "" where the URL has no host."""
    return _registered(host_of(url))


def url_folder(url: str) -> str:
    """The canonical URL up to its last slash: "a.org/b" of https://www.a.org/b/c?d=e; "a.org" of https://a.org/?d=e; "" where
    the URL has no host."""
    path = canonical_url(url).partition("?")[0]
    return (path.rpartition("/")[0] or path) if host_of(url) else ""


def key_of(text: str) -> int:
    """64 bits that tell texts apart, the same on every machine; never 0."""
    return int.from_bytes(blake2b(text.encode(errors="replace"), digest_size=8).digest(), "little") or 1


def _without_www(host: str) -> str:
    www = _WWW.match(host)
    return host[www.end() :] if www else host


@lru_cache(maxsize=1 << 16)
def _registered(host: str) -> str:
    return _SUFFIXES.extract_str(host).top_domain_under_public_suffix or host if host else ""
