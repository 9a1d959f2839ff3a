r"""One spelling for what LaTeX, Unicode and Chinese write in many: the text that the rest of the grader reads.

`plain` keeps the mathematics and drops the typesetting: `\dfrac`, `\left(`, `\,`, `$`, full-width and Arabic digits,
`\$`, "，". Left out on purpose: meaning. Superscripts become powers only after something to raise, and a combining mark
stays, so that "³" and "3⃣" are not 3.
"""

import re
import unicodedata
from functools import lru_cache

MAX_ANSWER = 1000  # characters: a longer answer is wrong, a longer gold answer cannot be scored

_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_FRACTIONS = {
    ord(c): " " + unicodedata.normalize("NFKC", c).replace("\u2044", "/") for c in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
}
_GREEK = dict(
    zip("αβγδεθλμνπρστφχψωΔΓΘΛΣΦΨΩ", ["alpha", "beta", "gamma", "delta", "epsilon", "theta", "lambda", "mu", "nu", "pi", "rho", "sigma", "tau", "phi", "chi", "psi", "omega", "Delta", "Gamma", "Theta", "Lambda", "Sigma", "Phi", "Psi", "Omega"], strict=True)
)  # fmt: skip
_SAME = str.maketrans(
    _FULL_WIDTH
    | _FRACTIONS
    | {ord(letter): f"\\{name} " for letter, name in _GREEK.items()}
    | {
        "×": "\\times ", "÷": "/", "·": "\\cdot ", "⋅": "\\cdot ", "∙": "\\cdot ", "√": "\\sqrt ", "∛": "\\sqrt[3] ", "∜": "\\sqrt[4] ", "¢": " cents", "∞": "\\infty ",
        "−": "-", "–": "-", "—": "-", "‐": "-", "∗": "*", "±": "\\pm ", "≤": "\\le ", "≥": "\\ge ", "≦": "\\le ",
        "≧": "\\ge ", "⩽": "\\le ", "⩾": "\\ge ", "≠": "\\ne ", "≈": "\\approx ", "∈": "\\in ", "∪": "\\cup ",
        "∩": "\\cap ", "∅": "\\emptyset ", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "…": "\\ldots ", "′": "'",
        "’": "'", "‘": "'", "“": '"', "”": '"', "º": "°", "˚": "°", "∶": ":", "⁄": "/", "∕": "/", "∠": "\\angle ",
        "。": ".", "、": ", ", "，": ", ", "；": "; ", "\u3000": " ", "\xa0": " ", "\u2009": " ", "\u202f": " ",
        "\u200b": "", "\ufeff": "", "\u2060": "", "【": "(", "】": ")", "〔": "(", "〕": ")", "⟨": "\\langle ",
        "⟩": "\\rangle ", "⌊": "\\lfloor ", "⌋": "\\rfloor ", "⌈": "\\lceil ", "⌉": "\\rceil ", "ˆ": "^", "£": "", "€": "", "¥": "",
        "₹": "", "円": "", "℃": "°", "℉": "°", "﹣": "-", "٫": ".", "٬": ",",
    }
)  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉ₙ", "0123456789n")
_ROOT_OF = re.compile(r"(√|∛|∜|根号)\s*(\d+(?:\.\d+)?)")
_ROOTS = {"根号": "\\sqrt", "√": "\\sqrt", "∛": "\\sqrt[3]", "∜": "\\sqrt[4]"}
_ABOUT = re.compile(r"^\s*(?:大?约(?:为|等于|是)?)\s*(?=[\d.$\\-])")
_SAID = re.compile(
    r"(?<=[A-Za-z\d)}\]$ ])(?:(大于或?等于|不小于|至少为)|(小于或?等于|不大于|不超过)|(不等于)|(大于)|(小于)|(等于)|(比))(?=[A-Za-z\d({$\\ +-])"
)
_SAID_SIGNS = (r"\ge ", r"\le ", r"\ne ", ">", "<", "=", ":")
_NAMED_IN_CHINESE = re.compile(
    r"^(?![^\d\\]*(?:[不非未没错能许若或否认绝]|大概|如果|假设))(?:(?=\S*[\u4e00-\u9fff])[\u4e00-\u9fffA-Za-z$ ]{1,16}(?<![作因为])(?:[为是](?!否)[:：]?|[:：])|一?共有?|总共|有|点|每[\u4e00-\u9fff]{1,2}) ?(?=[\d\\({\[$A-Za-z+①-⑳-])"
)
_RAISED = re.compile(r"(?<=[\w)\]}])[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_LOWERED = re.compile(r"(?<=\w)[₀₁₂₃₄₅₆₇₈₉ₙ]+")

_DOUBLED = re.compile(
    r"\\\\(?=(?:d?frac|tfrac|left|right|boxed|sqrt|text|pi|cdot|times|infty|cup|circ|theta|pm|le|ge|in|ne)(?![a-z])|[()\[\]!,])"
)
_THIN = re.compile(r",\s*\\!\s*(?=\d{2})|\\[!,]\s*(?=\d{3})|\s*\{\s*([,:])\s*\}\s*")
_STYLE = re.compile(
    r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|scriptstyle|limits|nolimits|mathstrut|boldsymbol)(?![A-Za-z])"
    r"|\\(?:text)?color\s*\{[^{}]*\}|\\[vh]?phantom\s*\{[^{}]*\}|\\(?:checkmark|underline)(?![A-Za-z])|(?<!\\)\\[()\[\]!]|(?<=\\\\)\s*\[\d+(?:pt|em|ex|mm)\]"
)
_SPACE = re.compile(r"(?<!\\)\\[,;:> ]|\\q?quad|\\hspace\{[^{}]*\}|~|\\\n")
_CURRENCY = re.compile(r"(?:\bUS ?)?\\?\$|\\(?:pounds|euro|yen)(?![A-Za-z])")
_MONEY = re.compile(
    r"(?P<dollar>\\\$|\bdollars?\b|\bUSD\b|美元)|(?P<cent>\bcents?\b|¢|美分)|(?P<euro>€|\\euro\b|\beuros?\b|\bEUR\b|欧元)"
    r"|(?P<pound>£|\\pounds\b)|(?P<yuan>[¥￥]|\byuan\b|\bRMB\b|(?<![美欧日])元)"
)
_DEGREE = re.compile(r"\^\s*(?:\{\s*(?:\\circ|°)\s*\}|\\circ(?![A-Za-z])|°)|\\degree(?![A-Za-z])")
_FRAC = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_TEXT = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal|up)?|math(?:rm|bf|it|sf|tt)|mbox|operatorname\*?|textnormal|bf|rm|it|emph)\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_BRACED_ROWS = re.compile(
    r"\\left\s*\\\{\s*\\begin\{(?:array|aligned|matrix)\}(?:\s*\{[lcr|]*\})?(.*?)\\end\{[a-z]*\}\s*\\right\s*\.",
    re.DOTALL,
)
_PRIMES = re.compile(r"\^\s*(?:\{(?:\s*\\prime)+\s*\}|\\prime)")
_CIRCLED = re.compile(r"\\(?:text)?circled\s*\{?\s*([1-9])\s*\}?")
_NOT_EQUAL = re.compile(r"\\not\s*=")
_PYTHON = re.compile(r"(?<![A-Za-z\\])(?:np|numpy|c?math|sympy|sp)\.(?=[a-z])")
_LOG_OF_BASE = re.compile(r"(?<![A-Za-z\\])log(10|2)(?= ?\()")
_WORD_OPERATORS = {
    "and", "or", "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "log", "ln", "lg", "exp",
    "gcd", "lcm", "max", "min", "cis", "sinh", "cosh", "tanh", "arccot", "arcsinh", "arccosh", "arctanh", "mod",
}  # fmt: skip
_JOINED = re.compile(r"(?<=[\d\w)}\]]) ?(和|与|以及|且|或者|或) ?(?=[\d\w({\[\\-])")
_JOINS = {"和": " and ", "与": " and ", "以及": " and ", "且": " and ", "或": " or ", "或者": " or "}

