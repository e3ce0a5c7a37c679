"""Converts files of Debian packages into the five evaluation texts. texts.sh says which packages and why.

Usage: texts.py OUT_DIR ROOT...      ROOT: a folder that holds usr/ (/, or an unpacked package)

Each text is cut after 300,000 bytes, at the end of a paragraph, a file or a conversation. The same package versions
give the same bytes.
"""
import glob
import html.parser
import json
import os
import re
import struct
import sys
import zlib

LIMIT = 300_000
out, roots = sys.argv[1], sys.argv[2:]


def files(pattern):
    """Files that match in the first root that has any, in order of their names."""
    for root in roots:
        found = sorted(glob.glob(os.path.join(root, pattern)))
        if found:
            return found
    sys.exit(f"texts.py: no {pattern} under {' '.join(roots)}")


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def write(name, pieces):
    """Pieces until the limit, none of them cut."""
    size, kept = 0, []
    for piece in pieces:
        size += len(piece.encode())
        if size > LIMIT:
            break
        kept.append(piece)
    with open(os.path.join(out, name), "w", encoding="utf-8", newline="\n") as f:
        f.writelines(kept)


# ---- HTML


class Blocks(html.parser.HTMLParser):
    """self.blocks: (tag, text) of each heading, paragraph, list item, table row and listing of the body."""

    SKIPPED_TAGS = {"head", "script", "style", "nav"}
    SKIPPED_CLASSES = {"toc", "navheader", "navfooter", "sphinxsidebar", "related", "footer", "headerlink", "lot",
                       "list-of-tables", "list-of-figures", "list-of-examples"}
    BLOCKS = {"h1", "h2", "h3", "h4", "h5", "h6", "p", "li", "dt", "dd", "tr", "pre", "div", "table", "ul", "ol", "dl"}
    VOID = {"br", "hr", "img", "input", "link", "meta", "col", "area", "base", "wbr"}

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.blocks, self.open, self.skipped, self.kind, self.line = [], [], 0, "p", ""
        self.feed(text)
        self.close()
        self.end_block()

    def end_block(self):
        listing = "pre" in (tag for tag, _ in self.open) or self.kind == "pre"
        text = self.line.strip("\n").rstrip() if listing else " ".join(self.line.split())
        if self.kind == "tr":
            text = text.strip("| ")
        if text.strip():
            self.blocks.append((self.kind, text))
        self.line, self.kind = "", "p"

    def handle_starttag(self, tag, attributes):
        if tag == "br":
            self.line += "\n" if self.kind == "pre" else " "
        if tag in self.VOID:
            return
        classes = (dict(attributes).get("class") or "").split()
        skip = tag in self.SKIPPED_TAGS or not self.SKIPPED_CLASSES.isdisjoint(classes)
        self.open.append((tag, skip))
        self.skipped += skip
        if tag in self.BLOCKS and self.kind not in ("pre", "tr"):
            # A paragraph within a list item is the item's own text.
            if not (tag in ("p", "div") and self.kind in ("li", "dd") and not self.line.strip()):
                self.end_block()
                self.kind = tag if tag in ("li", "dt", "dd", "tr", "pre") or tag[0] == "h" else "p"

    def handle_endtag(self, tag):
        if tag not in (t for t, _ in self.open):
            return
        if tag in ("td", "th") and not self.skipped:
            self.line += " | "
        if tag in self.BLOCKS and (self.kind not in ("pre", "tr") or tag == self.kind):
            self.end_block()
        while True:
            closed, skip = self.open.pop()
            self.skipped -= skip
            if closed == tag:
                return

    def handle_data(self, data):
        if not self.skipped:
            self.line += data


def blocks_of(path):
    return Blocks(read(path)).blocks


def paragraphs(pattern):
    """The text of web pages, list items marked, without menus and tables of contents."""
    lines = ("li", "dt", "tr")
    before = ""
    for path in files(pattern):
        for kind, text in blocks_of(path):
            gap = "\n" if before in lines and kind not in lines else ""
            before = kind
            yield gap + ("- " if kind == "li" else "") + text + ("\n" if kind in lines else "\n\n")


def german(pieces):
    """Without the paragraphs that nobody has translated."""
    for piece in pieces:
        words = re.findall(r"\w+", piece.lower())
        english = sum(word in {"the", "and", "of", "to", "is", "you", "for", "that"} for word in words)
        if english * 12 <= len(words):
            yield piece


# ---- A novel, from the data of an R package: vectors of lines, as R serializes them


def string_vectors(path):
    """The character vectors of a .rdb file: each a big-endian length and a zlib stream of R's XDR format."""
    with open(path, "rb") as f:
        data = f.read()
    at = 0
    while at < len(data):
        stream = zlib.decompressobj()
        raw = stream.decompress(data[at + 4:])
        at = len(data) - len(stream.unused_data)
        assert raw[:2] == b"X\n", "not R's XDR format"
        (encoding,) = struct.unpack(">i", raw[14:18])
        position = 18 + encoding
        kind, count = struct.unpack(">ii", raw[position:position + 8])
        position += 8
        assert kind & 0xFF == 16, "not a character vector"
        strings = []
        for _ in range(count):
            _, size = struct.unpack(">ii", raw[position:position + 8])
            position += 8
            strings.append(raw[position:position + max(size, 0)].decode("utf-8"))
            position += max(size, 0)
        yield strings


