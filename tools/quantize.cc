// Compresses a model into a packed file. Its options: quantize_options.cc; what comes before the
// work: quantize_prepare.cc, quantize_warnings.cc; what it says: quantize_report.cc.

#include <fmt/format.h>

#include "core/error.h"
#include "core/hash.h"
#include "core/limits.h"
#include "quant/rotate.h"
#include "runtime/backends.h"
#include "runtime/compress/check.h"
#include "runtime/compress/driver.h"
#include "runtime/compress/fingerprint.h"
#include "tools/default_method.h"
#include "tools/quantize_prepare.h"
#include "tools/quantize_report.h"
#include "tools/quantize_warnings.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

// Error(kNumeric) naming the first weight that is not finite, where there is one.
void require_finite(const ModelSource& source) {
  constexpr int64_t kRows = 64;
  std::vector<float> w;
  for (const auto& info : linears_of(source.spec())) {
    for (int64_t row = 0; row < info.n; row += kRows) {
      const int64_t rows = std::min(kRows, info.n - row);
      w.resize(static_cast<size_t>(rows * info.k));
      source.rows(info, row, rows, w.data());
      check_finite(info.name, row, info.k, w);
    }
  }
}

// Lets the model write the calibration text that is asked for. It is stored in the work folder as
// it comes.
void write_text(Job& job, const TextRequest& text, WorkFolder& work, CompressOptions* to) {
  const Phases::Scope phase(job.phases, "writing text");
  const ModelSource& source = job.source;
  Fingerprint about = fingerprint_of(source);
  about.merge(fingerprint_of(to->executor));
  about["windows"] = fmt::format("{}", text.count);
  about["tokens of a window"] = fmt::format("{}", text.length);
  about["seed"] = fmt::format("{}", text.seed);
  Hasher openings;
  for (const auto& o : text.openings) {
    const size_t size = o.size();
    openings.add(std::as_bytes(std::span(&size, 1)));
    openings.add(std::as_bytes(std::span(o)));
  }
  about["openings"] = fmt::format("#{:016x}", openings.value());
  RecordLog log = work.open_log("text", about);
  std::vector<TextPiece> written;
  for (const auto& record : log.records()) written.push_back(piece_from(record));
  const Model model = load_model(source);
  const WeightCacheScope held(*to->executor);
  try {
    put_written_text(write_windows(*to->executor, model, text, job.progress, written,
                                   [&](const TextPiece& p) { log.append(to_bytes(p)); }),
                     to);
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kNumeric) require_finite(source);  // which weight it comes from
    throw;
  }
}

// One compression with these settings; what became of it.
Json run(Job& job, const QuantizeSettings& settings, const CompressOptions& options,
         bool plan_is_shown) {
  const Passes passes = passes_for(settings);
  const CompressPlan plan = plan_compression(job.source, passes, options);
  if (!plan_is_shown) print_plan(job, settings, plan);
  Json j = json_of(job, settings, plan);
  report_result(job, compress(job.source, passes, options, job.progress), &j);
  return j;
}

// Shows the plan, and what would be measured; nothing is computed.
void dry_run(Job& job, const QuantizeSettings& settings, const CompressPlan& plan, Mixed* mixed,
             bool writes_text, const CompressOptions& options) {
  const QuantizeCommand& o = job.o;
  const bool known = mixed == nullptr || mixed->is_loose() || (mixed->has_costs() && !writes_text);
  if (!known) {
    print_plan(job, settings, plan, false);
    Json j = json_of(job, settings, plan);
    j["bits_per_weight"] = nullptr;  // not known yet
    j["would_measure"] = mixed->measuring_json();
    if (o.prints()) say("would measure {}, and choose by it\n", mixed->measuring_text());
    return o.write_json(j);
  }
  if (mixed != nullptr) mixed->measure();  // reads the costs
  const QuantizeSettings chosen = mixed != nullptr ? mixed->by_costs() : settings;
  const CompressPlan final =
      mixed != nullptr ? plan_compression(job.source, passes_for(chosen), options) : plan;
  print_plan(job, chosen, final);
  Json j = json_of(job, chosen, final);
  report_linears(o, final, &j);
  o.write_json(j);
}

void tell_what_is_kept(const WorkFolder& work) {
  if (work.has_work())
    tell("what is done is kept in {}: the same command goes on from there\n",
         one_line(work.path()));
}

// Writes the text, measures, and compresses; what became of it.
Json work_on(Job& job, WorkFolder& work, Prepared& p) {
  const QuantizeCommand& o = job.o;
  if (p.text.count > 0) {
    if (!o.quiet) {
      tell("the model writes {} calibration tokens first; --calib FILE is faster\n",
           p.text.count * p.text.length);
    }
    write_text(job, p.text, work, &p.options);
  }
  if (!p.mixed) return run(job, p.settings, p.options, true);
  {
    const Phases::Scope phase(job.phases, "measuring");
    p.mixed->measure();
  }
  if (o.max_kl <= 0) return run(job, p.mixed->by_costs(), p.options, false);
  Json report;
  const double kl = p.mixed->search_for_kl(
      [&](const QuantizeSettings& s) { report = run(job, s, p.options, false); });
  report["kl"] = kl;
  return report;
}

void quantize(QuantizeCommand& o) {
  const auto begin = std::chrono::steady_clock::now();
  o.apply();
  check_outputs(o);
  require_one_target(o);
  Prepared p{.settings = settings_of(o), .options = {}, .mixed = {}};
  o.seed = seed_of(o);
  const auto stored = open_model_for(o);
  const auto rotated = o.rotate ? rotate_model(*stored, {.seed = o.seed}) : nullptr;
  const ModelSource& source = rotated ? *rotated : *stored;
  require_other_output(o, source);
  choose_method(o, source.spec(),
                text_memory(source, kGptqText.windows, kGptqText.length) <= most_memory().bytes);
  const MethodChoice asked = p.settings.method = parse_method(o.method);
  if (!o.mixed()) p.settings = effective_settings(p.settings);
  const CalibrationInputs calibration = calibration_of(o, p.settings);
  const auto tokenizer = tokenizer_for(source, has_files(calibration));

  const auto executor = make_executor(o.executor());
  p.options = options_of(o, executor.get());
  TerminalProgress progress(o.quiet);
  Job job{o, source, progress, begin, {}, "", {}};
  prepare_text(job, calibration, tokenizer.get(), &p);
  const bool has_text = !p.options.calibration.empty();
  warn_of_method(asked, p.settings, has_text);
  warn_of_useless_options(o, asked, p.settings, source, has_text);
  prepare_mixed(job, &p);

  const Passes passes = passes_for(p.settings);
  const CompressPlan plan = p.mixed ? p.mixed->plan() : plan_compression(source, passes, p.options);
  check_compression(source, passes, p.options, plan);
  check_memory(job.peaks, peak_of(plan, job.peaks));
  if (!p.mixed) warn_of_choices(o, p.settings, source, plan);
  if (o.dry_run) {
    return dry_run(job, p.settings, plan, p.mixed ? &*p.mixed : nullptr, p.text.count > 0,
                   p.options);
  }

  WorkFolder work(o.output, o.restart);
  open_work(job, passes, p, work);
  print_plan(job, p.settings, plan, !p.mixed);
  try {
    const Json report = work_on(job, work, p);
    if (const std::string left = work.remove(); !left.empty()) warn(left);
    tell_what_next(o, source);
    o.write_json(report);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kUsage) tell_what_is_kept(work);
    throw;
  }
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
