// Compresses a model by a recipe: any sequence of methods in one pass over its blocks; and commands of
// one step.

#include <fmt/format.h>

#include <map>

#include "core/error.h"
#include "formats/text_input.h"
#include "runtime/backends.h"
#include "runtime/compress/fingerprint.h"
#include "tools/compress_work.h"
#include "tools/interrupt.h"
#include "tools/recipe.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

struct RecipeCommand : CompressCommand {
  std::string recipe;
};

// Takes from the recipe what the command line leaves open.
void fill_in(const Recipe& recipe, const CLI::App& command, CompressCommand* o) {
  const auto given = [&](const char* option) { return command.count(option) > 0; };
  if (recipe.has_calibration && !given("--calib")) {
    for (const auto& t : recipe.texts) {
      // A file of such a name is one in this folder.
      const bool is_file = t.input.kind == CalibrationInput::Kind::kFile;
      const bool reserved = calibration_input(t.input.name).kind != CalibrationInput::Kind::kFile ||
                            t.input.name == "none";
      o->calibration.push_back(
          fmt::format("{}{}={}", is_file && reserved ? "./" : "", t.input.name, t.input.weight));
    }
    if (recipe.texts.empty()) o->calibration = {"none"};
  }
  if (recipe.windows && !given("--nsamples")) o->nsamples = *recipe.windows;
  if (recipe.tokens && !given("--seqlen")) o->seqlen = *recipe.tokens;
  if (recipe.seed && !given("--seed")) o->seed = *recipe.seed;
  if (!recipe.device.empty() && !given("--device")) o->device = recipe.device;
  o->no_sequential |= !recipe.sequential;
  o->no_propagate |= !recipe.propagate;
}

// A recipe that a file carries names its texts by their hashes.
void require_texts(const Recipe& recipe, const CompressOptions& options) {
  for (const auto& t : recipe.texts) {
    if (t.hash.empty() || t.input.kind != CalibrationInput::Kind::kFile) continue;
    const std::string name = t.input.name.substr(t.input.name.rfind('/') + 1);
    for (const auto& s : options.sources) {
      if (s.name != name || text_hash_of_recipe(s.hash) == "hash: " + t.hash) continue;
      fail(ErrorKind::kUsage,
           "{} is another text than the recipe was made with ({}, and {} was expected): without "
           "that hash any text is taken",
           one_line(t.input.name), text_hash_of_recipe(s.hash), t.hash);
    }
  }
}

void compress_by(Recipe recipe, const CLI::App& command, CompressCommand& o,
                 std::chrono::steady_clock::time_point begin) {
  fill_in(recipe, command, &o);
  check_outputs(o);
  o.seed = seed_of(o);
  for (const size_t i : recipe.seeded_by_recipe)
    std::get<RotateOptions>(recipe.steps[i]).seed = o.seed;
  const auto stored = open_model_for(o);
  o.standard_text = default_sources(*stored);
  std::vector<std::unique_ptr<ModelSource>> between;
  const ModelSource& source = source_for(recipe, *stored, &between);
  require_other_output(o, source);
  const Passes passes = passes_for(recipe);
  const CalibrationInputs calibration = calibration_of(o, text_needed_by(passes));
  const auto tokenizer = tokenizer_for(source, has_files(calibration));

  const auto executor = make_executor(o.executor());
  Prepared p{.options = options_of(o, executor.get())};
  TerminalProgress progress(o.quiet);
  Job job{.o = o, .source = source, .progress = progress, .begin = begin};
  prepare_text(job, calibration, tokenizer.get(), &p);
  require_texts(recipe, p.options);
  job.title = title_of(recipe);
  job.about = {{"recipe", recipe_of(source, passes, p.options)}};
  job.work = work_of(recipe);

  const CompressPlan plan = plan_compression(source, passes, p.options);
  check_compression(source, passes, p.options, plan);
  check_memory(job.peaks, peak_of(plan, job.peaks));
  if (o.dry_run) return show_plan(job, plan);
  work_on(job, passes, plan, true, {}, false, p,
          [&] { return compress_once(job, passes, p.options, true); });
}

void compress_by_file(RecipeCommand& o, const CLI::App& command) {
  const auto begin = std::chrono::steady_clock::now();
  o.apply();
  if (same_file(o.recipe, o.output))
    fail(ErrorKind::kUsage, "{}: the output is the recipe", one_line(o.output));
  const Recipe recipe =
      parse_recipe(read_text_input(o.recipe, kMaxYamlBytes, interrupt()), one_line(o.recipe));
  compress_by(recipe, command, o, begin);
}

