"""Writes regex.json: what Oniguruma, through Python's `tokenizers`, matches for a table of constructs.

    python tests/golden/make_regex_goldens.py [--out FILE]      (made with tokenizers 0.23)

For each pattern: null where Oniguruma refuses it, else for each text the byte offsets of the matches
that are not empty, from a Split, and the FNV-1a hash of the text after a Replace of the pattern by
U+00A6, which sees the empty ones as well. Then what Split makes of matches that may be empty.
"""

import json
import os
import sys

from tokenizers import Regex, normalizers, pre_tokenizers

TEXTS = [
    "Don't stop! It's 3:45\u00a0pm, we'LL see_you2 @ caf\u00e9s\u2026",
    "line one\nline two\r\n\r\n  three\t\tFOUR\n",
    "\u6771\u4eac\u30bf\u30ef\u30fc\u3001\u3053\u3093\u306b\u3061\u306f 123\uff14\uff15 \ud55c\uad6d\uc5b4 \u0447\u0430\u0441 \u05e9\u05dc\u05d5\u05dd \u0939\u093f\u0928\u094d\u0926\u0940",
    "Stra\u00dfe STRASSE \u017fee \u212aelvin \ufb03 ffi \u0130stanbul \u01c4 \u03a3\u03c3\u03c2 ss\u1e9e",
    "aaabbb-abc abcabc (x[y]{z}) a^b$c|d\\e.f*g+h?&&~#%",
    "\U0001f600\u200d\U0001f469\U0001f3fd e\u0301 \u2160 \u00bd \u00b2 \u20ac\u00a3 \u3000\u2028\u0085x\u180e\u200b_\u203f\x07\x1b",
    "foo=bar; foo = \"b a r\"; 0xdeadBEEF 1,234,567.89 <tag>in</tag> aa bb cc",
]

CLASSES = r"""
[a-c]
[^a-c]
[abc-]
[-abc]
[a-c-e]
[a-]
[]a]
[^]a]
[]-a]
[a\]b]
[\[a]
[[a]
[a[bc]d]
[a[^b]]
[^a[bc]]
[^a[^bc]]
[[a-c][x-z]]+
[[^a-z]&&[^A-Z]]+
[a-z&&[^aeiou]]+
[a-z&&[aeiou]]+
[a-w&&[^c-g]z]+
[^a-z&&[^aeiou]]+
[^\s&&[^a-z]]+
[\w&&[^\d_]]+
[\p{L}&&[^\p{Han}]]+
[\p{L}\p{M}&&[^\p{Han}\p{Hiragana}]]+
[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+
[^\p{Han}&&\p{L}]+
[a-z&&b-y&&c-x]+
[a-z&&]
[&&a]
[a&&b]
[^a&&b]
[a&b]+
[&]+
[a&&&b]
[[:alpha:]]+
[[:digit:]]+
[[:alnum:]]+
[[:upper:]]+
[[:lower:]]+
[[:punct:]]+
[[:space:]]+
[[:blank:]]+
[[:cntrl:]]+
[[:graph:]]+
[[:print:]]+
[[:xdigit:]]+
[[:word:]]+
[[:ascii:]]+
[[:^alpha:]]+
[[:^space:]]+
[[:^punct:]]+
[^[:alpha:]]+
[[:alpha:][:digit:]]+
[a[:digit:]b]+
[[:alpha:]&&[^a-m]]+
[[:foo:]]
[:alpha:]+
[[:alpha:]-z]
[\w-z]
[a-\w]
[\w\-]+
[\W]+
[^\W]+
[^\w\s]+
[\D]+
[\d\s]+
[\S]+
[^\S]+
[^\S\n]+
[\W\d]+
[a\W]+
[\h]+
[\H]+
[\p{L}\d]+
[\P{L}]+
[^\P{L}]+
[\p{^L}]+
[\P{^L}]+
[^\p{L}\p{N}\s]+
[\P{L}\P{N}]+
[\x41-\x5a]+
[\x{3040}-\x{30ff}]+
[\u3040-\u30ff]+
[\xe3\x81\x82-\xe3\x82\x93]+
[\101-\132]+
[\0-\x1f]+
[\t\n\r\f\v\a\e]+
[\b]
[\cG\c[]+
[+--]+
[!--]+
[a-c-[b]]
[a-[b]]+
[z-a]
[\x{110000}]
[a-\x{7fffffff}]+
[
[]
[^]
[a
[.]+
[$^]+
[*+?]+
[(|)]+
[{}]+
[#\ ]+
[\Q.\E]+
[\R]+
[\X]+
[\p{Greek}\p{Cyrillic}]+
[一-龯ぁ-んァ-ン]+
[あ-ん&&[^い]]+
[^あ-ん一-龯]+
"""