def novel(title):
    for path in files("usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"):
        for lines in string_vectors(path):
            if lines[0] != title:
                continue
            paragraph = []
            for line in lines + [""]:
                if line.strip():
                    paragraph.append(line.strip())
                elif paragraph:
                    yield " ".join(paragraph) + "\n\n"
                    paragraph = []


# ---- Source code: three languages in turn


def source_files(pattern):
    for path in files(pattern):
        text = read(path)
        # A licence at the top is the same in file after file.
        text = re.sub(r"\A\s*/\*.*?\*/\s*", "", text, count=1, flags=re.S)
        if 1000 <= len(text) <= 40_000:
            yield text.rstrip("\n") + "\n\n"


def in_turn(*sources):
    """One piece of the source that has given the fewest bytes so far, until all are empty."""
    waiting = [[0, index, iter(source)] for index, source in enumerate(sources)]
    while waiting:
        least = min(waiting)
        piece = next(least[2], None)
        if piece is None:
            waiting.remove(least)
            continue
        least[0] += len(piece)
        yield piece


# ---- Conversations: questions of FAQs, with their answers in Markdown


def conversation(question, answer):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}, ensure_ascii=False) + "\n"


def answered(sections):
    """Of (heading, [paragraph]): those that ask."""
    for heading, answer in sections:
        if heading.rstrip().endswith("?") and sum(map(len, answer)) > 80:
            yield conversation(heading, "\n\n".join(answer))


def html_sections(pattern):
    for path in files(pattern):
        heading, answer = "", []
        for kind, text in blocks_of(path):
            if re.fullmatch(r"h[1-6]", kind):
                yield heading, answer
                heading, answer = re.sub(r"^[\d.]+\s*", "", text), []
            elif kind == "pre":
                answer.append(f"```\n{text}\n```")
            else:
                answer.append(("- " if kind == "li" else "") + text)
        yield heading, answer


def pod_text(text):
    """A paragraph of Perl's documentation format as Markdown."""
    text = " ".join(text.split())
    for _ in range(3):  # codes nest
        text = re.sub(r"\b([A-Z])(?:<< (.*?) >>|<([^<>]*)>)", pod_code, text)
    return text


def pod_code(match):
    code, text = match[1], match[2] or match[3] or ""
    if code == "E":
        return {"lt": "‹", "gt": "›", "sol": "/", "verbar": "|"}.get(text, text)
    if code == "L":
        name, bar, target = text.partition("|")
        return f"[{name}]({target})" if bar and "://" in target else name if "://" in name else name.strip('/"')
    if code in "XZ":
        return ""
    return {"C": f"`{text}`", "F": f"`{text}`", "I": f"*{text}*", "B": f"**{text}**"}.get(code, text)


def pod_sections(pattern):
    for path in files(pattern):
        heading, answer = "", []
        for paragraph in re.split(r"\n\s*\n", read(path)):
            paragraph = paragraph.strip("\n")
            command = re.match(r"=(\w+)\s*(.*)", paragraph, flags=re.S)
            if paragraph[:1] in (" ", "\t"):
                width = min(len(line) - len(line.lstrip()) for line in paragraph.expandtabs().split("\n") if line.strip())
                code = "\n".join(line[width:].rstrip() for line in paragraph.expandtabs().split("\n"))
                if answer and answer[-1].endswith("\n```"):  # one listing, with a blank line in it
                    answer[-1] = answer[-1][:-3] + "\n" + code + "\n```"
                else:
                    answer.append(f"```perl\n{code}\n```")
            elif command and command[1].startswith("head"):
                yield heading, answer
                heading, answer = pod_text(command[2]).replace("`", ""), []
            elif command:
                if command[1] == "item" and command[2] and command[2] != "*":
                    answer.append("- " + pod_text(command[2]))
            elif paragraph and not paragraph.startswith("(contributed by"):
                answer.append(pod_text(paragraph).replace("‹", "<").replace("›", ">"))
        yield heading, answer


write("prose.txt", novel("MANSFIELD PARK"))
write("manual.txt", paragraphs("usr/share/debian-reference/ch*.en.html"))
write("german.txt", german(paragraphs("usr/share/developers-reference/de/[!gis]*.html")))  # no indexes
write("code.txt", in_turn(source_files("usr/src/xtables-addons-*/extensions/*.c"),
                          source_files("usr/lib/python3/dist-packages/jinja2/*.py"),
                          source_files("usr/share/ltsp/*/*/*.sh")))
write("chat.jsonl", in_turn(answered(html_sections("usr/share/doc/debian/FAQ/*.en.html")),
                            answered(pod_sections("usr/share/perl/5*/pod/perlfaq[1-9].pod"))))
