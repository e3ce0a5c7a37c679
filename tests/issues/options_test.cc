// Options that took more than their value, numbers that were none, words that were not understood.

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "core/json.h"
#include "tests/support/process.h"
#include "tools/arguments.h"
#include "tools/command.h"
#include "tools/help.h"
#include "tools/quantize_options.h"

namespace pith {
namespace {

using tools::Words;

void each_command(const CLI::App& app, const std::function<void(const CLI::App&)>& visit) {
  visit(app);
  for (const auto* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    each_command(*sub, visit);
}

std::vector<std::string> path_of(const CLI::App& command) {
  std::vector<std::string> path;
  for (const auto* at = &command; at->get_parent() != nullptr; at = at->get_parent())
    path.insert(path.begin(), at->get_name());
  return path;
}

class Options : public testing::Test {
 protected:
  Options() : app_("", "pith") { tools::add_commands(app_); }

  std::string error_of(const std::vector<std::string>& words) {
    Words read;
    try {
      tools::read_words(app_, words, &read);
    } catch (const Error& e) {
      return tools::command_name(*read.command) + ": " + e.what();
    }
    return "";
  }

  CLI::App app_;
};

// For all options of all commands.
TEST_F(Options, take_one_value_each) {
  int options = 0;
  each_command(app_, [&](const CLI::App& command) {
    for (const auto* o : command.get_options()) {
      if (o->get_expected_min() == 0 || !o->nonpositional()) continue;
      ++options;
      EXPECT_EQ(o->get_expected_min(), 1) << o->get_name();
      EXPECT_EQ(o->get_items_expected_max(), 1) << o->get_name();
      EXPECT_FALSE(o->get_allow_extra_args()) << o->get_name();
      EXPECT_NE(o->get_multi_option_policy(), CLI::MultiOptionPolicy::Throw) << o->get_name();
      // A word behind the value stays where it is: an argument of the command.
      std::vector<std::string> words = path_of(command);
      const std::string name =
          o->get_lnames().empty() ? "-" + o->get_snames().front() : "--" + o->get_lnames().front();
      words.insert(words.end(), {name, "1", "first", "second"});
      Words read;
      try {
        tools::read_words(app_, words, &read);
      } catch (const Error&) {
        continue;  // required ones are missing, or there are too many arguments
      }
      ASSERT_GE(read.words.size(), 4u) << name;
      EXPECT_EQ(read.words.back(), "second") << name;
    }
  });
  EXPECT_GT(options, 60);
}

TEST_F(Options, refuse_what_is_no_finite_number_wherever_a_number_is_wanted) {
  int numbers = 0;
  each_command(app_, [&](const CLI::App& command) {
    for (const auto* o : command.get_options()) {
      const std::string type = o->get_type_name();
      if (!type.starts_with("FLOAT") && !type.starts_with("INT") && !type.starts_with("UINT"))
        continue;
      ++numbers;
      for (const std::string value : {"nan", "NaN", "-nan", "nan(1)", "inf", "-inf", "Infinity",
                                      "1e999", "-1e999", "", "x"}) {
        std::vector<std::string> words = path_of(command);
        words.push_back("--" + o->get_lnames().front() + "=" + value);
        const std::string error = error_of(words);
        EXPECT_NE(error.find("must be a"), std::string::npos)
            << o->get_name() << " " << value << ": " << error;
      }
    }
  });
  EXPECT_GT(numbers, 25);
  EXPECT_FALSE(tools::in_range(0, 1)(*std::make_unique<std::string>("nan")).empty());
}

TEST_F(Options, of_one_value_may_be_repeated_and_the_last_counts) {
  const auto r = test::run_process({PITH_PROGRAM, "inspect", "/nonexistent", "--threads", "1", "-t",
                                    "2", "-q", "-q", "--json", "/none/a", "--json=-"});
  EXPECT_EQ(r.exit_code, 4) << r.err;
  EXPECT_EQ(parse_json(r.out, "output")["error"]["kind"], "io");
}

TEST_F(Options, that_are_not_known_name_what_was_meant) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"quantise"}, "pith: no command \"quantise\"; did you mean \"quantize\"?"},
      {{"generate"}, "pith: no command \"generate\"; did you mean \"run\"?"},
      {{"eval", "kld"}, "pith eval: no command \"kld\"; did you mean \"kl\"?"},
      {{"eval"}, "pith eval: a command is missing: ppl kl choice"},
      {{}, "pith: a command is missing: inspect quantize"},
      {{"run", "m", "-ngl", "99"}, "pith run: unknown option -ngl; did you mean --gpu-layers?"},
      {{"run", "m", "--temprature", "1"},
       "pith run: unknown option --temprature; did you mean --temp?"},
      {{"run", "m", "--max_new_tokens=3"}, "did you mean --n-predict?"},
      {{"run", "-m", "m"}, "pith run: unknown option -m; the model is named without an option"},
      {{"run", "m", "-nx"}, "pith run: unknown option -nx"},
      {{"run", "m", "-n", "x"}, "pith run: -n x: must be a whole number"},
      {{"run", "m", "-n", "1.5"}, "pith run: -n 1.5: must be a whole number"},
      {{"run", "m", "-n"}, "pith run: -n needs a value"},
      {{"run", "m", "-r", "--quiet"}, "-r needs a value, and --quiet is an option"},
      {{"run"}, "pith run: MODEL is missing"},
      {{"eval", "kl", "m", "-f", "t"}, "pith eval kl: --base is missing"},
      {{"run", "m", "again"},
       "pith run: unexpected argument \"again\"; did you mean -p \"again\"?"},
      {{"tokenize", "m", "a b"}, "did you mean -p \"a b\"?"},
      {{"eval", "ppl", "m", "t.txt"}, "\"t.txt\"; did you mean --text t.txt?"},
      {{"eval", "choice", "m", "t"}, "did you mean --text t?"},
      {{"eval", "kl", "m", "/proc/self/status", "--base", "b"},
       "--text is missing; did you mean --text /proc/self/status?"},
      {{"chat", "m", "hello"}, "messages from standard input"},
      {{"inspect", ""}, "MODEL is \"\""},
      {{"run", "m", "--prompts="}, "--prompts needs a value, and"},
      {{"run", "m", "-f", ""}, "-f needs a value, and"},
      {{"eval", "ppl", "m", "-f", "t", "--resume", ""}, "--resume needs a value, and"},
      {{"inspect", "m", "--json="}, "--json needs a value, and"},
      {{"inspect", "m", "n"}, "unexpected argument \"n\""},
      {{"/"}, "no command \"/\"; did you mean pith run /?"},
      {{"bench", "--synthetic"}, "--synthetic needs a value: a model of this shape"},
      {{"quantize", "m", "o", "w4", "--candidates", "w4", "w8"},
       "unexpected argument \"w8\"; --candidates takes one value"},
      {{"--threads", "4", "run", "m"},
       "pith: unknown option --threads; options follow the command"},
      {{"run", "m", "--\x1b[31m"}, "pith run: unknown option --\\x1b[31m"},
  };
  for (const auto& [words, text] : cases) {
    const std::string error = error_of(words);
    EXPECT_NE(error.find(text), std::string::npos) << error << "\n  should contain: " << text;
  }
}