_NO_WORDS = re.compile(r"(?:if|for|when|where)\b[^<>=]*[<>=]|\d[\d:]* ?[ap]\.? ?m\b", re.IGNORECASE)
_DAYTIME = re.compile(r"(?<=\d)(?::00)? ?(?:\\text\{ ?)?([ap])\.? ?m(?:\.|\b)\}?", re.IGNORECASE)
_SCALE = re.compile(r"° ?(?:\\text\{ ?)?[CF]\b\}?")
_TO = re.compile(r"(?<=\d) (?:to|\\text\{ ?to ?\}) (?=\d)|(?<=\d) ?\\text\{ ?to ?\} ?(?=\d)")
_POINT = re.compile(r"[A-Z]'?\s*(?=\([^()]*,[^()]*\)$)")  # P(2, 5)
_CHANCE = re.compile(
    r"P ?\([^()]*(?:[=<>|]|\\(?:[lg]eq?|[lg]t|mid|cap|cup)\b)[^()]*\) ?= ?(?=\S)"
)  # P(X = 2) =
_DOTS = re.compile(r"\\[lc]?dots(?![A-Za-z])|\.\.\.")
_EDGE = ' ,;:*`"'


@lru_cache(maxsize=8192)
def plain(answer: str) -> str:
    """The answer without typesetting, in ASCII LaTeX where there is such a spelling; case and words stay."""
    text = typeset(answer)
    if point := _POINT.match(text) or _CHANCE.match(text):
        text = text[point.end() :]
    return text.strip(_EDGE) if text.endswith("...") else text.strip(_EDGE).rstrip(".").rstrip(_EDGE + "\\")


