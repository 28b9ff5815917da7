"""Every word of the report's page, in English and in Chinese, and how numbers are written."""

import re
from dataclasses import dataclass
from typing import Literal

from scratchlm.base.progress import in_bytes

Language = Literal["en", "zh"]

_WORDS = {
    "html_lang": ("en", "zh-Hans"),
    "title": ("Corpus report", "语料报告"),
    "recipe": ("recipe {name}", "配方 {name}"),
    "skip": ("Skip to the flow", "跳到流程图"),
    "sections": ("Sections", "章节"),
    "colon": (": ", "："),
    "more": ("{n} more", "其余 {n} 项"),
    "as_table": ("The same as a table", "以表格查看"),
    "cut": (
        "Texts are quoted as they were found, cut to {chars} characters; lists to {rows} rows.",
        "文本按原样引用，最多显示 {chars} 个字符；列表最多 {rows} 行。",
    ),
    # the head
    "headline": ("{share} of {documents} kept", "{documents}中保留了 {share}"),
    "documents_in": ("documents in", "输入文档"),
    "documents_kept": ("documents kept", "保留文档"),
    "text_kept": ("of text kept", "保留文本"),
    "tokens": ("tokens, estimated", "词元（估计）"),
    # the links to sections
    "to_flow": ("Flow", "流程"),
    "to_languages": ("Languages", "语言"),
    "to_lengths": ("Lengths", "长度"),
    "to_sources": ("Sources", "来源"),
    "to_rules": ("Rules", "规则"),
    "to_clusters": ("Near-duplicates", "近似重复"),
    "to_overlap": ("Evaluation sets", "评测集"),
    "to_personal": ("Personal data", "个人信息"),
    "to_boilerplate": ("Boilerplate", "样板文字"),
    # the flow
    "flow": ("What was thrown away, and why", "丢弃了什么，为什么"),
    "flow_lead_documents": (
        "From top to bottom, stage by stage. Width is the number of documents: blue goes on, "
        "orange leaves.",
        "自上而下，逐个阶段。宽度表示文档数量：蓝色继续，橙色离开。",
    ),
    "flow_lead_bytes": (
        "From top to bottom, stage by stage. Width is the amount of text: blue goes on, orange "
        "leaves, with whole documents or with lines of those that stay.",
        "自上而下，逐个阶段。宽度表示文本量：蓝色继续，橙色离开（整篇文档，或保留文档中的行）。",
    ),
    "by_documents": ("Documents", "文档数"),
    "by_bytes": ("Bytes", "字节数"),
    "flow_in": ("{amount} in", "输入 {amount}"),
    "flow_out": ("{amount} kept", "保留 {amount}"),
    "nothing_dropped": ("nothing dropped", "无丢弃"),
    "all_text_kept": ("no text removed", "文本未减少"),
    "other_reasons": ("other reasons: {n}", "其他 {n} 种原因"),
    "chart_of_flow": (
        "Flow chart: {start}, {end}. The table below has every number.",
        "流程图：{start}，{end}。下方表格列出所有数字。",
    ),
    "stage": ("Stage", "阶段"),
    "reason": ("Reason", "原因"),
    "dropped": ("Dropped", "丢弃"),
    "in": ("In", "输入"),
    "kept": ("Kept", "保留"),
    "text": ("Text", "文本"),
    "share": ("Share", "占比"),
    "of_stage": ("Of the stage", "占该阶段"),
    # languages, lengths, sources
    "languages": ("Languages", "语言"),
    "language": ("Language", "语言"),
    "lengths": ("Lengths", "长度"),
    "lengths_lead": (
        "Documents by their number of characters: each bar holds texts twice as long as those of "
        "the bar before.",
        "按字符数统计的文档：每一柱的文本长度是前一柱的两倍。",
    ),
    "half": (
        "Half of them have fewer than about {n} characters.",
        "其中一半少于约 {n} 个字符。",
    ),
    "chart_of_lengths": (
        "Histogram of lengths, {name}: {n}. The table below has every number.",
        "{name}长度直方图：{n}。下方表格列出所有数字。",
    ),
    "characters": ("Characters", "字符数"),
    "chars_range": ("{low} to {high}", "{low} 至 {high}"),
    "bar_of_lengths": ("{low} to {high} characters: {n}", "{low} 至 {high} 个字符：{n}"),
    "sources": ("Sources", "来源"),
    "sources_lead": (
        "The {shown} largest of {n}. The pale bar is what came in, the blue part of it was kept.",
        "共 {n} 个来源，显示最大的 {shown} 个。浅色为输入，其中蓝色部分被保留。",
    ),
    "source": ("Source", "来源"),
    # rules
    "rules": ("The rules, and what they did", "规则及其效果"),
    "rules_lead": (
        "Open a rule to judge it: the worst documents that it kept, and the best that it dropped. "
        "A score of 1 is the limit, 2 is twice beyond it.",
        "展开一条规则即可评判：它保留的最差文档，以及它丢弃的最好文档。"
        "得分 1 为界限，2 为超出一倍。",
    ),
    "idle_rules": ("{n} rules that dropped nothing", "{n} 条规则未丢弃任何文档"),
    "limit": ("Limit", "界限"),
    "paper": ("From", "出处"),
    "worst_kept": ("The worst it kept", "保留中最差的"),
    "best_dropped": ("The best it dropped", "丢弃中最好的"),
    "no_sample": ("There was none.", "没有这样的文档。"),
    "score": ("score {score}", "得分 {score}"),
    # duplicates
    "clusters": ("Near-duplicates", "近似重复"),
    "clusters_lead": (
        "{n} clusters hold {documents}; one of each stays. Below, each duplicate is compared with "
        "the one that stays:",
        "{n} 组近似重复共 {documents}，每组保留一篇。下面将每篇重复文档与保留的一篇比较：",
    ),
    "only_here": ("only in the duplicate", "仅在重复文档中"),
    "only_there": ("only in the one that stays", "仅在保留文档中"),
    "cluster": ("{documents}, nearly the same", "{documents}，几乎相同"),
    "stays": ("stays", "保留"),
    "similar": ("{share} similar", "相似度 {share}"),
    # overlap, personal data, boilerplate
    "overlap": ("Overlap with evaluation sets", "与评测集重叠"),
    "overlap_lead": (
        "Documents that hold words of an exam which the model is to sit later.",
        "含有评测题目原文的文档：模型以后要考这些题。",
    ),
    "benchmark": ("Evaluation set", "评测集"),
    "documents": ("Documents", "文档"),
    "matches": ("Matching words", "重合的文字"),
    "no_overlap": (
        "No text of an evaluation set was met, or none was looked for.",
        "未发现与评测集重叠的文本，或未检查。",
    ),
    "personal": ("Personal data masked", "已遮盖的个人信息"),
    "no_personal": (
        "None was masked: masking was not asked for, or nothing was found.",
        "没有遮盖：未要求遮盖，或未发现个人信息。",
    ),
    "kind": ("Kind", "类别"),
    "times": ("Times", "次数"),
    "boilerplate": ("Lines removed since they stand all over a site", "因遍布全站而移除的行"),
    "line": ("Line", "行"),
    "pages": ("Pages", "页数"),
    "no_clusters": ("None was found, or none was looked for.", "未发现近似重复，或未检查。"),
    "made_by": (
        "Made by scratchlm. This page is one file: it loads nothing and sends nothing.",
        "由 scratchlm 生成。本页只有一个文件：不加载、也不发送任何内容。",
    ),
}