ATOMS = r"""
.
.+
\w+
\W+
\d+
\D+
\s+
\S+
\h+
\H+
\R
\R+
\X
\X{2}
\N+
\O+
\b
\B
\b\w
\w\b
\b\w+\b
\Bb\B
\A\w+
\w+\z
\w+\Z
\w+$
^\w+
^
$
^$
(?m)^.+$
\n$
\Gf?o?o?
\G.
\G
foo\K=
a\K
\Ka
\w+\K\s
(?=a\K)b
\p{L}+
\pL+
\PL+
\p{Lu}
\p{Letter}+
\p{Uppercase_Letter}
\p{uppercase letter}
\p{UPPERCASE-LETTER}
\p{L&}
\p{LC}+
\p{^L}+
\P{^L}+
\p{M}
\p{N}+
\p{Nd}+
\p{Nl}
\p{No}
\p{P}+
\p{Punct}+
\p{Punctuation}+
\p{S}+
\p{Sc}
\p{Z}
\p{Zs}
\p{C}
\p{Cc}
\p{Cf}
\p{Alpha}+
\p{Alnum}+
\p{Alphabetic}+
\p{Upper}
\p{Uppercase}
\p{Lower}+
\p{Digit}+
\p{Space}
\p{Blank}
\p{Cntrl}
\p{Graph}+
\p{Print}+
\p{Word}+
\p{XDigit}+
\p{ASCII}+
\p{Any}+
\p{Assigned}+
\p{Han}+
\p{Hani}+
\p{Hiragana}+
\p{hiragana}+
\p{Katakana}+
\p{Hangul}+
\p{Latin}+
\p{Cyrillic}+
\p{Hebrew}+
\p{Devanagari}+
\p{Common}+
\p{Inherited}
\p{Greek}+
\p{Emoji}
\p{Emoji_Presentation}
\p{Extended_Pictographic}
\p{White_Space}
\p{Ideographic}+
\p{ID_Start}+
\p{Math}
\p{In_Hiragana}+
\p{InBasicLatin}+
\p{Age=6.0}
\p{Nope}
\p{}
\p{L
\x41
\x{6771}
\x{6771 4eac}
\u6771
\u67
\xe6\x9d\xb1
\xe6
\101
\o{101}
\0
\08
\x
\x{}
\cJ
\C-j
\M-a
\e
\a
\v
\t+
\j
\i
\l
\Q
\Qa.b\E
\<
\>
\`
\'
\-
\/
\ 
\é
\y
\Y
\y\X
]
}
{
{a
a{
a{,
a{,}
x{y
(?#comment)a
a(?#comment\))b
a(?#open
\
"""

QUANTIFIERS = r"""
a*
a+
a?
a*?
a+?
a??
a*+
a++
a?+
a*+a
a++b
a{2}
a{2,}
a{,2}
a{1,2}
a{0}
a{0}b
a{2}?
a{2,}?
a{1,2}?
a{,2}?
a{2}+
a{1,2}+
a{2,1}
a{3,1}a
a{2,1}?
a{2}{2}
a{1}{3}
a{ 2}
a{2
a**
a+*
a*?+
a+?*
a+??
a??+
(?:a?)?b
(?:a*?)?b
(?:a??)*b
(?:a+?)?b
(?:a+?)+b
(?:a+)??b
(?:a?)+?b
(?:a+){2}
(?:a{2}){2}
(?:a|b)*
(?:a|b)+?c
(?:ab)+
(ab)+
(?:a*)*
(?:a*)+
(a*)*b
(?:a|)*b
(?:|a)*b
(?:|a)+
(?:a??)+b
(?:a*?)*b
*a
+a
?a
{2}a
(*a)
a|*
^*a
^+
$?a
\b+
\b?a
(?=a)*
(?=a)?a
(?:^|a)*
(^|a)+
(?:\b|-)+
(?>a+)b
(?>a|ab)c
(?>a*)a
(?:(?>a+)b)+
\w+?\b
[a-c]+?b
[a-c]++
[a-c]++b
\s*+\S
.*?b
.*b
a{100001}
a{0,100000}
"""

