// The filters that turn text into HTML and URLs.

#include <algorithm>

#include "formats/jinja/builtins.h"
#include "formats/jinja/print.h"

namespace pith::jinja {

Text escaped(Meter& meter, const Text& text) {
  meter.make(text.size() * 5);
  Text result;
  result.set_markup(true);
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text.view()[i];
    const std::string_view entity = c == '&'    ? "&amp;"
                                    : c == '<'  ? "&lt;"
                                    : c == '>'  ? "&gt;"
                                    : c == '"'  ? "&#34;"
                                    : c == '\'' ? "&#39;"
                                                : std::string_view(&c, 1);
    result.append(entity, text.origin(i));
  }
  return result;
}

namespace {

using Args = const ArgumentValues&;

Value escape(Interpreter& in, const Value& v, Args) {
  const TextPtr text = to_text(in.meter(), v);
  return text->markup() ? Value(text) : make_text(in.meter(), escaped(in.meter(), *text));
}

Value force_escape(Interpreter& in, const Value& v, Args) {
  return make_text(in.meter(), escaped(in.meter(), *to_text(in.meter(), v)));
}

Value safe(Interpreter& in, const Value& v, Args) {
  Text text = *to_text(in.meter(), v);
  text.set_markup(true);
  return make_text(in.meter(), std::move(text));
}

// Python's urllib.parse.quote; in a query string "/" is quoted too, and a space becomes "+".
Text quoted(Meter& meter, const Text& text, bool query) {
  meter.make(text.size() * 3);
  Text result;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text.view()[i];
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("_.-~").find(c) != std::string_view::npos ||
                       (c == '/' && !query);
    if (plain) {
      result.append(text, i, 1);
    } else if (c == ' ' && query) {
      result.append("+", text.origin(i));
    } else {
      result.append(fmt::format("%{:02X}", static_cast<unsigned char>(c)), text.origin(i));
    }
  }
  return result;
}

Value url_encode(Interpreter& in, const Value& v, Args) {
  Meter& meter = in.meter();
  if (!is<ListPtr>(v) && !is<DictPtr>(v)) {
    return make_text(meter, quoted(meter, *to_text(meter, v), false));
  }
  const std::vector<Value> pairs =
      is<DictPtr>(v) ? elements(meter, dict_items(in, *std::get<DictPtr>(v), ListKind::kList))
                     : elements(meter, v);
  Text result;
  for (const Value& pair : pairs) {
    const std::vector<Value> two = elements(meter, pair);
    if (two.size() != 2) meter.corrupt("urlencode of something that is no pair");
    const Text key = quoted(meter, *to_text(meter, two[0]), true);
    const Text value = quoted(meter, *to_text(meter, two[1]), true);
    if (result.size() + key.size() + value.size() + 2 > kMaxText) meter.make(kMaxText + 1);
    if (!result.empty()) result.append("&", Origin::kTemplate);
    result.append(key);
    result.append("=", Origin::kTemplate);
    result.append(value);
  }
  return make_text(meter, std::move(result));
}

Value xml_attributes(Interpreter& in, const Value& v, Args args) {
  Meter& meter = in.meter();
  if (!is<DictPtr>(v)) meter.corrupt("xmlattr of a {}", type_name(v));
  const bool space = in.flag_or(args.get(0, "autospace"), true);
  Text result;
  for (const auto& [key, value] : std::get<DictPtr>(v)->entries) {
    if (is<None>(value) || is_undefined(value)) continue;
    const Text& name = in.text_argument(key, "the name of an attribute");
    if (name.view().find_first_of(" \t\n\r\f\v/>=") != std::string_view::npos) {
      meter.corrupt("a name of an attribute that XML does not take");
    }
    const TextPtr escaped_name = to_text_like(in, key, true);
    const TextPtr escaped_value = to_text_like(in, value, true);
    if (result.size() + escaped_name->size() + escaped_value->size() + 4 > kMaxText) {
      meter.make(kMaxText + 1);
    }
    if (space || !result.empty()) result.append(" ", Origin::kTemplate);
    result.append(*escaped_name);
    result.append("=\"", Origin::kTemplate);
    result.append(*escaped_value);
    result.append("\"", Origin::kTemplate);
  }
  result.set_markup(in.autoescape());
  return make_text(meter, std::move(result));
}

// Removes tags and comments, collapses white space, and replaces common entities.
Value strip_tags(Interpreter& in, const Value& v, Args) {
  const TextPtr text = to_text(in.meter(), v);
  const std::string_view s = text->view();
  in.meter().step(1 + s.size() / 16);
  Text without;
  size_t at = 0;
  while (true) {
    const size_t start = s.find('<', at);
    if (start == std::string_view::npos) break;
    const bool comment = s.compare(start, 4, "<!--") == 0;
    size_t end = comment ? s.find("-->", start + 4) : s.find('>', start);
    if (end == std::string_view::npos) break;
    end += comment ? 3 : 1;
    without.append(*text, at, start - at);
    at = end;
  }
  without.append(*text, at, s.size() - at);

  Text result;
  const std::string_view w = without.view();
  static constexpr std::pair<std::string_view, std::string_view> kEntities[] = {
      {"&amp;", "&"},  {"&lt;", "<"},  {"&gt;", ">"},          {"&quot;", "\""},
      {"&#34;", "\""}, {"&#39;", "'"}, {"&nbsp;", "\xc2\xa0"}, {"&apos;", "'"}};
  // Entities are replaced after white space was collapsed, as in Python.
  bool pending = false;
  for (size_t i = 0; i < w.size();) {
    const Char c = char_at(w, i);
    if (is_space(c.code)) {
      pending = !result.empty();
      i += c.length;
      continue;
    }
    if (pending) result.append(" ", without.origin(i));
    pending = false;
    const auto* entity = std::find_if(std::begin(kEntities), std::end(kEntities), [&](auto& e) {
      return w.compare(i, e.first.size(), e.first) == 0;
    });
    if (entity != std::end(kEntities)) {
      result.append(entity->second, Origin::kContent);
      i += entity->first.size();
    } else if (c.code == '&' && i + 1 < w.size() && w[i + 1] != ' ' && w[i + 1] != '&') {
      if (w.substr(i, 32).find(';') != std::string_view::npos)
        in.meter().unsupported("striptags of an entity like this");
      result.append(without, i, 1);
      i += 1;
    } else {
      result.append(without, i, c.length);
      i += c.length;
    }
  }
  return make_text(in.meter(), std::move(result));
}

Value refused(Interpreter& in, const Value&, Args) {
  in.meter().unsupported("the filter 'urlize': a prompt has no links");
}

}  // namespace

const FilterTable& html_filters() {
  static const FilterTable kTable = {
      {"escape", {escape, ""}},
      {"e", {escape, ""}},
      {"forceescape", {force_escape, ""}},
      {"safe", {safe, ""}},
      {"striptags", {strip_tags, ""}},
      {"urlencode", {url_encode, ""}},
      {"urlize", {refused, "*"}},
      {"xmlattr", {xml_attributes, "autospace"}},
  };
  return kTable;
}

}  // namespace pith::jinja
