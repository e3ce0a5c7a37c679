#include "formats/jinja/print.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "formats/jinja/characters.h"

namespace pith::jinja {
namespace {

// Text in the making that watches its size and whether any of it is content.
class Writer {
 public:
  Writer(Meter& meter, const JsonStyle* json, bool ascii)
      : meter_(meter),
        json_(json),
        ascii_(ascii),
        origin_(json != nullptr ? json->origin : Origin::kTemplate) {}

  void value(const Value& v, int64_t level) {
    meter_.step();
    if (const Text* text = as_text(v)) return string(*text);
    if (const auto* list = std::get_if<ListPtr>(&v)) return items(**list, level);
    if (const auto* dict = std::get_if<DictPtr>(&v)) return entries(**dict, level);
    scalar(v);
  }
  Text finish() { return Text(out_, origin_); }

 private:
  void put(std::string_view bytes) {
    if (out_.size() + bytes.size() > kMaxText) meter_.make(out_.size() + bytes.size());
    out_.append(bytes);
  }

  void scalar(const Value& v) {
    if (is<None>(v)) return put(json_ != nullptr ? "null" : "None");
    if (const auto* b = std::get_if<bool>(&v)) {
      if (json_ != nullptr) return put(*b ? "true" : "false");
      return put(*b ? "True" : "False");
    }
    if (const auto* n = std::get_if<int64_t>(&v)) return put(std::to_string(*n));
    if (const auto* d = std::get_if<double>(&v)) {
      if (json_ != nullptr && std::isnan(*d)) return put("NaN");
      if (json_ != nullptr && std::isinf(*d)) return put(*d > 0 ? "Infinity" : "-Infinity");
      return put(print_double(*d));
    }
    if (json_ == nullptr && is_undefined(v)) return put("Undefined");
    if (json_ == nullptr && is<CallablePtr>(v)) {
      const Callable& callable = *std::get<CallablePtr>(v);
      if (callable.kind == Callable::kMacro) {
        return put(callable.name.empty() ? "<Macro anonymous>" : "<Macro '" + callable.name + "'>");
      }
    }
    if (json_ == nullptr && is<LoopPtr>(v)) {
      const Loop& loop = *std::get<LoopPtr>(v);
      return put(fmt::format("<LoopContext {}/{}>", loop.index0 + 1, loop.items->items.size()));
    }
    meter_.corrupt("a {} cannot be written{}", type_name(v), json_ != nullptr ? " as JSON" : "");
  }

  void string(const Text& text) {
    meter_.step(text.size() / 16);
    if (text.safe_origin() == Origin::kContent) origin_ = Origin::kContent;
    const std::string_view s = text.view();
    const bool has_single = s.find('\'') != std::string_view::npos;
    const bool has_double = s.find('"') != std::string_view::npos;
    const char quote = json_ != nullptr || (has_single && !has_double) ? '"' : '\'';
    if (json_ == nullptr && text.markup()) put("Markup(");
    put({&quote, 1});
    for (size_t at = 0; at < s.size();) {
      const Char c = char_at(s, at);
      escaped(s.substr(at, c.length), c.code, quote);
      at += c.length;
    }
    put({&quote, 1});
    if (json_ == nullptr && text.markup()) put(")");
  }

  void hex(std::string_view prefix, char32_t code, int digits) {
    put(fmt::format("{}{:0{}x}", prefix, static_cast<uint32_t>(code), digits));
  }

  void escaped(std::string_view bytes, char32_t code, char quote) {
    if (code == '\\') return put("\\\\");
    if (code == static_cast<unsigned char>(quote)) return put(quote == '"' ? "\\\"" : "\\'");
    if (code == '\n') return put("\\n");
    if (code == '\r') return put("\\r");
    if (code == '\t') return put("\\t");
    if (json_ != nullptr) {
      if (code == '\b') return put("\\b");
      if (code == '\f') return put("\\f");
      if (code < 0x20 || (json_->ensure_ascii && code >= 0x7f && code < 0x10000)) {
        return hex("\\u", code, 4);
      }
      if (!json_->ensure_ascii || code < 0x7f || code >= 0x110000) return put(bytes);
      hex("\\u", 0xd800 + ((code - 0x10000) >> 10), 4);
      return hex("\\u", 0xdc00 + ((code - 0x10000) & 0x3ff), 4);
    }
    if (code >= 0x110000 || (is_printable(code) && (!ascii_ || code < 0x80))) return put(bytes);
    if (code < 0x100) return hex("\\x", code, 2);
    code < 0x10000 ? hex("\\u", code, 4) : hex("\\U", code, 8);
  }

