"""Unicode characters and names as TeX commands: the tables of the MathML converter.

Left out on purpose: symbols that need a package beyond amsmath; they stay as they are.
"""

import re
import unicodedata
from functools import lru_cache


def _pairs(text: str) -> dict[str, str]:
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=True))


def _commands(text: str) -> frozenset[str]:
    return frozenset("\\" + name for name in text.split())


FUNCTIONS = _commands(
    """arccos arcsin arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf ker lg lim liminf limsup ln log
    max min Pr sec sin sinh sup tan tanh"""
)
WITH_LIMITS = _commands(
    """sum prod coprod bigcup bigcap bigoplus bigotimes bigvee bigwedge int iint iiint oint lim max min sup inf
    limsup liminf gcd det Pr"""
)
OVER = _pairs(
    r"""^ hat ˆ hat ~ tilde ˜ tilde \sim tilde ¯ overline ‾ overline - overline \_ overline \to vec ⃗ vec ˙ dot
    . dot ¨ ddot ˇ check ˘ breve ⏞ overbrace"""
)
UNDER = _pairs(r"\_ underline ¯ underline ‾ underline - underline ⏟ underbrace")
ALPHABETS = _pairs("double-struck mathbb fraktur mathfrak black-letter mathfrak script mathcal bold mathbf")

_SYMBOLS = {character: "\\" + name for character, name in _pairs(
    r"""∑ sum ∏ prod ∐ coprod ⋃ bigcup ⋂ bigcap ⨁ bigoplus ⨂ bigotimes ⋁ bigvee ⋀ bigwedge ∫ int ∬ iint ∭ iiint
    ∮ oint ∞ infty ∂ partial ∇ nabla ± pm ∓ mp × times ÷ div · cdot ⋅ cdot ∘ circ ∗ ast ⊕ oplus ⊗ otimes ∧ wedge
    ∨ vee ¬ neg ∩ cap ∪ cup ∖ setminus ∈ in ∉ notin ∋ ni ⊂ subset ⊃ supset ⊆ subseteq ⊇ supseteq ∅ emptyset
    ∀ forall ∃ exists ≤ le ≥ ge ⩽ le ⩾ ge ≠ ne ≡ equiv ≈ approx ≅ cong ≃ simeq ∼ sim ≺ prec ≻ succ ≪ ll ≫ gg
    ∝ propto → to ← leftarrow ↔ leftrightarrow ↦ mapsto ⇒ Rightarrow ⇐ Leftarrow ⇔ Leftrightarrow ↑ uparrow
    ↓ downarrow ⟶ longrightarrow ⟹ Longrightarrow ⟺ Longleftrightarrow ↪ hookrightarrow … dots ⋯ cdots ⋮ vdots
    ⋱ ddots ℓ ell ℏ hbar ℘ wp ℜ Re ℑ Im ℵ aleph ∠ angle △ triangle ⊥ perp ∥ parallel ∣ mid ∤ nmid ⌊ lfloor
    ⌋ rfloor ⌈ lceil ⌉ rceil ⟨ langle ⟩ rangle 〈 langle 〉 rangle ‖ | † dagger ⋆ star # # $ $ % % & & _ _
    { { } } \ backslash"""
).items()}  # fmt: skip
_SYMBOLS |= {"\u2212": "-", "\u2032": "'", "\u2033": "''", "\u2254": ":=", "\u00a0": " ", "\u2009": " "}
_SYMBOLS |= dict.fromkeys("\u2061\u2062\u2063\u2064\u200b\ufeff", "")  # operators that are not seen


@lru_cache(4096)
def symbol(character: str) -> str:
    """A character as TeX; itself where there is nothing better."""
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    if character.isascii():
        return character
    name = unicodedata.name(character, "")
    greek = re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER (?:FINAL )?([A-Z]+)", name)
    if greek and greek[2] != "OMICRON":
        letter = greek[2].lower().replace("lamda", "lambda")
        return "\\" + (letter.title() if greek[1] == "CAPITAL" else letter)
    plain = unicodedata.normalize("NFKC", character)
    if len(plain) != 1 or plain == character or not plain.isalnum():
        return character
    alphabet = next((command for style, command in ALPHABETS.items() if style.upper() in name), "")
    return f"\\{alphabet}{{{symbol(plain)}}}" if alphabet else symbol(plain)