TEST_F(Options, have_the_names_that_others_gave_them) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"run", "m", "--temperature", "0.5", "--top_k", "3", "--n_predict", "-1", "-sys", "x"},
           {"run", "m", "-n5", "-t2", "-qn", "5", "-r", "- x", "--stop=--quiet", "-p", "-"},
           {"chat", "m", "-sys", "You are brief.", "--repeat_penalty=1.1", "--seed", "-1"},
           {"quantize", "m", "o", "--output_tensor_type", "w8", "--", "w4"},
           {"run", "m", "--prompt="}}) {
    EXPECT_EQ(error_of(words), "") << words[2];
  }
}

TEST_F(Options, errors_of_values_say_what_is_allowed) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"run", "m", "--top-p", "2"}, "pith run: --top-p 2: must be above 0 and at most 1\n"},
      {{"run", "m", "--top-p", "0"}, "pith run: --top-p 0: must be above 0 and at most 1\n"},
      {{"run", "m", "--temp", "1e9"}, "pith run: --temp 1e9: must be 0 to 100\n"},
      {{"run", "m", "--seed", "-2"}, "--seed -2: must be a whole number, or -1"},
      {{"run", "m", "--seed", "99999999999999999999"}, "of at most 18446744073709551615"},
      {{"tokenize", "m", "-p", "a", "-f", "b"}, "--prompt and --file are both given"},
      {{"tokenize", "m", "-p", "a", "--ids", "--count"}, "--ids and --count are both given"},
      {{"eval", "ppl", "m", "-f", "t", "--max-windows", "nan"}, "must be a whole number"},
      {{"eval", "choice", "m", "-f", "t", "--shots", "1001"}, "--shots 1001: must be 0 to 1000\n"},
      {{"bench", "m", "--synthetic", "llama-1b"}, "both given"},
      {{"bench", "--synthetic", "lama-1b"}, "did you mean llama-1b?"},
      {{"bench", "--synthetic", "llama-1b", "--type", "w9"}, "no type \"w9\": there are 2, 3, 4"},
      {{"bench", "m", "--device", "tpu"}, "pith bench: --device tpu: choose cpu or cuda\n"},
      {{"bench", "m", "-p", "128,x"}, "--n-prompt 128,x: must be numbers"},
      {{"quantize", "m", "o", "--group-size", "48"},
       "--group-size 48: choose 16, 32, 64, 128 or row"},
      {{"quantize", "m", "o", "--damp-percent", "nan"}, "--damp-percent nan: must be a number"},
      {{"quantize", "m", "o", "--damp-percent", "11"}, "--damp-percent 11: must be 0 to 10"},
      {{"run", "HuggingFaceTB/SmolLM2-135M", "-p", "a"},
       "pith does not download; try: huggingface-cli download HuggingFaceTB/SmolLM2-135M"},
      {{"run", "none.pith", "-p", "a"}, "pith: none.pith: there is no such file or folder\n"},
  };
  for (const auto& [words, text] : cases) {
    std::vector<std::string> arguments = words;
    arguments.insert(arguments.begin(), PITH_PROGRAM);
    const auto r = test::run_process(arguments);
    if (text.find("group-size") != std::string::npos && r.exit_code == 4) continue;  // IN first
    EXPECT_NE(r.err.find(text), std::string::npos) << r.err << "\n  should contain: " << text;
    EXPECT_TRUE(r.exit_code == 2 || r.exit_code == 4) << r.exit_code;
  }
}

