#include "tools/arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>

#include "core/error.h"
#include "core/file.h"
#include "core/nearest.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

using CLI::App;
using CLI::Option;

bool is_flag(const Option& o) { return o.get_expected_min() == 0; }
bool is_positional(const Option& o) { return !o.nonpositional(); }

// "--temp" for --temp,--temperature and "-x" where there is no long name.
std::string shown_name(const Option& o) {
  if (!o.get_lnames().empty()) return "--" + o.get_lnames().front();
  return o.get_snames().empty() ? o.get_name() : "-" + o.get_snames().front();
}

bool number(const std::string& text, double* value) {
  if (text.empty()) return false;
  char* end = nullptr;
  *value = std::strtod(text.c_str(), &end);
  return end == text.c_str() + text.size();
}

bool is_whole_type(const std::string& type) {
  return type.starts_with("INT") || type.starts_with("UINT");
}
bool is_number_type(const std::string& type) {
  return is_whole_type(type) || type.starts_with("FLOAT");
}

void each_command(App& app, const std::function<void(App&)>& visit) {
  visit(app);
  for (App* sub : app.get_subcommands([](App*) { return true; })) each_command(*sub, visit);
}

const App* subcommand(const App& app, const std::string& name) {
  for (const App* sub : app.get_subcommands([](const App*) { return true; })) {
    if (sub->get_name() == name) return sub;
  }
  return nullptr;
}

std::vector<std::string> subcommand_names(const App& app) {
  std::vector<std::string> names;
  for (const App* sub : app.get_subcommands([](const App*) { return true; }))
    names.push_back(sub->get_name());
  return names;
}

const Option* find_long(const App& command, const std::string& name) {
  for (const Option* o : command.get_options()) {
    if (o->check_lname(name)) return o;
  }
  return nullptr;
}
const Option* find_short(const App& command, char letter) {
  for (const Option* o : command.get_options()) {
    if (o->check_sname(std::string(1, letter))) return o;
  }
  return nullptr;
}

// Option names of other programs, and pith's names for them.
std::string known_elsewhere(const std::string& name) {
  static const std::map<std::string, std::string> names = {
      {"ngl", "gpu-layers"},
      {"n-gpu-layers", "gpu-layers"},
      {"sys", "system"},
      {"max-tokens", "n-predict"},
      {"predict", "n-predict"},
      {"max-new-tokens", "n-predict"},
      {"ctk", "kv"},
      {"ctv", "kv"},
      {"cache-type-k", "kv"},
      {"cache-type-v", "kv"},
      {"ctx", "ctx-size"},
      {"context", "ctx-size"},
      {"max-length", "ctx-size"},
      {"group", "group-size"},
      {"dataset", "calib"},
      {"calibration", "calib"},
      {"calib-data", "calib"},
      {"stop-sequence", "stop"},
      {"reverse-prompt", "stop"},
      {"bpw", "target-bpw"},
      {"size", "target-size"},
      {"tb", "threads"},
      {"bs", "batch"},
      {"num-samples", "nsamples"},
      {"input", "file"},
      {"rep-penalty", "repeat-penalty"},
      {"repetition-penalty", "repeat-penalty"}};
  const auto found = names.find(name);
  return found == names.end() ? "" : found->second;
}

std::string known_command(const std::string& name) {
  static const std::map<std::string, std::string> names = {
      {"compress", "quantize"}, {"convert", "quantize"}, {"pack", "quantize"},
      {"generate", "run"},      {"complete", "run"},     {"completion", "run"},
      {"cli", "run"},           {"perplexity", "eval"},  {"ppl", "eval"},
      {"info", "inspect"},      {"show", "inspect"},     {"benchmark", "bench"},
      {"check", "verify"},      {"interactive", "chat"}};
  const auto found = names.find(name);
  return found == names.end() ? "" : found->second;
}

