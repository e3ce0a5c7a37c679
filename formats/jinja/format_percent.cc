#include <algorithm>
#include <optional>

#include "formats/jinja/builtins.h"
#include "formats/jinja/format.h"
#include "formats/jinja/format_value.h"
#include "formats/jinja/print.h"

namespace pith::jinja {
namespace {

class Percent {
 public:
  Percent(Interpreter& in, const Text& format, const Value& values)
      : in_(in), format_(format), s_(format.view()), values_(values) {
    if (is_tuple(values))
      items_ = elements(in.meter(), values);
    else
      items_ = {values};
    out_.set_markup(format.markup());
  }

  Value run() {
    while (at_ < s_.size()) {
      const size_t next = std::min(s_.find('%', at_), s_.size());
      literal(at_, next);
      if (next == s_.size()) break;
      at_ = next + 1;
      field();
    }
    const bool one = !is_tuple(values_);
    if (used_ < items_.size() && !(one && is<DictPtr>(values_)) &&
        !(one && is<ListPtr>(values_) && items_.size() == 1)) {
      meter().corrupt("more values than '%' has places for");
    }
    return make_text(meter(), std::move(out_));
  }

 private:
  Meter& meter() { return in_.meter(); }
  void literal(size_t from, size_t to) {
    grow(to - from);
    out_.append(format_, from, to - from);
  }
  void grow(uint64_t bytes) {
    meter().walk(bytes);
    if (out_.size() + bytes > kMaxText) meter().make(out_.size() + bytes);
  }
  Value next_value() {
    if (key_) return *key_;
    if (used_ == items_.size()) meter().corrupt("fewer values than '%' has places for");
    return items_[used_++];
  }
  int64_t star() {
    const Value v = next_value();
    if (!is_integral(v)) meter().corrupt("'*' in a format wants an integer");
    const int64_t n = to_int(v);
    if (n > static_cast<int64_t>(kMaxText) || n < -static_cast<int64_t>(kMaxText)) {
      meter().make(kMaxText + 1);
    }
    return n;
  }

  void key() {
    key_.reset();
    if (at_ >= s_.size() || s_[at_] != '(') return;
    const size_t begin = at_ + 1;
    int depth = 1;
    for (++at_; at_ < s_.size(); ++at_) {
      if (s_[at_] == '(') ++depth;
      if (s_[at_] == ')' && --depth == 0) break;
    }
    if (at_ == s_.size()) meter().corrupt("a key in a format without its end");
    const auto* dict = std::get_if<DictPtr>(&values_);
    if (dict == nullptr) meter().corrupt("a key in a format of a {}", type_name(values_));
    const Value name = make_text(meter(), format_.slice(begin, at_));
    const Value* found = find_key(meter(), **dict, name);
    if (found == nullptr) meter().corrupt("a key in a format that is not there");
    key_ = *found;
    ++at_;
  }

  void field() {
    key();
    Spec spec;
    bool left = false;
    for (; at_ < s_.size() && std::string_view("#0- +").find(s_[at_]) != std::string_view::npos;
         ++at_) {
      if (s_[at_] == '#') spec.alternate = true;
      if (s_[at_] == '0') spec.zero = true;
      if (s_[at_] == '-') left = true;
      if (s_[at_] == '+') spec.sign = '+';
      if (s_[at_] == ' ' && spec.sign != '+') spec.sign = ' ';
    }
    spec.width = width();
    if (spec.width < 0) {
      left = true;
      spec.width = -spec.width;
    }
    if (at_ < s_.size() && s_[at_] == '.') {
      ++at_;
      spec.precision = std::max<int64_t>(width(), 0);
    }
    while (at_ < s_.size() && std::string_view("hlL").find(s_[at_]) != std::string_view::npos)
      ++at_;
    if (at_ == s_.size()) meter().corrupt("a format that ends after '%'");
    spec.type = s_[at_++];
    if (left) {
      spec.align = '<';
      spec.zero = false;
    }
    value(spec);
  }
  int64_t width() {
    if (at_ < s_.size() && s_[at_] == '*') {
      ++at_;
      return star();
    }
    return std::max<int64_t>(read_count(meter(), s_, at_), 0);
  }

  void value(Spec& spec) {
    grow(static_cast<uint64_t>(spec.width));
    Text piece;
    switch (spec.type) {
      case '%':
        return out_.append("%", Origin::kTemplate);
      case 's':
      case 'r':
      case 'a': {
        const Value v = next_value();
        const TextPtr text = spec.type == 's' ? to_text_like(in_, v, format_.markup())
                                              : to_repr(meter(), v, spec.type == 'a');
        pad(meter(), cut(*text, spec.precision), spec, spec.align == '<' ? '<' : '>', piece);
        break;
      }
      case 'c': {
        const Value v = next_value();
        const Text* text = as_text(v);
        if (text != nullptr ? count_chars(text->view()) != 1 : !is_integral(v)) {
          meter().corrupt("'%c' wants one character");
        }
        pad(meter(), text != nullptr ? *text : character(meter(), to_int(v)), spec,
            spec.align == '<' ? '<' : '>', piece);
        break;
      }
      default:
        number(spec, piece);
    }
    grow(piece.size());
    out_.append(piece);
  }

  void number(Spec& spec, Text& piece) {
    const bool integer = std::string_view("diouxX").find(spec.type) != std::string_view::npos;
    if (!integer && std::string_view("eEfFgG").find(spec.type) == std::string_view::npos) {
      meter().corrupt("the format '%{}'", printable_char(spec.type));
    }
    const Value v = next_value();
    if (!is_number(v)) meter().corrupt("'%{}' of a {}", spec.type, type_name(v));
    if (!integer) return put_double(meter(), to_double(v), spec, piece);
    if (is<double>(v)) {
      const double d = std::get<double>(v);
      if (spec.type == 'o' || spec.type == 'x' || spec.type == 'X' || !(std::fabs(d) < 9.2e18)) {
        meter().corrupt("'%{}' of a float", spec.type);
      }
      return put_integer(meter(), static_cast<int64_t>(d), spec, piece);
    }
    put_integer(meter(), to_int(v), spec, piece);
  }
  static std::string printable_char(char c) { return std::string(1, c); }

  Interpreter& in_;
  const Text& format_;
  const std::string_view s_;
  const Value& values_;
  std::vector<Value> items_;
  size_t used_ = 0, at_ = 0;
  std::optional<Value> key_;
  Text out_;
};

}  // namespace

Value format_percent(Interpreter& in, const Text& format, const Value& values) {
  return Percent(in, format, values).run();
}

}  // namespace pith::jinja
