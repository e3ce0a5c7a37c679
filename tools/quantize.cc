// Compresses a model into a packed file by quantization alone. Its options: quantize_options.cc;
// what every compression does: compress_prepare.h, compress_work.h; warnings: quantize_warnings.cc.

#include <fmt/format.h>

#include "core/error.h"
#include "core/limits.h"
#include "quant/rotate.h"
#include "runtime/backends.h"
#include "tools/compress_work.h"
#include "tools/default_method.h"
#include "tools/mixed.h"
#include "tools/quantize_warnings.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

Passes passes_for(const QuantizeSettings& settings) {
  Passes passes;
  passes.push_back(make_quantize_pass(settings));
  return passes;
}

// Why a text is needed; empty: it is not.
std::string why_text(const QuantizeCommand& o, const QuantizeSettings& settings) {
  const std::string why = text_needed_by(passes_for(settings));
  return !why.empty() || !o.mixed() ? why
                                    : "mixed precision measures on a calibration text: --calib "
                                      "FILE, or leave --calib out";
}

MixedOptions mixed_options_of(const QuantizeCommand& o) {
  MixedOptions asked{.target_bytes = size_of("--target-size", o.target_size),
                     .target_bpw = o.target_bpw,
                     .max_kl = o.max_kl,
                     .candidates = {},
                     .plan_out = o.plan_out,
                     .costs = o.costs,
                     .prints = o.prints() && !o.quiet};
  for (const auto& type : o.candidates) asked.candidates.push_back(encoding_for_type(type));
  return asked;
}

// The search for types, where there is one. A target that every choice satisfies needs no text.
std::unique_ptr<Mixed> prepare_mixed(const QuantizeCommand& o, const QuantizeSettings& settings,
                                     Job& job, Prepared* to) {
  if (!o.mixed()) return nullptr;
  auto mixed =
      std::make_unique<Mixed>(mixed_options_of(o), job.source, settings, to->options, job.progress);
  if (!mixed->is_loose()) {
    job.peaks.measuring = mixed->memory_bytes() + (uint64_t{64} << 20);
    return mixed;
  }
  warn(mixed->loose_text());
  const bool only_to_measure =
      o.calibration.empty() && text_needed_by(passes_for(settings)).empty();
  if (only_to_measure) {
    to->text = {};
    to->options.calibration.clear();
    to->options.domain.clear();
    to->options.sources.clear();
    job.peaks.text = 0;
    job.written_share = 0;
  }
  return mixed;
}

// Fills in the title and the estimate of the plan, and members of the JSON.
void describe(const QuantizeCommand& o, const QuantizeSettings& settings, const Mixed* mixed,
              Job* job) {
  const std::string type = to_string(settings.linears), method = settings.method.name();
  job->title = fmt::format("{} with {}",
                           mixed != nullptr ? "types chosen for " + mixed->goal() : type, method);
  job->about = {{"type", mixed != nullptr ? "mixed" : type}, {"method", method}};
  // Choosing types takes longer than the rounding.
  if (mixed != nullptr) return;
  job->work = {.gptq = settings.method.rounding->stage != nullptr,
               .paths = settings.linears.kind == EncodingKind::kTcq};
  if (o.method_is_chosen)
    job->hint =
        "; --method rtn --calib none takes a small part of that, and loses two or three "
        "times as much";
}

// Shows what would be measured, where the choice is not known yet.
void dry_run(Job& job, const CompressPlan& plan, Mixed* mixed, const Prepared& p) {
  const bool known =
      mixed == nullptr || mixed->is_loose() || (mixed->has_costs() && p.text.count == 0);
  if (known) {
    if (mixed == nullptr) return show_plan(job, plan);
    mixed->measure();  // reads the costs
    return show_plan(job, plan_compression(job.source, passes_for(mixed->by_costs()), p.options));
  }
  print_plan(job, plan, false);
  Json j = json_of(job, plan);
  j["bits_per_weight"] = nullptr;  // not known yet
  j["would_measure"] = mixed->measuring_json();
  if (job.o.prints()) say("would measure {}, and choose by it\n", mixed->measuring_text());
  job.o.write_json(j);
}

