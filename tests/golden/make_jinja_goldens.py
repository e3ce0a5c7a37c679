"""Writes jinja.json: what Jinja makes of small templates, set up as transformers 5 sets it up.

Each filter, test, method, operator and statement with several arguments, right and wrong ones. Needs
transformers and jinja2 (3.1). Run it where the file stands: python3 make_jinja_goldens.py
"""

import copy
import json
import pathlib

import jinja2
from transformers.utils.chat_template_utils import _compile_jinja_template

MESSAGES = [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": "  Hello, wörld! \n"},
    {"role": "assistant", "content": "Hi <b>there</b> & you.\nBye."},
    {"role": "user", "content": "2 < 3?"},
]
VARIABLES = {
    "a": [3, 1, 2],
    "d": {"a": [True, None, "x"], "b": 1, "c": {"d": 0.5}},
    "e": [],
    "f": 2.5,
    "n": 7,
    "p": [{"k": "b", "v": 1}, {"k": "A", "v": 2}, {"k": "a", "v": 3, "w": {"z": [4, 5]}}],
    "s": "Hello wörld, it's me",
    "t": "one two-three\nfour   five\t<i>six</i> &amp; seven",
    "w": "  pad  ",
    "x": "",
    "z": None,
}

# Filters: the arguments in brackets, or "" for none; each on each of the inputs.
INPUTS = ["s", "t", "x", "w", "n", "f", "a", "e", "d", "p", "z", "u", "true", "(1, 2)", "'12'", "-3", "range(3)"]
FILTERS = {
    "abs": [""],
    "attr": ["('k')", "('upper')"],
    "batch": ["(2)", "(2, 'x')"],
    "capitalize": [""],
    "center": ["(30)", "(5)"],
    "count": [""],
    "d": ["", "('y')", "('y', true)"],
    "dictsort": ["", "(true)", "(by='value')", "(reverse=true)"],
    "escape": [""],
    "filesizeformat": ["", "(true)"],
    "first": [""],
    "float": ["", "(1.5)"],
    "forceescape": [""],
    "groupby": ["('k')"],
    "indent": ["", "(2, true)", "(width='> ', blank=true)"],
    "int": ["", "(5)"],
    "items": [""],
    "join": ["", "(', ')", "('-', attribute='k')"],
    "last": [""],
    "length": [""],
    "list": [""],
    "lower": [""],
    "map": ["('upper')", "(attribute='k')", "(attribute='v', default='?')"],
    "max": ["", "(attribute='k')"],
    "min": ["", "(true)"],
    "reject": ["('none')", "('odd')"],
    "rejectattr": ["('k', 'eq', 'a')"],
    "replace": ["('l', 'L')", "('o', '0', 1)", "('', '.')"],
    "reverse": [""],
    "round": ["", "(1)", "(1, 'floor')"],
    "safe": [""],
    "select": ["", "('string')"],
    "selectattr": ["('v')", "('w', 'defined')"],
    "slice": ["(2)", "(2, 'x')"],
    "sort": ["", "(reverse=true)", "(attribute='k')", "(attribute='k,v', case_sensitive=true)"],
    "string": [""],
    "striptags": [""],
    "sum": ["", "(attribute='v')", "(start=10)"],
    "title": [""],
    "tojson": ["", "(indent=2)", "(sort_keys=true)", "(ensure_ascii=true)", "(separators=(',', ':'))"],
    "trim": ["", "('He')"],
    "truncate": ["(10)", "(10, true)", "(10, true, '!', 0)"],
    "unique": ["", "(attribute='k')", "(true, 'k')"],
    "upper": [""],
    "urlencode": [""],
    "wordcount": [""],
    "wordwrap": ["(9)", "(4, false)", "(4, true, '|')", "(9, break_on_hyphens=false)"],
    "xmlattr": ["", "(false)"],
}
LAZY = {"batch", "items", "map", "reject", "rejectattr", "reverse", "select", "selectattr", "slice", "unique"}

TESTS = ["boolean", "callable", "defined", "divisibleby 3", "eq 7", "escaped", "even", "false", "filter", "float",
         "ge 2", "gt 2", "in [7, 'x', none]", "integer", "iterable", "le 2", "lower", "lt 2", "mapping", "ne 7",
         "none", "number", "odd", "sameas none", "sequence", "string", "test", "true", "undefined", "upper"]