[[noreturn]] void unknown_command(const App& app, const std::string& word) {
  const auto names = subcommand_names(app);
  if (file_exists(word)) {  // a model, of which a command is to be told
    fail(ErrorKind::kUsage, "no command \"{0}\"; did you mean {1} {2} {0}?\nCommands: {3}",
         one_line(word), command_name(app), app.get_parent() == nullptr ? "run" : names.front(),
         fmt::join(names, " "));
  }
  std::string meant = nearest(word, names);
  if (meant.empty()) meant = known_command(word);
  if (meant.empty() || subcommand(app, meant) == nullptr) meant.clear();
  fail(ErrorKind::kUsage, "no command \"{}\"{}\nCommands: {}", one_line(word),
       meant.empty() ? "" : fmt::format("; did you mean \"{}\"?", meant), fmt::join(names, " "));
}

[[noreturn]] void unknown_option(const App& command, const std::string& word) {
  std::string name = word.substr(word.starts_with("--") ? 2 : 1);
  name = name.substr(0, name.find('='));
  std::ranges::replace(name, '_', '-');
  if ((name == "m" || name == "model") && find_long(command, "tokenizer") != nullptr) {
    fail(ErrorKind::kUsage, "unknown option {}; the model is named without an option: {} MODEL",
         one_line(word), command_name(command));
  }
  const Option* meant = find_long(command, known_elsewhere(name));
  if (meant == nullptr) {
    std::vector<std::string> names;
    for (const Option* o : command.get_options())
      names.insert(names.end(), o->get_lnames().begin(), o->get_lnames().end());
    meant = find_long(command, nearest(name, names));
  }
  std::string elsewhere;
  if (meant == nullptr && command.get_parent() == nullptr) {
    elsewhere = "; options follow the command, as in: pith run MODEL " + one_line(word);
  }
  fail(ErrorKind::kUsage, "unknown option {}{}", one_line(word),
       meant != nullptr ? fmt::format("; did you mean {}?", shown_name(*meant)) : elsewhere);
}

void check_number(const Option& o, const std::string& name, const std::string& value) {
  const std::string type = o.get_type_name();
  if (!is_number_type(type)) return;
  double v = 0;
  const bool whole = is_whole_type(type);
  if (!number(value, &v) || !std::isfinite(v) || (whole && v != std::floor(v))) {
    fail(ErrorKind::kUsage, "{} {}: must be a {}number", name, one_line(value),
         whole ? "whole " : "");
  }
}

// Reads the words of one command line from left to right.
class Reader {
 public:
  Reader(const App& app, const std::vector<std::string>& arguments, Words* to)
      : arguments_(arguments), to_(to) {
    to_->command = &app;
  }

  void read() {
    bool only_values = false;
    while (at_ < arguments_.size()) {
      const std::string& word = arguments_[at_++];
      if (!only_values && word == "--") {
        only_values = true;
      } else if (!only_values && word.starts_with("--")) {
        read_long(word);
      } else if (!only_values && word.size() > 1 && word[0] == '-') {
        read_short(word);
      } else {
        read_plain(word);
      }
    }
    if (to_->help || to_->version) return;
    check_missing();
    for (const auto& value : values_) {
      if (value.starts_with("-")) {
        to_->words.push_back("--");
        break;
      }
    }
    to_->words.insert(to_->words.end(), values_.begin(), values_.end());
  }

 private:
  void read_long(const std::string& word) {
    const size_t equals = word.find('=');
    std::string name = word.substr(2, equals == std::string::npos ? equals : equals - 2);
    const Option* o = find_long(*to_->command, name);
    if (o == nullptr) {
      std::ranges::replace(name, '_', '-');
      o = find_long(*to_->command, name);
    }
    if (name == "version" && equals == std::string::npos) {
      to_->version = true;
      return;
    }
    if (o == nullptr) unknown_option(*to_->command, word);
    if (is_flag(*o)) {
      if (name == "help") to_->help = true;
      add(*o, "--" + name + (equals == std::string::npos ? "" : word.substr(equals)));
    } else {
      add(*o, "--" + name,
          equals == std::string::npos ? next_value(*o, "--" + name) : word.substr(equals + 1));
    }
  }