_STAGES = {
    "fetch": ("Fetch", "抓取"),
    "extract": ("Extract", "提取正文"),
    "normalise": ("Normalise", "规范化"),
    "language": ("Language", "语言"),
    "quality": ("Quality", "质量"),
    "boilerplate": ("Boilerplate", "样板文字"),
    "exact duplicates": ("Exact duplicates", "完全重复"),
    "near duplicates": ("Near-duplicates", "近似重复"),
    "overlap": ("Overlap with evaluation sets", "与评测集重叠"),
    "personal data": ("Personal data", "个人信息"),
}

_KINDS = {
    "EMAIL_ADDRESS": ("email addresses", "电子邮箱"),
    "PHONE_NUMBER": ("telephone numbers", "电话号码"),
    "IP_ADDRESS": ("IP addresses", "IP 地址"),
    "RESIDENT_ID": ("Chinese identity numbers", "身份证号"),
    "CARD_NUMBER": ("bank card numbers", "银行卡号"),
}

_TONGUES = {
    "ar": ("Arabic", "阿拉伯语"),
    "bg": ("Bulgarian", "保加利亚语"),
    "bn": ("Bengali", "孟加拉语"),
    "ca": ("Catalan", "加泰罗尼亚语"),
    "cs": ("Czech", "捷克语"),
    "da": ("Danish", "丹麦语"),
    "de": ("German", "德语"),
    "el": ("Greek", "希腊语"),
    "en": ("English", "英语"),
    "es": ("Spanish", "西班牙语"),
    "fa": ("Persian", "波斯语"),
    "fi": ("Finnish", "芬兰语"),
    "fr": ("French", "法语"),
    "he": ("Hebrew", "希伯来语"),
    "hi": ("Hindi", "印地语"),
    "hu": ("Hungarian", "匈牙利语"),
    "id": ("Indonesian", "印尼语"),
    "it": ("Italian", "意大利语"),
    "ja": ("Japanese", "日语"),
    "ko": ("Korean", "韩语"),
    "ms": ("Malay", "马来语"),
    "nl": ("Dutch", "荷兰语"),
    "no": ("Norwegian", "挪威语"),
    "pl": ("Polish", "波兰语"),
    "pt": ("Portuguese", "葡萄牙语"),
    "ro": ("Romanian", "罗马尼亚语"),
    "ru": ("Russian", "俄语"),
    "sv": ("Swedish", "瑞典语"),
    "ta": ("Tamil", "泰米尔语"),
    "th": ("Thai", "泰语"),
    "tr": ("Turkish", "土耳其语"),
    "uk": ("Ukrainian", "乌克兰语"),
    "ur": ("Urdu", "乌尔都语"),
    "vi": ("Vietnamese", "越南语"),
    "zh": ("Chinese", "中文"),
    "zxx": ("no language", "非语言内容"),
}

