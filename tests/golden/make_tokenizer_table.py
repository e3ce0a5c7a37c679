#!/usr/bin/env python3
"""Writes tokenizer_table.json: tokenizers put together from the models of tokenizers/*.json and other
components, what `tokenizers` makes of a list of texts with them, folders of SentencePiece and
tiktoken models with the files beside them, and what transformers, sentencepiece and tiktoken make of
those.

Usage: make_tokenizer_table.py OUT.json [NUMBER]     (NUMBER of tokenizers of the first kind: 60)
Needs tokenizers 0.22, transformers 4, sentencepiece, tiktoken.

  texts        the inputs
  tokenizers   model: a file of tokenizers/ whose model it has; parts: the other members of its
               tokenizer.json ("wordlevel": that of wordpiece as a WordLevel); ids: encode(text) for each text; ids_plain: without what the
               post-processor adds (left out: the same); decoded, decoded_full: decode(ids) without
               and with special tokens, a number where it is that text
  folders      files: name -> text, or base64 in {"base64": ...}; tokenizer_json: a file of tokenizers/
               that is the tokenizer.json, of its added tokens the first alone; the rest as above
"""

import base64
import io
import json
import os
import random
import sys
import tempfile

import tokenizers
from tokenizers import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))

TEXTS = [
    "", " ", "   ", "\n", " \n\n x", "a", "Hello world", "  Hello   world  ", "HELLO WoRLD, it's 12345!",
    "She didn't know whether they'd come, but she'd set the table for six anyway.",
    "1234567 3.14 0x1F ²³ ½ ٣٤", "größere Säcke über e\u0301 A\u030a ﬁ ſ ẞ İ",
    "老人每天早上 hello 在河边走路 猫は窓のそば", "작은 새가 \u1112\u1161\u11ab", "Старый рыбак ЧИНИТ сеть",
    "مَرْحَبًا بالعالم", "नमस्ते दुनिया", "😀👩‍👩‍👧 🇩🇪 👍🏽", "tab\t\tx\r\ny \u00a0\u3000z\u2028w\u200b\ufeff",
    "a,b;c.d!e?f-g_h/i\\j (k) [l] {m} <n> \"o\" 'p'", "for (int i = 0; i < 10; ++i) {\n\tf(i);\n}\n",
    "▁x▁ Ġ <0x41> </w> ##ing", "x\u0000y\u0007\u001b[0m\u0080", "\ufffd \U0010ffff \ue000",
    "a" * 60, " " * 33, "\n" * 20, "ab " * 25, "é" * 25, "=-" * 30,
    "<s>", "a<s>b </s> c", "<|end|>Hello<|end|>\n", " <L> x <L>", "x <R>  y<R>\n", "a <LR> b<LR><LR>",
    "<tool>a <tool>", "word words word,sword WORD", "Norm norm NORM <Norm>", "<ab><abc> <abcd <ab",
    "<s <s>>", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<unk> [UNK] [CLS] [SEP]x",
    "mixed <|end|> <L>text <R> here <tool>.",
]

ADDED = [  # content, special, single_word, lstrip, rstrip, normalized
    ("<s>", 1, 0, 0, 0, 0), ("</s>", 1, 0, 0, 0, 0), ("<|end|>", 1, 0, 0, 0, 0), ("<L>", 1, 0, 1, 0, 0),
    ("<R>", 1, 0, 0, 1, 0), ("<LR>", 0, 0, 1, 1, 0), ("<tool>", 0, 0, 0, 0, 0), ("word", 0, 1, 0, 0, 0),
    ("Norm", 0, 0, 0, 0, 1), ("<ab>", 0, 0, 0, 0, 1), ("<abc>", 1, 0, 0, 0, 0),
]