METHODS = {
    "s": ["capitalize()", "casefold()", "center(31, '*')", "center(30)", "count('l')", "count('l', 3, 12)", "count('')",
          "endswith('me')", "endswith(('x', 'me'))", "endswith('l', 0, 3)", "expandtabs(4)", "find('w')", "find('q')",
          "find('l', 4)", "find('l', -9, -2)", "index('w')", "index('q')", "isalnum()", "isalpha()", "isascii()",
          "isdecimal()", "isdigit()", "isidentifier()", "islower()", "isnumeric()", "isprintable()", "isspace()",
          "istitle()", "isupper()", "join(['a', 'b'])", "join([1])", "join('ab')", "ljust(25, '.')", "lower()",
          "lstrip('eH')", "partition(' ')", "partition('q')", "removeprefix('Hell')", "removesuffix('me')",
          "replace('l', 'L')", "replace('l', 'L', 2)", "rfind('l')", "rfind('l', 0, 4)", "rindex('o')", "rjust(25)",
          "rpartition(' ')", "rsplit()", "rsplit(none, 1)", "rsplit('l', 2)", "rstrip('em')", "split()",
          "split(' ', 1)", "split(maxsplit=1)", "split('')", "splitlines()", "startswith('He')",
          "startswith('l', 2)", "startswith(['H'])", "strip('Hem')", "strip(chars='H')", "swapcase()", "title()",
          "translate({108: 'L', 111: none})", "upper()", "zfill(25)", "encode", "append(1)", "frob()", "upper(1)"],
    "'-5'": ["zfill(4)", "zfill(1)", "isdigit()", "rjust(4, '0')"],
    "'x²½Ⅷ三٣'": ["isalnum()", "isdigit()", "isdecimal()", "isnumeric()", "isalpha()"],
    "'²٣'": ["isdigit()", "isdecimal()", "isnumeric()"],
    "'ﬁß ΑΣ ŉ ǆ İ'": ["upper()", "lower()", "title()", "capitalize()", "casefold()", "swapcase()"],
    "'a\\tb\\n\\tc'": ["expandtabs()", "expandtabs(3)", "expandtabs(0)", "split()", "splitlines(true)"],
    "'a\\rb\\r\\nc\\x0bd\\u2028e\\n'": ["splitlines()", "splitlines(keepends=true)"],
    "d": ["items()", "keys()", "values()", "get('a')", "get('q')", "get('q', 1)", "get('q', u)", "copy()", "pop('a')",
          "update(a=1)", "clear", "setdefault('a', 1)", "keys()|list", "items()|first", "values()|last", "a", "q"],
    "a": ["count(1)", "index(2)", "index(9)", "copy()", "append(4)", "sort()", "pop()", "insert(0, 1)", "extend([1])",
          "0", "7"],
    "(1, 2, 1)": ["count(1)", "index(2)", "index(1, 1)"],
    "f": ["is_integer()", "real", "imag"],
    "n": ["bit_length()", "numerator", "denominator", "real"],
}

PERCENT = ["'%s' % s", "'%s %s' % (1, 'x')", "'%5s|%-5s|' % ('a', 'b')", "'%.2s' % 'abc'", "'%d' % 3.9", "'%d' % true",
           "'%5d|%-5d|%05d|%+d|% d' % (1, 2, 3, 4, 5)", "'%x %X %o %#x' % (255, 255, 8, 255)", "'%.3d' % 5",
           "'%f %.2f %e %E %g %G' % (1.5, 2.345, 12345.678, 0.00012, 1e20, 1e-7)", "'%5.1f|%-8.2f|%08.3f' % (1.25, 2, -3)",
           "'%c%c' % ('a', 98)", "'%r %a' % ('é', 'é')", "'%%' % ()", "'%(k)s-%(v)d' % p[0]", "'%(q)s' % p[0]",
           "'%*d|%-*d|' % (5, 1, 5, 2)", "'%.*f' % (2, 1.23456)", "'%s' % [1, 2]", "'%s' % d", "'%s' % (1, 2)", "'%s %s' % 1",
           "'abc' % 1", "'abc' % [1]", "'abc' % d", "'%d' % 'x'", "'%q' % 1", "'%' % 1", "'%5' % 1", "'%i %u' % (1, 2)",
           "'%s' % none", "'%s' % u", "'%s' % (z,)", "'%ld' % 3", "'%g' % 100000", "'%g' % 1000000", "'%#.3g' % 1"]
