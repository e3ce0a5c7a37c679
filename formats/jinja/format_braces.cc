#include <algorithm>
#include <optional>

#include "formats/jinja/builtins.h"
#include "formats/jinja/format.h"
#include "formats/jinja/format_value.h"
#include "formats/jinja/print.h"

namespace pith::jinja {
namespace {

Spec parse_spec(Meter& meter, const Text& text) {
  Spec spec;
  const std::string_view s = text.view();
  size_t at = 0;
  const auto is_align = [&](size_t i) {
    return i < s.size() && std::string_view("<>^=").find(s[i]) != std::string_view::npos;
  };
  const size_t first = s.empty() ? 0 : char_at(s, 0).length;
  if (!s.empty() && is_align(first)) {
    spec.fill = text.slice(0, first);
    spec.align = s[first];
    at = first + 1;
  } else if (is_align(0)) {
    spec.align = s[at++];
  }
  if (at < s.size() && (s[at] == '+' || s[at] == '-' || s[at] == ' ')) spec.sign = s[at++];
  if (at < s.size() && s[at] == '#') spec.alternate = at++ < s.size();
  if (at < s.size() && s[at] == '0') {
    ++at;
    if (spec.align == '\0') spec.zero = true;
  }
  spec.width = std::max<int64_t>(read_count(meter, s, at), 0);
  if (at < s.size() && (s[at] == ',' || s[at] == '_')) spec.grouping = s[at++];
  if (at < s.size() && s[at] == '.') {
    ++at;
    spec.precision = read_count(meter, s, at);
    if (spec.precision < 0) meter.corrupt("a format with a point and no precision");
  }
  if (at < s.size()) spec.type = s[at++];
  if (at < s.size()) meter.corrupt("a format of more parts than one value has");
  return spec;
}

void put_formatted(Interpreter& in, const Value& v, const Text& format, Text& out) {
  Meter& meter = in.meter();
  if (format.empty()) {
    out.append(*to_text(meter, v));
    return;
  }
  Spec spec = parse_spec(meter, format);
  const auto wrong = [&] {
    meter.corrupt("a format that a {} cannot be written in", type_name(v));
  };
  if (const Text* text = as_text(v)) {
    if ((spec.type != '\0' && spec.type != 's') || spec.align == '=' || spec.sign != '-' ||
        spec.alternate || spec.grouping != '\0') {
      wrong();
    }
    if (spec.zero) spec.fill = Text("0", Origin::kTemplate);
    return pad(meter, cut(*text, spec.precision), spec, spec.align == '\0' ? '<' : spec.align, out);
  }
  if (!is_number(v)) wrong();
  const bool floating = std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos;
  if (is<double>(v) || (floating && spec.type != '\0')) {
    if (spec.type != '\0' && spec.type != 'n' && !floating) wrong();
    return put_double(meter, to_double(v), spec, out);
  }
  if (spec.precision >= 0) wrong();
  if (spec.type == 'c') {
    if (spec.sign != '-') wrong();
    const Text one = character(meter, to_int(v));
    return pad(meter, one, spec, spec.align == '\0' ? '<' : spec.align, out);
  }
  if (std::string_view("bdonxX").find(spec.type) == std::string_view::npos && spec.type != '\0') {
    wrong();
  }
  put_integer(meter, to_int(v), spec, out);
}

class Braces {
 public:
  Braces(Interpreter& in, const ArgumentValues& args, const Value* mapping)
      : in_(in), args_(args), mapping_(mapping) {}

  Text run(const Text& format, int depth) {
    if (depth > 2) meter().corrupt("a format in a format in a format");
    const std::string_view s = format.view();
    Text out;
    out.set_markup(format.markup());
    for (size_t at = 0; at < s.size();) {
      const size_t next = std::min(s.find_first_of("{}", at), s.size());
      append(out, format.slice(at, next));
      if (next == s.size()) break;
      if (next + 1 < s.size() && s[next + 1] == s[next]) {
        append(out, format.slice(next, next + 1));
        at = next + 2;
        continue;
      }
      if (s[next] == '}') meter().corrupt("a single '}}' in a format");
      at = field(format, next + 1, out, depth);
    }
    return out;
  }

 private:
  Meter& meter() { return in_.meter(); }
  void append(Text& out, const Text& piece) {
    meter().walk(piece.size());
    if (out.size() + piece.size() > kMaxText) meter().make(out.size() + piece.size());
    out.append(piece);
  }

