"""Writes chat.json: what Jinja itself makes of the templates below, set up as transformers sets it up.

Needs jinja2 (3.1). Run it where the file stands: python3 make_chat_goldens.py
The families' templates are written in the style of those models; none is a copy.
"""

import json
import pathlib

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox


class Generation(jinja2.ext.Extension):
    """The generation block, which marks the assistant's words and prints its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class Raised(Exception):
    pass


def raise_exception(message):
    raise Raised(message)


ENV = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
)
ENV.filters["tojson"] = tojson
ENV.globals["raise_exception"] = raise_exception
ENV.globals["strftime_now"] = lambda form: "26 Jul 2024"

S = {"role": "system", "content": "You are brief."}
U = {"role": "user", "content": "  Hello, wörld! \n"}
A = {"role": "assistant", "content": "Hi.\n"}
U2 = {"role": "user", "content": "2 < 3 & \"so\"?"}
T = {"role": "tool", "content": "{\"sum\": 5}"}
THINK = {"role": "assistant", "content": "<think>\nHm, 2 or 3.\n</think>\n\nYes, indeed."}

CHATML = """{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{%- endif %}
"""

CHATML_DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% generation %}{{ m.content | trim }}{% endgeneration %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

LLAMA2 = """{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = '<<SYS>>\\n' + messages[0]['content'] | trim + '\\n<</SYS>>\\n\\n' %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must take turns: user, assistant, user, ...') }}
    {%- endif %}
    {%- if loop.index0 == 0 %}
        {%- set content = system_message + message['content'] %}
    {%- else %}
        {%- set content = message['content'] %}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- bos_token + '[INST] ' + content | trim + ' [/INST]' }}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + content | trim + ' ' + eos_token }}
    {%- endif %}
{%- endfor %}"""

LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "1 Jan 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The system's words come first, with the date. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or (message.content is iterable and message.content is not string) %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("Expected turns of user and assistant.") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant may speak.") }}
    {%- endif %}
{%- endfor %}
"""

ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