TEST_F(Options, an_error_is_also_in_the_json) {
  const auto r = test::run_process({PITH_PROGRAM, "run", "/none", "--top-p", "2", "--json", "-"});
  EXPECT_EQ(r.exit_code, 2);
  const Json j = parse_json(r.out, "output");
  EXPECT_EQ(j["error"]["kind"], "usage");
  EXPECT_EQ(j["error"]["exit_code"], 2);
  EXPECT_NE(j["error"]["message"].get<std::string>().find("--top-p 2"), std::string::npos);
  EXPECT_EQ(j["program"]["arguments"][0], "run");
  EXPECT_TRUE(j["program"].contains("version"));
  EXPECT_TRUE(j["program"].contains("schema"));
  EXPECT_EQ(j["program"]["time"].get<std::string>().size(), 20u);
  const auto unknown = test::run_process({PITH_PROGRAM, "rum", "--json=-"});
  EXPECT_EQ(parse_json(unknown.out, "output")["error"]["kind"], "usage");
}

TEST(Sizes, are_read_as_people_write_them) {
  const std::vector<std::pair<std::string, uint64_t>> cases = {
      {"400K", 400000},  {"400k", 400000},     {"400kB", 400000},      {"1T", 1000000000000},
      {"80M", 80000000}, {"1.5G", 1500000000}, {"1.5GiB", 1610612736}, {"512MiB", 536870912},
      {"123", 123},      {"123B", 123},        {"2 GB", 2000000000},   {"1Ki", 1024}};
  for (const auto& [text, bytes] : cases)
    EXPECT_EQ(tools::size_of("--memory", text), bytes) << text;
  for (const char* text : {"many", "400X", "-1", "nan", "inf", "1e30", "1.5.5M", "M", "0", "1MM"})
    EXPECT_THROW(tools::size_of("--memory", text), Error) << text;
}