LETTERS = {"type": "Split", "pattern": {"Regex": r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"},
           "behavior": "Isolated", "invert": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def byte_level(prefix, regex):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def metaspace(scheme, split):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


def split(pattern, behavior, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def sequence(kind, *parts):
    key = {"n": "normalizers", "p": "pretokenizers", "d": "decoders", "q": "processors"}[kind]
    return {"type": "Sequence", key: list(parts)}


def bert(clean, chinese, accents, lower):
    return {"type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": chinese,
            "strip_accents": accents, "lowercase": lower}


NORMALIZERS = [
    None, None, {"type": "NFC"}, {"type": "NFD"}, {"type": "NFKC"}, {"type": "NFKD"}, {"type": "Lowercase"},
    sequence("n", {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}),
    {"type": "Strip", "strip_left": True, "strip_right": True},
    {"type": "Strip", "strip_left": False, "strip_right": True}, {"type": "Nmt"},
    {"type": "Replace", "pattern": {"String": "o"}, "content": "0"},
    {"type": "Replace", "pattern": {"Regex": r"\s{2,}"}, "content": " "},
    sequence("n", {"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": r"[0-9]"}, "content": "#"}),
    {"type": "Prepend", "prepend": "x"}, bert(True, True, None, True), bert(True, False, False, False),
    bert(False, True, True, False), sequence("n"),
]
SPLITS = [
    None, {"type": "Whitespace"}, {"type": "WhitespaceSplit"}, {"type": "BertPreTokenizer"},
    {"type": "Punctuation", "behavior": "Isolated"}, {"type": "Punctuation", "behavior": "MergedWithPrevious"},
    {"type": "Punctuation", "behavior": "Contiguous"}, {"type": "Punctuation", "behavior": "Removed"},
    {"type": "Digits", "individual_digits": True}, {"type": "Digits", "individual_digits": False},
    {"type": "CharDelimiterSplit", "delimiter": " "}, LETTERS, split({"String": " "}, "MergedWithNext"),
    split({"String": " "}, "MergedWithPrevious"), split({"Regex": r"[aeiou]+"}, "Removed"),
    split({"Regex": r"\p{L}+"}, "Removed", True), split({"Regex": r"\d+"}, "Contiguous"),
    sequence("p", {"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"}),
    sequence("p", {"type": "Digits", "individual_digits": True}, LETTERS), metaspace("always", True),
    metaspace("first", True), metaspace("never", True), metaspace("always", False), metaspace("first", False),
]
METASPACES = [s for s in SPLITS if s and s["type"] == "Metaspace"]

# Files whose models are taken, and the decoders and splits that go with them.
SP_DECODERS = [
    sequence("d", {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
             {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}),
    sequence("d", {"type": "ByteFallback"}, {"type": "Fuse"},
             {"type": "Replace", "pattern": {"Regex": "▁+"}, "content": " "}),
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": True}, None,
    {"type": "Fuse"},
]
WORD_DECODERS = [{"type": "WordPiece", "prefix": "##", "cleanup": True},
                 {"type": "WordPiece", "prefix": "##", "cleanup": False}, None,
                 {"type": "BPEDecoder", "suffix": "</w>"}]
MODELS = {
    "bytes": (["bytelevel_bpe_gpt2", "llama3_style", "gpt4o_style"], [{"type": "ByteLevel", "add_prefix_space": True,
              "trim_offsets": True, "use_regex": True}]),
    "pieces": (["llama2_style", "gemma_style", "bpe_unk", "bpe_fuse_unk", "unigram", "unigram_bytefallback"],
               SP_DECODERS),
    "words": (["wordpiece", "wordpiece_cased", "wordlevel", "bpe_suffix"], WORD_DECODERS),
}


def load(name):
    if name == "wordlevel":  # the words of another
        return {"model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": load("wordpiece")["model"]["vocab"]}}
    with open(os.path.join(HERE, "tokenizers", name + ".json"), encoding="utf-8") as f:
        return json.load(f)


def post_processor(rng, ids):
    s, e = ("<s>", ids["<s>"]), ("</s>", ids["</s>"])
    one = lambda name, i: {name: {"id": name, "ids": [i], "tokens": [name]}}
    special = lambda name: {"SpecialToken": {"id": name, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    template = lambda single: {"type": "TemplateProcessing", "single": single, "pair": single + [
        {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {**one(*s), **one(*e)}}
    return rng.choice([
        None, byte_level(True, True), template([special("<s>"), text]), template([text, special("</s>")]),
        template([special("<s>"), text, special("</s>"), special("</s>")]),
        {"type": "BertProcessing", "sep": list(e), "cls": list(s)},
        {"type": "RobertaProcessing", "sep": list(e), "cls": list(s), "trim_offsets": True, "add_prefix_space": False},
        sequence("q", byte_level(False, True), template([special("<s>"), text])),
    ])


def index_or_text(text):
    return TEXTS.index(text) if text in TEXTS else text


def results(encode, decode):
    """encode(text, add_special) and decode(ids, skip_special) -> the columns of the table."""
    ids = [encode(t, True) for t in TEXTS]
    plain = [encode(t, False) for t in TEXTS]
    row = {"ids": ids, "decoded": [index_or_text(decode(i, True)) for i in ids]}
    full = [index_or_text(decode(i, False)) for i in ids]
    if plain != ids:
        row["ids_plain"] = plain
    if full != row["decoded"]:
        row["decoded_full"] = full
    return row


def one(number, rng):
    kind = list(MODELS)[number % 3]
    names, decoders = MODELS[kind]
    name = names[(number // 3) % len(names)]
    model = load(name)["model"]
    size = len(model["vocab"])
    normalizer = rng.choice(NORMALIZERS)
    if kind == "bytes":
        pre = rng.choice([byte_level(True, True), byte_level(False, True), None, LETTERS, SPLITS[8], SPLITS[12],
                          SPLITS[16], SPLITS[18]])
        pre = pre if pre and pre["type"] == "ByteLevel" else sequence(
            "p", *([pre] if pre else []), byte_level(rng.random() < 0.3, False))
        if rng.random() < 0.15:
            normalizer = sequence("n", {"type": "NFC"}, {"type": "ByteLevel"})
            pre = LETTERS if rng.random() < 0.5 else None
    elif kind == "pieces":
        pre = rng.choice(METASPACES) if rng.random() < 0.7 else None
        if pre is None:
            normalizer = sequence("n", *([normalizer] if normalizer else []), {"type": "Prepend", "prepend": "▁"},
                                  {"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    else:
        pre = rng.choice(SPLITS)
    added, ids = [], {}
    vocab = model["vocab"]
    known = {t[0]: i for i, t in enumerate(vocab)} if isinstance(vocab, list) else vocab
    for content, *flags in rng.sample(ADDED, rng.randint(5, len(ADDED))) + ADDED[:2]:
        if content in ids:
            continue
        ids[content] = known.get(content, size + sum(a["id"] >= size for a in added))
        added.append({"id": ids[content], "content": content, **{
            k: bool(v) for k, v in zip(("special", "single_word", "lstrip", "rstrip", "normalized"), flags)}})
    added.sort(key=lambda a: a["id"])
    parts = {"version": "1.0", "added_tokens": added, "normalizer": normalizer, "pre_tokenizer": pre,
             "post_processor": post_processor(rng, ids), "decoder": rng.choice(decoders)}
    tok = Tokenizer.from_str(json.dumps({**parts, "model": model}))
    row = results(lambda t, s: tok.encode(t, add_special_tokens=s).ids,
                  lambda i, s: tok.decode(i, skip_special_tokens=s))
    return {"name": f"{number:03d}_{name}", "model": name, "parts": parts, **row}


# ---------------------------------------------------------------------------- folders

def corpus():
    import make_tokenizer_goldens as goldens
    return goldens.corpus()


def train_sentencepiece(**kw):
    import sentencepiece
    out = io.BytesIO()
    options = dict(vocab_size=420, byte_fallback=True, normalization_rule_name="identity", model_type="bpe",
                   remove_extra_whitespaces=False, character_coverage=0.98, num_threads=1,
                   minloglevel=2, user_defined_symbols=[])
    options.update(kw)
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus()), model_writer=out, **options)
    return out.getvalue()


def token(content, **flags):
    made = {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
            "special": True}
    made.update(flags)
    return made


def write_folder(folder, files):
    for name, content in files.items():
        data = base64.b64decode(content["base64"]) if isinstance(content, dict) else content.encode()
        with open(os.path.join(folder, name), "wb") as f:
            f.write(data)


def sentencepiece_folders():
    from transformers import LlamaTokenizer
    bpe = {"base64": base64.b64encode(train_sentencepiece()).decode()}
    symbols = {"base64": base64.b64encode(train_sentencepiece(
        user_defined_symbols=["<tool>", "<ab>"], add_dummy_prefix=True)).decode()}
    n = 420
    pieces = {"0": token("<unk>"), "1": token("<s>"), "2": token("</s>")}
    chatml = {**pieces, str(n): token("<|im_end|>"), str(n + 1): token("<|im_start|>")}
    flags = {**pieces, str(n): token("<L>", lstrip=True), str(n + 1): token("<R>", rstrip=True),
             str(n + 2): token("<LR>", lstrip=True, rstrip=True, special=False),
             str(n + 3): token("<|end|>", normalized=True), str(n + 4): token("<tool>", special=False)}
    base = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    config = lambda **kw: json.dumps({**base, **kw})
    folders = {
        "llama_chatml": {"tokenizer.model": bpe, "tokenizer_config.json": config(
            added_tokens_decoder=chatml, add_bos_token=True, eos_token="<|im_end|>", legacy=True)},
        "llama_not_legacy": {"tokenizer.model": bpe, "tokenizer_config.json": config(
            added_tokens_decoder=chatml, add_eos_token=True, legacy=False,
            additional_special_tokens=["<|im_start|>", "<|im_end|>"])},
        "llama_flags": {"tokenizer.model": bpe, "tokenizer_config.json": config(
            added_tokens_decoder=flags, add_bos_token=False, legacy=True)},
        "llama_old_files": {"tokenizer.model": bpe, "added_tokens.json": json.dumps({"<|im_end|>": n, "<tool>": n + 1}),
                            "special_tokens_map.json": json.dumps({"eos_token": "<|im_end|>", "pad_token": "</s>", "bos_token": {
                                "content": "<s>", "lstrip": False, "normalized": True, "rstrip": False,
                                "single_word": False}, "unk_token": "<unk>"}),
                            "tokenizer_config.json": json.dumps({"tokenizer_class": "LlamaTokenizer", "legacy": True})},
        "llama_named_only": {"tokenizer.model": bpe, "tokenizer_config.json": config(
            additional_special_tokens=["<|im_start|>", "<|im_end|>"], pad_token="<|end|>", legacy=True)},
        "llama_symbols": {"tokenizer.model": symbols, "tokenizer_config.json": config(legacy=True)},
    }
    rows = []
    for name, files in folders.items():
        with tempfile.TemporaryDirectory() as folder:
            write_folder(folder, files)
            slow = LlamaTokenizer.from_pretrained(folder)
            row = results(lambda t, s: slow(t, add_special_tokens=s).input_ids, lambda i, s: "")
        del row["decoded"]
        rows.append({"name": name, "files": files, "eos": slow.eos_token_id, **row})
    return rows


KIMI = "|".join([
    r"""[\p{Han}]+""",
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
    r"""\p{N}{1,3}""", r""" ?[^\s\p{L}\p{N}]+[\r\n]*""", r"""\s*[\r\n]+""", r"""\s+(?!\S)""", r"""\s+"""])
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")


def tiktoken_folders():
    import tiktoken
    from tiktoken._educational import bpe_train
    ranks = bpe_train("\n".join(corpus()[:150]), 420, regex_cache(KIMI), visualise=None)
    lines = "".join(f"{base64.b64encode(t).decode()} {r}\n" for t, r in sorted(ranks.items(), key=lambda x: x[1]))
    n = len(ranks)
    specials = {"<s>": n, "</s>": n + 1, "<|im_end|>": n + 2, "<|im_start|>": n + 5, "<|end|>": n + 7}
    decoder = {str(i): token(t) for t, i in specials.items()}
    full = {f"<|reserved_token_{i}|>": i for i in range(n, n + 8) if i not in specials.values()} | specials
    rows = []
    for name, file, cls, pattern in [("kimi", "tiktoken.model", "TikTokenTokenizer", KIMI),
                                     ("llama3", "tokenizer.model", "PreTrainedTokenizerFast", LLAMA3)]:
        enc = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=full)
        config = json.dumps({"tokenizer_class": cls, "added_tokens_decoder": decoder, "bos_token": "<s>",
                             "eos_token": "</s>"})
        row = results(lambda t, s: enc.encode(t, allowed_special="all"), lambda i, s: enc.decode(i))
        del row["decoded"]
        row["decoded_full"] = [index_or_text(enc.decode(i)) for i in row["ids"]]
        rows.append({"name": name, "files": {file: lines, "tokenizer_config.json": config}, "eos": n + 1, **row})
    return rows


def regex_cache(pattern):
    """For training alone: Python's `regex` has intersections in version 1."""
    return "(?V1)" + pattern


def qwen_folder():
    from transformers import Qwen2Tokenizer
    model = load("llama3_style")["model"]
    vocab = dict(model["vocab"])
    merges = [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]
    n = max(vocab.values()) + 1
    files = {"vocab.json": json.dumps(vocab, ensure_ascii=False),
             "merges.txt": "#version: 0.2\n" + "\n".join(merges) + "\n",
             "tokenizer_config.json": json.dumps({
                 "tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
                 "unk_token": None, "bos_token": None, "added_tokens_decoder": {
                     str(n): token("<|endoftext|>"), str(n + 1): token("<|im_start|>"),
                     str(n + 2): token("<|im_end|>"), str(n + 3): token("<tool>", special=False)}})}
    with tempfile.TemporaryDirectory() as folder:
        write_folder(folder, files)
        slow = Qwen2Tokenizer.from_pretrained(folder)
        row = results(lambda t, s: slow(t, add_special_tokens=s).input_ids, lambda i, s: "")
    del row["decoded"]
    return [{"name": "qwen2_slow", "files": files, "eos": slow.eos_token_id, **row}]


def json_folders():
    """A tokenizer.json without the special tokens that the files beside it name."""
    from transformers import PreTrainedTokenizerFast
    whole = load("qwen2_style")
    whole["added_tokens"] = whole["added_tokens"][:1]
    n = len(whole["model"]["vocab"])
    file = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
    base = {"tokenizer_class": "PreTrainedTokenizerFast"}
    folders = {
        "json_named": {"tokenizer_config.json": json.dumps({
            **base, "eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>", "<L>"],
            "pad_token": {"__type": "AddedToken", "content": "<R>", "rstrip": True, "lstrip": False, "normalized": False,
                          "single_word": False}})},
        "json_decoder": {"tokenizer_config.json": json.dumps({
            **base, "eos_token": "</s>", "added_tokens_decoder": {
                str(n): token("<|im_start|>"), str(n + 1): token("<|im_end|>", rstrip=True),
                str(n + 2): token("<tool>", special=False), str(n + 3): token("word", single_word=True, special=False),
                str(n + 4): token("</s>", lstrip=True)}})},
        "json_old_files": {"added_tokens.json": json.dumps({"<|im_end|>": n, "<tool>": n + 1}),
                           "special_tokens_map.json": json.dumps({"eos_token": "<|im_end|>", "bos_token": "<s>"}),
                           "tokenizer_config.json": json.dumps(base)},
    }
    rows = []
    for name, files in folders.items():
        with tempfile.TemporaryDirectory() as folder:
            write_folder(folder, {**files, "tokenizer.json": file})
            fast = PreTrainedTokenizerFast.from_pretrained(folder)
            row = results(lambda t, s: fast(t, add_special_tokens=s).input_ids,
                          lambda i, s: fast.backend_tokenizer.decode(i, skip_special_tokens=s))
        rows.append({"name": name, "tokenizer_json": "qwen2_style", "files": files, "eos": fast.eos_token_id, **row})
    return rows


def main():
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    rng = random.Random(20)
    rows, tried = [], 0
    while len(rows) < number:
        tried += 1
        try:
            rows.append(one(tried - 1, rng))
        except Exception as e:  # e.g. WordLevel without its unknown token
            print("left out:", tried - 1, e, file=sys.stderr)
    folders = sentencepiece_folders() + tiktoken_folders() + qwen_folder() + json_folders()
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        json.dump({"made_with": f"tokenizers {tokenizers.__version__}", "texts": TEXTS, "tokenizers": rows,
                   "folders": folders}, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    sys.path.insert(0, HERE)
    main()
