#!/usr/bin/env python3
"""Writes tokenizer_details.json: small tokenizer.json files with one detail changed, and what
`tokenizers` makes of a list of texts with each.

Usage: make_tokenizer_details.py OUT.json      Needs tokenizers 0.23.

  texts   the inputs
  bases   name -> a whole tokenizer.json
  ids     name -> ids of each text with the base (special tokens added and matched)
  cases   [base, patch, result]: a JSON patch (RFC 6902) of the base, and "refused" where
          `tokenizers` does not load it, or {index of a text: ids} where they differ from those of
          the base; ids are "error" where the text cannot be encoded
"""

import copy
import json
import sys

import tokenizers
from tokenizers import Tokenizer

TEXTS = [
    "", " ", "a", "ab", "abc cab", "  ab  ba ", "hello", "Hello World", "hello hello", "xyz", "a?b", "??", "a ?? b",
    "é", "aéb", "e\u0301", "日本", "😀 ab", "<s>ab</s>", "ab<end>cd", "<end> ab <end>", "abc<end>", "word ab word",
    "swordab word,word", "  <L>  <R>  x", "▁ab", "##ab ab##", "ab\nab\tab", "aaaaaaaa", "A b C", "<unk>[UNK]?",
    "<new>ab<new2>", "ABABab", "a" * 120, "<0x41>", "hola",
]


def added(*rows):
    """(id, text, flags): s special, w single word, l and r take blanks along, n normalized."""
    return [{"id": i, "content": t, "single_word": "w" in f, "lstrip": "l" in f, "rstrip": "r" in f,
             "normalized": "n" in f, "special": "s" in f} for i, t, f in rows]


def whole(model, tokens=(), **parts):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added(*tokens),
            "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None, **parts, "model": model}


def bpe(vocab, merges, **options):
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {t: i for i, t in enumerate(vocab)}, "merges": merges, **options}


def metaspace(scheme="always", split=True):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


def template(before, after, ids):
    special = lambda t: {"SpecialToken": {"id": t, "type_id": 0}}
    single = [special(t) for t in before] + [{"Sequence": {"id": "A", "type_id": 0}}] + [special(t) for t in after]
    return {"type": "TemplateProcessing", "single": single, "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in before + after}}


LETTERS = list("abcdefghijklmnopqrstuvwxyz")
WORDS = ["[UNK]", "hello", "world", "ab", "a", "b", "c", "word", "##a", "##b", "##c", "##ab", "##lo", "hel", ",", "?",
         "[CLS]", "[SEP]", "x"]
BASES = {
    "bytes": whole(
        bpe(["<s>"] + LETTERS + ["Ġ", "?", ",", "Ã", "©", "A", "B", "Ċ", "ab", "Ġab", "he", "ll", "hell", "hello"],
            ["a b", "Ġ ab", "h e", "l l", "he ll", "hell o"]),
        [(0, "<s>", "s"), (41, "<end>", "s"), (42, "word", "w"), (43, "<L>", "l"), (44, "<R>", "r")],
        pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}),
    "fallback": whole(
        bpe(["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + LETTERS + ["▁", "A", "ab", "▁ab", "▁h"],
            ["a b", "▁ ab", "▁ h"], unk_token="<unk>", fuse_unk=True, byte_fallback=True),
        [(0, "<unk>", "s"), (1, "<s>", "s"), (2, "</s>", "s")],
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        post_processor=template(["<s>"], [], {"<s>": 1})),
    "unknown": whole(
        bpe(["<unk>"] + LETTERS + ["ab", "abc", "ba"], ["a b", "ab c", "b a"], unk_token="<unk>"),
        [(0, "<unk>", "s"), (30, "<end>", "s")], normalizer={"type": "Lowercase"},
        pre_tokenizer={"type": "Whitespace"}),
    "suffix": whole(
        bpe(["<unk>"] + LETTERS + [c + "</w>" for c in LETTERS] + ["ab", "ab</w>", "abc</w>"],
            ["a b", "a b</w>", "ab c</w>"], unk_token="<unk>", end_of_word_suffix="</w>"),
        pre_tokenizer={"type": "WhitespaceSplit"}, decoder={"type": "BPEDecoder", "suffix": "</w>"}),
    "prefix": whole(
        bpe(["<unk>"] + LETTERS + ["##" + c for c in LETTERS] + ["ab", "abc", "##ab"],
            ["a ##b", "ab ##c", "##a ##b"], unk_token="<unk>", continuing_subword_prefix="##"),
        pre_tokenizer={"type": "WhitespaceSplit"}),
    "wordpiece": whole(
        {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
         "vocab": {t: i for i, t in enumerate(WORDS)}},
        [(0, "[UNK]", "s"), (16, "[CLS]", "s"), (17, "[SEP]", "s"), (19, "<end>", "s"), (20, "hola", "n")],
        normalizer={"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
                    "lowercase": True},
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=template(["[CLS]"], ["[SEP]"], {"[CLS]": 16, "[SEP]": 17}),
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}),
    "wordlevel": whole(
        {"type": "WordLevel", "vocab": {t: i for i, t in enumerate(WORDS)}, "unk_token": "[UNK]"},
        [(0, "[UNK]", "s"), (19, "<end>", "s")], pre_tokenizer={"type": "Whitespace"}),
    "unigram": whole(
        {"type": "Unigram", "unk_id": 0, "byte_fallback": False,
         "vocab": [["<unk>", 0.0], ["<s>", 0.0], ["</s>", 0.0], ["▁", -2.5], ["ab", -3.0], ["▁ab", -3.5], ["hello", -6.0],
                   ["A", -7.0], ["?", -9.5]] + [[c, -4.0 - i / 8] for i, c in enumerate(LETTERS)]},
        [(0, "<unk>", "s"), (1, "<s>", "s"), (2, "</s>", "s"), (35, "<end>", "s")],
        pre_tokenizer=metaspace(), decoder=metaspace()),
}
M = "/model/"
UNSET = object()  # remove the member


