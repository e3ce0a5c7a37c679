#!/usr/bin/env python3
"""Writes tokenizers/<name>.json (small tokenizers trained here) and <name>.cases.json.

Usage: make_tokenizer_goldens.py OUT_DIR [--train] [--tinystories TOKENIZER.json]
         [--spm LLAMA2.model] [--tok512 tok512.bin] [--smollm2 MODEL.gguf] [NAME...]

OUT_DIR is tests/golden/tokenizers. Needs: tokenizers 0.22 (see below); sentencepiece for --spm, gguf for --smollm2.
An existing <name>.json is kept (training is not exactly repeatable) unless --train is given; the
cases are always computed anew from the file. For the four real vocabularies, which live outside
this repository, only cases are written.

<name>.cases.json is a list of cases. A field that is left out equals the one named after "or":
  text           the input
  ids            encode(text), special tokens added by the post-processor
  ids_plain      encode(text) without those; special-token text inside is still
                 recognised                                                       (or ids)
  ids_nospecial  as ids_plain, but the text of special added tokens counts as plain text
                 (tokenizers' encode_special_tokens); other added tokens are still
                 recognised                                                       (or ids_plain)
  decoded        decode(ids) without special tokens                               (or text)
  decoded_full   decode(ids) with them                                            (or decoded)
  normalized     the whole text through the normalizer alone                      (or text)
  pieces         the whole normalized text through the pre-tokenizer alone  (pretok_* only)
The cases of llama2_spm and tok512 hold only text, ids (no BOS) and decoded.

<name>.decode.json is a list of arbitrary id sequences, which need not be anything that an encoder
would produce (broken UTF-8 above all): ids, decoded, decoded_full (or decoded).

Written with tokenizers 0.22.1. All ids and decodings are the same with 0.21.4, and all ids with
0.23.3. That release decodes an added token with "normalized": true to its normalized text and then
no longer knows it as special (TinyStories' tokenizer: decode([1], skip_special_tokens=True) gives
"<|start_story|>" where the earlier ones give ""), so it is not the one followed here.
"""

import argparse
import json
import os
import struct

import tokenizers
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

# --------------------------------------------------------------------------------- training text

SENTENCES = """
The baker counts the loaves before sunrise, and the street smells of bread and rain.
A small boat crossed the harbour while the old clock struck seven.
She didn't know whether they'd come, but she'd set the table for six anyway.
We're sure that it's the tenth time he's asked, and I'll answer again; they've all heard it.
When the lamp went out, nobody in the room moved or said a word.
The engineer measured 3.14159, then 2.71828, then gave up and wrote 42 in the margin.
On the 17th of May 2021 at 09:45 the train left platform 12 with 308 passengers.
Water finds its way through stone; patience finds its way through paper.
"Have you seen the garden?" he asked. "No," she said, "but I have heard of it!"
Some words repeat: the the and and of of to to in in is is that that.
The weather, the water, the winter and the wonder of it were all written down.
Nothing is as heavy as an empty bucket carried home from a dry well.
He was running, walking, singing, thinking and counting everything twice.
The unhappiness of the unbelievable is only understandable to the unforgettable.
Send a message to the address user.name@mail.test or open http://site.test/path?key=value&n=10.
Prices: $4.99, €12,50 and £7 (plus 20% tax) = more than expected.
""".strip().split("\n")

FOREIGN = """
Der Müller zählt die Säcke, während es über den Hügeln schneit; größer wird die Kälte.
Le garçon a mangé une crêpe près du théâtre, où l'été paraît déjà lointain.
El niño soñó con una montaña pequeña y un pingüino que cantaba canción tras canción.
Старый рыбак чинит сеть, а ветер несёт запах моря и дыма.
Маленькая лодка стоит у берега, и в доме горит свет.
老人每天早上在河边走路,他的狗跟在后面。
今天的天气很好,我们去山上看花吧。
猫は窓のそばで雨の音を聞いています。
البحر هادئ اليوم والقمر فوق الجبل
작은 새가 나무 위에서 노래를 부른다.
Ο γέρος περπατά αργά δίπλα στη θάλασσα.
""".strip().split("\n")

CODE = """
def count_words(text, limit=10):
    total = 0
    for word in text.split():
        if len(word) > limit:
            total += 1
    return total

int main(void) {
\tfor (int i = 0; i < 100; ++i) {
\t\tprintf("%d\\n", values[i]);
\t}
\treturn 0;
}
""".strip("\n").split("\n")