BRACES = ["'{}'.format(s)", "'{} {}'.format(1, 'x')", "'{1} {0} {1}'.format('a', 'b')", "'{x} {y}'.format(x=1, y=2)",
          "'{:5}|{:>5}|{:^5}|{:<5}|'.format('a', 'b', 'c', 'd')", "'{:*^7}'.format('x')", "'{:é>3}'.format('x')",
          "'{:5}|{:<5}|{:05}|{:+}|{: }'.format(1, 2, 3, 4, 5)", "'{:,} {:_} {:,.2f}'.format(1234567, 1234567, 9876.543)",
          "'{:x} {:X} {:#x} {:b} {:o} {:#b}'.format(255, 255, 255, 5, 8, 5)", "'{:.3}'.format('abcdef')", "'{:c}'.format(65)",
          "'{:.2f} {:e} {:g} {:%} {:.1%}'.format(1.005, 12345.678, 1e10, 0.5, 0.256)", "'{:.3}'.format(1234.5)",
          "'{:.3}'.format(3.0)", "'{:10.3}|'.format(2.5)", "'{:=+6}'.format(5)", "'{:06.1f}'.format(-2.5)", "'{!r}'.format(s)",
          "'{!s:>5}'.format(1)", "'{!a}'.format('é')", "'{0[k]} {0[v]}'.format(p[0])", "'{0[1]}'.format(a)", "'{0.real}'.format(5)",
          "'{{}} {{{}}}'.format(1)", "'{:{}}|'.format('a', 5)", "'{:{w}.{p}f}'.format(3.14159, w=8, p=2)", "'{}'.format()",
          "'{} {0}'.format(1)", "'{'.format(1)", "'}'.format(1)", "'{q}'.format(x=1)", "'{:d}'.format('x')", "'{:s}'.format(1)",
          "'{:d}'.format(1.5)", "'{}'.format(none)", "'{:5}'.format(none)", "'{:5}'.format(true)", "'{}'.format([1, 'a'])",
          "'{:>5}'.format([1])", "'{}'.format(u)", "'{a}'.format_map({'a': 1})", "'{b}'.format_map({'a': 1})", "'{:n}'.format(5)",
          "'{!q}'.format(1)", "'{:.0f} {:.0f} {:.0f}'.format(0.5, 1.5, 2.5)", "'{:.10g}'.format(0.1)", "'{:g}'.format(5)",
          "'{0}{0}'.format('ab')", "'{:,}'.format(-1234)", "'{:.2e}'.format(0)", "'{}'.format(1e16)", "'{}'.format(0.1 + 0.2)",
          "'%s and %s'|format('a', 1)", "'%(a)s'|format(a=1)", "'%s'|format(1, a=2)", "s.format", "'{0.__class__}'.format(1)"]

