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
  int64_t bounds[3] = {0, 0, 1};
  if (args.positional.empty()) in.meter().corrupt("range() without arguments");
  for (size_t i = 0; i < args.positional.size(); ++i) {
    if (!is_integral(args.positional[i])) {
      in.meter().corrupt("range() of a {}", type_name(args.positional[i]));
    }
    bounds[i] = to_int(args.positional[i]);
  }
  if (args.positional.size() == 1) bounds[1] = std::exchange(bounds[0], 0);
  return make_range(in.meter(), bounds[0], bounds[1], bounds[2]);
}

// The pairs of a dict, or of an iterable of pairs.
std::vector<std::pair<Value, Value>> entries_of(Interpreter& in, const Value& v) {
  std::vector<std::pair<Value, Value>> entries;
  if (const auto* dict = std::get_if<DictPtr>(&v)) {
    in.meter().step((*dict)->entries.size());
    return (*dict)->entries;
  }
  for (const Value& pair : elements(in.meter(), v)) {
    std::vector<Value> two = elements(in.meter(), pair);
    if (two.size() != 2) in.meter().corrupt("a dict of something that is no pair");
    entries.emplace_back(std::move(two[0]), std::move(two[1]));
  }
  return entries;
}

Value new_namespace(Interpreter& in, const Value&, Args args) {
  Namespace result;
  if (args.positional.size() > 1) in.meter().corrupt("namespace() takes one argument");
  const auto set = [&](const std::string& name, Value value) {
    if (name.starts_with('_')) {
      in.meter().corrupt("the name '{}' of a member of a namespace", name);
    }
    result.members[name] = std::move(value);
  };
  if (!args.positional.empty()) {
    for (auto& [key, value] : entries_of(in, args.positional[0])) {
      set(std::string(to_text(in.meter(), key)->view()), std::move(value));
    }
  }
  for (const auto& [name, value] : args.named) set(name, value);
  return in.make_namespace(std::move(result));
}

Value new_dict(Interpreter& in, const Value&, Args args) {
  std::vector<std::pair<Value, Value>> entries;
  if (args.positional.size() > 1) in.meter().corrupt("dict() takes one argument");
  if (!args.positional.empty()) entries = entries_of(in, args.positional[0]);
  for (const auto& [name, value] : args.named)
    entries.emplace_back(make_text(in.meter(), name), value);
  return make_dict(in.meter(), std::move(entries));
}

Value new_cycler(Interpreter& in, const Value&, Args args) {
  if (args.positional.empty()) in.meter().corrupt("cycler() of nothing");
  return in.make_cycler({args.positional, 0, false});
}

Value new_joiner(Interpreter& in, const Value&, Args args) {
  const Value separator =
      args.has(0, "sep") ? args.get(0, "sep") : make_text(in.meter(), std::string_view(", "));
  return in.make_cycler({{separator}, 0, true});
}

Value lipsum(Interpreter& in, const Value&, Args) {
  in.meter().unsupported("the function 'lipsum': a prompt should be the same each time");
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
      case 'j':
        result += plain ? fmt::format("{}", t.tm_yday + 1) : fmt::format("{:03}", t.tm_yday + 1);
        break;
      case 'e':
        result += plain ? fmt::format("{}", t.tm_mday) : fmt::format("{:2}", t.tm_mday);
        break;
      case 'h':
        result += month.substr(0, 3);
        break;
      case 'u':
        result += fmt::format("{}", t.tm_wday == 0 ? 7 : t.tm_wday);
        break;
      case 'w':
        result += fmt::format("{}", t.tm_wday);
        break;
      case 'n':
        result += '\n';
        break;
      case 't':
        result += '\t';
        break;
      case 'F':
        result += format_date(meter, "%Y-%m-%d", t);
        break;
      case 'T':
      case 'X':
        result += format_date(meter, "%H:%M:%S", t);
        break;
      case 'R':
        result += format_date(meter, "%H:%M", t);
        break;
      case 'r':
        result += format_date(meter, "%I:%M:%S %p", t);
        break;
      case 'D':
      case 'x':
        result += format_date(meter, "%m/%d/%y", t);
        break;
      case 'c':
        result += format_date(meter, "%a %b %e %H:%M:%S %Y", t);
        break;
      case 'C':
        result += fmt::format("{:02}", (t.tm_year + 1900) / 100);
        break;
      case 'f':
        result += "000000";
        break;
      case 's': {
        std::tm copy = t;
        result += fmt::format("{}", std::mktime(&copy));
        break;
      }
      case 'k':
        result += fmt::format("{:2}", t.tm_hour);
        break;
      case 'l':
        result += fmt::format("{:2}", t.tm_hour % 12 == 0 ? 12 : t.tm_hour % 12);
        break;
      case 'P':
        result += t.tm_hour < 12 ? "am" : "pm";
        break;
      case 'U':
        result += two((t.tm_yday + 7 - t.tm_wday) / 7);
        break;
      case 'W':
        result += two((t.tm_yday + 7 - (t.tm_wday + 6) % 7) / 7);
        break;
      case 'Z':  // Python's datetime.now() knows of no zone
      case 'z':
        break;
      case '%':
        result += '%';
        break;
      default:
        meter.unsupported("'%{}' in strftime_now()", c == '\0' ? ' ' : c);
    }
  }
  return result;
}

Value strftime_now(Interpreter& in, const Value&, Args args) {
  if (!is_undefined(in.date())) return in.date();
  const Text& format = in.text_argument(args.get(0, "format"), "the format of a date");
  const std::time_t now = std::time(nullptr);
  std::tm fields{};
  if (localtime_r(&now, &fields) == nullptr) in.meter().corrupt("no date");
  in.meter().make(format.size() * 12);  // the longest, per byte: "%c"
  return make_text(in.meter(), format_date(in.meter(), format.view(), fields),
                   format.safe_origin());
}

Value raise_exception(Interpreter& in, const Value&, Args args) {
  const TextPtr message = to_text(in.meter(), args.get(0, "message"));
  in.meter().corrupt("{}", message->slice(0, 1000).view());
}

}  // namespace

const BuiltinFilter* find_function(std::string_view name) {
  static const std::unordered_map<std::string_view, BuiltinFilter> kTable = {
      {"range", {range, "/ start stop step"}},
      {"cycler", {new_cycler, "*"}},
      {"joiner", {new_joiner, "sep"}},
      {"lipsum", {lipsum, "*"}},
      {"namespace", {new_namespace, "*"}},
      {"dict", {new_dict, "*"}},
      {"strftime_now", {strftime_now, "format"}},
      {"raise_exception", {raise_exception, "message"}}};
  const auto it = kTable.find(name);
  return it == kTable.end() ? nullptr : &it->second;
}

}  // namespace pith::jinja