// Measures, and compresses; what became of it.
Json choose_and_compress(Job& job, Mixed& mixed, const Prepared& p, bool for_kl) {
  {
    const Phases::Scope phase(job.phases, "measuring");
    mixed.measure();
  }
  if (!for_kl) return compress_once(job, passes_for(mixed.by_costs()), p.options, false);
  Json report;
  const double kl = mixed.search_for_kl([&](const QuantizeSettings& s) {
    report = compress_once(job, passes_for(s), p.options, false);
  });
  report["kl"] = kl;
  return report;
}

void quantize(QuantizeCommand& o) {
  const auto begin = std::chrono::steady_clock::now();
  o.apply();
  require_no_type_as_output(o.output);
  if (!o.mixed() && !o.plan_out.empty())
    fail(ErrorKind::kUsage, "--plan-out writes what mixed precision chose: give a --target-size");
  o.side_files = {o.plan_out, o.costs};
  check_outputs(o);
  require_one_target(o);
  QuantizeSettings settings = settings_of(o);
  o.seed = seed_of(o);
  const auto stored = open_model_for(o);
  o.standard_text = default_sources(*stored);
  const auto rotated = o.rotate ? rotate_model(*stored, {.seed = o.seed}) : nullptr;
  const ModelSource& source = rotated ? *rotated : *stored;
  require_other_output(o, source);
  choose_method(o, source.spec(),
                text_memory(source, kGptqText.windows, kGptqText.length) <= most_memory().bytes);
  const MethodChoice asked = settings.method = parse_method(o.method);
  if (!o.mixed()) settings = effective_settings(settings);
  const CalibrationInputs calibration = calibration_of(o, why_text(o, settings));
  const auto tokenizer = tokenizer_for(source, has_files(calibration));

  const auto executor = make_executor(o.executor());
  Prepared p{.options = options_of(o, executor.get())};
  p.options.one_of_tries = o.max_kl > 0;
  TerminalProgress progress(o.quiet);
  Job job{.o = o, .source = source, .progress = progress, .begin = begin};
  prepare_text(job, calibration, tokenizer.get(), &p);
  const bool has_text = !p.options.calibration.empty();
  warn_of_method(asked, settings, has_text);
  warn_of_useless_options(o, asked, settings, source, has_text);
  const auto mixed = prepare_mixed(o, settings, job, &p);
  describe(o, settings, mixed.get(), &job);

  const Passes passes = passes_for(settings);
  const CompressPlan plan = mixed ? mixed->plan() : plan_compression(source, passes, p.options);
  check_compression(source, passes, p.options, plan);
  check_memory(job.peaks, peak_of(plan, job.peaks));
  if (!mixed) warn_of_choices(o, settings, source, plan);
  if (o.dry_run) return dry_run(job, plan, mixed.get(), p);
  const bool uses_costs = mixed && !mixed->is_loose() && !mixed->has_costs();
  work_on(job, passes, plan, !mixed,
          mixed ? std::vector{"tensor_type"} : std::vector<const char*>(), uses_costs, p, [&] {
            return mixed ? choose_and_compress(job, *mixed, p, o.max_kl > 0)
                         : compress_once(job, passes, p.options, true);
          });
  if (const std::string how = how_to_get_closer(o, source.spec());
      !how.empty() && o.prints() && !o.quiet)
    say("{}\n", how);
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto o = std::make_shared<QuantizeCommand>();
  CLI::App* c = add_quantize_options(app, *o);
  c->callback([o, c] {
    o->windows_given = c->count("--nsamples") + c->count("--seqlen") > 0;
    quantize(*o);
  });
}

}  // namespace pith::tools