EXPRESSIONS = """
1 + 2 * 3 ** 2 // 4 % 5
7 // -2
-7 % 3
-7 // 2
7.5 // 2
7.5 % -2
2 ** -1
2 ** 0.5
0 ** -1
2 ** 62
true + true
1 / 3
4 / 2
1e3
1e16
1e15
1.5e-5
0.0001
0x1F + 0b11 + 0o17
1_000_000
1.0 * 3
1e308 * 10
'a' 'b' "c"
'\\x41\\u00e9\\101\\n\\q\\''
'a' ~ 1 ~ none ~ true ~ 1.5 ~ u
'ab' * 3
3 * [1]
(1,) * 2
[1] + [2]
(1,) + (2,)
[1] + (2,)
'a' + 1
1 + 'a'
[1] - [1]
u + 1
-u
not u
-'a'
+true
1 < 2 < 3 > 2
1 < 'a'
[1, 2] < [1, 3]
(1, 2) < (1, 2, 0)
[1] < (1,)
[1] == (1,)
d < d
1 == 1.0
true == 1
'1' == 1
none == u
u == u
u == v
u < 1
1 in a
1 not in a
'x' in d
'b' in d
'wör' in s
1 in s
u in a
u in s
'a' in u
'a' in none
1 in range(3)
1 if true
1 if false
1 if false else 2
(1 if u) is defined
a[0], a[-1], a[9], a['x'], a[true], a[1.0]
a[1:], a[:1], a[::-1], a[-2:], a[::2], a[5:]
a[none:2]
s[1:4], s[-3:], s[::-1], s[::3], s[7]
s[99]
s['upper']()
s.upper.lower
d.b, d['b'], d.q, d['q'], d.items, d.a.0
d[1:]
d[a]
{1: 'a', 1.0: 'b', true: 'c'}
{(1, 2): 'x'}[1, 2]
{[1]: 2}
{'a': 1, **d}
{'a': {'b': [1, (2,), {}]}}
none.x
z[1:]
u.x
u.x.y
d.q.r
u[0]
u()
d.q()
s()
n()
n.x
[1, 2,]
(1)
(1,)
()
1, 2
[]|length, {}|length, ''|length
range(3)
range(1, 10, 3)
range(3)[1:]
range(3)[1]
range(5)|list
range(0)|list
range(3, 0, -1)|list
range(3) == range(3)
range()
range('a')
range(1, 2, 0)
range(3)|length, range(3)|first, range(3)|last
dict(a=1)
dict([('a', 1), ('b', 2)])
dict({'a': 1}, b=2)
dict(1)
dict.fromkeys('ab')
dict.fromkeys('ab', 0)
namespace(a=1).a
namespace({'a': 1}).a
namespace(_a=1)
namespace(a=1).b
cycler(1, 2).next()
cycler()
joiner()() ~ joiner('|')()
a is sequence and d is mapping
a is not sequence
1 is not none and u is not defined
n is divisibleby(7)
n is divisibleby 0
n is in a
'upper' is filter and 'x' is not filter
'odd' is test
s is eq s
s is sameas s
1 is sameas true
a is sameas a
1 is frob
1 | frob
s|upper|lower|title
(s|upper)[1:3]
-n|abs
(-n)|abs
n|string + 'x'
s|replace
s|upper(1)
s|trim(frob=1)
[1, 'a', none]|sort
['b', 'A']|sort(true)
[[2, 'a'], [1, 'b']]|sort
[{'a': 1}]|sort
a|map('string')|join
a|map('pow', 2)|list
p|map(attribute='w.z.1')|list
p|map(attribute='w.z.1', default=0)|list
p|map(attribute=0)|list
p|map|list
a|map(1)|list
p|selectattr('w')|list|length
p|selectattr('k', 'in', ['a', 'b'])|map(attribute='v')|list
p|selectattr|list
a|select('gt', 1)|list
a|select('frob')|list
a|reject('gt', 1)|list
(a|select)|length
(a|map('string'))[0]
(e|select) and 'true'
a|map('string') is sequence
a|map('string') is iterable
d.keys() is sequence
d.items()|length
d.keys()[0]
'b' in d.keys()
d.items()|list
d|list
d|items|list
d|first, d|last
d|dictsort(false, 'key', true)
{'b': 1, 'A': 2}|dictsort
{'b': 1, 'A': 2}|dictsort(true)
{'b': 1, 'A': 2}|dictsort(by='value')
d|dictsort(by='frob')
p|groupby('k')|list
p|groupby('k', case_sensitive=true)|map('first')|list
p|groupby('v')|map(attribute='grouper')|list
p|groupby('w', default='-')|map(attribute='list')|map('length')|list
(p|groupby('k'))[0].grouper
p|sum(attribute='v')
[[1], [2]]|sum(start=[])
['a']|sum
[1.5, 2]|sum
a|batch(2)|list
a|batch(2, 0)|list
a|slice(2)|list
range(7)|slice(3, 'x')|list
a|slice(0)|list
a|min, a|max, e|min, e|max
['b', 'A']|min, ['b', 'A']|min(true)
p|max(attribute='v')
[1, 'a']|max
['a', 'A', 'b']|unique|list
['a', 'A', 'b']|unique(true)|list
[[1], [1]]|unique|list
'aAb'|unique|join
2.675|round(2), 0.5|round, 1.5|round, 2.5|round, -2.5|round
1234|round(-2), 1250|round(-2), 5|round, true|round
1234.5|round(-2)
1.25|round(1, 'ceil'), 1.25|round(1, 'floor')
2|round(0, 'ceil')
1.5|round(1, 'frob')
'x'|round
'0x1A'|int(0, 16), '1A'|int(0, 16), '1A'|int, '1_000'|int, ' 5 '|int, '5.7'|int, 'inf'|int, '0b11'|int(0, 2)
'1e3'|int, '-7'|int, '+7'|int, '--7'|int, ''|int, 'z'|int(base=36)
none|int, [1]|int(9), true|int, 3.99|int, -3.99|int
'1.5'|float, 'x'|float, 'x'|float(2.5), '1e5'|float, 'inf'|float, 'nan'|float, none|float, '1_0'|float
u|int
u|float
u|length, u|list, u|join, u|upper, u|trim, u|first, u|string, u|e
u|last
u|abs
u|sort, u|sum, u|min, u|map('upper')|list, u|items|list, u|default(1)
1000|filesizeformat, 1|filesizeformat, 999|filesizeformat, 1500000|filesizeformat, 2048|filesizeformat(true), '10'|filesizeformat
'x'|filesizeformat
'a b'|urlencode, 'a/b?c=é'|urlencode, {'a b': 'c/d', 'e': 1}|urlencode, [('a', 1)]|urlencode
'<a href="x">b</a>  <!-- c --> d &lt;'|striptags
{'class': 'a b', 'id': none, 'x': '<'}|xmlattr
{'a b': 1}|xmlattr
'a-b_c d\\ne'|wordcount
'foo bar baz qux'|truncate(9), 'foo bar baz qux'|truncate(9, true), 'foo bar baz qux'|truncate(11), 'foo bar baz qux'|truncate(11, false, '...', 0)
'abcdefghij'|truncate(2)
'a very-long-hyphenated word -- and--dashes here'|wordwrap(10)
'a very-long-hyphenated word -- and--dashes here'|wordwrap(10, break_on_hyphens=false)
'supercalifragilistic word-word-word'|wordwrap(6, false)
'x'|wordwrap(0)
'a\\nb\\n\\nc'|indent, 'a\\n\\nb'|indent(2, true, true), '\\n'|indent(2, true), ''|indent(2, true), 'a\\rb'|indent
5|indent
'abc'|center(8) ~ '|', 'abc'|center(7) ~ '|'
[1, 2.0, none, true, 'é"\\n\\u2028\\x7f']|tojson
'é😀\\x7f'|tojson(ensure_ascii=true)
{'b': 1, 'a': [1, {'c': 2}], 'e': {}, 'f': []}|tojson(indent=1)
{'b': 1, 'a': 2}|tojson(sort_keys=true, indent='--')
{'b': 1, 'a': 2}|tojson(separators=(',', ':'))
{1: 2, none: 3, true: 4, 1.5: 5}|tojson
{(1,): 2}|tojson
(1, 2)|tojson
range(3)|tojson
d.keys()|tojson
a|map('string')|tojson
u|tojson
[u]|tojson
namespace()|tojson
[1, 'a', "it's", 'q"', '\\'"', 'é\\n\\x00\\x7f\\x80\\u200b\\ue000😀', 1.0, none, true, {'k': [2]}, (1,), (), u]
d.items()
d.values()
1.0, 1e100, 1e-7, 123456789012345680.0, 0.1, 100.0, 1e22, -0.0, 2.5e-5
1.0|string, 5|string, none|string, true|string
('<a>'|e) ~ '<', ('<a>'|e) + '<', '<' + ('<a>'|safe), ('<a>'|safe) * 2
['<'|safe, '<']|join('&'), ['<', '>']|join('&'|safe)
('<%s>'|safe) % '<', ('<{}>'|safe).format('<')
('a<'|safe)|replace('a', '<'), ('a<'|safe).replace('a', '<'), ('<'|e)|e, ('<'|e)|forceescape
('<'|safe)|upper is escaped, ('<'|safe) is escaped, '<' is escaped
[('<'|safe)]
s|attr('upper')
d|attr('b')
strftime_now('%Y') is string
raise_exception('no')
messages|length, messages[0].role, messages[-1]['content'], messages[1:]|map(attribute='role')|join(',')
messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|map('trim')|join('|')
messages|rejectattr('role', 'in', ['user', 'system'])|list|length
messages|map(attribute='role')|unique|list
messages|groupby('role')|map('first')|list
(messages|selectattr('role', 'eq', 'system')|first).content
(messages|selectattr('role', 'eq', 'tool')|first) is defined
messages[0].content.split(' ')[-1].rstrip('.')
messages[0].get('tool_calls') is none, messages[0].tool_calls is defined, 'tool_calls' in messages[0]
messages[2].content.split('\\n')[0]|e
messages[0] is mapping, messages[0].content is string, messages[0].content is iterable
tools is none, tools is defined, documents is none
lipsum
self.x
caller
loop
varargs
""".strip("\n").split("\n")