def cases():
    def values(base, path, *each):
        for value in each:
            yield base, [(path, value)]

    for base in ["bytes", "fallback", "unknown", "suffix", "prefix"]:
        yield from values(base, M + "unk_token", None, UNSET, "", "<none>", "a", "<end>", "<s>", "?", 0)
        yield from values(base, M + "fuse_unk", True, False, None, UNSET)
        yield from values(base, M + "byte_fallback", True, False, None, UNSET)
        yield from values(base, M + "ignore_merges", True, None, UNSET)
        yield base, [(M + "fuse_unk", True), (M + "byte_fallback", True)]
        yield base, [(M + "unk_token", None), (M + "byte_fallback", True)]
        yield base, [(M + "unk_token", None), (M + "fuse_unk", True)]
        yield from values(base, M + "continuing_subword_prefix", "", "##", None, UNSET)
        yield from values(base, M + "end_of_word_suffix", "", "</w>", None, UNSET)
        yield from values(base, M + "dropout", 0.0, -0.5, 1.5, UNSET, "0.1")
        yield from values(base, M + "merges", [], UNSET, None)
        yield from values(base, M + "type", UNSET)
    yield from values("unknown", M + "dropout", 1.0)
    yield "unknown", [(M + "ignore_merges", True), (M + "merges", [])]
    yield from values("unknown", M + "merges", ["a b", "ab c", "b a", "a b"], ["b a", "a b", "ab c"], [["a", "b"]],
                      ["#version: 0.2", "a b"], ["a b c"], ["ab"], ["a  b"], [" a b"], ["a b", ["b", "a"]], ["a ?"], ["b c"],
                      ["a b", "a b", "b a"], ["a b", "b a", "a b"], [["a", "b", "c"]], [3], ["a b\n"], {"a": "b"})
    for path, value in [("<0x41>", UNSET), ("<0xC3>", UNSET), ("<0x41>", 500), ("<0xc3>", 500)]:
        yield "fallback", [(M + "vocab/" + path, value)]
    yield "fallback", [(M + "vocab/<0xE6>", UNSET), (M + "fuse_unk", False)]
    yield "fallback", [(M + "vocab/<0xE6>", UNSET), (M + "unk_token", None)]
    # Ids with holes, of tokens and of added tokens; added tokens whose id another token has.
    for base in BASES:
        n = len(BASES[base]["model"]["vocab"])
        if base != "unigram":
            yield from values(base, M + "vocab/c", n + 10)
            yield base, [(M + "vocab/c", n + 10), ("/added_tokens/-", added((n + 11, "<new>", "s"))[0])]
            yield base, [(M + "vocab/c", UNSET), (M + "merges", [])] if "merges" in BASES[base]["model"] else [
                (M + "vocab/c", UNSET)]
            yield from values(base, M + "vocab", {}, [], None, UNSET)
        yield from values(base, "/added_tokens", [], None, UNSET, {})
        for tokens in [[(n, "<new>", "s")], [(n + 20, "<new>", "s")], [(n + 20, "<new>", "s"), (n + 10, "<new2>", "s")],
                       [(3, "<new>", "s")], [(3, "<new>", "")], [(n + 1, "<new2>", "s"), (n, "<new>", "")],
                       [(n, "<new>", "s"), (n, "<new2>", "s")], [(n, "<new>", "s"), (n + 1, "<new>", "")],
                       [(n, "<new>", ""), (n + 1, "<new>", "s")], [(n, "ab", "")], [(n, "", "s")],
                       [(n, "<new>", "s"), (n + 1, "", "s"), (n + 2, "<new2>", "s")], [(4, "ab", "w")],
                       [(n, "<new2>", "s"), (n + 2, "<new>", "s")], [(n, "AB", "n")], [(n, "ab", "n"), (n + 1, "ABAB", "")],
                       [(n, "日", ""), (n + 1, "é", "n")], [(n, "b", "lrw")], [(n, " ", "")], [(n, "  ", "lr")]]:
            yield base, [("/added_tokens", added(*tokens))]
        if BASES[base]["normalizer"] is None:  # ours are not found in what a normalizer makes of a user's text
            yield base, [("/added_tokens", added((n, "a", "s")))]
        if base not in ("unknown", "unigram"):
            continue
        for key in ["special", "normalized", "single_word", "lstrip", "rstrip", "id", "content"]:
            token = added((n, "<new>", "s"))[0]
            del token[key]
            yield base, [("/added_tokens", [token])]
        for key, value in [("id", -1), ("id", "5"), ("id", 1.0), ("content", None), ("special", None), ("special", 1)]:
            yield base, [("/added_tokens", [{**added((n, "<new>", "s"))[0], key: value}])]
        yield from values(base, "/truncation", {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
                          {"max_length": 3}, 3)
        yield from values(base, "/padding", {"strategy": {"Fixed": 8}, "direction": "Left", "pad_to_multiple_of": None,
                                             "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"}, {"strategy": "BatchLongest"})
        yield from values(base, "/version", "2.0", UNSET, None)
        yield from values(base, "/model/extra", 1)
        yield from values(base, "/extra", 1)
    # Two tokens with one id.
    for base in ["unknown", "wordlevel"]:
        yield base, [(M + "vocab/zz", 3), (M + "vocab/yy", 40)]
    # Post-processors.
    ab = {"a": 1, "b": 2, "x": 9}
    raw = lambda single, tokens: {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": tokens}
    text, a = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "a", "type_id": 0}}
    one = {"a": {"id": "a", "ids": [1], "tokens": ["a"]}}
    byte = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    sequence = lambda *parts: {"type": "Sequence", "processors": list(parts)}
    processors = [
        template(["a"], ["b"], ab), template(["a", "b"], [], ab), template([], [], ab), template(["a"], ["a", "a"], ab),
        {**template(["a"], [], ab), "pair": []}, {**template(["a"], [], ab), "pair": "A B"}, raw("a $A b", {}), raw("$A", {}),
        raw("a $A", one), raw("$0", {}), raw(["a", "$A"], one), raw([a], one), raw([text], {}), raw([a, text, text], one),
        raw([], {}), raw([a, text], {}), raw([a, text], {"a": {"id": "a", "ids": [1, 2, 3], "tokens": ["a", "b", "c"]}}),
        raw([a, text], {"a": {"id": "a", "ids": [1, 2], "tokens": ["a"]}}), raw([a, text], [one["a"]]),
        raw([a, text], {"a": {"id": "a", "ids": [], "tokens": []}}), raw([a, text], {"a": {"id": "a", "ids": [99999], "tokens": ["a"]}}),
        raw([a, text], {"a": {"ids": [1], "tokens": ["a"]}}), raw([a, text], {"b": {"id": "a", "ids": [1], "tokens": ["a"]}}),
        raw([a, text], {"a": {"id": "z", "ids": [1], "tokens": ["a"]}}),
        raw([{"Sequence": {"id": "B", "type_id": 0}}], {}), raw([a, {"Sequence": {"id": "B", "type_id": 0}}], one),
        raw([a, {"Sequence": {"id": "A"}}], one), raw([a, {"Sequence": {"id": "C", "type_id": 0}}], one),
        {"type": "BertProcessing", "sep": ["b", 2], "cls": ["a", 1]}, {"type": "BertProcessing", "sep": ["b", 2]},
        {"type": "BertProcessing", "sep": ["none", 3], "cls": ["a", 1]}, {"type": "BertProcessing", "sep": [2, "b"], "cls": ["a", 1]},
        {"type": "RobertaProcessing", "sep": ["b", 2], "cls": ["a", 1], "trim_offsets": True, "add_prefix_space": True},
        {"type": "RobertaProcessing", "sep": ["b", 2], "cls": ["a", 1]}, {"sep": ["b", 2], "cls": ["a", 1]},
        byte, {"type": "ByteLevel"}, {**byte, "add_prefix_space": True}, sequence(), sequence(byte),
        sequence(byte, template(["a"], ["b"], ab)), sequence(template(["a"], ["b"], ab), template(["x"], ["x"], ab)),
        sequence(template(["a"], ["b"], ab), byte, {"type": "BertProcessing", "sep": ["b", 2], "cls": ["a", 1]}),
        sequence(sequence(template(["a"], [], ab)), template([], ["b"], ab)), sequence({"type": "BertProcessing", "sep": ["b", 2], "cls": ["a", 1]},
                 {"type": "RobertaProcessing", "sep": ["c", 3], "cls": ["d", 4], "trim_offsets": True, "add_prefix_space": False}),
        {"type": "Sequence"}, {"type": "None"}, {}, [], "ByteLevel", UNSET,
    ]
    for p in processors:
        yield from values("unknown", "/post_processor", p)
    # Normalizers.
    replace = lambda pattern, content: {"type": "Replace", "pattern": pattern, "content": content}
    for n in [replace({"String": ""}, "x"), replace({"String": ""}, ""), replace({"Regex": ""}, "x"), replace({"Regex": "b*"}, "x"),
              replace({"Regex": "^"}, "a"), replace({"Regex": "$"}, "a"), replace({"Regex": "(?=b)"}, "c"), replace({"String": "a"}, ""),
              replace({"String": "."}, "x"), replace({"Regex": "."}, "x"), replace({"Regex": "(a)(b)"}, "$2$1"), replace({"String": "ab"}, "ba"),
              replace("a", "x"), replace({"String": "a"}, None), replace({}, "x"), replace({"String": "a", "Regex": "b"}, "x"),
              replace({"Regex": "("}, "x"), {"type": "Replace", "pattern": {"String": "a"}},
              {"type": "Prepend", "prepend": ""}, {"type": "Prepend", "prepend": "ab"}, {"type": "Prepend"},
              {"type": "Strip", "strip_left": True, "strip_right": False}, {"type": "Strip"}, {"type": "StripAccents"},
              {"type": "Lowercase"}, {"type": "Lowercase", "extra": 1}, {"type": "Sequence", "normalizers": []}, {"type": "Sequence"},
              {"type": "Sequence", "normalizers": [None]}, {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]},
              {"type": "BertNormalizer"}, {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True},
              {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": False},
              {"type": "BertNormalizer", "clean_text": False, "handle_chinese_chars": False, "strip_accents": True, "lowercase": False},
              {"type": "Precompiled", "precompiled_charsmap": ""}, {"type": "Precompiled", "precompiled_charsmap": None},
              {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, {"type": "NFC"}, {"type": "nfc"}, {"type": "Nmt"}, {}, UNSET, "NFC",
              {"type": "ByteLevel"}]:
        yield from values("unknown", "/normalizer", n)
        yield "bytes", [("/normalizer", n), ("/added_tokens/-", added((45, "<new>", "n"))[0])]
    # Pre-tokenizers.
    split = lambda pattern, behavior="Isolated", **kw: {"type": "Split", "pattern": pattern, "behavior": behavior, **kw}
    for p in [None, split({"String": ""}, invert=False), split({"String": ""}, "Removed", invert=False), split({"Regex": ""}, invert=False),
              split({"Regex": "b*"}, invert=False), split({"Regex": "b*"}, "Removed", invert=True), split({"String": "a"}), split({"String": "b"}, "Removed", invert=True),
              split("b", invert=False), split({"String": "b"}, "isolated", invert=False), split({"String": "b"}, None, invert=False), split({"Regex": "(?=b)"}, invert=False),
              {"type": "Split", "pattern": {"String": "b"}, "invert": False},
              metaspace(), metaspace("first"), metaspace("never", False), metaspace("sometimes"), {"type": "Metaspace"}, {"type": "Metaspace", "replacement": "ab"},
              {"type": "Metaspace", "replacement": "b"}, {"type": "Metaspace", "replacement": ""}, {"type": "Metaspace", "replacement": "b", "add_prefix_space": False},
              {"type": "Metaspace", "replacement": "b", "add_prefix_space": True}, {"type": "Metaspace", "replacement": "b", "add_prefix_space": False, "prepend_scheme": "always"},
              {"type": "Metaspace", "replacement": "b", "add_prefix_space": True, "prepend_scheme": "never"},
              {"type": "Metaspace", "replacement": "b", "str_rep": "c", "add_prefix_space": True}, {"type": "Metaspace", "replacement": "b", "prepend_scheme": None},
              {"type": "Digits"}, {"type": "Digits", "individual_digits": True}, {"type": "Punctuation"}, {"type": "Punctuation", "behavior": "Removed"},
              {"type": "CharDelimiterSplit", "delimiter": "b"}, {"type": "CharDelimiterSplit", "delimiter": ""}, {"type": "CharDelimiterSplit", "delimiter": "ab"},
              {"type": "CharDelimiterSplit"}, {"type": "UnicodeScripts"}, {"type": "FixedLength", "length": 2}, {"type": "FixedLength"}, {"type": "Whitespace", "x": 1},
              {"type": "Sequence", "pretokenizers": []}, {"type": "Sequence", "pretokenizers": [None]}, {"type": "Sequence"},
              {"type": "ByteLevel"}, {"type": "ByteLevel", "add_prefix_space": True}, {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True},
              {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}, {"type": "BertPreTokenizer"}, {}, UNSET, []]:
        yield from values("unknown", "/pre_tokenizer", p)
    # Decoders matter for loading alone.
    for d in [{"type": "Fuse"}, {"type": "ByteFallback"}, {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True},
              {"type": "Strip", "content": " ", "start": 1, "stop": 0}, {"type": "Strip", "content": "ab", "start": 1, "stop": 0}, {"type": "Strip"},
              {"type": "WordPiece"}, {"type": "BPEDecoder"}, {"type": "Metaspace"}, {}, UNSET, replace({"String": ""}, "x")]:
        yield from values("unknown", "/decoder", d)
    # WordPiece and WordLevel.
    for base in ["wordpiece", "wordlevel"]:
        yield from values(base, M + "unk_token", None, UNSET, "", "<none>", "a", "<end>", 0)
        yield from values(base, M + "type", UNSET)
    yield from values("wordpiece", M + "continuing_subword_prefix", "", "#", None, UNSET, "a")
    yield from values("wordpiece", M + "max_input_chars_per_word", 0, 1, 4, 5, 119, 120, None, UNSET, -1, 1.5, 10**12)
    # Unigram.
    u = M + "vocab/"
    yield from values("unigram", M + "unk_id", None, UNSET, 3, 34, 35, 1000, -1, 0.0, "0")
    yield from values("unigram", M + "byte_fallback", True, None, UNSET)
    yield from values("unigram", M + "type", UNSET)
    yield from values("unigram", u + "4/1", 0.0, 5.0, -100.0, "x", None, 3, -1e308, 1e308, 1e-320)
    yield from values("unigram", u + "4/0", "", "b", "a", "<s>", 3)
    yield from values("unigram", u + "-", ["ab", -1.0], ["ab", -30.0], ["ba", -1.0], ["ba"], ["ba", -1.0, 0], ["<0xE6>", -2.0], ["", -1.0])
    yield from values("unigram", M + "vocab", [], {}, None, UNSET, [["a", -1.0]])
    yield "unigram", [(M + "vocab", []), (M + "unk_id", None)]
    yield "unigram", [(M + "unk_id", None), ("/pre_tokenizer", None)]
    yield "unigram", [(u + "0/1", -100.0), (u + "8/1", -20.0)]
    yield "unigram", [(M + "byte_fallback", True), (u + "-", ["<0xE6>", -2.0]), (u + "-", ["<0x97>", -2.0]), (u + "-", ["<0xA5>", -2.0])]
    yield from values("unigram", M + "fuse_unk", False, True)


def patch_of(base, changes):
    """The JSON patch, and the file it makes."""
    file = copy.deepcopy(BASES[base])
    patch = []
    for path, value in changes:
        *keys, last = path.split("/")[1:]
        at = file
        for key in keys:
            at = at[int(key)] if isinstance(at, list) else at[key]
        if isinstance(at, list):
            last = len(at) if last == "-" else int(last)
        if value is UNSET:
            if isinstance(at, dict) and last not in at:
                continue
            del at[last]
            patch.append({"op": "remove", "path": path})
        elif isinstance(at, list) and last == len(at):
            at.append(value)
            patch.append({"op": "add", "path": path, "value": value})
        else:
            at[last] = value
            patch.append({"op": "add" if isinstance(at, dict) else "replace", "path": path, "value": value})
    return patch, file


def encode_all(file):
    tokenizer = Tokenizer.from_str(json.dumps(file))
    tokenizer.no_truncation()  # as transformers does unless it is asked to
    tokenizer.no_padding()
    out = []
    for text in TEXTS:
        try:
            out.append(tokenizer.encode(text).ids)
        except Exception:
            out.append("error")
    return out


def main():
    base_ids = {name: encode_all(file) for name, file in BASES.items()}
    rows, seen = [], set()
    for base, changes in cases():
        patch, file = patch_of(base, changes)
        key = json.dumps([base, patch])
        if key in seen or file == BASES[base]:
            continue
        seen.add(key)
        try:
            ids = encode_all(file)
            result = {str(i): x for i, (x, y) in enumerate(zip(ids, base_ids[base])) if x != y}
        except Exception:
            result = "refused"
        except BaseException:  # a panic of Rust, or a wrong index: there is no right value
            print("left out:", base, patch, file=sys.stderr)
            continue
        rows.append([base, patch, result])
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        head = json.dumps({"made_with": f"tokenizers {tokenizers.__version__}", "texts": TEXTS, "bases": BASES, "ids": base_ids},
                          ensure_ascii=False, separators=(",", ":"))
        f.write(head[:-1] + ',"cases":[\n')
        f.write(",\n".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) for r in rows) + "\n]}\n")


if __name__ == "__main__":
    main()
