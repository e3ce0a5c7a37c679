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

# Rows of expressions with commas between them; each is a case of its own.
MORE = r"""
9223372036854775807
9223372036854775807|float
9223372036854775807 // 1
9223372036854775807 / 3
1e18|int
9007199254740993 == 9007199254740993.0
9007199254740993 < 9007199254740992.0
1 // 0
1 % 0
1.0 / 0
1.0 // 0
5.5 % 0
0 * -1.0
-0.0
-7.5 // 2
-7.5 % 2
7 % -3
1e22, 1e21, 123456789.123456789
1.0e-10, 1e-4, 1e-5, 0.00001234
3.0, 3.10, 100000000000000000.0, 1e17
1/3, 2/3, 10/3
0.1 + 0.2, 1.1 * 3, 1e16 + 1
2 ** 0.5, 2 ** -2, (-2) ** 3, -2 ** 2
2 ** 3 ** 2
- - 1, + + 1, not not 1
true + 1, true * 2.5, true ~ 1, -true, true // 2
true == 1.0, false == 0, true is number, true is integer
1 == '1', none == 0, none == false, [] == ()
1 < 2 == true, 1 < 2 < 3, 3 > 2 > 1 > 0, 1 < 3 < 2, 1 == 1 != 2
1 < none
none < none
'a' < 'b' < 'c', 'B' < 'a', 'é' > 'z', '' < 'a'
[1, 'a'] == [1, 'a'], [1, [2]] < [1, [3]]
[1, 2, 3] == [1, 2, 3.0]
{'a': 1} == {'a': 1.0}, {'a': 1, 'b': 2} == {'b': 2, 'a': 1}
1 in [1.0], '1' in [1], none in [none], true in [1]
[1] in [[1]], (1,) in [(1,)], [1] in ['a', [1]]
not 1 in [2], 1 not in [2] and true
1 and 2, 0 or 'x', '' or none, 1 and 0 or 3, none and 1
1 if 0 else 2 if 0 else 3
(1, 2) + (3,), [1] * 0, 'ab' * -1, 0 * 'a'
[1, 2, 3, 4, 5][1:4:2], [1, 2, 3, 4, 5][::-2], [1, 2, 3, 4, 5][-1:0:-1], [1, 2, 3, 4, 5][4:1:-1]
[1, 2, 3][10:], [1, 2, 3][:-10], [1, 2, 3][-100:2], [1, 2, 3][::100]
[1, 2, 3][::0]
'abcdef'[1:-1], 'abcdef'[-3:-1], 'abcdef'[5:0:-2], 'abcdef'[:], 'abcdef'[::]
(1, 2, 3)[::-1], (1, 2, 3)[1:], (1, 2, 3)[-1]
'abc'[-4], 'abc'[3]
'abc'['x']
'abc'[1.0]
[1, 2]['a']
[1, 2][none]
[1, 2][true], [1, 2][false]
range(10)[2:5], range(10)[::3], range(10)[-1], range(10)[9]
range(10)[10]
range(5, 0, -2)|list, range(0, -5)|list, range(-3)|list
range(10)|sum, range(10)|max, range(10)|reverse|list, 3 in range(5), 3.0 in range(5), 'a' in range(5)
range(3)|string, range(1, 3), range(1, 9, 2)
range(3) ~ ''
range(3)|tojson
'%s' % range(3)
'straße'.title(), 'straße'.upper(), 'STRASSE'.lower(), 'straße'.casefold(), 'ŉ'.upper()
"they're bill's".title(), 'a1b2 c3'.title(), 'x-y_z'.title(), "l'été".title()
"they're bill's"|title, 'a1b2 c3'|title, 'x-y_z(foo)[bar]'|title, "l'été"|title, 'éA bC'|title
'ǆ'.title(), 'ǆ'|title, 'ﬁ'.title(), 'ﬁ'|capitalize
'HELLO wORLD'|capitalize, 'HELLO wORLD'.swapcase(), 'ΑΣ'.lower(), 'ΑΣ Σ'.lower(), 'Σ'.lower(), 'ΑΣ.'.lower(), 'ΑΣΒ'.lower()
'İ'.lower()|length, 'İ'.casefold()|length, 'ſ'.upper(), 'K'.lower()
' \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0\u2003\u3000x'.strip()
'\u200bx\ufeff'.strip()|length, '\u180ex'.strip()|length
'a\u2028b\u2029c\x85d\x1ce\x0bf'.splitlines()
'a\u3000b\xa0c\u2003d'.split(), 'a\x1cb\x1fc'.split(), ' a  b '.split(' '), ' a  b '.split()
'a,b,,c'.split(','), 'a,b,,c'.split(',', 2), 'a,b,,c'.rsplit(',', 1), 'aXXbXXc'.split('XX'), 'abc'.split('abc')
''.split(), ''.split(','), ' '.split(' '), 'a'.split('b', 0), ' a b '.split(none, 1), ' a b '.rsplit(none, 1), ' a b c '.split(maxsplit=2)
'abcabc'.replace('abc', ''), 'aaa'.replace('aa', 'b'), 'abc'.replace('', '-'), 'abc'.replace('', '-', 2), 'abc'.replace('b', 'x', 0), ''.replace('', 'x'), ''.replace('', 'x', 0)
'abcabc'|replace('', '-'), 'aaa'|replace('a', 'b', 2), 'aaa'|replace('a', 1), 123|replace(2, 'x'), none|replace('None', 'x')
'abc'.find(''), 'abc'.find('', 3), 'abc'.find('', 4), 'abc'.rfind(''), 'abc'.count(''), 'aaaa'.count('aa'), 'abc'.index('')
'abc'.startswith(''), 'abc'.startswith('b', 1), 'abc'.startswith('c', 2, 3), 'abc'.endswith('b', 0, 2), 'abc'.startswith(('x', 'a')), 'abc'.startswith(())
'abc'.strip('ca'), 'xxabcxx'.strip('x'), 'abc'.strip(''), 'äbä'.strip('ä'), 'abc'.lstrip('abc'), 'abc'.rstrip('c')
'a\tb'.expandtabs(), '\ta'.expandtabs(1), 'ab\tc\td'.expandtabs(4), 'a\n\tb'.expandtabs(4), 'é\tx'.expandtabs(4)
'42'.zfill(5), '-42'.zfill(6), '+42'.zfill(6), ''.zfill(3), 'é'.zfill(3), '--1'.zfill(5)
'ab'.center(5, '*'), 'abc'.center(6, '*'), 'ab'.center(1), 'ab'.ljust(4, 'é'), 'ab'.rjust(4)
'ab'.center(5, '**')
'a'.join([]), ','.join(('a',)), ''.join(['x', 'y']), ', '.join({'a': 1, 'b': 2}), 'x'.join('abc')
','.join([1])
'abc'.isalpha(), 'ab1'.isalnum(), '１２'.isdigit(), '½'.isnumeric(), '½'.isdecimal(), ''.isalpha(), ''.isascii(), 'é'.isascii(), '中'.isalpha(), 'ⅷ'.islower(), 'ª'.islower(), 'ǅ'.istitle(), 'A b'.istitle(), 'A B'.istitle()
'a_1'.isidentifier(), '1a'.isidentifier(), 'é'.isidentifier(), 'for'.isidentifier(), 'a b'.isidentifier(), '\u00b7'.isidentifier()
'\u00ad'.isprintable(), ' '.isprintable(), '\u3000'.isprintable(), '\u0378'.isprintable(), '\ue000'.isprintable()
'abc'.partition('b'), 'abc'.rpartition('x'), 'abcb'.rpartition('b'), 'abc'.partition('')
'abc'.translate({97: none, 98: 'XY', 99: 100}), 'abc'.translate('abc'.maketrans('ab', 'xy'))
'abc' is string, ('a' ~ 'b') == 'ab'
'abc'|list, 'abc'|first, 'abc'|last, 'abc'|reverse, 'abc'|length, ''|first is defined
'\x00\x01\x1f\x7f\x80\xff'|tojson, '\u2028\u2029'|tojson, '</script>&\'"'|tojson
'é😀'|tojson(ensure_ascii=true), 'é😀'|tojson(ensure_ascii=false), '\x7f\u0080'|tojson(true)
{'b': 1, 'a': {'d': 1, 'c': [2, {'f': 1, 'e': 2}]}}|tojson(sort_keys=true), {'b': 1, 'a': 2}|tojson(indent=4, sort_keys=true)
{'a': [1, 2, {}], 'b': [], 'c': {}, 'd': [[]]}|tojson(indent=2), [1, [2, [3]]]|tojson(indent=1), {'a': 1}|tojson(indent=0)
[1, 2]|tojson(indent=none), [1, 2]|tojson(separators=(', ', ' : ')), {'a': [1, 2]}|tojson(indent=2, separators=(',', ':')), {'a': 1, 'b': 2}|tojson(separators=none)
{'a': 1}|tojson(indent=true), {'a': 1}|tojson(indent='\t'), {'a': [1]}|tojson(indent='')
[1, 2]|tojson(separators=[',', ':'])
[1, 2]|tojson(separators=',;')
1.0|tojson, 1e100|tojson, 1e-7|tojson, 0.1|tojson, -0.0|tojson, (1e308 * 10)|tojson, ((1e308 * 10) - (1e308 * 10))|tojson, 100000000000000000000.0|tojson
true|tojson, none|tojson, 'x'|tojson, [none, true, false]|tojson, (1, (2,))|tojson, {'a': none}|tojson
{1: 2, 1.5: 3, true: 4, none: 5, false: 6}|tojson, {2: 1, 10: 2}|tojson(sort_keys=true)
{1: 2, 'a': 3}|tojson(sort_keys=true)
[1, 2]|tojson(ident=2)
[u, 1]|tojson
(range(2)|list)|tojson, d.items()|list|tojson, messages[0]|tojson, messages|tojson|length, messages[2]|tojson(indent=2)
'<&>"\''|e, '<&>"\''|escape, '&amp;'|e, ('<'|e)|e, ('<'|e)|string, ('<'|e)|length, '<'|e is string
('<'|e)|upper, ('<'|e) ~ '>', '>' ~ ('<'|e), ('a'|e) + '<', ('<'|e)|tojson, ['<']|map('e')|join, ('<'|e)[0], ('<'|e)|list, ('a<'|e).split('<'), ('a,b'|e).split(',')|first is escaped
('<b>'|safe)|striptags, '<p>a  b</p>\n<br>c'|striptags, '&lt;b&gt;'|striptags, '<!-- x --> y'|striptags, 'a < b > c'|striptags
[3, 1, 2]|sort, [3, 1, 2]|sort(reverse=true), ['b', 'A', 'a', 'B']|sort, ['b', 'A', 'a', 'B']|sort(case_sensitive=true), 'bAa'|sort, {'b': 1, 'a': 2}|sort
[1, 1.0, true]|sort, [true, false]|sort, [(2, 'a'), (1, 'b')]|sort, [none]|sort, [[1], [0, 5]]|sort
[1, none]|sort
[{'a': {'b': 2}}, {'a': {'b': 1}}]|sort(attribute='a.b'), p|sort(attribute='k')|map(attribute='v')|list, p|sort(attribute='k,v', reverse=true)|map(attribute='v')|list, p|sort(attribute='q')|length
[('a', 2), ('b', 1)]|sort(attribute=1), [('a', 2), ('b', 1)]|sort(attribute='1'), [('a', 2), ('b', 1)]|map(attribute=1)|list, [[1, [2, 3]]]|map(attribute='1.0')|list
{'b': 2, 'a': 1}|dictsort, {'b': 1, 'a': 2}|dictsort(by='value'), {'B': 1, 'a': 2}|dictsort(case_sensitive=true), {'b': 2, 'a': 1}|dictsort(reverse=true), {1: 2, 0: 3}|dictsort
{1: 2, 'a': 3}|dictsort
['a', 'A', 'b', 'a']|unique|list, [1, 1.0, true]|unique|list, [{'a': 1}, {'a': 2}, {'a': 1}]|unique(attribute='a')|list, 'aAbB'|unique|list, [none, none]|unique|list
[1, 2, 3, 4, 5]|batch(2)|list, [1, 2, 3]|batch(2, none)|list, [1, 2, 3]|batch(2, fill_with='x')|list, []|batch(2)|list, 'abcde'|batch(2)|list, [1, 2]|batch(0)|list
[1, 2, 3, 4, 5]|slice(3)|list, [1, 2, 3, 4, 5]|slice(3, fill_with='x')|list, [1]|slice(3)|list, [1, 2, 3]|slice(3)|map('first')|list
[1, 2, 3]|slice(-1)|list
[1, 2, 3]|map('pow', 2)|list
[1.4, 1.5, 2.5, -1.5]|map('round')|list, [1, 2]|map('string')|list, ['a', 'b']|map('upper')|join(','), ['1', 'x']|map('int', 7)|list, ['1', 'x']|map('int', default=7)|list, [[1, 2], [3]]|map('length')|list, [[2, 1]]|map('sort')|list
[1, 2, 3, 4]|select('even')|list, [1, 2, 3]|select('in', [2, 3])|list, ['a', 1]|select('string')|list, [0, 1, '', 'a', none]|select|list, [0, 1, '']|reject|list, [1, 2]|reject('sameas', 1)|list, [1, 5]|select('>', 2)|list
p|selectattr('v', '>', 1)|map(attribute='k')|list, p|selectattr('w')|list|length, p|rejectattr('w')|map(attribute='k')|list, p|selectattr('k', 'in', 'ab')|list|length, p|selectattr('w.z', 'defined')|list|length
p|selectattr('v', '>')|list
p|selectattr()|list
p|groupby('k')|map(attribute='grouper')|list, p|groupby('k', case_sensitive=true)|map(attribute=0)|list, p|groupby(attribute='v')|list|length, p|groupby('q', default='none')|first|first, p|groupby('v')|map('last')|map('first')|map(attribute='k')|list
[1, 2.5]|sum, [[1], [2]]|sum(start=[]), []|sum, p|sum('v'), p|sum(attribute='v', start=10), [true, true]|sum, ['a', 'b']|sum(start='')
[1, 2]|max, ['a', 'B']|max, ['a', 'B']|max(true), []|max is defined, p|max(attribute='v'), p|min(attribute='k'), {'b': 1, 'a': 2}|max, 'hello'|min, [[1, 2], [1, 3]]|max
1.5|round, 2.5|round, -0.5|round, 1.255|round(2), 1.005|round(2), 2.675|round(2), 12345.678|round(-2), 1.5|round(0, 'floor'), -1.5|round(0, 'ceil'), 3|round(2), 1e300|round(2), 5.015|round(2, 'floor')
42.55|round|int, 42|round(1), 42|round(1, 'floor'), true|round(1), 1.23456|round(3), 1e16|round, 0.15|round(1), 0.25|round(1), 0.35|round(1)
'1'|int, ' 1 '|int, '1.9'|int, '0x1f'|int(base=16), '0b101'|int(base=2), '0o17'|int(base=8), 'ff'|int(base=16), '١٢'|int, '1_0'|int, '-0'|int, '１２'|int, 'abc'|int(-1), 1.99|int, -1.99|int, true|int, none|int(5), []|int, '1e2'|int, '0x1f'|int, '12abc'|int
'1.5'|float, '1e-3'|float, '.5'|float, '5.'|float, 'nan'|float, '-inf'|float, 'x'|float(1), 'x'|float(default=none), '١.٥'|float, '1_0.5'|float, ' 2 '|float, true|float, '0x1p3'|float, 'infinity'|float, '1e400'|float
1|abs, -1.5|abs, true|abs, -0.0|abs, -9223372036854775807|abs
[1, 2, 3]|join, [1, 2, 3]|join('-'), [[1, 2], 'a']|join(' '), p|join('+', attribute='k'), []|join(','), 'abc'|join('.'), {'a': 1, 'b': 2}|join, [none, true, 1.0]|join('|'), (1, 2)|join, range(3)|join(',')
[1, 2]|first, []|first is defined, [1, 2]|last, 'ab'|last, {'a': 1, 'b': 2}|first, (1, 2)|last, range(3)|last
[1, 2]|reverse|list, 'abc'|reverse, (1, 2)|reverse|list, {'a': 1, 'b': 2}|reverse|list, range(3)|reverse|list
1|reverse
[1, 2]|length, {'a': 1}|count, 'é😀'|length, (1,)|length, range(9)|length
5|length
none|length
5|list
none|list
'a b  c'|wordcount, 'a-b c_d é'|wordcount, ''|wordcount, "it's"|wordcount
'hello world foo'|truncate(8), 'hello world foo'|truncate(8, true), 'hello world foo'|truncate(8, true, ''), 'hello'|truncate(5), 'hello wo'|truncate(5), 'hello world'|truncate(5, leeway=0), 'hello world'|truncate(3), 'a b c d e f g h'|truncate(10, false, '…', 0), 'hello world foo'|truncate(length=9, end='!', leeway=1)
'hello'|truncate(2, leeway=0)
'the quick brown fox'|wordwrap(10), 'abcdefghijkl'|wordwrap(5), 'abcdefghijkl'|wordwrap(5, false), 'a\nb c'|wordwrap(2), 'a b c'|wordwrap(3, wrapstring='|'), 'aa-bb-cc'|wordwrap(4), '  a  b  '|wordwrap(4)
'a\nb'|indent, 'a\nb'|indent(2), 'a\nb'|indent(2, true), 'a\n\nb\n'|indent(2, blank=true), 'a\n\nb\n'|indent(2), 'a\nb'|indent('>>'), 'a\r\nb'|indent(1), ''|indent, 'a\n'|indent(first=true), 'a\x0bb'|indent
'a'|center(4), 'abc'|center(2), 'a'|center, 'a b'|center(6)
'%s-%d'|format('a', 1), '%5.2f'|format(3.14159), '%(a)s'|format(a=1), '%%'|format, 'x'|format
'%s'|format
'a'|default('b'), ''|default('b'), ''|default('b', true), none|default('b'), none|default('b', true), u|default, u|d('x'), u.x|default('y'), 0|default(1, boolean=true), u|default(default_value='q')
{'a': 1}|items|list, u|items|list
[1]|items|list
d|attr('b'), d|attr('items') is callable, s|attr('nope') is defined, ns|attr('x') is defined
{'a': 1}.items()|list, {'a': 1}.get('b', 2), {'a': 1}['b'] is defined, {'a': 1}.a, {'a': {'b': 2}}.a.b, {'a': {'b': 2}}['a']['b'], {'get': 1}['get']
{'a': 1, 'a': 2}, {1: 'a', true: 'b'}, {'a': 1}.keys(), {'a': 1}.values(), {'a': 1}.items(), {}.keys(), {'a': 1}|list, {'a': 1}|string
{'a': 1}.keys()|list, {'a': 1}.values()|sum, 'a' in {'a': 1}.keys(), 1 in {'a': 1}.values(), ('a', 1) in {'a': 1}.items()
{'a': 1} < {'b': 2}
{'a': 1} + {'b': 2}
[1, 2] - [1]
'a' - 'b'
'a' * 'b'
[] * 1.5
'5' + 5
5 + '5'
5 ~ '5', none ~ none, [] ~ {}, 1.0 ~ '', true ~ false, (1,) ~ '', u ~ 'x'
'it\'s', "say \"hi\"", 'a\\b', 'tab\there', 'nl\\n', '\u0041', '\U0001F600', '\x'
['\t', '\x1b', '\xad', 'ā\u0301']
{'it\'s': "x'y\"z"}, ('a',), [()], [[]], [{}], {'a': [1, 'b']}, [none, true, 1.5, 1e20, -0.0]
1 is odd, 2 is even, -1 is odd, 0 is even, 2.0 is even, 3.5 is odd
'a' is odd
4 is divisibleby(2), 4 is divisibleby 3, -4 is divisibleby(2), 4.5 is divisibleby(1.5)
4 is divisibleby(0)
1 is eq 1, 1 is equalto(1.0), 1 is ne 2, 2 is gt 1, 1 is lt(2), 2 is ge 2, 2 is le(1), 'a' is in 'abc', 1 is in [1], 3 is not in [1]
none is none, 0 is none, u is none, u is undefined, none is defined, none is string, none is mapping, none is iterable, none is sequence, u is iterable, u is sequence, u is mapping
1 is iterable, 'a' is iterable, {} is iterable, {} is sequence, () is sequence, range(2) is sequence, range(2) is iterable, range is callable, 1 is callable, s.upper is callable, d.items is callable, 1 is sequence
1.0 is float, 1 is float, true is float, 1.0 is integer, true is boolean, 1 is boolean, 'a' is lower, 'A' is upper, '1' is lower, 'É' is upper, '' is lower, 5 is lower
1 is sameas 1, 'a' is sameas 'a', none is sameas none, [] is sameas [], true is sameas 1
'x' is test, 'defined' is test, 'upper' is filter, 'nope' is filter, 'tojson' is filter, 'generation' is test
not 1 is odd, (not 1) is odd, 1 is not odd and true, 1 is odd or false, 1 + 1 is even, 2 * 3 is divisibleby 3, 'a' ~ 'b' is string
-1|abs, (-1)|abs, 1 + 2|string|length, 'a' ~ 'b'|upper, 2 * 3|float, not true|string, 1 if false|default(true) else 2, [1, 2]|length + 1, 10 / 4|int
a|length > 2 and 'y' or 'n', a|first < a|last, a[0]|string ~ 'x', a|map('string')|list|first|int + 1, (a|length)|string + '!'
a.1, a.0 + a.2, d.a[2], d.c.d, d['c']['d'], p[0].k ~ p[1]['k'], p.0.k, p[-1].w.z[1], messages[1].content|trim|length
messages[0]['role'] == 'system', messages[0].get('name', 'none'), messages[0].items()|list|length, messages[0]|length, messages[-1].role|capitalize, messages|map(attribute='content')|map('length')|list, messages|last is mapping
messages|map(attribute='role')|list == ['system', 'user', 'assistant', 'user'], messages|selectattr('role', 'ne', 'system')|list|length, messages[::-1]|map(attribute='role')|first, messages[1:][0].role, messages[:-1]|length, messages[-2:]|map(attribute='role')|join(' ')
namespace(a=1, b='x').b, namespace(a=1) is mapping, namespace(a=1) == namespace(a=1), namespace(x=[1]).x[0], namespace(a=1)['a'], namespace() is defined
dict(a=1, b=2).b, dict(), dict([['a', 1]]), dict(**{'x': 1}), dict(d, b=5).b, dict({'a': 1}.items()).a
range(2, 8, 2)|map('string')|join('-'), range(3)|map('string')|list|tojson
[x, y, z, u] is defined, [1, 2,][-1], (1), (1,), ((1, 2), 3), 1,
lipsum is defined, cycler is defined, joiner is callable, range is defined, dict is callable, namespace is callable, strftime_now is callable, raise_exception is callable
cycler(1, 2, 3).current, joiner(', ')(), joiner() is callable
'{:>10}|{:<10}|{:^10}'.format('a', 'b', 'c'), '{0!r:>6}'.format('a'), '{:08.3f}'.format(3.14159), '{:+.1e}'.format(12345), '{:,}'.format(1234567.891), '{:_x}'.format(65535), '{:#o}'.format(8), '{:%}'.format(1.5), '{:G}'.format(1e-10), '{:n}'.format(1234), '{:c}'.format(233)
'%s' % 'a', '%s, %s' % ('a', 'b'), '%05d' % 42, '%+.2f' % 1.005, '%x' % 255, '%e' % 0, '%r' % 'a', '%10s|' % 'a', '%-10s|' % 'a', '%c' % 'x', '%%%d' % 1, '%s' % ([1],), '%i' % 3.7, '%.3s' % 'abcdef'
'a' if messages is defined and messages|length > 3 else 'b', (messages[0].role if messages else 'none')|upper
loop is defined, self is defined, caller is defined, varargs is defined, kwargs is defined, true is defined, True, False, None, TRUE is defined, NONE is defined
'ᾳὖᾀﬓ'.upper(), 'ᾳὖᾀﬓ'.title(), 'ᾼǅⅷⅣⓐª'.swapcase(), 'ⅷⅣ x'.title(), 'Ⅷ'.isupper(), '壹'.isnumeric(), '٣.٥'|float, '٣'|int, 0777
""".strip("\n").split("\n")