// A command of one step, with an option for each of its settings.
struct StepCommand : CompressCommand {
  std::map<std::string, std::vector<std::string>> values;  // by key, as given
};

YamlNode scalar(std::string text) {
  YamlNode node;
  node.text = std::move(text);
  node.quoted = true;
  return node;
}

// The settings as a recipe would have them.
YamlNode settings_node(const StepCommand& o, std::span<const SettingHelp> help) {
  YamlNode node;
  node.kind = YamlNode::Kind::kMapping;
  for (const auto& setting : help) {
    const auto it = o.values.find(setting.key);
    if (it == o.values.end() || it->second.empty()) continue;
    node.keys.push_back(scalar(setting.key));
    if (setting.kind == SettingHelp::Kind::kValue || setting.kind == SettingHelp::Kind::kSwitch) {
      node.items.push_back(scalar(it->second.back()));
      continue;
    }
    YamlNode& list = node.items.emplace_back();
    list.kind = YamlNode::Kind::kSequence;
    for (const auto& text : it->second) {
      if (setting.kind == SettingHelp::Kind::kList) {
        list.items.push_back(scalar(text));
        continue;
      }
      const size_t eq = text.rfind('=');
      if (eq == std::string::npos || eq == 0) {
        fail(ErrorKind::kUsage, "{} {}: PATTERN=VALUE is expected", option_of(setting.key),
             one_line(text));
      }
      YamlNode& pair = list.items.emplace_back();
      pair.kind = YamlNode::Kind::kMapping;
      pair.keys.push_back(scalar(text.substr(0, eq)));
      pair.items.push_back(scalar(text.substr(eq + 1)));
    }
  }
  return node;
}

void add_setting(CLI::App& command, const SettingHelp& setting, StepCommand& o) {
  using Kind = SettingHelp::Kind;
  constexpr const char* kGroup = "What is done";
  auto& values = o.values[setting.key];
  const std::string option = option_of(setting.key);
  const std::string standard = setting.standard.empty() || setting.kind == Kind::kSwitch
                                   ? ""
                                   : fmt::format(" (default: {})", setting.standard);
  if (setting.kind == Kind::kSwitch) {
    const bool on = setting.standard == "true";
    command
        .add_flag_callback(
            on ? "--no" + option.substr(1) : option,
            [&values, on] { values.emplace_back(on ? "false" : "true"); },
            (on ? "not: " : "") + std::string(setting.help))
        ->group(kGroup);
    return;
  }
  if (setting.kind == Kind::kValue) {
    command
        .add_option_function<std::string>(
            option, [&values](const std::string& text) { values = {text}; },
            setting.help + standard)
        ->type_name("VALUE")
        ->group(kGroup);
    return;
  }
  command.add_option(option, values, setting.help)
      ->type_name(setting.kind == Kind::kPairs ? "PATTERN=VALUE" : "PATTERN")
      ->group(kGroup);
}

// `help`: of the settings of the step of that name.
void add_step_command(CLI::App& app, const char* name, const char* summary,
                      std::vector<SettingHelp> help) {
  auto o = std::make_shared<StepCommand>();
  auto* c = app.add_subcommand(name, summary);
  add_files(*c, *o);
  for (const auto& setting : help) add_setting(*c, setting, *o);
  add_calibration_options(*c, *o);
  add_output_options(*c, *o);
  c->callback([o, c, name, help = std::move(help)] {
    const auto begin = std::chrono::steady_clock::now();
    o->apply();
    compress_by(recipe_of_step(name, settings_node(*o, help)), *c, *o, begin);
  });
}

}  // namespace

void add_compress(CLI::App& app) {
  auto o = std::make_shared<RecipeCommand>();
  auto* c = app.add_subcommand("compress", "compress a model into a .pith file, by a recipe");
  std::string steps = "Steps of a recipe:\n";
  for (const auto& s : step_kinds()) steps += fmt::format("  {:<11} {}\n", s.name, s.summary);
  c->footer(steps + "Keys of a step are the long options of its command, with _ for -.\n");
  add_files(*c, *o);
  c->add_option("--recipe", o->recipe, "the recipe, YAML; - is standard input")
      ->required()
      ->type_name("FILE");
  add_calibration_options(*c, *o);
  add_output_options(*c, *o);
  c->callback([o, c] { compress_by_file(*o, *c); });
}

void add_prune(CLI::App& app) {
  add_step_command(app, "prune", "drop weights of a model, into a .pith file",
                   prune_settings_help());
}

void add_factorize(CLI::App& app) {
  add_step_command(app, "factorize", "replace weights by low-rank factors, into a .pith file",
                   factorize_settings_help());
}

}  // namespace pith::tools
