import pytest

from dsm_jax.mine.extract.page_text import decode, page_text

TEXTS = {
    "zh": "数学题目：小明有三个苹果，妈妈又给了他两个，请问他一共有多少个苹果？解：三加二等于五。",
    "zh-tw": "求三角形的面積。已知底邊為三公分，高為四公分，請問面積是多少平方公分？",
    "ja": "次の問題を解きなさい。①三角形の面積を求めよ。底辺は三、高さは四とする。",
    "ko": "삼각형의 넓이를 구하시오. 밑변의 길이는 삼이고 높이는 사이다. 답을 쓰시오.",
    "ru": "Найдите площадь треугольника со сторонами три, четыре и пять. Решение задачи приведено ниже.",
    "fr": "Déterminer la dérivée de la fonction définie à gauche de zéro : où est-elle dérivable ? Voilà.",
}
ENCODED = [
    ("zh", "gbk"), ("zh", "gb18030"), ("zh", "utf-8"), ("zh-tw", "big5"), ("zh-tw", "gb18030"), ("ja", "cp932"),
    ("ru", "cp1251"), ("ru", "koi8-r"), ("ru", "utf-8"), ("fr", "cp1252"), ("fr", "utf-8"), ("ko", "euc-kr"),
]  # fmt: skip
META_NAMES = {"cp932": "Shift_JIS", "cp1251": "windows-1251", "cp1252": "windows-1252", "gbk": "GB2312"}


def page(language, meta=None):
    head = f'<meta charset="{META_NAMES.get(meta, meta)}">' if meta else ""
    return f"<html><head>{head}</head><body><p>{TEXTS[language]} $x^2$</p></body></html>"


@pytest.mark.parametrize(("language", "encoding"), ENCODED)
@pytest.mark.parametrize("declared", [True, False])
def test_the_charset_of_the_header_or_the_page(language, encoding, declared):
    """The other one is missing, or says what a server says that knows nothing."""
    html = page(language, None if declared else encoding)
    for other in (
        [META_NAMES.get(encoding, encoding)] if declared else [None, "", "iso-8859-1", "no-such-charset"]
    ):
        assert decode(html.encode(encoding), other) == html


@pytest.mark.parametrize(("language", "encoding"), [pair for pair in ENCODED if pair != ("ko", "euc-kr")])
def test_a_charset_that_nobody_names_is_detected(language, encoding):
    html = page(language)
    assert decode(html.encode(encoding), None) == html


@pytest.mark.parametrize(
    ("language", "encoding"), [("zh", "gbk"), ("zh-tw", "big5"), ("ru", "cp1251"), ("ja", "cp932")]
)
def test_a_lie_that_cannot_decode_the_bytes_loses(language, encoding):
    html = page(language)
    assert decode(html.encode(encoding), "utf-8") == html
    assert decode(page(language, "utf-8").encode(encoding), None) == page(language, "utf-8")


@pytest.mark.parametrize(
    "declared", ["iso-8859-1", "gb2312", "big5", "windows-1251", "shift_jis", "us-ascii", ' "UTF-8"; ']
)
def test_what_is_utf_8_is_utf_8_whatever_is_declared(declared):
    for language in TEXTS:
        assert decode(page(language).encode(), declared) == page(language)


def test_utf_16_and_marks_of_byte_order():
    for encoding in ("utf-8-sig", "utf-16"):
        assert decode(page("zh").encode(encoding), None) == page("zh")
    assert decode(page("fr").encode("utf-16-le"), "utf-16le") == page("fr")
    assert decode(page("ja").replace("①", "").encode("iso2022_jp"), "ISO-2022-JP") == page("ja").replace(
        "①", ""
    )


def test_one_broken_character_costs_one_character():
    content = page("ru").encode()
    text = decode(content[:100] + b"\xff" + content[100:], "utf-8")
    assert text.count("�") == 1 and text.replace("�", "") == page("ru")
    cut = decode(content + "щ".encode()[:1], "utf-8")
    assert cut.startswith(page("ru"))


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"\xff\xfe\x00", b"\x00" * 50, bytes(range(256)), b"\x1b$B" + b"\xff" * 9]
)
@pytest.mark.parametrize(
    "declared", [None, "", "utf-16", "iso-2022-jp", "gb18030", "shift_jis", "\0", "utf-7", "none"]
)
def test_nothing_fails(content, declared):
    text = decode(b"<p>abc</p>" + content, declared)
    assert isinstance(page_text(text), str)
    text.encode()  # no lone surrogates