  void read_short(const std::string& word) {
    const std::string known = known_elsewhere(word.substr(1));
    if (to_->command->get_parent() == nullptr && (word == "-v" || word == "-V")) {
      to_->version = true;
      return;
    }
    if (word == "-sys" && find_long(*to_->command, known) != nullptr)
      return read_long("--" + known);
    if (word.size() > 2 && !known.empty()) unknown_option(*to_->command, word);
    for (size_t i = 1; i < word.size(); ++i) {
      const Option* o = find_short(*to_->command, word[i]);
      if (o == nullptr) unknown_option(*to_->command, word);
      const std::string name = {'-', word[i]};
      if (is_flag(*o)) {
        if (name == "-h") to_->help = true;
        add(*o, name);
        continue;
      }
      std::string value = word.substr(i + 1);
      if (value.empty()) return add(*o, name, next_value(*o, name));
      if (value[0] == '=') value.erase(0, 1);
      double unused = 0;
      if (is_number_type(o->get_type_name()) && !number(value, &unused))
        unknown_option(*to_->command, word);
      return add(*o, name, value);
    }
  }

  void read_plain(const std::string& word) {
    const auto names = subcommand_names(*to_->command);
    if (!names.empty()) {
      // As where a script's variable is not set.
      if (word.empty()) fail(ErrorKind::kUsage, "an argument is empty");
      const App* sub = subcommand(*to_->command, word);
      if (sub == nullptr) {
        if (to_->help) return;
        unknown_command(*to_->command, word);
      }
      to_->command = sub;
      to_->words.push_back(word);
      return;
    }
    int64_t most = 0;
    for (const Option* o : to_->command->get_options()) {
      if (is_positional(*o)) most += o->get_items_expected_max();
    }
    if (static_cast<int64_t>(values_.size()) >= most) {
      fail(ErrorKind::kUsage, "unexpected argument \"{}\"{}", one_line(word), meant_by(word));
    }
    values_.push_back(word);
  }

  // What an argument too many was probably meant to be: the text or prompt of the command, in
  // quotes as a shell wants them.
  std::string meant_by(const std::string& word) const {
    if (!repeated_.empty()) return fmt::format("; {0} takes one value: {0} A {0} B", repeated_);
    const auto given = [&](const char* name) {
      const Option* o = find_long(*to_->command, name);
      return o == nullptr || std::ranges::find(seen_, o) != seen_.end();
    };
    std::string option;
    if (!given("text"))
      option = "--text";
    else if (!given("prompt"))
      option = "-p";
    else if (to_->command->get_name() == "chat")
      return "; a conversation has its messages from standard input";
    if (option.empty()) return "";
    const std::string shown = one_line(word);
    return fmt::format("; did you mean {} {}?", option,
                       is_plain_word(word) && option != "-p" ? shown : "\"" + shown + "\"");
  }

  std::string next_value(const Option& o, const std::string& name) {
    if (at_ == arguments_.size())
      fail(ErrorKind::kUsage, "{} needs a value: {}", name, o.get_description());
    const std::string& word = arguments_[at_];
    const bool option =
        word.size() > 2 && word.starts_with("--")
            ? find_long(*to_->command, word.substr(2)) != nullptr
            : word.size() == 2 && word[0] == '-' && find_short(*to_->command, word[1]) != nullptr;
    if (option) {
      fail(ErrorKind::kUsage, "{0} needs a value, and {1} is an option ({0}={1} if it is meant)",
           name, word);
    }
    ++at_;
    return word;
  }

  void add(const Option& o, const std::string& name) {
    seen_.push_back(&o);
    to_->words.push_back(name);
  }
  void add(const Option& o, const std::string& name, const std::string& value) {
    check_number(o, name, value);
    // A text may be empty; a file or type of no name would be taken for none.
    if (value.empty() && !o.get_type_name().starts_with("TEXT"))
      fail(ErrorKind::kUsage, "{0} needs a value, and \"\" is none: leave {0} out instead", name);
    add(o, name);
    to_->words.push_back(value);
    if (o.check_lname("json")) to_->json = value;
    if (o.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll) repeated_ = name;
  }