  // One field from after its bracket on; the position after it.
  size_t field(const Text& format, size_t begin, Text& out, int depth) {
    const std::string_view s = format.view();
    size_t at = begin;
    while (at < s.size() && s[at] != '}' && s[at] != ':' && s[at] != '!') {
      if (s[at] == '{') meter().corrupt("a '{{' in the name of a field of a format");
      if (s[at] == '[') at = std::min(s.find(']', at), s.size() - 1);
      ++at;
    }
    const Text name = format.slice(begin, at);
    char conversion = '\0';
    if (at < s.size() && s[at] == '!') {
      conversion = at + 1 < s.size() ? s[at + 1] : '\0';
      at += 2;
      if (at < s.size() && s[at] != ':' && s[at] != '}')
        meter().corrupt("a conversion of a format");
    }
    Text spec;
    if (at < s.size() && s[at] == ':') {
      const size_t spec_begin = ++at;
      for (int open = 1; at < s.size(); ++at) {
        if (s[at] == '{') ++open;
        if (s[at] == '}' && --open == 0) break;
      }
      spec = format.slice(spec_begin, at);
    }
    if (at >= s.size()) meter().corrupt("a field of a format without its end");
    Value v = lookup(name);
    if (conversion == 's') v = to_text(meter(), v);
    if (conversion == 'r' || conversion == 'a') v = to_repr(meter(), v, conversion == 'a');
    if (conversion != '\0' && std::string_view("sra").find(conversion) == std::string_view::npos) {
      meter().corrupt("a conversion of a format that is not s, r or a");
    }
    if (!spec.empty()) spec = run(spec, depth + 1);
    Text piece;
    put_formatted(in_, v, spec, piece);
    if (format.markup() && !(as_text(v) != nullptr && as_text(v)->markup())) {
      piece = escaped(meter(), piece);
    }
    append(out, piece);
    return at + 1;
  }

  Value lookup(const Text& name) {
    const std::string_view s = name.view();
    size_t at = std::min(s.find_first_of(".["), s.size());
    Value v = first(std::string(s.substr(0, at)));
    while (at < s.size()) {
      meter().step();
      if (s[at] == '.') {
        const size_t end = std::min(s.find_first_of(".[", at + 1), s.size());
        if (end == at + 1) meter().corrupt("an empty name in a format");
        v = in_.attribute(v, std::string(s.substr(at + 1, end - at - 1)));
        at = end;
      } else if (s[at] == '[') {
        const size_t end = s.find(']', at);
        if (end == std::string_view::npos || end == at + 1) {
          meter().corrupt("brackets in a field of a format");
        }
        size_t digits = at + 1;
        const int64_t place = read_count(meter(), s.substr(0, end), digits);
        v = in_.item(v, place >= 0 && digits == end ? Value(place)
                                                    : make_text(meter(), name.slice(at + 1, end)));
        at = end + 1;
      } else {
        meter().corrupt("a name after brackets in a format");
      }
    }
    return v;
  }

  Value first(const std::string& name) {
    size_t at = 0;
    int64_t place = read_count(meter(), name, at);
    if (name.empty() || (place >= 0 && at == name.size())) {
      const bool by_itself = name.empty();
      if (counted_ && *counted_ != by_itself) {
        meter().corrupt("a format with fields that are numbered and fields that are not");
      }
      counted_ = by_itself;
      if (by_itself) place = next_++;
      if (mapping_ != nullptr || static_cast<size_t>(place) >= args_.positional.size()) {
        meter().corrupt("a format with more fields than values");
      }
      return args_.positional[static_cast<size_t>(place)];
    }
    if (mapping_ != nullptr) {
      const auto* dict = std::get_if<DictPtr>(mapping_);
      const Value* found =
          dict != nullptr ? find_key(meter(), **dict, make_text(meter(), name)) : nullptr;
      if (found != nullptr) return *found;
    } else {
      for (const auto& [candidate, value] : args_.named) {
        if (candidate == name) return value;
      }
    }
    meter().corrupt("'{}' in a format is not given", name);
  }

  Interpreter& in_;
  const ArgumentValues& args_;
  const Value* mapping_;
  int64_t next_ = 0;
  std::optional<bool> counted_;
};

}  // namespace

Value format_braces(Interpreter& in, const Text& format, const ArgumentValues& args,
                    const Value* mapping) {
  return make_text(in.meter(), Braces(in, args, mapping).run(format, 1));
}

}  // namespace pith::jinja
