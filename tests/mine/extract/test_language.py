import fasttext
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mine.extract.language import language_of, languages_of, load_language_model

SENTENCES = {
    "en": "the sum of two odd numbers is even and the product of two odd numbers is odd",
    "de": "die Summe von zwei ungeraden Zahlen ist gerade und das Produkt ist wieder ungerade",
    "zh": "两 个 奇 数 的 和 是 偶 数 , 两 个 奇 数 的 积 是 奇 数",
}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("languages")
    lines = [f"__label__{label} {sentence}\n" for label, sentence in SENTENCES.items()] * 40
    (folder / "train.txt").write_text("".join(lines))
    model = fasttext.train_supervised(
        str(folder / "train.txt"), dim=8, epoch=20, lr=0.5, minn=1, maxn=3, bucket=1000, thread=1, verbose=0
    )
    model.save_model(str(folder / "languages.bin"))
    return folder / "languages.bin"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("", ""),
        ("123 + 4 = $ % ...", ""),
        ("The sum of two odd numbers is even.", "latn"),
        ("Déterminer l'ensemble des réels.", "latn"),
        ("小明有三个苹果，一共有多少个？", "zh"),
        (r"已知函数 $f(x)=\frac{1}{2}\sin x+\cos 2x$ 的最小值 (see Theorem)", "zh"),
        (r"设 $\alpha+\beta=\gamma$, $\lambda\mu=\nu$, 求 $\sin\alpha\cos\beta\tan\gamma$", "zh"),
        ("三角形の面積を求めなさい。", "ja"),
        ("삼각형의 넓이를 구하시오.", "ko"),
        ("Найдите площадь треугольника", "cyrl"),
        ("أوجد مساحة المثلث", "arab"),
        ("חשב את שטח המשולש", "hebr"),
        ("Βρείτε το εμβαδόν", "grek"),
        ("त्रिभुज का क्षेत्रफल ज्ञात कीजिए", "deva"),
        ("የሦስት ማዕዘን ስፋት", "zzzz"),
        ("The Greek letter α and the word Найдите in an English sentence", "latn"),
    ],
)
def test_without_a_model_the_script_tells(text, language):
    assert language_of(text, None) == language
    assert language_of(text) == language


def test_with_a_model_its_labels_tell(model_file):
    model = load_language_model(model_file)
    for label, sentence in SENTENCES.items():
        assert language_of(f"{sentence[:40]}\n\n{sentence[20:]}", model) == label
    assert language_of("12 + 3", model) == language_of("", model) == ""


def test_many_texts_at_once_are_the_single_ones(model_file):
    texts = ["", *SENTENCES.values(), "1+1\n2", "x\n" * 30_000]
    for model in (None, load_language_model(model_file)):
        assert languages_of(texts, model) == [language_of(text, model) for text in texts]
    assert languages_of([], load_language_model(model_file)) == []


def test_missing_and_foreign_files_are_refused_in_one_line(tmp_path, model_file):
    (tmp_path / "text.bin").write_text("no model\n" * 100)
    (tmp_path / "empty.bin").touch()
    (tmp_path / "cut.bin").write_bytes(model_file.read_bytes()[:-2000])
    (tmp_path / "words.txt").write_text("the sum of two odd numbers is even\n" * 50)
    fasttext.train_unsupervised(
        str(tmp_path / "words.txt"), dim=4, bucket=100, minCount=1, thread=1, verbose=0
    ).save_model(str(tmp_path / "vectors.bin"))
    for name in ("missing.bin", "text.bin", "empty.bin", "cut.bin", "vectors.bin", "."):
        with pytest.raises(UserError, match="--language-model") as raised:
            load_language_model(tmp_path / name)
        assert name in str(raised.value) and "\n" not in str(raised.value)