GROUPS = r"""
(a)(b)
(?:a)(b)
(a)\1
(\w)\1
(\w)(\w)\2\1
(a)|b\1
(?<x>a)\k<x>
(?'x'a)\k'x'
(?<x>\w)\k<x>
(?<x>a)(b)\k<x>
(?<x>a)(b)\1
(?<x>a)|(?<x>b)\k<x>
(?<x>a)\g<x>
(?<x>a|b\g<x>c)
(a|b)\g<1>
(a|b)\g<1>\1
\g<x>(?<x>a)
(?<p>\((?:[^()]|\g<p>)*\))
(?<p>\[(?:[^\[\]]|\g<p>)*\])
(?:a|\(\g<0>\))
(?<n>\d+){0}\g<n>
(a)\k<1>
(a)\k<-1>
(a)\k<+1>(b)
(a)\k<2>
\1(a)
\2
\9
\10
\k<x>
\g<x>
\g<1>
(?<1a>b)
(?<>b)
(?<é>a)\k<é>
(?<a-b>c)
(?P<x>a)
(a)\k<1+0>
(?:)
()
a()b
|a
a|
a||b
(|a)b
(?=\w)a
(?!a)\w+
(?<=a)b
(?<!a)b
(?<=ab)c
(?<=a|bc)\w
(?<=\s|^)\w+
(?<!\s|^)\w+
(?<=^|,)\d+
(?<!\d)\d{3}(?!\d)
(?<=[^a-z])[a-z]+
(?<=a+)b
(?<=a*)b
(?<=a{2})b
(?<=a{1,2})b
(?<=(a))b
(?<!(a))b
(?<=\b)a
(?<=(?=a))a
(?=a(?=b))ab
(?!(?!a))a
(?<=[[:alpha:]&&[^a]])b
(?i:ss)
(?i:STRASSE)
(?i)straße
(?i)ß
(?i)ẞ
(?i)ffi
(?i)ﬃ
(?i)k
(?i)s
(?i)σ
(?i)i̇
(?i)ǆ
(?i)DON'T
(?i:'s|'t|'re|'ve|'m|'ll|'d)
(?i)[a-z]+
(?i)[A-Z]+
(?i)[^a-z]+
(?i)[k]
(?i)[ß]
(?i)[ß]+
(?i)[^ß]
(?i)[ﬀ-ﬄ]+
(?i)[s&&[^S]]
(?i)[a-z&&[^aeiou]]+
(?i)[[^a]]
(?i)[[:upper:]]+
(?i)[\p{Lu}]+
(?i)\p{Lu}+
(?i)[[:lower:]&&[^s]]+
(?i)[\u017f]
(?i)\x41+
(?i)(?<=s)t
(?i)(?<=ß)e
(?i)(?<=[ß])e
(?i)ff+
(?i)s{2}
(?i)(?:s)s
(?i)s(?-i)S
(?i:s)s
(?i)(s)\1
(?-i:a)B
(?i-m:a)
(?i)a(?-i)b|c
a(?i)b|c
a(?i:b|c)
(?:a(?i)b|C)d
x(?i)
(?i)*
a(?i)+
(?m:.)
(?m).+
(?s).+
(?s:.)
(?-m:.)+
(?im:A.)
(?x)a b # c
(?x) [a b]+ #
(?x)a +
(?x: a | b )c
(?x)\ a
(?x)a\#
(?x)(?<x> a)
(?W)\w+
(?W)\W+
(?W)\b\w
(?W:\b)\w
(?D)\d+
(?D)[\d]+
(?S)\s+
(?S)[^\S]+
(?P)[[:alpha:]]+
(?P)[[:^alpha:]]+
(?P)[[:punct:]]+
(?P)\p{Alpha}+
(?P)\p{L}+
(?P)\w+
(?W)\p{Word}+
(?W)[\p{Word}]+
(?y{g})\X
(?y{w})\X
(?C)(a)
(?I)k
(?L)a|ab
(?u)a
(?a)\w
(?
(?)
(?a
(a
a)
(?:a
(?<x
((((((((((a))))))))))
(?(1)a|b)
(a)?(?(1)b|c)
(?<x>a)?(?(<x>)b|c)
(a)?(?(1)b)
(a)?(?(1))
(a)?(?(1)|c)
(a)?(?(1)b|c|d)
(?(?=a)ab|c)
(?~abc)
(?~|abc|\w+)
(?~|)
(*FAIL)
(*MAX{2})
(?{x})
(?(*FAIL)a|b)
(?:()|())*\1\2
(?:(a)|b)*\1
(?:(a)|b|\1)+
((a)|b)+\2
(?:a(b)?)+\1
"""

