#include "formats/jinja/print.h"

#include <charconv>
#include <cmath>

namespace pith::jinja {
namespace {

// Text in the making that watches its size and whether any of it is content.
class Writer {
 public:
  Writer(Meter& meter, const JsonStyle* json)
      : meter_(meter), json_(json), origin_(json != nullptr ? json->origin : Origin::kTemplate) {}

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
    meter_.corrupt("a {} cannot be written{}", type_name(v), json_ != nullptr ? " as JSON" : "");
  }

  void string(const Text& text) {
    meter_.step(text.size() / 16);
    if (text.safe_origin() == Origin::kContent) origin_ = Origin::kContent;
    const std::string_view s = text.view();
    const bool has_single = s.find('\'') != std::string_view::npos;
    const bool has_double = s.find('"') != std::string_view::npos;
    const char quote = json_ != nullptr || (has_single && !has_double) ? '"' : '\'';
    put({&quote, 1});
    for (const char c : s) escaped(c, quote);
    put({&quote, 1});
  }

  void escaped(char c, char quote) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\\') return put("\\\\");
    if (c == quote) return put(quote == '"' ? "\\\"" : "\\'");
    if (c == '\n') return put("\\n");
    if (c == '\r') return put("\\r");
    if (c == '\t') return put("\\t");
    if (json_ != nullptr && c == '\b') return put("\\b");
    if (json_ != nullptr && c == '\f') return put("\\f");
    if (byte < 0x20 || (byte == 0x7f && json_ == nullptr)) {
      static constexpr char kHex[] = "0123456789abcdef";
      const char digits[] = {kHex[byte >> 4], kHex[byte & 15]};
      put(json_ != nullptr ? "\\u00" : "\\x");
      return put({digits, 2});
    }
    put({&c, 1});
  }

  void line_break(int64_t level) {
    if (json_ == nullptr || !json_->indent) return;
    put("\n");
    const int64_t width = *json_->indent;
    if (width <= 0) return;
    if (width > static_cast<int64_t>(kMaxText)) meter_.make(kMaxText + 1);
    const auto spaces = static_cast<size_t>(width * level);  // level <= 64, no overflow
    meter_.walk(spaces);
    if (out_.size() + spaces > kMaxText) meter_.make(out_.size() + spaces);
    out_.append(spaces, ' ');
  }
  void between(bool first, int64_t level) {
    if (!first) put(json_ == nullptr ? ", " : json_->item_separator);
    line_break(level + 1);
  }

  void items(const List& list, int64_t level) {
    const bool tuple = list.tuple && json_ == nullptr;
    if (list.items.empty()) return put(tuple ? "()" : "[]");
    put(tuple ? "(" : "[");
    for (size_t i = 0; i < list.items.size(); ++i) {
      between(i == 0, level);
      value(list.items[i], level + 1);
    }
    line_break(level);
    if (tuple && list.items.size() == 1) put(",");
    put(tuple ? ")" : "]");
  }

  void entries(const Dict& dict, int64_t level) {
    if (dict.entries.empty()) return put("{}");
    put("{");
    for (size_t i = 0; i < dict.entries.size(); ++i) {
      const auto& [key, item] = dict.entries[i];
      between(i == 0, level);
      if (json_ != nullptr && as_text(key) == nullptr) {
        put("\"");
        scalar(key);
        put("\"");
      } else {
        value(key, level + 1);
      }
      put(json_ == nullptr ? ": " : json_->key_separator);
      value(item, level + 1);
    }
    line_break(level);
    put("}");
  }

  Meter& meter_;
  const JsonStyle* json_;
  Origin origin_;
  std::string out_;
};

}  // namespace

TextPtr to_text(Meter& meter, const Value& v) {
  static const auto kEmpty = std::make_shared<const Text>();
  if (const auto* text = std::get_if<TextPtr>(&v)) return *text;
  if (is_undefined(v)) return kEmpty;
  Writer writer(meter, nullptr);
  writer.value(v, 0);
  return std::get<TextPtr>(make_text(meter, writer.finish()));
}

Value to_json(Meter& meter, const Value& v, const JsonStyle& style) {
  Writer writer(meter, &style);
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
