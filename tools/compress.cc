// Compresses a model by a recipe: any sequence of methods in one pass over its blocks.

#include <fmt/format.h>

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

// What the recipe says and the command line does not.
void fill_in(const Recipe& recipe, const CLI::App& command, RecipeCommand* o) {
  const auto given = [&](const char* option) { return command.count(option) > 0; };
  if (recipe.has_calibration && !given("--calib")) {
    for (const auto& t : recipe.texts)
      o->calibration.push_back(fmt::format("{}={}", t.input.name, t.input.weight));
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

void compress_by_recipe(RecipeCommand& o, const CLI::App& command) {
  const auto begin = std::chrono::steady_clock::now();
  o.apply();
  o.side_files = {};
  if (same_file(o.recipe, o.output))
    fail(ErrorKind::kUsage, "{}: the output is the recipe", one_line(o.output));
  const Recipe recipe =
      parse_recipe(read_text_input(o.recipe, kMaxYamlBytes, interrupt()), one_line(o.recipe));
  fill_in(recipe, command, &o);
  check_outputs(o);
  o.seed = seed_of(o);
  const auto stored = open_model_for(o);
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

}  // namespace

void add_compress(CLI::App& app) {
  auto o = std::make_shared<RecipeCommand>();
  auto* c = app.add_subcommand("compress", "compress a model into a .pith file, by a recipe");
  std::string steps = "Steps of a recipe:\n";
  for (const auto& s : step_help()) steps += fmt::format("  {:<11} {}\n", s.name, s.summary);
  c->footer(steps + "Keys of a step are the long options of its command, with _ for -.\n");
  add_files(*c, *o);
  c->add_option("--recipe", o->recipe, "the recipe, YAML; - is standard input")
      ->required()
      ->type_name("FILE");
  add_calibration_options(*c, *o);
  add_output_options(*c, *o);
  c->callback([o, c] {
    o->windows_given = c->count("--nsamples") + c->count("--seqlen") > 0;
    compress_by_recipe(*o, *c);
  });
}

}  // namespace pith::tools