def corpus():
    lines = []
    subjects = ["The baker", "A sailor", "My teacher", "Her brother", "The old gardener"]
    verbs = ["counted", "remembered", "carried", "painted", "looked for"]
    things = ["the green door", "seven lanterns", "a broken compass", "the other letters"]
    for i, s in enumerate(subjects):
        for j, v in enumerate(verbs):
            for k, t in enumerate(things):
                lines.append(f"{s} {v} {t} on day {i * 20 + j * 4 + k + 1}.")
    return SENTENCES * 3 + FOREIGN * 2 + CODE * 2 + lines


# ------------------------------------------------------------------------------------ test inputs

INPUTS = [
    "", " ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\n\n\n", "\t\n", " \n", "\n ", " \n \n ",
    "a", " a", "a ", "  a  ", "Hello world", " Hello world", "Hello  world", "Hello   world  ",
    "Hello, world!", "HELLO WORLD", "hELLo WoRLD",
    "The baker counted the green door on day 17.",
    "She didn't know whether they'd come; I'll ask, we've time, he's late, I'm here, you're not.",
    "SHE'D SAID IT'S WHAT WE'LL DO, THEY'RE SURE", "'s 'S 't '' ''' don''t rock'n'roll",
    "don\u2019t can\u2019t \u201cquoted\u201d \u2018single\u2019 \u2013 \u2014 \u2026",
    "1", "12", "123", "1234", "12345", "1234567890", "3.14159 1,000,000 -42 +7 1e-10 0x1F",
    "a1b22c333d4444", "²³ ½ ⅓ Ⅷ ①② ٣٤٥ १२३ 𝟏𝟐",
    "Der Müller zählt größere Säcke über Nacht.", "crêpe théâtre été déjà garçon Ÿ Œuvre œ",
    "El niño soñó ¿qué? ¡Canción!", "Ångström ﬁne ﬂow ﬃ ſ ẞ ß İı",
    "e\u0301 a\u0308 n\u0303 o\u0302\u0301 \u0301x", "\u0301", "q\u0307\u0323 q\u0323\u0307",
    "\u1e9b\u0323 \u212b \u2126 \uff21\uff42\uff13 \u3300 \u2460",
    "老人每天早上在河边走路。", "今天,我们hello去山上123看花吧!", "猫は窓のそばで雨の音を聞いています。",
    "カタカナ ｶﾀｶﾅ ﾊﾞ が か\u3099", "한국어 각 \u1100\u1161\u11a8 작은 새", "Старый рыбак ЧИНИТ сеть.",
    "البحر هادئ اليوم", "مَرْحَبًا", "שָׁלוֹם עולם", "Ο γέρος ΠΕΡΠΑΤΆ ΣΑΣ", "नमस्ते दुनिया क्षि", "สวัสดีชาวโลก",
    "😀", "I ❤️ you 😀😀", "👩‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 🏳️‍🌈 1️⃣", "𝒜𝔅 𐍈 \U0001f9ff \U000e0041",
    "tab\tseparated\t\tvalues\n\tindented", "line one\nline two\r\nline three\rline four",
    "trailing space \n  leading two\n\n\n   \nend   ", "a  b   c    d     e\t f \t g",
    "nbsp\u00a0thin\u2009ideographic\u3000zwsp\u200bbom\ufeffls\u2028nel\u0085vt\x0bff\x0c.",
    "soft\u00adhyphen zwj\u200dzwnj\u200c rlm\u200f bidi\u202eabc\u202c",
    "http://site.test/path?key=value&n=10#frag user.name@mail.test C:\\dir\\file.txt",
    "for (int i = 0; i < 100; ++i) {\n\t\tprintf(\"%d\\n\", values[i]);\n\t}\n",
    "    if len(word) > limit:\n        total += 1\n\n\n    return total",
    "{\"key\": [1, 2.5, null], \"x\": \"\\u00e9\"}", "<div class='a'>&amp;</div><!-- x -->",
    "!@#$%^&*()_+-=[]{}|;':\",./<>?`~", "... --- === !!! ??? ,,, ;;;", "a,b;c.d!e?f-g_h/i\\j",
    "¡¢£¤¥¦§¨©ª«¬®¯°±´µ¶·¸¹º»¼¾¿×÷", "camelCaseWord PascalCase snake_case_word SCREAMING_CASE kebab-case",
    "unbelievable understandable antidisestablishmentarianism",
    "the the and and of of to to in in is is",
    "▁under▁score ▁ _ Ġ Ċ ĠHello â\u0080\u0099", "<0x41> <0x0A> <unk> <s> </s> [UNK] [CLS] ##ing",
    "nul\x00inside", "\x00", "bell\x07esc\x1b[0m del\x7f c1\x80\x9f", "\ufffd\ufffd \ufffe \uffff \U0010ffff \ue000",
    "\ud7ff\ue001\U00010000", "a" * 200, "ab" * 60, " " * 70, "\n" * 30, "é" * 50, "😀" * 30, "-" * 90,
    "1" * 64, "\t" * 20 + "x", "word " * 20, "hello" + " " * 15 + "world",
]