  void check_missing() {
    const auto names = subcommand_names(*to_->command);
    if (!names.empty()) {
      fail(ErrorKind::kUsage, "a command is missing: {}\nTry: {} --help", fmt::join(names, " "),
           command_name(*to_->command));
    }
    size_t taken = 0;
    for (const Option* o : to_->command->get_options()) {
      if (is_positional(*o) && taken < values_.size() && values_[taken].empty() &&
          o->get_type_name() != "TEXT")
        fail(ErrorKind::kUsage, "{} is \"\": it needs a name", o->get_name());
      const bool given =
          is_positional(*o) ? taken++ < values_.size() : std::ranges::find(seen_, o) != seen_.end();
      if (o->get_required() && !given) {
        // Where models may be many, the text is easily taken for one of them.
        const bool text = o->check_lname("text") && values_.size() > 1 &&
                          file_exists(values_.back()) && !is_folder(values_.back());
        fail(ErrorKind::kUsage, "{} is missing; {}",
             is_positional(*o) ? o->get_name() : shown_name(*o),
             text ? fmt::format("did you mean --text {}?", one_line(values_.back()))
                  : command_name(*to_->command) + " --help says more");
      }
    }
  }

  const std::vector<std::string>& arguments_;
  Words* to_;
  size_t at_ = 0;
  std::vector<std::string> values_;  // without an option
  std::vector<const Option*> seen_;
  std::string repeated_;  // the last option that may be repeated
};

}  // namespace

void set_rules(App& app) {
  const CLI::Validator finite(
      [](std::string& text) {
        double v = 0;
        return number(text, &v) && std::isfinite(v) ? "" : text + ": must be a number";
      },
      "", "finite");
  each_command(app, [&](App& command) {
    for (Option* o : command.get_options([](Option*) { return true; })) {
      if (is_flag(*o)) continue;
      if (o->get_type_name().starts_with("FLOAT")) o->check(finite);
      if (is_positional(*o)) continue;
      const bool several = o->get_items_expected_max() > 1;
      o->expected(1)->allow_extra_args(false)->multi_option_policy(
          several ? CLI::MultiOptionPolicy::TakeAll : CLI::MultiOptionPolicy::TakeLast);
    }
  });
}

void read_words(const App& app, const std::vector<std::string>& arguments, Words* to) {
  Reader(app, arguments, to).read();
}

std::string command_name(const App& command) {
  if (command.get_parent() == nullptr) return "pith";
  return command_name(*command.get_parent()) + " " + command.get_name();
}

std::string plain_message(const std::string& message) {
  const size_t colon = message.find(": ");
  if (colon == std::string::npos || message.find(' ') < colon) return message;
  const std::string name = message.substr(0, colon), rest = message.substr(colon + 2);
  const size_t range = rest.find(" not in range "), member = rest.find(" not in {");
  if (rest.starts_with("Value ") && range != std::string::npos)
    return fmt::format("{} {}: must be {}", name, rest.substr(6, range - 6),
                       rest.substr(range + 14));
  if (member != std::string::npos && rest.ends_with("}")) {
    std::string choices = rest.substr(member + 9);
    choices.pop_back();
    for (size_t comma; (comma = choices.find(',')) != std::string::npos;)
      choices.replace(comma, 1, " or ");
    return fmt::format("{} {}: choose {}", name, rest.substr(0, member), choices);
  }
  return rest.find(": must") == std::string::npos ? message : name + " " + rest;
}

CLI::Validator in_range(double low, double high) {
  return {[low, high](std::string& text) {
            double v = 0;
            if (number(text, &v) && v >= low && v <= high) return std::string();
            return fmt::format("{}: must be {:.10g} to {:.10g}", text, low, high);
          },
          "", "range"};
}

}  // namespace pith::tools