TEMPLATES = [
    "{% for x in a %}{{ loop.index }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.depth }}{{ x }};{% endfor %}",
    "{% for x in a %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }}{{ loop.cycle('o', 'e') }};{% endfor %}",
    "{% for x in [1, 1, 2, 2, 1] %}{{ loop.changed(x) }};{% endfor %}",
    "{% for x in [1, 1, 2] %}{% for y in [1, 2] %}{{ loop.changed(x) }}{% endfor %};{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d %}{{ k }}{% endfor %}",
    "{% for i, (k, v) in [(1, ('a', 2)), (2, 'bc')] %}{{ i }}{{ k }}{{ v }};{% endfor %}",
    "{% for (k, v) in d|dictsort %}{{ k }};{% endfor %}",
    "{% for x in a if x > 1 %}{{ x }}{{ loop.index }}/{{ loop.length }};{% else %}none{% endfor %}",
    "{% for x in e %}x{% else %}none{% endfor %}",
    "{% for x in none %}x{% endfor %}",
    "{% for x in 5 %}x{% endfor %}",
    "{% for x in u %}x{% else %}none{% endfor %}",
    "{% for x in 'äb' %}{{ x }}.{% endfor %}",
    "{% for x in range(9) %}{% if x is even %}{% continue %}{% endif %}{% if x > 6 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% set g = a|map('string') %}{% for x in g %}{% if loop.index == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% set g = a|map('string') %}{{ g|list }}{{ g|list }}{{ g|join }}{% if g %}true{% endif %}",
    "{% set g = a|select %}{{ g|first }}{{ g|first }}{{ g|list }}{{ g|first is defined }}",
    "{% set g = a|select %}{{ 3 in g }}{{ 3 in g }}{{ g|list }}",
    "{% if a|selectattr('x', 'defined') %}true{% endif %}{% if a|selectattr('x', 'defined')|list %}true{% endif %}",
    "{% for x in [[1, [2]], [3]] recursive %}{{ loop.depth0 }}{% if x is iterable %}[{{ loop(x) }}]{% else %}{{ x }}{% endif %}{% endfor %}",
    "{% for n in [{'v': 1, 'c': [{'v': 2}, {'v': 3, 'c': [{'v': 4}]}]}] recursive %}{{ n.v }}{% if n.c %}({{ loop(n.c) }}){% endif %}{{ '' if loop.last else ',' }}{% endfor %}",
    "{% for x in [1] %}{{ loop([2]) }}{% endfor %}",
    "{% set x = 1 %}{% for i in a %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}",
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set ns = namespace(x=1) %}{% for i in a %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}{{ ns['a'] }}",
    "{% set ns = namespace() %}{% set ns._a = 1 %}",
    "{% set d.x = 1 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (a, b) = (b, a) %}{{ a }}{{ b }}{% set a, (b, c) = 1, (2, 3) %}{{ c }}",
    "{% set a, b = 1 %}",
    "{% set a, b = [1, 2, 3] %}",
    "{% set x %}a{{ n }}b{% endset %}{{ x }}{{ x|length }}",
    "{% set x | upper | replace('A', 'z') %}a{{ n }}b{% endset %}{{ x }}",
    "{% set x %}{% set y = 1 %}{% endset %}{{ y is defined }}",
    "{% set true = 1 %}",
    "{% macro f(a, b='B', c=a) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ f() }}{{ f(1) }}{{ f(1, 2, 3) }}{{ f(c=1) }}{{ f(u) }}{{ f(1, u) }}",
    "{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}",
    "{% macro f(a) %}{% endmacro %}{{ f(b=1) }}",
    "{% macro f(a) %}{% endmacro %}{{ f(1, a=2) }}",
    "{% macro f(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, 3, x=4) }}{{ f() }}",
    "{% macro f(a=1, b) %}{% endmacro %}",
    "{% macro f(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ f(*[1, 2]) }}{{ f(*[1], b=3) }}{{ f(**{'a': 4, 'b': 5}) }}{{ f(*[1], **{'b': 6}) }}",
    "{% macro f(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ f(1, *[2, 3]) }}",
    "{% macro f() %}{{ f.name }}{{ f.arguments }}{{ f.catch_varargs }}{{ f.caller }}{% endmacro %}{{ f() }}{{ f }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% for i in a %}{% macro f(x) %}{{ x }}{{ i }}{% endmacro %}{{ f('m') }}{% endfor %}{{ f is defined }}",
    "{% macro f() %}{% macro g(y) %}{{ x }}{{ y }}{% endmacro %}{% set x = 1 %}{{ g(2) }}{% endmacro %}{{ f() }}",
    "{% macro f() %}{{ caller is defined }}{{ caller() }}{% endmacro %}{% call f() %}b{% endcall %}",
    "{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}",
    "{% macro f() %}{% endmacro %}{% call f() %}b{% endcall %}",
    "{% macro f(xs) %}{% for x in xs %}{{ caller(x, loop.index) }};{% endfor %}{% endmacro %}{% call(x, i) f(a) %}{{ i }}:{{ x }}{{ n }}{% endcall %}",
    "{% macro f() %}{{ caller(1, y=2) }}{% endmacro %}{% call(x, y=3) f() %}{{ x }}{{ y }}{% endcall %}",
    "{% macro f() %}{{ caller(1, 2) }}{% endmacro %}{% call(x) f() %}{{ x }}{% endcall %}",
    "{% macro f() %}{{ caller() }}{{ caller() }}{% endmacro %}{% for i in a %}{% call f() %}{{ i }}{% endcall %}{% endfor %}",
    "{% with x = 1, y = x %}{{ x }}{{ y }}{% set z = 3 %}{% endwith %}{{ x is defined }}{{ z }}",
    "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}",
    "{% with (x, y) = (1, 2) %}{{ x }}{{ y }}{% endwith %}",
    "{% for i in a %}{% with j = i * 2 %}{% if j == 2 %}{% break %}{% endif %}{{ j }}{% endwith %}{% endfor %}",
    "{% filter upper %}a{{ s }}b{% endfilter %}",
    "{% filter replace('a', 'b') | upper %}aA{% endfilter %}",
    "{% filter frob %}a{% endfilter %}",
    "{% block x %}a{{ n }}{% endblock %}{{ self.x() }}",
    "{% for i in a %}{% block x %}{{ i }}{% endblock %}{% endfor %}",
    "{% for i in a %}{% block x scoped %}{{ i }}{% endblock %}{% endfor %}",
    "{% set q = 1 %}{% block x %}{{ q }}{% set q = 2 %}{% endblock x %}{{ q }}",
    "{% block x %}{% endblock %}{% block x %}{% endblock %}",
    "{% raw %}{{ x }} {% if %} {# #}{% endraw %}",
    "a {%- raw -%} b {%- endraw -%} c",
    "{% raw %}\n  x\n{% endraw %}\n y",
    "  {% raw %}a{% endraw %}  \n  {% endraw %}",
    "{% raw %}x",
    "{% autoescape true %}{{ '<' }}{{ '<'|safe }}{{ x ~ '<' ~ (s|e) }}{{ s|e|upper }}{{ ['<', '>'|safe]|join('&') }}{% endautoescape %}{{ '<' }}",
    "{% autoescape false %}{{ '<' }}{% endautoescape %}",
    "{% autoescape true %}{% set x %}<b>{{ '<' }}{% endset %}{{ x }}{% endautoescape %}{{ x }}",
    "{% macro f(x) %}<b>{{ x }}</b>{% endmacro %}{% autoescape true %}{{ f('<') }}{% endautoescape %}{{ f('<') }}",
    "{% generation %}a{% set q = 1 %}{{ n }}{% endgeneration %}{{ q is defined }}",
    "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %};{% endfor %}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% from 'x' import y %}",
    "{% extends 'x' %}",
    "{% include 'x' ignore missing %}",
    "{% if false %}{% include 'x' %}{% endif %}ok",
    "{% print 1 %}",
    "{% do a %}",
    "{% debug %}",
    "{% trans %}x{% endtrans %}",
    "{% if u.x is defined %}{% endif %}",
    "{% if n == 7 and s %}y{% elif x %}z{% else %}w{% endif %}",
    "{% if %}{% endif %}",
    "{% if a, %}x{% endif %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}",
    "{% set j = joiner('|') %}{% for x in a %}{{ j() }}{{ x }}{% endfor %}",
    "{% set f = s.upper %}{{ f() }}{% set g = '-'.join %}{{ g(['a', 'b']) }}{% set r = range %}{{ r(3)|list }}",
    "{{ f.x }}{{ n.__class__ }}{{ s.__class__.__name__ }}",
    "{{ s.__class__ }}|{{ [].append }}|{{ d.update }}|{{ ''.__class__ is defined }}",
    "{% set x = {'update': 1, 'pop': 2, 'items2': 3} %}{{ x.update }}|{{ x.pop }}|{{ x['update'] }}|{{ x.items2 }}",
    "{% set x = {'items': 1, 'keys': 2} %}{{ x['items'] }}{{ x.get('items') }}{{ x.items()|list }}",
    "a\n  {% if true %}  \n  b\n  {% endif %}\nc\n\n",
    "  {%+ if true %}a{% endif +%}\n b",
    "  {{- 1 -}}  \n  {{ 2 }}\n",
    "a  {#- c -#}  b {# d #}\n c",
    "{# c #}\n  {# d #}  \n x",
    "{% if true -%}\n\n a \n{%- endif %}\n",
    "{{ 1 }}\n{% set x = 2 %}\n\n{{ x }}\n",
    "\r\n{{ 1 }}\r{{ 2 }}\r\n",
    "{{ 'a\nb' }}{{ \"{% x %}\" }}{{ '}}' }}",
    "{{ {'a': {'b': 1}} }}{{ {}}}",
    "{{ [1, 2][0] }}{{ (1, 2)[1] }}{{ {'a': 1}['a'] }}{{ 'abc'[1] }}",
    "{{ 1 }} {% set é = 2 %}{{ é }}",
    "{{ a.0 }}{{ a.1 }}{{ d.a.2 }}{{ a.9 }}",
    "{{ 1if n else 2 }}{{ n is not none }}{{ not n is none }}{{ n not in a }}",
    "{{ n is number and n }}{{ n is number or 0 }}",
    "{% set x = s is string %}{{ x }}{{ s is string == true }}",
    "{{",
    "{{ }}",
    "{% endif %}",
    "{{ 1 + }}",
    "{{ a[ }}",
    "{{ 'a }}",
    "{# a",
    "{% for x in a %}",
    "{% for x a %}{% endfor %}",
    "{{ a b }}",
    "{{ a! }}",
    "{{ a ? b : c }}",
    "{{ $a }}",
    "{% set x = %}",
    "{% break %}",
    "{% for x in a %}{% macro f() %}{% break %}{% endmacro %}{% endfor %}",
    "{% macro f %}{% endmacro %}",
    "{% unknown %}",
]