  void line_break(int64_t level) {
    if (json_ == nullptr || !json_->indent) return;
    put("\n");
    const std::string& one = *json_->indent;
    meter_.walk(one.size() * static_cast<uint64_t>(level));  // level <= 64, no overflow
    for (int64_t i = 0; i < level && !one.empty(); ++i) put(one);
  }
  void between(bool first, int64_t level) {
    if (!first) put(json_ == nullptr ? ", " : json_->item_separator);
    line_break(level + 1);
  }

  void items(const List& list, int64_t level) {
    const bool tuple = list.kind == ListKind::kTuple || list.kind == ListKind::kGroup;
    if (list.kind != ListKind::kList && (!tuple || list.kind == ListKind::kGenerator)) {
      if (json_ != nullptr || list.kind == ListKind::kGenerator) {
        meter_.corrupt("a {} cannot be written; a list can", kind_name(list.kind));
      }
      if (list.kind == ListKind::kRange) return range(list.bounds);
      static constexpr const char* kNames[] = {"dict_keys(", "dict_values(", "dict_items("};
      put(kNames[static_cast<size_t>(list.kind) - static_cast<size_t>(ListKind::kKeys)]);
    }
    sequence(list.items, tuple && json_ == nullptr, level);
    if (list.kind >= ListKind::kKeys) put(")");
  }

  void range(const std::array<int64_t, 3>& bounds) {
    put(fmt::format("range({}, {}", bounds[0], bounds[1]));
    put(bounds[2] == 1 ? ")" : fmt::format(", {})", bounds[2]));
  }

  void sequence(const std::vector<Value>& items, bool tuple, int64_t level) {
    if (items.empty()) return put(tuple ? "()" : "[]");
    put(tuple ? "(" : "[");
    for (size_t i = 0; i < items.size(); ++i) {
      between(i == 0, level);
      value(items[i], level + 1);
    }
    line_break(level);
    if (tuple && items.size() == 1) put(",");
    put(tuple ? ")" : "]");
  }

  void entries(const Dict& dict, int64_t level) {
    if (dict.entries.empty()) return put("{}");
    put("{");
    bool first = true;
    for (const auto* entry : ordered(dict)) {
      between(first, level);
      first = false;
      key(entry->first, level);
      put(json_ == nullptr ? ": " : json_->key_separator);
      value(entry->second, level + 1);
    }
    line_break(level);
    put("}");
  }

  std::vector<const std::pair<Value, Value>*> ordered(const Dict& dict) {
    std::vector<const std::pair<Value, Value>*> result;
    for (const auto& entry : dict.entries) result.push_back(&entry);
    if (json_ == nullptr || !json_->sort_keys) return result;
    std::stable_sort(result.begin(), result.end(), [&](const auto* a, const auto* b) {
      return compare(meter_, a->first, b->first) < 0;
    });
    return result;
  }

  void key(const Value& key, int64_t level) {
    if (json_ == nullptr || as_text(key) != nullptr) return value(key, level + 1);
    if (!is_number(key) && !is<None>(key)) {
      meter_.corrupt("a key of the type {} cannot be written as JSON", type_name(key));
    }
    put("\"");
    scalar(key);
    put("\"");
  }

  Meter& meter_;
  const JsonStyle* json_;
  const bool ascii_;
  Origin origin_;
  std::string out_;
};

}  // namespace

TextPtr to_text(Meter& meter, const Value& v) {
  static const auto kEmpty = std::make_shared<const Text>();
  if (const auto* text = std::get_if<TextPtr>(&v)) return *text;
  if (is_undefined(v)) return kEmpty;
  return to_repr(meter, v);
}

TextPtr to_repr(Meter& meter, const Value& v, bool ascii) {
  Writer writer(meter, nullptr, ascii);
  writer.value(v, 0);
  return std::get<TextPtr>(make_text(meter, writer.finish()));
}

Value to_json(Meter& meter, const Value& v, const JsonStyle& style) {
  Writer writer(meter, &style, false);
  writer.value(v, 0);
  return make_text(meter, writer.finish());
}

std::string print_double(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number > 0 ? "inf" : "-inf";
  const double magnitude = std::fabs(number);
  const bool plain = magnitude == 0.0 || (magnitude >= 1e-4 && magnitude < 1e16);
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), number,
                                 plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string result(buffer, end.ptr);
  if (plain && result.find('.') == std::string::npos) result += ".0";
  return result;
}

}  // namespace pith::jinja