SPECIAL_INPUTS = ["{S}", " {S} ", "{S}Hello world{S}", "Hello {S} world", "a{S}b", "{S}{S}",
                  "text {S}\n\n{S} more", "{S", "S}"]


def inputs(special):
    def fill(t):
        if t == "{S":
            return special[:-1] + " x"
        return special[1:] if t == "S}" else t.replace("{S}", special)
    return INPUTS + ([fill(t) for t in SPECIAL_INPUTS] if special else [])


ADDED_INPUTS = [
    "a <ls> b", "a  \n<ls>  b", "<ls>", "x<ls>y", "a <rs> b", "a <rs> \t\n b", "x<rs>y", "<rs>",
    "a  <both>  b", "x<both>y", "<both><both>", "  <both>  ", "a <plain> b", "  <plain>  ",
    "say word now", "sword words wordy word", "word", "word,word.word", "(word) 'word' _word_ word1",
    "wordword", "éword wordé word\u0301", "老word人", "a <RAW> b <raw> c", "a <NORM> b <norm> c <Norm>",
    "<ab> <abc> <abcd> <abc <ab", "<ab><abc><abcd>", "<abcd", "<a <ab>bc>", "<nonspecial> and <NONSPECIAL>",
    "x<ls> <rs> <both>y", "<ls> <ls> <ls>", "<rs> <rs> <rs>", "word <ls>word<rs> word",
    "HELLO <ls> WORLD", "<LS> <Rs>", "ÄÖÜ <both> ÄÖÜ", "caf\u00e9 <accént> <ACCÉNT> <acce\u0301nt>",
    "   leading and trailing   ", "a\u00a0<ls>\u00a0b", "a\u3000<both>\u3000b", "tok en tok en", "TOK EN",
    "two  words two words", "<|x|><|y|>", "<|x|> <|y|>",
]

# ------------------------------------------------------------------------------------- tokenizers

GPT4_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
              r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+")
GPT4O_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

BYTES = pre_tokenizers.ByteLevel.alphabet()
BYTE_PIECES = [f"<0x{b:02X}>" for b in range(256)]
nobytes = lambda: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
special = lambda text, **kw: AddedToken(text, special=True, normalized=kw.pop("normalized", False), **kw)


def train_bpe(tok, size, specials, alphabet=(), texts=None, limit=None):
    tok.train_from_iterator(texts or corpus(), trainers.BpeTrainer(
        vocab_size=size, special_tokens=[special(s) for s in specials], show_progress=False,
        initial_alphabet=list(alphabet), max_token_length=16,
        **({"limit_alphabet": limit} if limit else {})))
    return tok


def template(tok, single, names):
    pair = single + " " + " ".join(p.replace("$A", "$B:1") for p in single.split())
    return processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(n, tok.token_to_id(n)) for n in names])


def gpt2():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    train_bpe(tok, 560, ["<|endoftext|>"], BYTES)
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    return tok


def gpt2_prefix_space():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tok.decoder = decoders.ByteLevel()
    train_bpe(tok, 480, ["<s>", "</s>"], BYTES)
    tok.post_processor = processors.RobertaProcessing(
        ("</s>", tok.token_to_id("</s>")), ("<s>", tok.token_to_id("<s>")), add_prefix_space=True)
    return tok


