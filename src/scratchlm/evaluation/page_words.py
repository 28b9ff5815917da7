"""Every word of an evaluation's page that a corpus report does not have, in English and Chinese."""

from dataclasses import dataclass

from scratchlm.report.words import Words

_WORDS = {
    "title": ("Evaluation", "模型评测"),
    "skip": ("Skip to the results", "跳到结果"),
    "cut": (
        "Texts are quoted as they were found, cut to {chars} characters; lists to {rows} rows.",
        "文本按原样引用，最多显示 {chars} 个字符；列表最多 {rows} 行。",
    ),
    "parameters": ("parameters", "参数"),
    "items": ("items answered", "题目"),
    "took": ("taken", "用时"),
    "held_against": ("against {name}", "对比 {name}"),
    "made_with": ("scratchlm {version}, {made}", "scratchlm {version}，{made}"),
    # the links to sections
    "to_tasks": ("Tasks", "任务"),
    "to_against": ("Comparison", "对比"),
    "to_texts": ("Texts", "文本"),
    "to_judge": ("Judge", "评审"),
    "to_answers": ("Answers", "回答"),
    "to_overlap": ("Trained on?", "训练数据重叠"),
    # tasks
    "tasks": ("Scores", "得分"),
    "tasks_lead": (
        "Each bar is a score; the orange piece at its end is where the true value lies in 95 of "
        "100 evaluations like this one, the thin line a score that is known of another model. Open "
        "a task for its subjects and the items that surprised the model most.",
        "每一条表示得分；末端橙色部分为 95% 置信区间，细线为已知的其他模型得分。"
        "展开任务可查看各科目以及最出乎模型意料的题目。",
    ),
    "metric": ("Metric", "指标"),
    "score": ("Score", "得分"),
    "interval": ("95 % interval", "95% 区间"),
    "n": ("Items", "题数"),
    "known": ("Known scores", "已知得分"),
    "of_model": ("{score}: {model}", "{score}：{model}"),
    "measures": ("Measures", "考查内容"),
    "source": ("From", "出处"),
    "subject": ("Subject", "科目"),
    "subjects": ("By subject", "分科得分"),
    "surprising": ("Wrong, and sure of it", "最有把握的错题"),
    "right": ("right", "正确"),
    "given": ("given", "模型选择"),
    "margin": ("{nats} nats", "{nats} nats"),
    "confusion": ("Which class is taken for which", "混淆矩阵"),
    "true_class": ("true class", "真实类别"),
    "told_class": ("predicted class", "预测类别"),
    "other_classes": ("{n} other classes", "其他 {n} 类"),
    "acc": ("accuracy: the right choice is the likeliest", "准确率：正确选项的概率最大"),
    "acc_norm": ("accuracy, likelihood per character", "准确率（按字符归一）"),
    "acc_bytes": ("accuracy, likelihood per byte", "准确率（按字节归一）"),
    "exact_match": ("exact answers", "完全匹配"),
    "accuracy": ("accuracy", "准确率"),
    "f1": ("F1, mean over classes", "F1（各类平均）"),
    "perplexity": ("perplexity", "困惑度"),
    "bits_per_byte": ("bits per byte", "每字节比特数"),
    # against another model
    "against": ("Beside the other model", "与另一模型对比"),
    "against_lead": (
        "Both models had the same items. Right of the line this model has the higher number; of "
        "perplexity and bits per byte a lower one is better. A small p says that chance alone "
        "hardly makes such a difference.",
        "两个模型回答相同的题目。线右侧表示本模型数值更高；困惑度和每字节比特数越低越好。"
        "p 值小，说明差异很难仅由偶然造成。",
    ),
    "this": ("This", "本模型"),
    "other": ("Other", "另一模型"),
    "difference": ("Difference", "差异"),
    "p": ("p", "p"),
    # texts
    "texts": ("Loss over texts", "文本损失"),
    "texts_lead": (
        "Bits per byte can be compared between tokenizers, perplexity cannot. The window of "
        "{window} tokens moves by {stride}, so that each token counts once.",
        "每字节比特数可在不同分词器之间比较，困惑度不能。窗口为 {window} 个词元，每次移动 {stride} "
        "个，每个词元只计一次。",
    ),
    "text_name": ("Text", "文本"),
    "nats": ("Nats/token", "nats/词元"),
    "tokens": ("Tokens", "词元"),
    "documents": ("Documents", "文档"),
    "begin_none": (
        "Nothing stood before a document, so the first token of each had no target.",
        "文档之前没有起始符，因此每篇的第一个词元不计损失。",
    ),
    "begin_begin": (
        "Before each document stood the tokenizer's begin token.",
        "每篇文档之前有分词器的起始符。",
    ),
    "begin_end": (
        "Before each document stood the tokenizer's end token.",
        "每篇文档之前有分词器的结束符。",
    ),
    "unknown": (
        "{n} tokens were the unknown token, which is foretold without its text: these numbers are "
        "too low.",
        "{n} 个词元为未知词元，预测时不含其文本：这些数值偏低。",
    ),
    "surprising_text": ("What surprised it most", "最出乎意料的文字"),
    "per_token": ("{nats} nats/token", "{nats} nats/词元"),
    # judge and answers
    "judge": ("A judge's opinion", "评审模型的意见"),
    "judge_lead": (
        "{model} read each answer at temperature 0, with the prompt below. It is a model too: it "
        "likes long answers, and can be talked round.",
        "{model} 以温度 0 阅读每个回答，提示词如下。它也是模型：偏爱长回答，也可能被说服。",
    ),
    "mean_score": ("mean, of {low} to {high}", "平均分（{low} 至 {high}）"),
    "judge_prompt": ("The judge's prompt", "评审提示词"),
    "no_score": ("Answers without a score", "未得到分数的回答"),
    "why": ("Why", "原因"),
    "answers": ("Answers side by side", "回答对照"),
    "before": ("before", "之前"),
    "after": ("now", "现在"),
    "reference": ("reference", "参考答案"),
    "empty": ("(nothing)", "（空）"),
    # overlap
    "overlap": ("Was the model trained on it?", "模型是否见过这些题目？"),
    "overlap_lead": (
        "An item is found where the training text shares a run of {lengths} words with it (of Han "
        "characters in Chinese), capitals and punctuation aside.",
        "若训练文本与题目有连续 {lengths} 个词（中文为汉字）相同（忽略大小写和标点），即视为重叠。",
    ),
    "set": ("Set", "评测集"),
    "found": ("Found", "重叠"),
    "share": ("Share", "占比"),
    "too_short": ("Too short to say", "太短无法判断"),
    "clean": ("Score of the others", "其余题目得分"),
    "seen": ("Score of the found", "重叠题目得分"),
    "matches": ("Matching words in the training text", "训练文本中的重合文字"),
    "item_at": ("item {n}", "第 {n} 题"),
    "not_searched": ("Not searched: {why}.", "未检查：{why}。"),
    "not_known": ("not known", "未知"),
}


@dataclass(frozen=True)
class EvaluationWords(Words):
    """The words of an evaluation's page, in one language."""

    def __call__(self, key: str, **values: str) -> str:
        """A text, with values in their places; what is not here is a word of every page."""
        if key in _WORDS:
            return self._of(_WORDS[key]).format(**values)
        return super().__call__(key, **values)