// ---- Help ----

TEST_F(Options, help_fits_its_width_and_shows_every_option_with_its_default) {
  each_command(app_, [&](const CLI::App& command) {
    for (const int width : {40, 60, 80, 200}) {
      const std::string text = tools::help_text(command, width);
      EXPECT_EQ(text.find(tools::command_name(command)), 0u);
      std::istringstream lines(text);
      for (std::string line; std::getline(lines, line);) {
        EXPECT_TRUE(line.size() <= static_cast<size_t>(width) ||
                    line.find_last_of(' ') < 10 + line.find_first_not_of(' '))
            << width << ": " << line;
      }
    }
    const std::string text = tools::help_text(command, 100);
    for (const auto* o : command.get_options()) {
      if (o->check_lname("help") || o->check_lname("version")) continue;
      EXPECT_NE(text.find(o->get_lnames().empty() ? o->get_name() : "--" + o->get_lnames().front()),
                std::string::npos)
          << o->get_name();
    }
    // Every option stands in a named group.
    for (const auto* o : command.get_options()) {
      if (!o->nonpositional() || o->get_required() || o->check_lname("help") ||
          o->check_lname("version") || tools::command_name(command) == "pith compare") {
        continue;
      }
      EXPECT_NE(o->get_group(), "Options") << tools::command_name(command) << " " << o->get_name();
    }
    EXPECT_NE(text.find("Examples:\n"), std::string::npos) << tools::command_name(command);
  });
}

TEST_F(Options, help_is_had_in_every_usual_way) {
  const auto run = [](std::vector<std::string> words) {
    words.insert(words.begin(), PITH_PROGRAM);
    const auto r = test::run_process(words, {"COLUMNS=60"});
    EXPECT_EQ(r.exit_code, 0) << r.err;
    return r.out;
  };
  const std::string help = run({"eval", "kl", "--help"});
  EXPECT_EQ(help.find("pith eval kl: "), 0u) << help;
  EXPECT_LT(help.find("--base MODEL"), help.find("--max-windows"));
  EXPECT_EQ(run({"help", "eval", "kl"}), help);
  EXPECT_EQ(run({"eval", "kl", "-h"}), help);
  EXPECT_EQ(run({"eval", "kl", "model", "--help"}), help);
  EXPECT_EQ(run({"help"}), run({"--help"}));
  for (const char* text : {"Exit codes", "PITH_CPU", "quantize"})
    EXPECT_NE(run({"help"}).find(text), std::string::npos) << text;
  const std::string version = run({"--version"});
  EXPECT_EQ(version, run({"version"}));
  for (const char* text : {"pith 0.1.0 (commit ", "compiler", "instructions", "CUDA"})
    EXPECT_NE(version.find(text), std::string::npos) << version;
  const auto nonsense = test::run_process({PITH_PROGRAM, "help", "quantise"});
  EXPECT_EQ(nonsense.exit_code, 2);
  EXPECT_NE(nonsense.err.find("did you mean \"quantize\"?"), std::string::npos) << nonsense.err;
}

}  // namespace
}  // namespace pith