PHI3 = (
    "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}"
    "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}"
    "{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}"
    "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)

GEMMA = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {{ raise_exception('There is no system role') }}
{%- endif -%}
{%- for message in messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] if item.type == 'text' -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\\n' }}
{%- endif -%}
"""

QWEN3 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n\\nThe functions are listed in <tools></tools>:\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or (not loop.last and reasoning_content)) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

MACRO_TYPES = """{%- macro render(spec, level=0) -%}
    {%- if spec.type == "array" -%}
        {{- render(spec.inner, level + 1) + "[]" -}}
    {%- elif spec.type == "object" -%}
        {{- "{" -}}
        {%- for name, inner in spec.members.items() -%}
            {{- name + ": " + render(inner, level=level + 1) -}}
            {%- if not loop.last %}, {% endif -%}
        {%- endfor -%}
        {{- "}" -}}
    {%- else -%}
        {{- spec.type | default("any") -}}
    {%- endif -%}
    {%- if level == 0 %};{% endif -%}
{%- endmacro -%}
{%- for tool in tools %}
type {{ tool.name }} = {{ render(tool.spec) }}
{% endfor %}"""

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TOOLS = [
    {"function": {"description": "Adds \"a\" & b — <fast>", "name": "add"}, "strict": True, "type": "function"},
    {"limits": [1, -2, 0.5, 1e-7, 1e22, None], "type": "none"},
]
SPECS = [
    {
        "name": "point",
        "spec": {"members": {"tags": {"inner": {"type": "string"}, "type": "array"}, "x": {"type": "number"}}, "type": "object"},
    },
    {"name": "free", "spec": {}},
]

FAMILIES = [
    ("ChatML", CHATML, [[S, U], [U, A, U2]], {}),
    ("ChatML with a default system message", CHATML_DEFAULT_SYSTEM, [[S, U, A], [U]], {}),
    ("Llama 2", LLAMA2, [[S, U, A, U2], [U], [A]], TOKENS),
    ("Llama 3", LLAMA3, [[S, U, A, U2], [U, T]], TOKENS),
    ("Llama 3 with a date", LLAMA3, [[U]], {**TOKENS, "date_string": "1 May 2025", "tools": []}),
    ("Mistral", MISTRAL, [[S, U, A, U2], [U], [U, U2]], TOKENS),
    ("Zephyr", ZEPHYR, [[S, U, A], [U]], TOKENS),
    ("Phi 3", PHI3, [[S, U, A, U2], [U]], TOKENS),
    ("Gemma", GEMMA, [[U, A, U2], [S, U], [A]], TOKENS),
    ("Qwen 3", QWEN3, [[S, U, THINK, U2, THINK], [U, T, T, A], [U]], {}),
    ("Qwen 3 with tools", QWEN3, [[S, U], [U]], {"tools": TOOLS}),
    ("Qwen 3 without thinking", QWEN3, [[U]], {"enable_thinking": False}),
    ("a recursive macro", MACRO_TYPES, [[U]], {"tools": SPECS}),
]

# One line each; m is the list of U, A and U2, j a JSON object.
SNIPPETS = r"""
a{{ 1 }}b {{- 2 -}} c {{ 3 }}
{% if true %} x {% endif %}
{% if true -%} x {%- endif %} y
{%+ if true %} x {%+ endif +%} y
{# a comment #}x{#- another -#} y
{{ 'a' "b" 'c\n\t\'\\\x41\u00e9\q' }}
{{ 1 + 2 * 3 - 4 // 3 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ -7 // 2 }} {{ 7 / 2 }} {{ 4 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }}
{{ 1.5 + 1 }} {{ 1e3 }} {{ 1e16 }} {{ 1e-5 }} {{ 0.1 + 0.2 }} {{ -0.0 }} {{ 3.0 // 2 }} {{ -1.5 % 1 }} {{ 1_000 }}
{{ 'a' ~ 1 ~ none ~ true ~ 1.5 ~ [1, 'x'] }}
{{ 'ab' * 3 }} {{ 2 * 'x' }} {{ [1, 2] * 2 }} {{ [1] + [2, 3] }}
{{ 1 < 2 < 3 }} {{ 1 < 2 > 5 }} {{ 'a' < 'b' }} {{ 1 == 1.0 }} {{ true == 1 }} {{ '1' == 1 }} {{ [1, 2] < [1, 3] }}
{{ 'a' in 'cat' }} {{ 'x' not in 'cat' }} {{ 1 in [1, 2] }} {{ 'b' in {'b': 1} }} {{ '' in '' }} {{ 3 in (1, 2) }}
{{ true and 'x' }} {{ none or 'y' }} {{ not 0 }} {{ not '' and 1 }} {{ 0 or false }} {{ not true or true }}
{{ 'yes' if m else 'no' }} {{ 'never' if false }}| {{ 1 if false else 2 if false else 3 }}
{{ missing }}|{{ j.missing }}|{{ j['missing'] }}|{{ none }}|{{ true }}|{{ m[99] }}
{{ missing is defined }} {{ m is defined }} {{ missing is undefined }} {{ none is none }} {{ 0 is not none }}
{{ 'a' is string }} {{ j is mapping }} {{ m is iterable }} {{ m is sequence }} {{ 1 is number }} {{ 1.0 is number }} {{ 1 is integer }} {{ true is integer }} {{ true is boolean }} {{ 'x' is iterable }} {{ j is sequence }} {{ 1 is iterable }}
{{ true is true }} {{ 1 is true }} {{ false is false }} {{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 3 is equalto 3 }} {{ 3 is eq(4) }} {{ 'a' is in ['a'] }} {{ 1.5 is float }}
{{ '  a b '|trim }}| {{ 'abc'|length }} {{ 'wörld'|length }} {{ 'wörld'|upper }} {{ 'ÄB'|lower }} {{ 'hello world-wide (web) it\'s'|title }} {{ 'heLLo'|capitalize }}
{{ missing|default('d') }} {{ ''|default('d') }}| {{ ''|default('d', true) }} {{ none|d('x') }} {{ 0|d('z', boolean=true) }}
{{ [3, 1, 2]|first }} {{ [3, 1, 2]|last }} {{ [3, 1, 2]|join('-') }} {{ 'abc'|first }} {{ 'abc'|join(',') }} {{ []|first }}|
{{ m|map(attribute='role')|join(', ') }} {{ ['a', 'b']|map('upper')|list }} {{ m|map(attribute='nope', default='?')|join }}
{{ m|selectattr('role', 'equalto', 'user')|list|length }} {{ m|rejectattr('role', '==', 'user')|map(attribute='content')|first }} {{ [0, 1, 2]|select|list }} {{ [1, 2, 3]|select('odd')|list }} {{ [1, 2, 3]|reject('gt', 2)|list }} {{ m|selectattr('content')|list|length }}
{{ ['b', 'A', 'c']|sort }} {{ ['b', 'A', 'c']|sort(case_sensitive=true) }} {{ [3, 1, 2]|sort(reverse=true) }} {{ ['b', 'B', 'a']|unique|list }} {{ m|sort(attribute='role')|map(attribute='role')|list }}
{{ j|dictsort }} {{ j|items|list }} {{ j.items()|list }} {{ j.keys()|list }} {{ j.values()|list }}
{{ j.get('a') }} {{ j.get('zz') }} {{ j.get('zz', 'dflt') }} {{ j.items is callable }} {{ j['b'][0] }} {{ j.b.1 }}
{{ '5'|int + 1 }} {{ 'x'|int }} {{ 'x'|int(default=7) }} {{ 3.9|int }} {{ '1.5'|float }} {{ '3.7'|int }} {{ 5|string + '!' }} {{ -3|abs }} {{ (-3)|abs }} {{ 2.5|round }} {{ 2.567|round(2) }} {{ 2.1|round(0, 'ceil') }} {{ 7|float }}
{{ 'a-b-a'|replace('a', 'xy') }} {{ 'aaa'|replace('a', 'b', 2) }} {{ 'ab'.replace('', '.') }} {{ 'abc'|reverse }} {{ [1, 2]|reverse|list }} {{ 'ab'|list }}
{{ j|tojson }} {{ 'é"\n\u2028'|tojson }} {{ [1, 2.0, none, true]|tojson }} {{ []|tojson }} {{ {}|tojson }}
{{ j|tojson(indent=2) }}
{{ j|tojson(separators=(',', ':')) }} {{ {'z': 1, 'a': {'k': []}}|tojson(indent=1) }}
{{ '<a href="x">\'&'|escape }} {{ '<b>'|e }} {{ '<b>'|safe }}
{{ 'a\nb\n\nc'|indent }}|{{ 'a\nb\n\nc'|indent(2, true) }}|{{ 'a\n\nc'|indent(2, blank=true) }}|{{ 'a\nb'|indent('> ') }}
{{ '  x  '.strip() }}|{{ '  x  '.lstrip() }}|{{ '  x  '.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'abcba'.strip('ab') }}
{{ 'a b  c'.split() }} {{ 'a,b,,c'.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b c '.split(none, 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'aaa'.rsplit('aa', 1) }}
{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith('bc') }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.find('c') }} {{ 'äbcäb'.rfind('b') }} {{ 'abc'.find('x') }} {{ 'banana'.count('an') }} {{ 'a\nb\r\nc'.splitlines() }}
{{ 'they\'re bill\'s'.title() }} {{ 'aBC'.capitalize() }} {{ '-'.join(['a', 'b']) }} {{ '12'.isdigit() }} {{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.txt'.removesuffix('.txt') }}
{{ 'hello'[1:3] }} {{ 'hello'[::-1] }} {{ 'hello'[-3:] }} {{ 'hello'[:-1] }} {{ 'hello'[::2] }} {{ 'hello'[10:] }}| {{ 'hello'[-99:2] }} {{ 'hello'[3:1:-1] }} {{ 'wörld'[1] }} {{ 'hello'[-1] }} {{ [1, 2, 3][1:] }} {{ [1, 2, 3][::-1] }} {{ [1, 2, 3][-2:] }} {{ [1, 2, 3, 4][:0:-2] }} {{ [1, 2][99:] }}
{{ [1, 'a', "it's", 'q"', 'é\n', 1.0, none, true, {'k': [2]}, (1,), (1, 2), ()] }}
{% for i in range(3) %}{{ i }}{% endfor %} {% for i in range(5, 0, -2) %}{{ i }}{% endfor %} {% for i in range(2, 4) %}{{ i }}{% endfor %}
{% for x in m %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.depth }};{% endfor %}
{% for x in [1, 2, 3] %}{{ loop.previtem is defined }}{{ loop.previtem }}>{{ loop.nextitem }}{{ loop.cycle('a', 'b') }};{% endfor %}
{% for k, v in j.items() %}{{ k }}={{ v }};{% endfor %} {% for k in j %}{{ k }}{% endfor %} {% for (a, b) in [(1, 2), [3, 4]] %}{{ a + b }};{% endfor %}
{% for x in [1, 2, 3, 4] if x is even %}{{ x }}{{ loop.length }}{{ loop.last }};{% endfor %} {% for x in [] %}x{% else %}none{% endfor %} {% for x in [1] if x > 1 %}x{% else %}filtered{% endfor %} {% for x in missing %}x{% else %}e{% endfor %}
{% for x in [1, 2, 3, 4] %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in 'äb' %}{{ x }}.{% endfor %} {% for a in [1, 2] %}{% for b in [3, 4] %}{{ a * b }}{{ loop.depth }} {% endfor %}{{ loop.index }}{% endfor %}
{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}
{% set ns = namespace(n=0, s='') %}{% for i in [1, 2, 3] %}{% set ns.n = ns.n + i %}{% set ns.s = ns.s ~ i %}{% endfor %}{{ ns.n }}{{ ns.s }} {% set q = namespace({'a': 5}) %}{{ q.a }} {{ ns.nope is defined }}
{% set x %}<{{ m|length }}>{% endset %}{{ x }}{{ x|length }} {% set a, b = 1, 'two' %}{{ b }}{{ a }} {% if x %}{% set y = 9 %}{% endif %}{{ y }}
{% macro f(a, b='B', c=a) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(1, c=3) }}{{ f() }}{{ f(b='x', a='y') }}
{% macro up(s) %}{{ s|upper }}{{ g }}{% endmacro %}{% set g = '!' %}{{ up('abc') ~ up('d')|length }} {% for g in [1] %}{{ up('q') }}{% endfor %}
{% macro box(t) %}<{{ t }}:{{ caller() }}>{% endmacro %}{% call box('x') %}in {{ m|length }}{% endcall %}
{{ dict(a=1, b='x') }} {{ {'a': 1}.a }} {{ {1: 'one'}[1] }} {{ {'a': 1, 'a': 2} }} {{ dict({'k': 'v'}, n=none) }}
{{ (1, 2)|length }} {{ ('a') }} {{ ('a',)|first }} {{ 1, 2 }} {{ [1, 2,] }} {{ {'a': 1,} }}
{{ m[0].content|trim|upper|replace('H', 'J')|length }} {{ (m[0].content)[:4] }} {{ m[-1]['role'] }} {{ m[1:]|length }}
{{ not m is defined }} {{ 1 + 2 is number }} {{ -2 ** 2 }} {{ 2 ** 3 ** 2 }} {{ 'a' + 'b'|upper }} {{ 1 ~ 2 + 3 ~ 4 }} {{ - 3 + 5 }} {{ +4 }}
{{ {'a': {'b': {'c': 'deep'}}}.a.b.c }} {{ {'a}}': '%}'}['a}}'] }} {{ "{% not a tag %}" }} {{ '{{ }}' }}
{{ strftime_now('%d %B %Y') }} {{ range is defined }} {{ nope is defined }}
{{ m[0].content.strip().split(', ')[1].replace('!', '?') }}
""".strip("\n").split("\n")

BLOCKS = [
    "a\n  {% if true %}  \n  b\n  {% endif %}\nc\n\n",
    "  {# c #}\n  {{ 1 }}\n\t{%- if true %}\n x\n {%- endif -%}\n\n y\n",
    "{% for i in range(2) %}\n  - {{ i }}\n{% endfor %}\nend\n",
    "x {% if true %}\ny\n{% endif %} z\r\n{% if true +%}\nw{% endif %}\r",
    "{{ '\n' }}{% set a = [\n 1,\n 2\n] %}\n{{ a }}\n",
    "   {% set a = 1 %}   {% set b = 2 %}\n{{ a }}{{ b }}",
    "{%- for m in [1] %}\n\n\n  {{- m }}\n{%- endfor %}\n\n",
    "\n\n{{ 1 }}\n\n",
    "{% if true %}\n  {# note\n over lines -#}\n  q{% endif %}",
]


def render(template, messages, prompt, variables):
    try:
        text = ENV.from_string(template).render(messages=messages, add_generation_prompt=prompt, **variables)
        return {"text": text}
    except Raised as e:
        return {"error": str(e)}


def main():
    cases = []
    for name, template, conversations, variables in FAMILIES:
        for messages in conversations:
            for prompt in (False, True):
                cases.append({"name": name, "template": template, "messages": messages, "prompt": prompt,
                              "variables": variables, **render(template, messages, prompt, variables)})
    shown = {"m": [U, A, U2], "j": {"a": 1, "b": [True, None, "x"], "c": {"d": 0.5}}}
    for template in SNIPPETS + BLOCKS:
        cases.append({"name": "snippet", "template": template, "messages": [U], "prompt": False,
                      "variables": shown, **render(template, [U], False, shown)})
    path = pathlib.Path(__file__).with_name("chat.json")
    path.write_text(json.dumps({"jinja2": jinja2.__version__, "cases": cases}, indent=1, ensure_ascii=False) + "\n")
    print(len(cases), "cases")


main()
