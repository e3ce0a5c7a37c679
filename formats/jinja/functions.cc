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

std::string format_date(Meter& meter, std::string_view format, const std::tm& t);

// The text for %c, or for %-c where `plain`: without the zero in front.
std::string date_part(Meter& meter, char c, bool plain, const std::tm& t) {
  static constexpr const char* kMonths[] = {"January",   "February", "March",    "April",
                                            "May",       "June",     "July",     "August",
                                            "September", "October",  "November", "December"};
  static constexpr const char* kDays[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                          "Thursday", "Friday", "Saturday"};
  const std::string_view month = kMonths[t.tm_mon % 12], day = kDays[t.tm_wday % 7];
  const auto two = [&](int n) { return plain ? fmt::format("{}", n) : fmt::format("{:02}", n); };
  switch (c) {
    case 'Y':
      return fmt::format("{}", t.tm_year + 1900);
    case 'y':
      return two(t.tm_year % 100);
    case 'm':
      return two(t.tm_mon + 1);
    case 'd':
      return two(t.tm_mday);
    case 'H':
      return two(t.tm_hour);
    case 'I':
      return two(t.tm_hour % 12 == 0 ? 12 : t.tm_hour % 12);
    case 'M':
      return two(t.tm_min);
    case 'S':
      return two(t.tm_sec);
    case 'p':
      return t.tm_hour < 12 ? "AM" : "PM";
    case 'B':
      return std::string(month);
    case 'b':
      return std::string(month.substr(0, 3));
    case 'A':
      return std::string(day);
    case 'a':
      return std::string(day.substr(0, 3));
    case 'j':
      return plain ? fmt::format("{}", t.tm_yday + 1) : fmt::format("{:03}", t.tm_yday + 1);
    case 'e':
      return plain ? fmt::format("{}", t.tm_mday) : fmt::format("{:2}", t.tm_mday);
    case 'h':
      return std::string(month.substr(0, 3));
    case 'u':
      return fmt::format("{}", t.tm_wday == 0 ? 7 : t.tm_wday);
    case 'w':
      return fmt::format("{}", t.tm_wday);
    case 'n':
      return "\n";
    case 't':
      return "\t";
    case 'F':
      return format_date(meter, "%Y-%m-%d", t);
    case 'T':
    case 'X':
      return format_date(meter, "%H:%M:%S", t);
    case 'R':
      return format_date(meter, "%H:%M", t);
    case 'r':
      return format_date(meter, "%I:%M:%S %p", t);
    case 'D':
    case 'x':
      return format_date(meter, "%m/%d/%y", t);
    case 'c':
      return format_date(meter, "%a %b %e %H:%M:%S %Y", t);
    case 'C':
      return fmt::format("{:02}", (t.tm_year + 1900) / 100);
    case 'f':
      return "000000";
    case 's': {
      std::tm copy = t;
      return fmt::format("{}", std::mktime(&copy));
    }
    case 'k':
      return fmt::format("{:2}", t.tm_hour);
    case 'l':
      return fmt::format("{:2}", t.tm_hour % 12 == 0 ? 12 : t.tm_hour % 12);
    case 'P':
      return t.tm_hour < 12 ? "am" : "pm";
    case 'U':
      return two((t.tm_yday + 7 - t.tm_wday) / 7);
    case 'W':
      return two((t.tm_yday + 7 - (t.tm_wday + 6) % 7) / 7);
    case 'Z':  // Python's datetime.now() knows of no zone
    case 'z':
      return "";
    case '%':
      return "%";
    default:
      meter.unsupported("'%{}' in strftime_now()", c == '\0' ? ' ' : c);
  }
}

std::string format_date(Meter& meter, std::string_view format, const std::tm& t) {
  std::string result;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      result.push_back(format[i]);
      continue;
    }
    const bool plain = format.substr(i + 1, 1) == "-";
    if (plain) ++i;
    result += date_part(meter, ++i < format.size() ? format[i] : '\0', plain, t);
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
