"""Chinese pages: questions of benchmarks as HTML against pages about other things, in two encodings."""

import gzip
import html
import json
from random import Random

import pytest

from dsm_jax.mine.extract.language import language_of
from dsm_jax.mine.extract.page_text import decode, page_text
from dsm_jax.mine.loop import classify
from dsm_jax.mine.tokens import fasttext_tokens

OTHER_TEXTS = """\
本报讯 昨天上午，市图书馆新馆正式向读者开放。新馆共有3层，藏书约40万册。馆长表示，周末的开放时间将延长到晚上9点。许多市民带着孩子前来参观。
红烧肉的做法并不难。先把500克五花肉切块，用冷水焯去血沫。锅里放少许油和冰糖，小火炒出糖色。加入酱油、料酒和姜片，慢慢炖1个小时即可。
去年秋天，我们一家去了云南旅行。大理的天空非常蓝，洱海边的风很舒服。住的客栈每晚200元，老板十分热情。最难忘的是清晨的古城和街边的米线。
在昨晚结束的比赛中，主队以2比1战胜了对手。第35分钟，队长用一记远射打破僵局。下半场客队扳平比分，但替补前锋在补时阶段打入制胜球。球迷们彻夜欢庆。
医生提醒，冬季是感冒的高发季节。老人和儿童应当注意保暖，多喝温水。如果体温超过38度并持续两天，要及时到医院就诊。不要自行服用抗生素。
这座城市的历史可以追溯到两千多年前。秦汉时期，这里是重要的驿站。明代修建的城墙至今保存完好。每年都有大量游客前来感受古老的文化。
这部电影讲述了一位老船长寻找失散女儿的故事。导演用细腻的镜头表现了海边小镇的生活。演员的表演十分自然，配乐也令人动容。上映首周票房便突破了1亿元。
新款手机采用了轻薄的机身设计，屏幕显示效果出色。相机在夜间拍摄的照片清晰明亮。电池能够满足一整天的使用。售价为3999元，下周五正式开售。
今年春天的房屋租赁市场比较平稳。靠近地铁站的小户型最受年轻人欢迎。中介建议租客签合同前仔细检查水电设施。房东一般会要求支付一个月的押金。
气象台预计，明天白天多云，傍晚有小雨。最高气温18度，最低气温9度，北风3到4级。外出的市民请携带雨具。周末天气将逐渐转晴。
教育部门近日发布通知，要求学校合理安排课外活动。家长普遍欢迎这一做法。校长说，孩子们需要更多运动和阅读的时间。新的安排将从9月开始实施。
法院审理后认为，双方签订的合同有效。被告应当在判决生效后10日内支付货款。律师表示，企业签约时要明确违约责任。当事人对判决没有提出上诉。
受消息影响，今日股市开盘后小幅上涨。银行和能源板块表现较好，科技公司的股票有所回落。分析人士认为，投资者应保持谨慎。成交金额比前一日减少。
音乐节将于下个月在海滨公园举行。来自各地的20支乐队将登台演出。主办方准备了免费的接驳巴士。乐迷可以在现场购买唱片和纪念品。
小猫刚到新家时往往会躲在角落里。主人要准备安静的环境和干净的水。不要急着抱它，让它慢慢熟悉气味。一般过3天左右，它就会主动出来玩耍。
阳台上种花并不需要太多空间。绿萝和吊兰都很容易养活。夏天每两天浇一次水，避免阳光直射。施肥不宜过多，否则叶子会发黄。
今年流行的外套以宽松款式为主。浅色的羊毛大衣搭配牛仔裤显得清爽。设计师在袖口加入了刺绣元素。店员说，这一系列深受年轻顾客喜爱。
记者从交通部门获悉，环城公路将于下周封闭维修。工程预计持续15天，过往车辆需绕行。公交公司临时增加了2条线路。请司机朋友注意路边的指示牌。
龙井茶产于杭州西湖一带，以清香著称。采茶一般在清明前后进行。炒茶师傅凭手感控制锅里的温度。泡茶时水温不宜太高，第二泡的味道最好。
端午节有吃粽子和赛龙舟的习俗。南方的粽子多用咸肉，北方的粽子多用红枣。传说这个节日是为了纪念诗人屈原。孩子们手腕上会系上五彩线。
博物馆正在展出一批唐代的瓷器。这些文物是去年在海底沉船中发现的。专家介绍，它们原本要运往西亚。展览免费开放到月底，每天限1000人入场。
公司招聘编辑2名，要求中文专业毕业，有两年以上工作经验。应聘者请将简历发送到邮箱。我们提供有竞争力的薪水和带薪假期。面试安排在下周三。
这款游戏让玩家扮演一名探险家，在神秘的岛屿上寻找宝藏。画面精美，剧情曲折。多人模式可以和朋友一起合作。有玩家抱怨，后期的关卡太难。
护士小李在这家医院工作了12年。她常常值夜班，却很少抱怨。病人出院时总会向她道谢。她说，看到大家康复是最开心的事。
""".splitlines()

