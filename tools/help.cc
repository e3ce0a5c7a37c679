#include "tools/help.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

#include "core/error.h"
#include "runtime/backends.h"
#include "runtime/cpu/kernels.h"
#include "tools/arguments.h"

namespace pith::tools {
namespace {

constexpr const char* kLastGroup = "General";

constexpr const char* kAboutPith =
    "Exit codes:\n"
    "  0    done\n"
    "  1    a bug in pith\n"
    "  2    wrong usage, or a size or KL divergence that these types cannot reach\n"
    "  3    an input is corrupt or of a kind that is not supported\n"
    "  4    input or output failed, or the disk is full\n"
    "  5    numbers that are not finite, or a result that failed its check\n"
    "  6    out of memory\n"
    "  7    busy: another process writes there\n"
    "  8    unavailable: no such device or driver here\n"
    "  9    a device failed: CUDA reports an error other than a lack of memory\n"
    "  130  interrupted by Ctrl-C (129: SIGHUP, 143: SIGTERM)\n"
    "  141  nobody reads the output any more\n"
    "\n"
    "Environment:\n"
    "  PITH_CPU        instruction level: scalar, avx2, avxvnni, avx512, amx (default: the best)\n"
    "  NO_COLOR        no colours\n"
    "  COLUMNS         width of help where no terminal reads it\n"
    "  XDG_STATE_HOME  where chat keeps its history (default: ~/.local/state)\n"
    "\n"
    "More: README.md and docs/ of the sources.\n";

struct Example {
  const char *command, *lines;
};
constexpr Example kExamples[] = {
    {"pith",
     "pith quantize SmolLM2-135M-Instruct small.pith w4\n"
     "pith eval kl small.pith --base SmolLM2-135M-Instruct --text wiki.txt\n"
     "pith chat small.pith\n"},
    {"pith inspect", "pith inspect model.pith --tensors\n"},
    {"pith quantize",
     "pith quantize SmolLM2-135M-Instruct small.pith w4\n"
     "pith quantize SmolLM2-135M-Instruct small.pith w4 --method gptq --calib text.txt\n"
     "pith quantize SmolLM2-135M-Instruct small.pith --target-size 80M --dry-run\n"},
    {"pith prune",
     "pith prune SmolLM2-135M-Instruct half.pith --method wanda --sparsity 0.5\n"
     "pith prune SmolLM2-135M-Instruct sparse.pith --pattern 2:4 --as sparse\n"},
    {"pith factorize",
     "pith factorize SmolLM2-135M-Instruct thin.pith --method svd-llm --keep-params 0.8\n"},
    {"pith compress",
     "pith compress SmolLM2-135M-Instruct small.pith --recipe recipe.yaml\n"
     "pith inspect small.pith --recipe | pith compress SmolLM2-135M-Instruct again.pith --recipe "
     "-\n"},
    {"pith eval",
     "pith eval ppl small.pith --text wiki.txt\n"
     "pith eval kl small.pith --base SmolLM2-135M-Instruct --text wiki.txt\n"},
    {"pith eval ppl", "pith eval ppl small.pith --text wiki.txt --json ppl.json\n"},
    {"pith eval kl", "pith eval kl small.pith --base SmolLM2-135M-Instruct --text wiki.txt\n"},
    {"pith eval choice", "pith eval choice small.pith --text tasks.jsonl\n"},
    {"pith compare",
     "pith compare SmolLM2-135M-Instruct --types w8,w4,w3 --text wiki.txt\n"
     "pith compare SmolLM2-135M-Instruct a.pith b.gguf --text wiki.txt --output table.html\n"},
    {"pith tokenize",
     "pith tokenize small.pith -p \"Once upon a time\"\n"
     "pith tokenize small.pith -f book.txt --count\n"},
    {"pith run",
     "pith run small.pith -p \"Once upon a time\" -n 100\n"
     "echo \"What is the capital of France?\" | pith run small.pith --chat\n"
     "pith run small.pith --chat --prompts questions.txt > answers.jsonl\n"},
    {"pith chat",
     "pith chat small.pith --system \"You answer in one sentence.\"\n"
     "pith chat small.pith --temp 0 --seed 1\n"},
    {"pith bench",
     "pith bench small.pith -p 128,512 -n 64\n"
     "pith bench --synthetic llama-1b --type w4\n"},
    {"pith verify", "pith verify small.pith\n"},
    {"pith devices", "pith devices --json -\n"},
};

std::string type_of(const CLI::Option& o) {
  if (o.get_expected_min() == 0) return "";
  std::string type = o.get_type_name();
  type.resize(std::min(type.size(), type.find(':')));
  if (type == "INT" || type == "UINT") return "N";
  return type == "FLOAT" ? "X" : type;
}

// "-n, --n-predict, --max-tokens N"
std::string names_of(const CLI::Option& o) {
  if (!o.nonpositional()) return o.get_name();
  std::string names;
  for (const auto& s : o.get_snames()) names += (names.empty() ? "-" : ", -") + s;
  for (const auto& l : o.get_lnames()) names += (names.empty() ? "--" : ", --") + l;
  const std::string type = type_of(o);
  return type.empty() ? names : names + " " + type;
}

std::string description_of(const CLI::Option& o) {
  std::string text = o.get_description();
  const std::string value = o.get_default_str();
  const bool empty = value.empty() || value == "[]" || value == "{}" || value == "\"\"";
  if (o.get_expected_min() > 0 && !empty && !o.get_required() &&
      text.find("default") == std::string::npos) {
    text += fmt::format(" (default: {})", value);
  }
  if (o.get_expected_min() > 0 && o.nonpositional() &&
      o.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll &&
      text.find("repeat") == std::string::npos) {
    text += "; can be repeated";
  }
  return text;
}

std::string entry(const std::string& names, const std::string& text, size_t width) {
  const size_t column = width >= 72 ? 28 : 8;
  std::string line = "  " + names;
  if (line.size() + 2 > column) {
    line = wrapped(line, 6, width) + "\n" + std::string(column, ' ');
  } else {
    line.resize(column, ' ');
  }
  // The text begins in its column: wrapped as if blanks stood before it.
  std::string body = wrapped(std::string(column, ' ') + text, column, width);
  return line + body.substr(column) + "\n";
}

// The lines of a footer, of which only those that are too long are wrapped.
std::string footer_lines(const std::string& text, size_t width) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    // Lines after the first stand under the second word of an entry: "  w4    4-bit ..."
    const size_t name = line.find_first_not_of(' ');
    const size_t gap = name == std::string::npos ? name : line.find("  ", name);
    const size_t second = gap == std::string::npos ? gap : line.find_first_not_of(' ', gap);
    const size_t indent = second != std::string::npos && second < width / 2 ? second
                          : name == std::string::npos                       ? 0
                                                                            : name + 2;
    out += wrapped(line, indent, width) + "\n";
    at = end + 1;
  }
  return out;
}

}  // namespace