MORE_TEMPLATES = [
    "{% for x in [1, 2, 3] %}{{ loop.previtem is defined }}{{ loop.nextitem|default('end') }};{% endfor %}",
    "{% for x in [1, 2, 3] %}{{ loop.previtem|default('-') }}{{ x }}{{ loop.nextitem|default('-') }} {% endfor %}",
    "{% for x in ['a', 'a', 'b'] %}{% if loop.changed(x) %}[{{ x }}]{% else %}{{ x }}{% endif %}{% endfor %}",
    "{% for x in p %}{{ loop.changed(x.k|lower, x.v > 1) }}{% endfor %}",
    "{% for x in p %}{{ loop.changed() }}{% endfor %}",
    "{% for x in a %}{{ loop }}{% endfor %}",
    "{% for x in a %}{{ loop.length }}{{ loop.revindex }}{{ loop.index0 }}{{ loop.depth0 }} {% endfor %}",
    "{% for x in a|map('string') %}{{ loop.length }}{{ loop.last }} {% endfor %}",
    "{% for x in a %}{% for y in a %}{{ loop.index }}{{ x }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for x in a %}{% set outer = loop %}{% for y in [1, 2] %}{{ outer.index }}.{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for x in a %}{{ loop.cycle('a', 'b', 'c') }}{{ loop.cycle(1) }}{% endfor %}",
    "{% for x in a %}{{ loop.cycle() }}{% endfor %}",
    "{% for x in a %}{{ loop.nope }}|{{ loop['index'] }}{% endfor %}",
    "{% for x in [1, [2, [3, []]]] recursive %}{% if x is sequence %}({{ loop(x) }}){% else %}{{ x }}:{{ loop.depth }}{% endif %}{% endfor %}",
    "{% for n in [{'n': 'a', 'c': [{'n': 'b', 'c': []}]}] recursive %}{{ n.n }}{{ loop.index }}{% if loop.first %}F{% endif %}<{{ loop(n.c) }}>{% else %}E{% endfor %}",
    "{% for x in [3] recursive %}{{ x }}{% if x > 0 %}{{ loop([x - 1]) }}{% endif %}{% endfor %}",
    "{% for x in [1, 2, 3, 4] if x is even recursive %}{{ x }}{{ loop.length }}{% endfor %}",
    "{% for x in [1] recursive %}{{ loop.call is defined }}{% endfor %}",
    "{% for x in a if loop.index > 1 %}{{ x }}{% endfor %}",
    "{% for x in a if x != 1 %}{{ loop.index }}{{ loop.previtem|default('none') }}{{ x }}{% endfor %}",
    "{% for x in a if x > 5 %}{{ x }}{% else %}{{ x is defined }}none{% endfor %}",
    "{% for x in a %}{% endfor %}{{ x is defined and x }}{{ loop is defined }}",
    "{% for x in a %}{% if loop.first %}{% set first = x %}{% endif %}{{ first is defined }}{% endfor %}{{ first is defined }}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}{{ v }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for k in {'a': 1, 'b': 2} %}{{ k }}{% endfor %}",
    "{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in ['xy', 'zw'] %}{{ b }}{{ a }}{% endfor %}",
    "{% for a, b in [1] %}{% endfor %}",
    "{% for a, b in [[1, 2, 3]] %}{% endfor %}",
    "{% for x in a %}{{ x }}{% if x == 1 %}{% continue %}{% endif %}!{% else %}no{% endfor %}",
    "{% for x in a %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% else %}no{% endfor %}",
    "{% for x in a %}{% for y in a %}{% if y == 1 %}{% break %}{% endif %}{{ y }}{% endfor %}{% continue %}{{ x }}{% endfor %}",
    "{% for x in [] %}{% else %}{% for y in [1] %}{{ y }}{% endfor %}{% endfor %}",
    "{% set ns = namespace(found=false, n=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.found = true %}{% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}{{ ns.found }}{{ ns.n }}",
    "{% set ns = namespace(l=[]) %}{% for x in a %}{% set ns.l = ns.l + [x * 2] %}{% endfor %}{{ ns.l }}",
    "{% set ns = namespace() %}{% set ns.x %}a{{ n }}b{% endset %}{{ ns.x }}",
    "{% set ns = namespace() %}{% set ns.x | upper %}a{{ n }}b{% endset %}{{ ns.x }}",
    "{% set ns = namespace(a=namespace(b=1)) %}{{ ns.a.b }}{% set ns.c = ns %}{{ ns.c.a.b }}",
    "{% set ns = namespace(a=1) %}{% macro f() %}{% set ns.a = 2 %}{% endmacro %}{{ f() }}{{ ns.a }}",
    "{% set ns = namespace(a=1) %}{{ ns.nope is defined }}{{ ns.nope }}x",
    "{% set ns = namespace(a=1) %}{% set ns.a.b = 2 %}",
    "{% set ns = {'a': 1} %}{% set ns.a = 2 %}",
    "{% set x = 1, 2 %}{{ x }}",
    "{% set x = [] %}{{ x.append(1) }}{{ x }}",
    "{% set x, y = a[:2] %}{{ x }}{{ y }}",
    "{% set x = 5 if false %}{{ x is defined }}[{{ x }}]",
    "{% set x %}{% endset %}[{{ x }}]{{ x is string }}{{ x == '' }}",
    "{% set x %}<{{ '<' }}>{% endset %}{{ x }}{{ x is escaped }}{{ x|length }}",
    "{% set x %}a\n  {% if true %}\n  b\n  {% endif %}\n{% endset %}[{{ x }}]",
    "{% set x | trim %}  a {{ n }}  {% endset %}[{{ x }}]",
    "{% set x | replace('a', 'b') | indent(2, true) %}a\na{% endset %}[{{ x }}]",
    "{% macro f(a, b=2, *c) %}{% endmacro %}",
    "{% macro f(a) %}{{ varargs|length }}{{ varargs|join('+') }}{% endmacro %}{{ f(1, 2, 3) }}",
    "{% macro f() %}{{ kwargs|dictsort }}{{ varargs }}{% endmacro %}{{ f(x=1, y='b') }}{{ f(1, 2) }}",
    "{% macro f() %}{% for k, v in kwargs.items() %}{{ k }}={{ v }};{% endfor %}{% endmacro %}{{ f(b=1, a=2) }}",
    "{% macro f(x) %}{{ x is defined }}{{ x }}{% endmacro %}{{ f() }}|{{ f(none) }}",
    "{% macro f(x, y=x ~ 'd') %}{{ x }}{{ y }}{% endmacro %}{{ f('a') }}{{ f('a', 'b') }}{{ f(y='q') }}",
    "{% set v = 1 %}{% macro f() %}{{ v }}{% endmacro %}{% set v = 2 %}{{ f() }}",
    "{% macro f(v) %}{% set v = v + 1 %}{{ v }}{% endmacro %}{% set v = 5 %}{{ f(1) }}{{ v }}",
    "{% macro f() %}{{ messages|length }}{{ n }}{% endmacro %}{{ f() }}",
    "{% macro f() -%}  a  {%- endmacro %}[{{ f() }}]{{ f()|length }}",
    "{% macro f() %}\n  a\n{% endmacro %}[{{ f() }}]",
    "{% macro f(x) %}{{ x }}{% endmacro %}{{ [1, 2]|map('f')|list }}",
    "{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(1) ~ f(2) }}{{ f(1)|upper }}{{ f(1) is string }}{{ f(1) is escaped }}{{ f('a') == '<a>' }}",
    "{% macro f(x) %}{{ x }}{% endmacro %}{{ f.name }}{{ f.arguments }}{{ f.catch_kwargs }}{{ f.catch_varargs }}{{ f is callable }}",
    "{% macro f(x) %}{% if x > 0 %}{{ x }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}g{% endmacro %}{{ f() }}",
    "{{ f() }}{% macro f() %}{% endmacro %}",
    "{% if true %}{% macro f() %}x{% endmacro %}{% endif %}{{ f() }}",
    "{% macro outer() %}{% macro inner() %}i{% endmacro %}{{ inner() }}{% endmacro %}{{ outer() }}{{ inner is defined }}",
    "{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}a{% call f() %}b{% endcall %}{% endcall %}",
    "{% macro f(t) %}{{ t }}:{{ caller(1, 2) }}{% endmacro %}{% call(a, b) f('x') %}{{ a + b }}{% endcall %}",
    "{% macro f() %}{{ caller(x=5) }}{% endmacro %}{% call(x, y=1) f() %}{{ x }}{{ y }}{% endcall %}",
    "{% macro f() %}{{ caller.name }}{{ caller.arguments }}{% endmacro %}{% call(x) f() %}{% endcall %}",
    "{% macro f() %}{{ caller()|upper }}{{ caller() is string }}{% endmacro %}{% call f() %}a{{ n }}{% endcall %}",
    "{% macro f(caller) %}{{ caller }}{% endmacro %}{{ f(1) }}",
    "{% macro f(caller='d') %}{{ caller }}{% endmacro %}{{ f() }}{{ f(1) }}{% call f() %}x{% endcall %}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{{ caller() }}{% endmacro %}{% call f(1, x=2) %}c{% endcall %}",
    "{% for i in [1, 2] %}{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}{{ i }}{% endcall %}{% endfor %}",
    "{% call range(3) %}x{% endcall %}",
    "{% call u() %}x{% endcall %}",
    "{% macro f() %}{{ caller() }}{% endmacro %}{% set q = 1 %}{% call f() %}{% set q = 2 %}{{ q }}{% endcall %}{{ q }}",
    "{% filter indent(2) %}a\nb{% endfilter %}",
    "{% filter trim %}  a {{ '  b  ' }} {% endfilter %}|",
    "{% filter upper | replace('A', 'x') %}aAb{% for i in [1] %}{{ i }}a{% endfor %}{% endfilter %}",
    "{% filter tojson %}a\"b{% endfilter %}",
    "{% filter length %}abc{% endfilter %}",
    "{% filter join(',') %}abc{% endfilter %}",
    "{% with %}{% endwith %}x",
    "{% with a = 1 %}{{ a }}{% with a = a + 1 %}{{ a }}{% endwith %}{{ a }}{% endwith %}{{ a }}",
    "{% with a = 1, b = a %}{{ b }}{% endwith %}",
    "{% with m = messages[0] %}{{ m.role }}{% endwith %}{{ m is defined }}",
    "{% with a, b = 1, 2 %}{{ a }}{{ b }}{% endwith %}",
    "{% set x = 1 %}{% with %}{% set x = 2 %}{{ x }}{% endwith %}{{ x }}",
    "{% if true %}{% set x = 1 %}{% endif %}{{ x }}{% if false %}{% set y = 1 %}{% endif %}{{ y is defined }}",
    "{% if n is defined and n > 5 and not x %}a{% elif n %}b{% else %}c{% endif %}",
    "{% if a %}{% if e %}1{% else %}2{% endif %}{% else %}3{% endif %}",
    "{% if u %}1{% elif none %}2{% elif 0.0 %}3{% elif '' %}4{% elif [] %}5{% elif {} %}6{% elif () %}7{% elif range(0) %}8{% elif namespace() %}9{% endif %}",
    "{% if not (a and e) %}x{% endif %}{% if a or undefined_thing %}y{% endif %}",
    "{{ 'a' if u else 'b' }}{{ ('x' if true) }}{{ ('x' if false) }}|",
    "{% generation %}  a  {% endgeneration %}\n b",
    "{%- generation -%}  a  {%- endgeneration -%}  b",
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<end>{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}",
    "{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x is defined }}",
    "{% generation %}{% generation %}a{% endgeneration %}{% endgeneration %}",
    "{% generation %}",
    "a\n{% if true %}\nb\n{% endif %}\nc",
    "a\n  {% if true %}\n  b\n  {% endif %}  \nc",
    "a\n  {%+ if true %}\n  b\n  {%+ endif %}\nc",
    "a\n  {%- if true %}\n  b\n  {%- endif %}\nc",
    "a\n  {% if true -%}\n  b\n  {% endif -%}\nc",
    "a\n  {% if true +%}\n  b\n  {% endif +%}\nc",
    "a  {%+ if true +%}  b  {%+ endif +%}  c",
    "  {{ 1 }}  \n  {{- 2 -}}  \n  {{ 3 }}",
    "  {{+ 1 }}",
    "x {{ 1 +}} y",
    "{{ 1 -}} \n\n x",
    "a\n\n\n{%- set x = 1 -%}\n\n\nb",
    "a {#- c #} b {# c -#} d {#+ e #} f {# g +#}\n h",
    "a\n  {# c #}\nb",
    "a\n  {# c #} \nb",
    "a\n  {#\n c\n #}\nb",
    "{% raw -%}  a  {%- endraw %}",
    "{%- raw %} a {% endraw -%} b",
    "a\n  {% raw %}\n  {{ x }}\n  {% endraw %}\nb",
    "\t{% if true %}\ta\t{% endif %}\t",
    "a\t{% if true %}\n\tb\n\t{% endif %}\n",
    "a\r\n  {% if true %}\r\n  b\r\n  {% endif %}\r\nc\r\n",
    "a\n\u00a0{% if true %}\nb{% endif %}",
    "a\n\u3000 {%- if true -%} \u3000\nb{% endif %}",
    "a\n\u000b{% if true %}\nb{% endif %}",
    "{% set x = 1 %}\n{% set y = 2 %}\n{{ x }}{{ y }}\n\n",
    "{{ 'x' }}\n",
    "{{ 'x' }}\n\n",
    "\n{{ 'x' }}",
    "{% if true %}{% endif %}\n",
    "a{% if true %}\n\nb\n\n{% endif %}c",
    "{%if true%}a{%endif%}{{1}}{#x#}",
    "{%-if true-%}  a  {%-endif-%}",
    "{%\n  if\n  true\n%}a{%\nendif\n%}",
    "{{\n  n\n}}",
    "{{ '{{' }}{{ '}}' }}{{ '{%' }}{{ '#}' }}{{ \"it's\" }}",
    "{ { n } } {n} {%% {{{n}}}",
    "{{ {'a': 1}['a'] }}{{ {'a': {'b': 2}}['a'] }}",
    "} }} %} #} {",
    "{{ n }}}",
    "# comment\n## x\n{{ n }}",
    "{{ n -1 }}{{ n-1 }}{{ n -1-}}  x",
    "{{ - n }}{{ -n }}{{ --n }}",
    "{{ n // 2 * 3 % 4 - 1 + 2 ** 2 }}",
    "{{ a[n - 6] }}{{ a[-n + 6] }}{{ a[1:][0] }}{{ a[(1)] }}",
    "{{ 'x' ~ n + 1 }}{{ n + 1 ~ 'x' }}{{ n ~ n * 2 }}",
    "{{ not n == 7 }}{{ not n in [7] }}{{ n not in [7] }}{{ n is not in [7] }}",
    "{{ n if n > 5 else 'x' if n > 3 else 'y' }}{{ (n if n > 9) is defined }}",
    "{{ n > 5 and 'a' or 'b' }}{{ n < 5 and 'a' or 'b' }}{{ true and not false }}",
    "{{ [n, *a] }}",
    "{{ {**d} }}",
    "{{ f'{n}' }}",
    "{{ n := 5 }}",
    "{{ lambda: 1 }}",
    "{{ [x for x in a] }}",
    "{{ n++ }}",
    "{{ a?.b }}",
    "{{ n | }}",
    "{{ | upper }}",
    "{{ n is }}",
    "{{ n is not }}",
    "{{ n. }}",
    "{{ .n }}",
    "{{ n..x }}",
    "{{ 1.5.real }}{{ 1.real }}",
    "{{ a.append }}x",
    "{{ (n) (1) }}",
    "{{ [1, 2 }}",
    "{{ (1, 2] }}",
    "{{ 'a\" }}",
    "{{ 0777 }}",
    "{{ 1__0 }}",
    "{{ 1_0 }}{{ 0x_f }}{{ 1e1_0 }}{{ 0B11 }}{{ 0O7 }}{{ 0XfF }}",
    "{{ 1.e5 }}",
    "{{ 1e }}",
    "{{ 0x }}",
    "{{ True and None is none and False == false }}",
    "{% set None = 1 %}",
    "{% set loop = 1 %}{{ loop }}",
    "{% set messages = [] %}{{ messages }}",
    "{% set a.b = 1 %}",
    "{% set [a, b] = [1, 2] %}",
    "{% set a = b = 1 %}",
    "{% for true in a %}{% endfor %}",
    "{% for x.y in a %}{% endfor %}",
    "{% for x in a, e %}{{ x }}{% endfor %}",
    "{% for x in a recursive if x %}{% endfor %}",
    "{% for x in a %}{% else %}{% else %}{% endfor %}",
    "{% if true %}{% else %}{% elif x %}{% endif %}",
    "{% if true %}{% endfor %}",
    "{% endset %}",
    "{% block a %}{{ super() }}{% endblock %}",
    "{% block a required %}{% endblock %}",
    "{% block a-b %}{% endblock %}",
    "{% set x = 1 -%}  \n{{ x }}",
    "{% autoescape true %}{% filter upper %}<{{ '<' }}{% endfilter %}{% set x = '<' %}{{ x }}{{ x|tojson }}{{ '%s'|format('<') }}{{ ['<']|join('>') }}{% endautoescape %}",
    "{% autoescape true %}{{ '<'|replace('<', '>') }}{{ '<a>'|striptags }}{{ '<'|indent }}{{ '<'|trim }}{{ '<'|string }}{{ ('<'|string)|length }}{% endautoescape %}",
    "{% for m in messages %}{{ m['role'] + ': ' + m['content']|trim + '\\n' }}{% endfor %}",
    "{% for m in messages %}{% if loop.index0 % 2 == 0 %}{{ m.role }}{% else %}{{ raise_exception('bad ' ~ m.role) }}{% endif %}{% endfor %}",
    "{% if messages[0].role == 'system' %}{% set loop_messages = messages[1:] %}{% set sys = messages[0].content %}{% else %}{% set loop_messages = messages %}{% endif %}{{ sys }}{% for m in loop_messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('x') }}{% endif %}{{ m.content.strip() }}{{ ' </s>' if m.role == 'assistant' }}{% endfor %}",
    "{% set content = messages[2].content.split('\\n')[-1].lstrip('\\n') %}{{ content }}",
    "{% for m in messages[::-1] %}{% set index = (messages|length - 1) - loop.index0 %}{{ index }}{{ m.role }}{% endfor %}",
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% elif m.content is iterable %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endif %}{% endfor %}",
    "{% if '</think>' in messages[2].content %}x{% else %}{{ messages[2].content.split('</think>')[-1] }}{% endif %}",
    "{% if tools %}t{% endif %}{% if tools is not none %}T{% endif %}{% if not tools %}n{% endif %}{{ tools or [] }}",
    "{{ bos_token }}{{ eos_token is defined }}{{ add_generation_prompt }}{{ documents }}",
    "{% macro render(m) %}{{ '<|' ~ m.role ~ '|>' }}{%- if m.content -%}\n{{ m.content }}\n{%- endif -%}{% endmacro %}{% for m in messages %}{{ render(m) }}{% endfor %}",
]


def split(row):
    """The expressions of a row of MORE."""
    found, begin, depth, quote, skip = [], 0, 0, None, False
    for i, c in enumerate(row + ", "):
        if skip:
            skip = False
        elif quote:
            skip, quote = c == "\\", None if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth == 0 and (row + ", ")[i + 1] == " ":
            found.append(row[begin:i].strip())
            begin = i + 1
    return [f for f in found if f]


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
    for row in MORE:
        for expression in split(row):
            yield "{{ " + expression + " }}"
    yield from MORE_TEMPLATES


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