def split_style(pattern, specials, normalizer=None, bos=None, ignore_merges=False, size=600):
    tok = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"), nobytes()])
    tok.decoder = decoders.ByteLevel()
    train_bpe(tok, size, specials, BYTES)
    if ignore_merges:  # whole words that no merge can reach: only ignore_merges finds them
        state = json.loads(tok.to_str())
        vocab = state["model"]["vocab"]
        for word in ["Ġlantern", "Ġxyzzy", "xyzzy", "Ġ12", "Zq"]:
            vocab.setdefault(word, len(vocab))
        tok = Tokenizer.from_str(json.dumps(state))
    byte_level = processors.ByteLevel(trim_offsets=False)
    tok.post_processor = processors.Sequence([
        byte_level, template(tok, f"{bos} $A", [bos])]) if bos else byte_level
    return tok


def llama2(pre=None, normalizer=None, prepend=True):
    """Character BPE with byte pieces, as converted from SentencePiece."""
    base = Tokenizer(models.BPE(unk_token="<unk>"))
    base.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    train_bpe(base, 330, ["<unk>", "<s>", "</s>"], limit=90)
    model = json.loads(base.to_str())["model"]
    # <unk> <s> </s>, the 256 byte pieces, then everything that was trained
    trained = sorted(model["vocab"], key=model["vocab"].get)
    order = trained[:3] + BYTE_PIECES + trained[3:]
    tok = Tokenizer(models.BPE({t: i for i, t in enumerate(order)},
                               [tuple(m) for m in model["merges"]], unk_token="<unk>",
                               fuse_unk=True, byte_fallback=True))
    if normalizer:
        tok.normalizer = normalizer
    if pre:
        tok.pre_tokenizer = pre
    tok.add_special_tokens([special(s) for s in trained[:3]])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tok.decoder = decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if prepend else []))
    tok.post_processor = template(tok, "<s> $A", ["<s>"])
    return tok


def bpe_unk(fuse):
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuse))
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tok.decoder = decoders.Metaspace(prepend_scheme="always")
    return train_bpe(tok, 400, ["<unk>", "<pad>"], limit=60)


def bpe_suffix():
    tok = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tok.normalizer = normalizers.Lowercase()
    tok.pre_tokenizer = pre_tokenizers.Whitespace()
    tok.decoder = decoders.BPEDecoder(suffix="</w>")
    tok.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>"], show_progress=False, limit_alphabet=60,
        end_of_word_suffix="</w>"))
    return tok


def train_unigram(size, pre, normalizer):
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizer
    tok.pre_tokenizer = pre
    texts = [t for t in corpus() if t not in FOREIGN[5:]]
    tok.train_from_iterator(texts, trainers.UnigramTrainer(
        vocab_size=size, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>",
        show_progress=False, max_piece_length=12))
    return tok


def unigram():
    pre = pre_tokenizers.Metaspace(prepend_scheme="always")
    tok = train_unigram(420, pre, normalizers.Sequence([
        normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]))
    tok.decoder = decoders.Metaspace(prepend_scheme="always")
    tok.post_processor = template(tok, "$A </s>", ["</s>"])
    return tok


def unigram_bytes():
    pre = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    state = json.loads(train_unigram(
        380, pre_tokenizers.Metaspace(prepend_scheme="always"), normalizers.NFKC()).to_str())
    vocab = [tuple(p) for p in state["model"]["vocab"]]
    vocab = vocab[:3] + [(p, 0.0) for p in BYTE_PIECES] + vocab[3:]
    tok = Tokenizer(models.Unigram(vocab, unk_id=2, byte_fallback=True))
    tok.normalizer = normalizers.Replace(" ", "▁")
    tok.pre_tokenizer = pre
    tok.add_special_tokens([special(s) for s in ("<pad>", "</s>", "<unk>")])
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                     decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tok


def wordpiece(lowercase):
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece(prefix="##", cleanup=lowercase)
    tok.train_from_iterator(corpus(), trainers.WordPieceTrainer(
        vocab_size=600, special_tokens=names, show_progress=False, limit_alphabet=140))
    if lowercase:
        tok.post_processor = template(tok, "[CLS] $A [SEP]", ["[CLS]", "[SEP]"])
    else:
        tok.post_processor = processors.BertProcessing(
            ("[SEP]", tok.token_to_id("[SEP]")), ("[CLS]", tok.token_to_id("[CLS]")))
    return tok


_crossing = None