def render(template):
    try:
        text = _compile_jinja_template(template).render(
            messages=copy.deepcopy(MESSAGES), tools=None, documents=None, add_generation_prompt=False,
            **copy.deepcopy(VARIABLES))
    except Exception as e:  # whatever fails there should fail here
        return {"fails": type(e).__name__}
    return {"text": text}


def templates():
    for name, arguments in FILTERS.items():
        for argument in arguments:
            for value in INPUTS:
                yield "{{ " + value + "|" + name + argument + ("|list" if name in LAZY else "") + " }}"
    for test in TESTS:
        for value in INPUTS:
            yield "{{ " + value + " is " + test + " }}"
    for value, calls in METHODS.items():
        for call in calls:
            yield "{{ " + value + "." + call + " }}"
    for expression in PERCENT + BRACES + EXPRESSIONS:
        yield "{{ " + expression + " }}"
    yield from TEMPLATES


def cases():
    result = []
    for template in dict.fromkeys(templates()):
        case = {"template": template, **render(template)}
        # What Python prints with an address is another text each time.
        if " at 0x" not in case.get("text", "") and "<class " not in case.get("text", ""):
            result.append(case)
    return result


def main():
    rows = [[c["template"], c["text"]] if "text" in c else [c["template"]] for c in cases()]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    head = json.dumps({"messages": MESSAGES, "variables": VARIABLES}, ensure_ascii=False)
    path = pathlib.Path(__file__).with_name("jinja.json")
    path.write_text(head[:-1] + f', "jinja2": "{jinja2.__version__}", "cases": [\n{lines}\n]}}\n')
    print(len(rows), "cases", sum(len(row) == 1 for row in rows), "of them fail")


if __name__ == "__main__":
    main()