# What the stages say, in Chinese; in English it speaks for itself.
_REASONS = [
    # extract
    (r"no text", "无正文"),
    (r"empty", "空文档"),
    (r"no key (.+)", r"缺少字段 \1"),
    (r"no column (.+)", r"缺少列 \1"),
    (r"hidden", "隐藏文件"),
    (r"link", "链接"),
    (r"revisit", "重复抓取"),
    (r"binary", "二进制文件"),
    (r"unknown encoding", "编码未知"),
    (r"kind not read", "不支持的类型"),
    (r"content type", "内容类型不符"),
    (r"http status", "HTTP 状态异常"),
    (r"encrypted", "已加密"),
    (r"broken archive", "压缩包损坏"),
    (r"broken table", "表格损坏"),
    (r"broken (\w+)", r"\1 损坏"),
    (r"parquet not read", "无法读取 Parquet"),
    (r"cannot be opened", "无法打开"),
    (r"nested too deep", "嵌套过深"),
    (r"unpacks to too much", "解压后过大"),
    (r"too large", "过大"),
    (r"time limit", "超时"),
    (r"memory limit", "内存超限"),
    (r"crashed", "解析崩溃"),
    # clean
    (r"no text: a test for robots", "无正文：人机验证"),
    (r"no text: asks for JavaScript", "无正文：要求启用 JavaScript"),
    (r"no text: a cookie notice", "无正文：Cookie 提示"),
    (r"no text: an error page", "无正文：错误页面"),
    (r"(\w+): too few words", r"\1：词太少"),
    (r"(\w+): too many words", r"\1：词太多"),
    (r"(\w+): words too long", r"\1：词太长"),
    (r"(\w+): words too short", r"\1：词太短"),
    (r"(\w+): too many hash signs", r"\1：井号过多"),
    (r"(\w+): too many ellipses", r"\1：省略号过多"),
    (r"(\w+): too many lines begin with a bullet", r"\1：过多行以项目符号开头"),
    (r"(\w+): too many lines end with an ellipsis", r"\1：过多行以省略号结尾"),
    (r"(\w+): too few words with a letter", r"\1：含字母的词太少"),
    (r"(\w+): too few stop words", r"\1：停用词太少"),
    (r"(\w+): too few stop words, by share", r"\1：停用词所占比例太低"),
    (r"(\w+): repeated lines", r"\1：重复的行"),
    (r"(\w+): repeated lines, by characters", r"\1：重复的行（按字符）"),
    (r"(\w+): repeated paragraphs", r"\1：重复的段落"),
    (r"(\w+): repeated paragraphs, by characters", r"\1：重复的段落（按字符）"),
    (r"(\w+): one (\d+)-gram too often", r"\1：某个 \2-gram 过于频繁"),
    (r"(\w+): repeated (\d+)-grams", r"\1：重复的 \2-gram"),
    (r"(\w+): too few lines end with punctuation", r"\1：以标点结尾的行太少"),
    (r"(\w+): too many short lines", r"\1：短行过多"),
    (r"(\w+): too few sentences", r"\1：句子太少"),
    (r"(\w+): holds (.+)", r"\1：含有 \2"),
    (r"boilerplate: nothing left", "去除样板文字后无内容"),
    (r"duplicate: equal", "与另一篇相同"),
    (r"duplicate: similar", "与另一篇相似"),
    (r"overlap: (.+)", r"与 \1 重叠"),
    # how tokens are estimated
    (
        r"([\d.]+) to ([\d.]+) bytes a token in Chinese, ([\d.]+) to ([\d.]+) in other languages",
        r"每个词元：中文 \1 至 \2 字节，其他语言 \3 至 \4 字节",
    ),
]