def crossing(pre=None, normalizer=None):
    """Byte-level BPE trained on whole lines: its merges cross every sort of boundary, so only the
    pre-tokenizer in front of it can keep them apart."""
    global _crossing
    if _crossing is None:
        base = Tokenizer(models.BPE())
        base.pre_tokenizer = nobytes()
        _crossing = train_bpe(base, 420, ["<|end|>"], BYTES).to_str()
    tok = Tokenizer.from_str(_crossing)
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre_tokenizers.Sequence(pre + [nobytes()]) if pre else nobytes()
    tok.decoder = decoders.ByteLevel()
    return tok


def split(pattern, behavior, invert=False):
    return crossing([pre_tokenizers.Split(pattern, behavior, invert)])


def added():
    tok = crossing([pre_tokenizers.Split(Regex(r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+"), "isolated")],
                   normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()]))
    tok.add_special_tokens([
        special("<ls>", lstrip=True), special("<rs>", rstrip=True),
        special("<both>", lstrip=True, rstrip=True), special("<plain>"),
        special("<|x|>"), special("<|y|>", normalized=True)])
    tok.add_tokens([
        AddedToken("word", single_word=True, normalized=False), AddedToken("<RAW>", normalized=False),
        AddedToken("<NORM>", normalized=True), AddedToken("<ab>", normalized=False),
        AddedToken("<abc>", normalized=False), AddedToken("<abcd>", normalized=False),
        AddedToken("<nonspecial>", normalized=True, lstrip=True),
        AddedToken("<accént>", normalized=True), AddedToken("tok en", normalized=True),
        AddedToken("two words", normalized=False, single_word=True, rstrip=True)])
    return tok


def deepseek_style():
    S, R = pre_tokenizers.Split, Regex
    return crossing([
        S(R("[\r\n]"), "isolated"),
        S(R(r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-Ֆ]+"), "isolated"),
        S(R(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), "isolated"),
        S(R(r"\s+$"), "isolated"),
        S(R("[一-龥ࠀ-一가-퟿]+"), "isolated"),
        pre_tokenizers.Digits(individual_digits=True)])


P = pre_tokenizers
N = normalizers
TOKENIZERS = {
    # name: (maker, special token used in the special-text inputs)
    "bytelevel_bpe_gpt2": (gpt2, "<|endoftext|>"),
    "bytelevel_prefix_space": (gpt2_prefix_space, "</s>"),
    "llama3_style": (lambda: split_style(
        GPT4_SPLIT, ["<|begin_of_text|>", "<|eot_id|>"], bos="<|begin_of_text|>", ignore_merges=True),
        "<|eot_id|>"),
    "qwen2_style": (lambda: split_style(
        QWEN2_SPLIT, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], normalizer=N.NFC()), "<|im_end|>"),
    "gpt4o_style": (lambda: split_style(GPT4O_SPLIT, ["<|endoftext|>"], size=500), "<|endoftext|>"),
    "llama2_style": (lambda: llama2(
        normalizer=N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")])), "</s>"),
    "llama2_metaspace": (lambda: llama2(
        pre=P.Metaspace(prepend_scheme="first", split=False)), "</s>"),
    "llama2_metaspace_never": (lambda: llama2(
        pre=P.Metaspace(prepend_scheme="never", split=True), prepend=False), "</s>"),
    "gemma_style": (lambda: llama2(
        normalizer=N.Replace(" ", "▁"), pre=P.Split(" ", "merged_with_previous"), prepend=False), "</s>"),
    "bpe_unk": (lambda: bpe_unk(False), "<pad>"),
    "bpe_fuse_unk": (lambda: bpe_unk(True), "<pad>"),
    "bpe_suffix": (bpe_suffix, "<unk>"),
    "unigram": (unigram, "</s>"),
    "unigram_bytefallback": (unigram_bytes, "</s>"),
    "wordpiece": (lambda: wordpiece(True), "[SEP]"),
    "wordpiece_cased": (lambda: wordpiece(False), "[MASK]"),
    "pretok_digits_punctuation": (lambda: crossing([P.Digits(individual_digits=True), P.Punctuation()]), None),
    "pretok_digits_grouped": (lambda: crossing([P.Digits(individual_digits=False)]), None),
    "pretok_punct_contiguous": (lambda: crossing([P.Punctuation("contiguous")]), None),
    "pretok_punct_previous": (lambda: crossing([P.Punctuation("merged_with_previous")]), None),
    "pretok_split_removed": (lambda: split(" ", "removed"), "<|end|>"),
    "pretok_split_isolated": (lambda: split(" ", "isolated"), "<|end|>"),
    "pretok_split_previous": (lambda: split(" ", "merged_with_previous"), "<|end|>"),
    "pretok_split_next": (lambda: split(" ", "merged_with_next"), "<|end|>"),
    "pretok_split_contiguous": (lambda: split(" ", "contiguous"), "<|end|>"),
    "pretok_regex_next": (lambda: split(Regex("[A-Z]"), "merged_with_next"), None),
    "pretok_regex_contiguous": (lambda: split(Regex(r"[\p{P}\p{S}]"), "contiguous"), None),
    "pretok_invert_removed": (lambda: split(Regex(r"\w+|[^\w\s]+"), "removed", True), None),
    "pretok_invert_isolated": (lambda: split(Regex(r"\p{L}+"), "isolated", True), None),
    "pretok_invert_previous": (lambda: split(Regex(r"[a-z]+"), "merged_with_previous", True), None),
    "pretok_whitespace": (lambda: crossing([P.Whitespace()]), None),
    "pretok_whitespace_split": (lambda: crossing([P.WhitespaceSplit()]), None),
    "pretok_deepseek_style": (deepseek_style, None),
    "norm_nfd_strip": (lambda: crossing(None, N.Sequence(
        [N.NFD(), N.StripAccents(), N.Lowercase(), N.Strip()])), "<|end|>"),
    "norm_nfkd": (lambda: crossing(None, N.NFKD()), None),
    "norm_strip_left": (lambda: crossing(None, N.Sequence(
        [N.NFKC(), N.Strip(left=True, right=False)])), None),
    "norm_replace": (lambda: crossing(None, N.Sequence(
        [N.Replace(Regex(r"\s+"), " "), N.Replace("th", "TH"), N.Prepend("_")])), "<|end|>"),
    "added_tokens": (added, "<plain>"),
}


def cases(tok, texts, pieces=False):
    out = []
    for text in texts:
        case = {"text": text}

        def put(key, value, same_as):
            if value != same_as:
                case[key] = value
            return value

        tok.encode_special_tokens = False
        ids = put("ids", tok.encode(text).ids, None)
        plain = put("ids_plain", tok.encode(text, add_special_tokens=False).ids, ids)
        tok.encode_special_tokens = True
        put("ids_nospecial", tok.encode(text, add_special_tokens=False).ids, plain)
        tok.encode_special_tokens = False
        decoded = put("decoded", tok.decode(ids, skip_special_tokens=True), text)
        put("decoded_full", tok.decode(ids, skip_special_tokens=False), decoded)
        normal = text
        if tok.normalizer is not None:
            normal = put("normalized", tok.normalizer.normalize_str(text), text)
        if pieces:
            case["pieces"] = [p for p, _ in tok.pre_tokenizer.pre_tokenize_str(normal)]
        out.append(case)
    return out


def id_sequences(encode, vocab_size):
    """Some broken encodings, then arbitrary ids (a small generator, the same ones every time)."""
    out = [[]]
    for text in ("é", "老人", "😀 x", "a 👩‍👩‍👧 b", "Größe"):
        ids = encode(text)
        out += [s for s in (ids[1:], ids[:-1], ids[:-2], ids[::-1], ids[-1:] * 3) if s not in out]
    state = 12345
    for n in range(24):
        row = []
        for _ in range(1 + n // 2):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            row.append((state >> 33) % (vocab_size if n % 2 else min(vocab_size, 300)))
        out.append(row)
    return out


def decode_cases(tok):
    out = []
    for ids in id_sequences(lambda t: tok.encode(t, add_special_tokens=False).ids, tok.get_vocab_size()):
        case = {"ids": ids, "decoded": tok.decode(ids, skip_special_tokens=True)}
        full = tok.decode(ids, skip_special_tokens=False)
        if full != case["decoded"]:
            case["decoded_full"] = full
        out.append(case)
    return out


def write(path, records):
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        f.write("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":"))
                                   for c in records) + "\n]\n")
    print(f"{os.path.basename(path)}: {len(records)} cases, {os.path.getsize(path)} bytes")


# ----------------------------------------------------------------------------- real vocabularies

def smollm2_from_gguf(path):
    """A tokenizer for a GGUF vocabulary of model "gpt2" and pre-tokenizer "smollm"."""
    from gguf import GGUFReader
    fields = GGUFReader(path).fields
    get = lambda key: fields["tokenizer.ggml." + key].contents()
    assert get("model") == "gpt2" and get("pre") == "smollm"
    tokens = get("tokens")
    merges = [tuple(m.split(" ")) for m in get("merges")]
    tok = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([special(t) for t, kind in zip(tokens, get("token_type")) if kind == 3])
    return tok


class Tok512:
    """The encoder of llama2.c's run.c: greedy merges by score over a tokenizer.bin."""

    def __init__(self, path):
        data = open(path, "rb").read()
        at, self.pieces, self.scores = 4, [], []  # skip max_token_length
        while at < len(data):
            score, length = struct.unpack_from("<fi", data, at)
            self.scores.append(score)
            self.pieces.append(data[at + 8:at + 8 + length])
            at += 8 + length
        self.index = {}
        for i, p in enumerate(self.pieces):
            self.index.setdefault(p, i)

    def encode(self, text):
        ids = [self.index[b" "]] if text else []
        for ch in text:
            b = ch.encode()
            ids += [self.index[b]] if b in self.index else [x + 3 for x in b]
        while True:
            best, at, merged = -1e10, -1, -1
            for i in range(len(ids) - 1):
                k = self.index.get(self.pieces[ids[i]] + self.pieces[ids[i + 1]])
                if k is not None and self.scores[k] > best:
                    best, at, merged = self.scores[k], i, k
            if at < 0:
                return ids
            ids[at:at + 2] = [merged]

    def decode(self, ids):
        out, previous = b"", 1
        for i in ids:
            p = self.pieces[i]
            if previous == 1 and p.startswith(b" "):
                p = p[1:]
            if len(p) == 6 and p.startswith(b"<0x") and p.endswith(b">"):
                p = bytes([int(p[3:5], 16)])
            out, previous = out + p, i
        return out.decode("utf-8", "replace")


def simple(encode, decode, texts):
    return [{"text": t, "ids": (ids := encode(t)), "decoded": decode(ids)} for t in texts]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("out")
    ap.add_argument("names", nargs="*")
    ap.add_argument("--train", action="store_true")
    for real in ("--tinystories", "--spm", "--tok512", "--smollm2"):
        ap.add_argument(real)
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    at = lambda name: os.path.join(a.out, name)
    for name, (make, mark) in TOKENIZERS.items():
        if a.names and name not in a.names:
            continue
        if a.train or not os.path.exists(at(name + ".json")):
            state = make().to_str(pretty=False)
            with open(at(name + ".json"), "w", encoding="utf-8", newline="\n") as f:
                f.write(state + "\n")
        tok = Tokenizer.from_file(at(name + ".json"))
        texts = inputs(mark)
        if name == "added_tokens":
            texts = ADDED_INPUTS + texts
        if name == "llama3_style":
            texts = texts + [" lantern xyzzy", "xyzzy lantern Zq 12 12", "Zqa lanterns"]
        write(at(name + ".cases.json"), cases(tok, texts, pieces=name.startswith("pretok_")))
        if not name.startswith(("pretok_", "norm_")):
            write(at(name + ".decode.json"), decode_cases(tok))
    for path, name, load, mark in (
            (a.tinystories, "tinystories", Tokenizer.from_file, "<|end_story|>"),
            (a.smollm2, "smollm2", smollm2_from_gguf, "<|im_start|>")):
        if path:
            tok = load(path)
            write(at(name + ".cases.json"), cases(tok, inputs(mark)))
            write(at(name + ".decode.json"), decode_cases(tok))
    if a.spm:
        from sentencepiece import SentencePieceProcessor
        sp = SentencePieceProcessor(model_file=a.spm)
        write(at("llama2_spm.cases.json"), simple(sp.EncodeAsIds, sp.DecodeIds, inputs("</s>")))
        write(at("llama2_spm.decode.json"), [
            {"ids": s, "decoded": sp.DecodeIds(s)}
            for s in id_sequences(sp.EncodeAsIds, sp.get_piece_size())])
    if a.tok512:
        t = Tok512(a.tok512)
        texts = [x for x in inputs(None) if "\0" not in x]  # its texts are C strings
        write(at("tok512.cases.json"), simple(t.encode, t.decode, texts))


if __name__ == "__main__":
    main()
