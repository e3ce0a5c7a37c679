#include "formats/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/jinja/print.h"

namespace pith::jinja {
namespace {

int64_t floor_quotient(int64_t a, int64_t b) {
  const int64_t q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

int64_t floor_remainder(int64_t a, int64_t b) {
  const int64_t r = a % b;
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

[[noreturn]] void overflow(Meter& meter) { meter.corrupt("an integer of more than 64 bits"); }

Value integer_power(Meter& meter, int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) meter.corrupt("zero to a negative power");
    return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  }
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) overflow(meter);
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) overflow(meter);
  }
  return result;
}

Value integers(Meter& meter, std::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool too_large = false;
  if (op == "+") {
    too_large = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    too_large = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    too_large = __builtin_mul_overflow(a, b, &result);
  } else if (op == "**") {
    return integer_power(meter, a, b);
  } else {
    if (b == 0) meter.corrupt("division by zero");
    if (op == "/") return static_cast<double>(a) / static_cast<double>(b);
    if (b == -1) {  // the one quotient that overflows
      if (op == "%") return int64_t{0};
      too_large = __builtin_sub_overflow(int64_t{0}, a, &result);
    } else {
      result = op == "//" ? floor_quotient(a, b) : floor_remainder(a, b);
    }
  }
  if (too_large) overflow(meter);
  return result;
}

Value doubles(Meter& meter, std::string_view op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") {
    const double power = std::pow(a, b);
    if (!std::isfinite(power) && std::isfinite(a) && std::isfinite(b)) {
      meter.corrupt("a power that is no number");
    }
    return power;
  }
  if (b == 0.0) meter.corrupt("division by zero");
  if (op == "/") return a / b;
  if (op == "//") return std::floor(a / b);
  const double r = std::fmod(a, b);
  return r != 0.0 && (r < 0.0) != (b < 0.0) ? r + b : r;
}

// How often a sequence is to be repeated, so that no product of sizes overflows.
int64_t repeats(Meter& meter, const Value& count) {
  const int64_t n = std::max<int64_t>(to_int(count), 0);
  if (n > static_cast<int64_t>(kMaxText)) meter.corrupt("something repeated {} times", n);
  return n;
}

Value repeat(Meter& meter, const Value& v, const Value& count) {
  const int64_t n = repeats(meter, count);
  if (const Text* text = as_text(v)) {
    meter.make(text->size() * static_cast<uint64_t>(n));
    Text result;
    result.set_markup(text->markup());
    if (!text->empty()) {
      result.reserve(text->size() * static_cast<size_t>(n));
      for (int64_t i = 0; i < n; ++i) result.append(*text);
    }
    return make_text(meter, std::move(result));
  }
  const List& list = *std::get<ListPtr>(v);
  meter.step(list.items.size() * static_cast<uint64_t>(n));
  std::vector<Value> items;
  if (!list.items.empty()) {
    for (int64_t i = 0; i < n; ++i) items.insert(items.end(), list.items.begin(), list.items.end());
  }
  return make_list(meter, std::move(items), is_tuple(v) ? ListKind::kTuple : ListKind::kList);
}

bool is_list(const Value& v) {
  return is<ListPtr>(v) && std::get<ListPtr>(v)->kind == ListKind::kList;
}
bool is_sequence(const Value& v) { return as_text(v) != nullptr || is_list(v) || is_tuple(v); }

struct Span {
  int64_t from, to, step;
};

// Python's rules for the bounds of a slice over n elements.
Span resolve(Meter& meter, int64_t n, const Value& from, const Value& to, const Value& step) {
  const auto given = [&](const Value& v) {
    if (is_undefined(v) || is<None>(v)) return false;
    if (!is_integral(v)) meter.corrupt("a slice with a bound of the type {}", type_name(v));
    return true;
  };
  Span span{0, n, given(step) ? to_int(step) : 1};
  if (span.step == 0) meter.corrupt("a slice with a step of zero");
  const bool down = span.step < 0;
  const auto bound = [&](const Value& v, int64_t missing) {
    if (!given(v)) return missing;
    const int64_t b = to_int(v);
    if (b < 0) return b < -n ? (down ? -1 : int64_t{0}) : b + n;
    return std::min(b, down ? n - 1 : n);
  };
  span.from = bound(from, down ? n - 1 : 0);
  span.to = bound(to, down ? -1 : n);
  span.step = std::clamp<int64_t>(span.step, -n - 1, n + 1);
  return span;
}