# Of a paper, in Chinese.
_PARTS = [
    (r"\bappendix (\w+(?:\.\d+)*)", r"附录 \1"),
    (r"\bsection (\d+(?:\.\d+)*)", r"第 \1 节"),
    (r"\btable (\w+)", r"表 \1"),
    (r"\bour own list\b", "本项目自定"),
    (r"(?<=\w), (?=附|第|表)", "，"),
]
_LIMITS = re.compile(r"[a-z]{2,3}: [\w.+-]+(, [a-z]{2,3}: [\w.+-]+)*")  # by language
_LANGUAGE = "language: "  # before the code of one that is not wanted
_SHORT = {
    "en": ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")),
    "zh": ((10**12, " 万亿"), (10**8, " 亿"), (10**4, " 万")),
}


@dataclass(frozen=True)
class Words:
    """The words of one language; calling it with a key gives a text of the page."""

    language: Language

    def __call__(self, key: str, **values: str) -> str:
        """A text, with values in their places."""
        return self._of(_WORDS[key]).format(**values)

    def number(self, n: float) -> str:
        """1,234,567."""
        return f"{n:,.0f}"

    def short(self, n: int) -> str:
        """A large number in three digits: 312M, in Chinese 3.12 and the sign for 10 ** 8."""
        if n < 10**5:
            return self.number(n)
        size, sign = next((size, sign) for size, sign in _SHORT[self.language] if n >= size)
        value = n / size
        digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
        return f"{value:,.{digits}f}{sign}"

    def between(self, low: int, high: int) -> str:
        """A range in short numbers, or one where both are the same."""
        first, last = self.short(low), self.short(high)
        return first if first == last else f"{first} \u2013 {last}"

    def share(self, part: int, whole: int) -> str:
        """A part in per cent; nothing that is there reads as 0, nothing less than all as 100."""
        percent = 100 * part / whole if whole else 0.0
        if 0 < percent < 0.1:
            return "< 0.1%"
        if 99.9 < percent < 100:
            return "> 99.9%"
        return f"{percent:.0f}%" if percent in (0, 100) else f"{percent:.1f}%"

    def score(self, score: float) -> str:
        """How far from the limit, which is 1; just above it never reads as 1."""
        if score == 1:
            return "1"
        if score >= 10:
            return "> 10" if score > 10 else "10"
        near = f"{score:.2f}" if abs(score - 1) >= 0.01 else f"{score:.3f}"
        return near if float(near) != 1 else ("> 1" if score > 1 else "< 1")

    def size(self, n_bytes: int) -> str:
        """24.1 MB."""
        return in_bytes(n_bytes).replace(" ", "\u00a0")

    def documents(self, n: int) -> str:
        """1 document, 1,000 documents."""
        return self._of((f"{n:,} document{'s' * (n != 1)}", f"{n:,} 篇文档"))

    def stage(self, name: str) -> str:
        """What a stage is called; one that we do not know is called as it calls itself."""
        return self._of(_STAGES.get(name, (name, name)))

    def kind(self, name: str) -> str:
        """What a kind of personal data is called."""
        return self._of(_KINDS.get(name, (name, name)))

    def tongue(self, code: str) -> str:
        """What a language is called."""
        return self._of(_TONGUES.get(code, (code, code)))

    def reason(self, reason: str) -> str:
        """A reason, or what else a stage says; what we have no Chinese for stays English."""
        if reason.startswith(_LANGUAGE):
            return self.tongue(reason.removeprefix(_LANGUAGE))
        if self.language == "zh":
            for pattern, chinese in _REASONS:
                if found := re.fullmatch(pattern, reason):
                    return found.expand(chinese)
        return reason

    def limit(self, limit: str) -> str:
        """A threshold: one number, or "en: 50, zh: 88", by language."""
        if not _LIMITS.fullmatch(limit):
            return limit
        colon, comma = self._of((": ", "：")), self._of((", ", "，"))
        parts = (part.split(": ") for part in limit.split(", "))
        return comma.join(f"{self.tongue(code)}{colon}{n}" for code, n in parts)

    def paper(self, paper: str) -> str:
        """Where a threshold stands: in Chinese with the words for parts of a paper."""
        if self.language == "zh":
            for pattern, chinese in _PARTS:
                paper = re.sub(pattern, chinese, paper)
        return paper

    def _of(self, both: tuple[str, str]) -> str:
        return both[self.language == "zh"]