TEMPLATE = """<!DOCTYPE html><html lang="zh"><head><meta charset="{charset}"><title>网页</title></head><body>
<nav class="navbar"><ul><li><a href="/">首页</a></li><li><a href="/l">登录</a></li><li><a href="/r">注册会员</a></li></ul></nav>
<div class="sidebar"><ul><li><a href="/1">热门推荐</a></li><li><a href="/2">友情链接</a></li></ul></div>
<article>{paragraphs}</article>
<footer class="footer">版权所有 京ICP备00000000号</footer><script>var price = "$1";</script></body></html>"""
BOILERPLATE = ["首页", "登录", "注册会员", "热门推荐", "友情链接", "版权所有"]


def rendered(paragraphs, charset):
    inside = "".join(f"<p>{html.escape(paragraph, quote=False)}</p>\n" for paragraph in paragraphs)
    return TEMPLATE.format(charset=charset, paragraphs=inside).encode(charset)


def questions_of(dsm_data, name):
    with gzip.open(dsm_data / "benchmarks" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            question = row.get("question") or row["messages"][0]["content"]
            yield " ".join(question.split())


@pytest.fixture(scope="module")
def questions(dsm_data):
    names = ("cmath_test", "mgsm_zh", "gaokao_mathcloze", "gaokao_mathqa")
    return {name: list(questions_of(dsm_data, name)) for name in names}


@pytest.mark.parametrize("charset", ["utf-8", "gb18030"])
def test_questions_are_kept_exactly_and_boilerplate_goes(questions, charset):
    for name, all_questions in questions.items():
        assert len(all_questions) >= 100, name
        for start in range(0, len(all_questions), 5):
            paragraphs = all_questions[start : start + 5]
            text = page_text(decode(rendered(paragraphs, charset), None))
            assert text.split("\n\n") == paragraphs
            assert not any(words in text for words in BOILERPLATE)
            assert language_of(text) == "zh"


def average_precision(scores, is_math):
    ranked = [truth for _, truth in sorted(zip(scores, is_math, strict=True), reverse=True)]
    hits = [sum(ranked[: i + 1]) / (i + 1) for i, truth in enumerate(ranked) if truth]
    return sum(hits) / len(hits)


def test_a_classifier_tells_questions_from_other_chinese_pages(questions, tmp_path):
    """Trained on half of the pages, as many of either kind; the other half is ranked."""
    rng = Random(0)
    texts = {True: [], False: []}
    for n, other in enumerate(OTHER_TEXTS):
        charset = ("utf-8", "gb18030")[n % 2]
        sentences = [sentence + "。" for sentence in other.split("。") if sentence]
        texts[False].append(page_text(decode(rendered(sentences, charset), None)))
        of_each = [rng.choice(questions[name]) for name in sorted(questions)]
        texts[True].append(page_text(decode(rendered(rng.sample(of_each, 2), charset), None)))
    tokens = {kind: list(map(fasttext_tokens, pages)) for kind, pages in texts.items()}
    config = classify.FastTextConfig(dim=16, lr=0.5, epoch=25, min_count=1, bucket=10_000)
    lines = [f"{classify.MATH} {text}\n" for text in tokens[True][::2]]
    lines += [f"{classify.OTHER} {text}\n" for text in tokens[False][::2]]
    rng.shuffle(lines)
    (tmp_path / "train.txt").write_text("".join(lines), encoding="utf-8")
    classify.train(tmp_path / "train.txt", tmp_path / "model.bin", config)
    held_out = [(text, kind) for kind, pages in tokens.items() for text in pages[1::2]]
    scores = classify.predict(classify.load(tmp_path / "model.bin"), [text for text, _ in held_out])
    assert len(held_out) == 24
    assert average_precision(scores, [kind for _, kind in held_out]) >= 0.95
