// The functions.

#include <ctime>
#include <unordered_map>
#include <utility>

#include "formats/jinja/builtins.h"
#include "formats/jinja/print.h"

namespace pith::jinja {
namespace {

using Args = const ArgumentValues&;

Value range(Interpreter& in, const Value&, Args args) {
  Meter& meter = in.meter();
  int64_t from = in.integer_or(args.get(0, "start"), 0, "the start of a range"), to = 0;
  const int64_t step = in.integer_or(args.get(2, "step"), 1, "the step of a range");
  if (args.positional.empty()) meter.corrupt("range() without arguments");
  if (args.positional.size() == 1) {
    to = std::exchange(from, 0);
  } else {
    to = in.integer_or(args.get(1, "stop"), 0, "the end of a range");
  }
  if (step == 0) meter.corrupt("range() with a step of zero");
  std::vector<Value> items;
  for (int64_t i = from; step > 0 ? i < to : i > to;) {
    if (static_cast<int64_t>(items.size()) == kMaxRange)
      meter.corrupt("range() of more than {}", kMaxRange);
    meter.step();
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return make_list(meter, std::move(items));
}

Value new_namespace(Interpreter& in, const Value&, Args args) {
  Namespace result;
  if (args.positional.size() > 1) in.meter().corrupt("namespace() takes one argument");
  if (!args.positional.empty()) {
    const auto* dict = std::get_if<DictPtr>(&args.positional[0]);
    if (dict == nullptr) in.meter().corrupt("namespace() of a {}", type_name(args.positional[0]));
    in.meter().step((*dict)->entries.size());
    for (const auto& [key, value] : (*dict)->entries) {
      result.members[std::string(to_text(in.meter(), key)->view())] = value;
    }
  }
  for (const auto& [name, value] : args.named) result.members[name] = value;
  return in.make_namespace(std::move(result));
}

Value new_dict(Interpreter& in, const Value&, Args args) {
  std::vector<std::pair<Value, Value>> entries;
  if (args.positional.size() > 1) in.meter().corrupt("dict() takes one argument");
  if (!args.positional.empty()) {
    const auto* dict = std::get_if<DictPtr>(&args.positional[0]);
    if (dict == nullptr) in.meter().unsupported("dict() of a {}", type_name(args.positional[0]));
    in.meter().step((*dict)->entries.size());
    entries = (*dict)->entries;
  }
  for (const auto& [name, value] : args.named)
    entries.emplace_back(make_text(in.meter(), name), value);
  return make_dict(in.meter(), std::move(entries));
}

std::string format_date(Meter& meter, std::string_view format, const std::tm& t) {
  static constexpr const char* kMonths[] = {"January",   "February", "March",    "April",
                                            "May",       "June",     "July",     "August",
                                            "September", "October",  "November", "December"};
  static constexpr const char* kDays[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                          "Thursday", "Friday", "Saturday"};
  const std::string_view month = kMonths[t.tm_mon % 12], day = kDays[t.tm_wday % 7];
  std::string result;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      result.push_back(format[i]);
      continue;
    }
    const bool plain = format.substr(i + 1, 1) == "-";  // %-d: without the zero in front
    if (plain) ++i;
    const char c = ++i < format.size() ? format[i] : '\0';
    const auto two = [&](int n) { return plain ? fmt::format("{}", n) : fmt::format("{:02}", n); };
    switch (c) {
      case 'Y':
        result += fmt::format("{}", t.tm_year + 1900);
        break;
      case 'y':
        result += two(t.tm_year % 100);
        break;
      case 'm':
        result += two(t.tm_mon + 1);
        break;
      case 'd':
        result += two(t.tm_mday);
        break;
      case 'H':
        result += two(t.tm_hour);
        break;
      case 'I':
        result += two(t.tm_hour % 12 == 0 ? 12 : t.tm_hour % 12);
        break;
      case 'M':
        result += two(t.tm_min);
        break;
      case 'S':
        result += two(t.tm_sec);
        break;
      case 'p':
        result += t.tm_hour < 12 ? "AM" : "PM";
        break;
      case 'B':
        result += month;
        break;
      case 'b':
        result += month.substr(0, 3);
        break;
      case 'A':
        result += day;
        break;
      case 'a':
        result += day.substr(0, 3);
        break;
      case 'Z':
        result += "UTC";
        break;
      case '%':
        result += '%';
        break;
      default:
        meter.unsupported("'%{}' in strftime_now()", c);
    }
  }
  return result;
}

Value strftime_now(Interpreter& in, const Value&, Args args) {
  if (!is_undefined(in.date())) return in.date();
  const Text& format = in.text_argument(args.get(0, "format"), "the format of a date");
  const std::time_t now = std::time(nullptr);
  std::tm fields{};
  if (gmtime_r(&now, &fields) == nullptr) in.meter().corrupt("no date");
  in.meter().make(format.size() * 5);  // the longest, per byte: "%B" in September
  return make_text(in.meter(), format_date(in.meter(), format.view(), fields),
                   format.safe_origin());
}

Value raise_exception(Interpreter& in, const Value&, Args args) {
  const TextPtr message = to_text(in.meter(), args.get(0, "message"));
  in.meter().corrupt("{}", message->view().substr(0, 1000));
}

}  // namespace

const BuiltinFilter* find_function(std::string_view name) {
  static const std::unordered_map<std::string_view, BuiltinFilter> kTable = {
      {"range", {range, "start stop step"}},
      {"namespace", {new_namespace, "*"}},
      {"dict", {new_dict, "*"}},
      {"strftime_now", {strftime_now, "format"}},
      {"raise_exception", {raise_exception, "message"}}};
  const auto it = kTable.find(name);
  return it == kTable.end() ? nullptr : &it->second;
}

}  // namespace pith::jinja