def typeset(answer: str) -> str:
    """As `plain`, with the name of a point before it."""
    text = answer if answer.isascii() else _ascii(answer)
    if any(sign in text for sign in "\\${~"):
        text = _without_typesetting(text)
    text = _PYTHON.sub("", text) if ("." in text and "(" in text) or "pi" in text else text
    text = _LOG_OF_BASE.sub(r"\\log_{\1}", text) if "log" in text else text
    text = _SCALE.sub("°", text) if "°" in text else text
    return _TO.sub(":", _DAYTIME.sub(r" \\text{\1m}", " ".join(text.split()))).removeprefix("=")


def currencies(answer: str) -> set[str]:
    """The currencies that an answer names: $5 is no 5 cents, 5 euros are no $5."""
    found = {match.lastgroup or "" for match in _MONEY.finditer(answer)}
    return found | {"dollar"} if answer.count("$") == 1 else found


def as_text(answer: str) -> str:
    """The answer to be compared as text: its letters, digits and signs; spaces only where they part numbers."""
    text = _DOTS.sub("…", re.sub(r"\\text ?\{([^{}]*)\}", r"\1", plain(answer)))
    text = re.sub(r"(?<!\d)\s+|\s+(?!\d)|[\"`*]|\\(?=[a-zA-Z])|(?<!\d)\.(?!\d)", "", text)
    return text.rstrip(".,;:")


def _ascii(text: str) -> str:
    text = _ROOT_OF.sub(lambda m: f"{_ROOTS[m[1]]}{{{m[2]}}}", text)
    text = _RAISED.sub(lambda m: f"^{{{m.group().translate(_SUPERSCRIPTS)}}}", text)
    text = _LOWERED.sub(lambda m: f"_{{{m.group().translate(_SUBSCRIPTS)}}}", text).translate(_SAME)
    text = "".join(map(_letter, text))
    text = _NAMED_IN_CHINESE.sub("", _ABOUT.sub(r"\\approx ", text))
    text = _SAID.sub(lambda m: _SAID_SIGNS[m.lastindex - 1], text)  # type: ignore[operator]
    return _JOINED.sub(lambda m: _JOINS[m[1]], text)


def _letter(character: str) -> str:
    """Digits of any script are digits, letters of mathematical alphabets are letters."""
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    return (
        unicodedata.normalize("NFKC", character) if "\U0001d400" <= character <= "\U0001d7ff" else character
    )


def _without_typesetting(text: str) -> str:
    if "\\begin" not in text:
        text = _DOUBLED.sub(r"\\", text)
    if "\\right" in text:
        text = _BRACED_ROWS.sub(r"\\begin{cases}\1\\end{cases}", text)
    if "prime" in text:
        text = _PRIMES.sub(lambda m: "'" * m.group().count("p"), text)
    text = _CIRCLED.sub(lambda m: chr(0x245F + int(m[1])), text) if "circled" in text else text
    text = _NOT_EQUAL.sub(r"\\ne ", text) if "\\not" in text else text
    text = _THIN.sub(lambda m: m[1] or "", text)
    text = _STYLE.sub("", _DEGREE.sub("° ", text))
    text = _SPACE.sub(" ", _CURRENCY.sub("", text))
    text = _FRAC.sub(r"\\frac", text).replace("\\%", "%").replace("\\&", "&").replace("\\#", "#")
    return _TEXT.sub(_text, _TEXT.sub(_text, text)) if "{" in text else text


def _text(match: re.Match[str]) -> str:
    """Words stay words; a letter, a number or an operator's name set upright is just that."""
    inside = match[1].strip()
    if inside.lower() in ("and", "or"):
        return f" {inside.lower()} "
    if inside in _WORD_OPERATORS and not (inside in ("sec", "min") and _is_unit(match)):
        return f"\\{inside} "
    if len(inside) == 1:
        return f" {inside}"
    if "\\" in inside or _NO_WORDS.match(inside) or not re.search(r"[^\W\d_]", inside):
        return inside
    return f"\\text{{{re.sub('[{}]', '', match[1])}}}"


def _is_unit(match: re.Match[str]) -> bool:
    """25\\text{ sec} at the end, or before the next number: no secant."""
    before, after = match.string[: match.start()], match.string[match.end() :]
    return "operator" not in match[0] and bool(
        re.search(r"[\d})][ ~]*$", before) and not re.match(r"\s*[\\({A-Za-z]", after)
    )