std::string wrapped(const std::string& text, size_t indent, size_t width) {
  std::string out, line;
  bool begun = false;
  for (size_t at = 0; at < text.size();) {
    // A word with the blanks before it, so that the columns of a line stay.
    const size_t word = std::min(text.find_first_not_of(' ', at), text.size());
    const size_t end = std::min(text.find(' ', word), text.size());
    if (begun && line.size() + (end - at) > width && line.size() > indent) {
      out += line + "\n";
      line = std::string(indent, ' ') + text.substr(word, end - word);
    } else {
      line += text.substr(at, end - at);
    }
    begun = begun || word < text.size();
    at = end;
  }
  return out + line;
}

std::string help_text(const CLI::App& command, int columns) {
  const auto width = static_cast<size_t>(std::clamp(columns, 30, 100));
  const std::string name = command_name(command);
  const auto subcommands = command.get_subcommands([](const CLI::App*) { return true; });
  std::string out = wrapped(name + ": " + command.get_description(), 2, width) + "\n\n";
  std::string usage = "Usage: " + name, arguments;
  std::vector<std::string> groups;
  std::map<std::string, std::string> entries;
  for (const auto* o : command.get_options()) {
    if (o->check_lname("help") || o->check_lname("version") || o->get_group().empty()) continue;
    const std::string text = entry(names_of(*o), description_of(*o), width);
    const bool positional = !o->nonpositional();
    if (positional || o->get_required()) {
      std::string word = o->get_name();
      if (!positional) {
        word = o->get_lnames().empty() ? "-" + o->get_snames().front()
                                       : "--" + o->get_lnames().front();
        word += " " + type_of(*o);
      } else if (o->get_items_expected_max() > 1) {
        word += "...";
      }
      usage += o->get_required() ? " " + word : " [" + word + "]";
      arguments += text;
    } else {
      if (!entries.contains(o->get_group())) groups.push_back(o->get_group());
      entries[o->get_group()] += text;
    }
  }
  std::stable_partition(groups.begin(), groups.end(),
                        [](const std::string& g) { return g != kLastGroup; });
  out += wrapped(usage + (subcommands.empty() ? " [options]" : " COMMAND [options]"), 7, width);
  out += "\n";
  if (!arguments.empty()) out += "\nArguments:\n" + arguments;
  for (const auto& group : groups) out += "\n" + group + ":\n" + entries[group];
  if (subcommands.empty()) {
    out +=
        (groups.empty() || groups.back() != kLastGroup ? fmt::format("\n{}:\n", kLastGroup) : "") +
        entry("-h, --help", "this text", width);
  } else {
    out += "\nCommands:\n";
    for (const auto* sub : subcommands)
      out += entry(sub->get_name(), sub->get_description(), width);
    out += wrapped("\n" + name + " COMMAND --help says more of a command.", 0, width) + "\n";
  }
  for (const auto& example : kExamples) {
    if (name == example.command) {
      out += "\nExamples:\n";
      std::string lines = example.lines;
      for (size_t at = 0; at < lines.size();) {
        const size_t end = lines.find('\n', at);
        out += wrapped("  " + lines.substr(at, end - at), 6, width) + "\n";
        at = end + 1;
      }
    }
  }
  if (!command.get_footer().empty()) out += "\n" + footer_lines(command.get_footer(), width);
  if (command.get_parent() == nullptr) out += "\n" + footer_lines(kAboutPith, width);
  return out;
}

std::string version_text() {
#if defined(__clang__)
  const std::string compiler = "clang " __clang_version__;
#else
  const std::string compiler = "g++ " __VERSION__;
#endif
  std::string level;
  try {
    level = cpu_kernels().name;
  } catch (const Error& e) {
    level = e.what();
  }
  const DeviceList list = list_devices();
  std::string cuda = list.cuda_note;
  for (const auto& d : list.devices) {
    if (d.backend == "cuda") cuda += (cuda.empty() ? "" : ", ") + d.name;
  }
  return fmt::format("pith {} (commit {})\ncompiler      {}\ninstructions  {}\nCUDA          {}\n",
                     kVersion, kCommit, compiler, level, cuda);
}

}  // namespace pith::tools