template <class Visit>
void for_each_index(const Span& span, Visit visit) {
  for (int64_t i = span.from; span.step > 0 ? i < span.to : i > span.to; i += span.step) {
    visit(static_cast<size_t>(i));
  }
}

}  // namespace

Value negate(Meter& meter, const Value& v) {
  if (is_integral(v)) return integers(meter, "-", 0, to_int(v));
  if (const auto* d = std::get_if<double>(&v)) return -*d;
  meter.corrupt("a sign before a {}", type_name(v));
}

Value concatenate(Meter& meter, const Text& a, const Text& b) {
  meter.make(a.size() + b.size());
  Text result;
  result.set_markup(a.markup() || b.markup());
  result.reserve(a.size() + b.size());
  result.append(a);
  result.append(b);
  return std::make_shared<const Text>(std::move(result));
}

Value arithmetic(Meter& meter, std::string_view op, const Value& a, const Value& b) {
  if (op == "~") {
    const TextPtr left = to_text(meter, a), right = to_text(meter, b);
    meter.make(left->size() + right->size());
    Text result;
    result.reserve(left->size() + right->size());
    result.append(*left);
    result.append(*right);
    return std::make_shared<const Text>(std::move(result));
  }
  if (is_integral(a) && is_integral(b)) return integers(meter, op, to_int(a), to_int(b));
  if (is_number(a) && is_number(b)) return doubles(meter, op, to_double(a), to_double(b));
  if (op == "+" && as_text(a) != nullptr && as_text(b) != nullptr) {
    return concatenate(meter, *as_text(a), *as_text(b));
  }
  if (op == "+" && ((is_list(a) && is_list(b)) || (is_tuple(a) && is_tuple(b)))) {
    const List& right = *std::get<ListPtr>(b);
    std::vector<Value> items = elements(meter, a);
    items.insert(items.end(), right.items.begin(), right.items.end());
    return make_list(meter, std::move(items), is_tuple(a) ? ListKind::kTuple : ListKind::kList);
  }
  if (op == "*" && is_sequence(a) && is_integral(b)) return repeat(meter, a, b);
  if (op == "*" && is_integral(a) && is_sequence(b)) return repeat(meter, b, a);
  for (const Value* v : {&a, &b}) {
    const auto* undefined = std::get_if<Undefined>(v);
    if (undefined != nullptr && undefined->name != nullptr) {
      meter.corrupt("'{}' is undefined, in '{}'", *undefined->name, op);
    }
  }
  meter.corrupt("'{}' between {} and {}", op, type_name(a), type_name(b));
}

Value slice(Meter& meter, const Value& v, const Value& from, const Value& to, const Value& step) {
  if (const Text* text = as_text(v)) {
    meter.step(1 + text->size() / 16);
    const auto starts = char_starts(text->view());
    const Span span = resolve(meter, static_cast<int64_t>(starts.size()) - 1, from, to, step);
    if (span.step == 1) {
      return make_text(meter, span.from < span.to
                                  ? text->slice(starts[static_cast<size_t>(span.from)],
                                                starts[static_cast<size_t>(span.to)])
                                  : Text());
    }
    Text result;
    result.set_markup(text->markup());
    for_each_index(span,
                   [&](size_t i) { result.append(*text, starts[i], starts[i + 1] - starts[i]); });
    return make_text(meter, std::move(result));
  }
  if (is_indexed(v)) {
    const List& list = *std::get<ListPtr>(v);
    const Span span = resolve(meter, static_cast<int64_t>(list.items.size()), from, to, step);
    std::vector<Value> result;
    meter.step(list.items.size());
    for_each_index(span, [&](size_t i) { result.push_back(list.items[i]); });
    if (list.kind != ListKind::kRange) {
      return make_list(meter, std::move(result), is_tuple(v) ? ListKind::kTuple : ListKind::kList);
    }
    // The bounds are only printed; what does not fit wraps around.
    const auto bound = [&](int64_t i) {
      return static_cast<int64_t>(static_cast<uint64_t>(list.bounds[0]) +
                                  static_cast<uint64_t>(i) * static_cast<uint64_t>(list.bounds[2]));
    };
    auto range = std::make_shared<List>();
    range->items = std::move(result);
    range->kind = ListKind::kRange;
    range->bounds = {bound(span.from), bound(span.to),
                     static_cast<int64_t>(static_cast<uint64_t>(list.bounds[2]) *
                                          static_cast<uint64_t>(span.step))};
    return ListPtr(std::move(range));
  }
  meter.corrupt("a slice of a {}", type_name(v));
}

}  // namespace pith::jinja