PUBLISHED_STYLE = r"""
's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+
[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 ?[^(\s|[.,!?…。，、।۔،])]+
[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
\d{1,3}(?=(?:\d{3})*\b)
(?=(\d{3})+(?!\d))
[0-9][0-9][0-9]
[\r\n]
\s?[A-Za-zµÀ-ÖØ-öø-ƺ]+
\s?[!-/:-~！-／：-～‘-‟　-。]+
\s+$
[一-龥ࠀ-一가-퟿]+
<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
\w+|[^\w\s]+
(?<=\d)(?=(\d\d\d)+\b)
(?:\r\n|\r|\n)+| {2,}|\t+
[^\S\r\n]+
^\s+|\s+$
▁+|[^▁]+
"""

# Matches may be empty, and then keep their neighbours apart.
SPLIT_TEXT = "aab xbb b"
SPLIT_PATTERNS = ["", "x*", "b*", "(?=b)", "b", "(?<=b)", "a|(?=b)", r"\b", "$", r"a\K"]
BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]


def splits():
    for pattern in SPLIT_PATTERNS:
        for behavior in BEHAVIORS:
            for invert in (False, True):
                made = pre_tokenizers.Split(Regex(pattern), behavior, invert=invert)
                pieces = [text for text, _ in made.pre_tokenize_str(SPLIT_TEXT)]
                yield [pattern, behavior, invert, pieces]


def patterns():
    for block in (CLASSES, ATOMS, QUANTIFIERS, GROUPS, PUBLISHED_STYLE):
        for line in block[1:-1].split("\n"):
            yield line


def fnv(data: bytes) -> int:
    h = 0x811C9DC5
    for b in data:
        h = ((h ^ b) * 0x01000193) & 0xFFFFFFFF
    return h


def run(pattern):
    try:
        regex = Regex(pattern)
    except Exception:  # noqa: BLE001
        return None
    split = pre_tokenizers.Split(regex, "removed", invert=True)
    replace = normalizers.Replace(regex, "\u00a6")
    rows = []
    for text in TEXTS:
        flat = []
        for piece, (begin, end) in split.pre_tokenize_str(text):
            flat += [len(text[:begin].encode()), len(text[:end].encode())]
        rows.append([fnv(replace.normalize_str(text).encode()), flat])
    return rows


def main():
    seen, cases = set(), []
    for pattern in patterns():
        if pattern in seen:
            continue
        seen.add(pattern)
        cases.append([pattern, run(pattern)])
    refused = sum(rows is None for _, rows in cases)
    out = sys.argv[2] if len(sys.argv) > 2 and sys.argv[1] == "--out" else os.path.join(
        os.path.dirname(os.path.abspath(__file__)), "regex.json")
    with open(out, "w", encoding="utf-8") as f:
        f.write('{"texts": %s,\n"cases": [\n' % json.dumps(TEXTS, ensure_ascii=False))
        f.write(",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in cases))
        f.write('\n],\n"split_text": %s, "splits": [\n' % json.dumps(SPLIT_TEXT))
        f.write(",\n".join(json.dumps(s) for s in splits()))
        f.write("\n]}\n")
    print(len(cases), "patterns,", refused, "of them refused by Oniguruma,", os.path.getsize(out), "bytes")


if __name__ == "__main__":
    main()
