#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "formats/text_input.h"
#include "formats/tokenizer/tokenizer.h"
#include "quant/quantize_pass.h"
#include "quant/rotate.h"
#include "runtime/compress/driver.h"
#include "runtime/compress/journal.h"
#include "runtime/compress/self_text.h"
#include "tools/mixed.h"
#include "tools/quantize_options.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

// Windows of seqlen tokens: spread evenly over the text, each after a BOS if the model has one, or
// written by the model.
void read_calibration(const QuantizeCommand& o, const std::string& from, const ModelSource& source,
                      Progress& progress, CompressOptions* to) {
  if (from == "self") {
    if (o.dry_run) {  // the plan needs to know how much text there will be
      to->calibration.assign(static_cast<size_t>(o.nsamples),
                             std::vector<int32_t>(static_cast<size_t>(o.seqlen)));
      return;
    }
    const Model model = load_model(source);
    const auto executor = make_executor(o.executor());
    const Held held(*executor);
    const int64_t length =
        std::min<int64_t>(o.seqlen, static_cast<int64_t>(source.spec().context()));
    to->calibration = write_windows(*executor, model, o.nsamples, length, o.seed, progress);
    Hasher h;
    for (const auto& w : to->calibration) h.add(std::as_bytes(std::span(w)));
    to->calibration_hash = h.value();
    return;
  }
  const std::string text = read_text_input(from, 1 << 30);
  to->calibration_hash = hash64(std::as_bytes(std::span(text)));
  const auto tokenizer = load_tokenizer(source);
  const auto tokens = tokenizer->encode(text, {.add_special = false});
  const int32_t bos = source.spec().bos_token();
  const int64_t seqlen = std::min<int64_t>(o.seqlen, static_cast<int64_t>(source.spec().context()));
  const int64_t body = seqlen - (bos >= 0);
  const int64_t available = static_cast<int64_t>(tokens.size()) / body;
  if (available == 0) {
    fail(ErrorKind::kUsage, "{}: {} tokens, one calibration window needs {}", from, tokens.size(),
         body);
  }
  const int64_t count = std::min(o.nsamples, available);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begin = i * available / count * body;
    std::vector<int32_t> w;
    if (bos >= 0) w.push_back(bos);
    w.insert(w.end(), tokens.begin() + begin, tokens.begin() + begin + body);
    to->calibration.push_back(std::move(w));
  }
}

// One compression with these settings; what became of it.
Json run(const QuantizeCommand& o, const ModelSource& source, const QuantizeSettings& settings,
         const CompressOptions& options, Progress& progress) {
  Passes passes;
  passes.push_back(make_quantize_pass(settings));
  const CompressPlan plan = plan_compression(source, passes, options);
  Json j = {{"source", o.model},
            {"output", o.output},
            {"type", to_string(settings.linears)},
            {"method", settings.method},
            {"parameters", parameter_count(source.spec())},
            {"bits_per_weight", plan.bits_per_weight},
            {"source_bytes", plan.source_bytes},
            {"planned_output_bytes", plan.output_bytes},
            {"planned_memory_bytes", plan.memory_bytes},
            {"planned_disk_bytes", plan.disk_bytes},
            {"planned_gpu_bytes", plan.gpu_bytes},
            {"calibration_tokens", plan.calibration_tokens}};
  if (o.prints()) {
    say("{} -> {}: {} with {}, {:.3f} bits per weight\n", o.model, o.output,
        to_string(settings.linears), settings.method, plan.bits_per_weight);
    say("plan: output {}, memory {}, disk {}{}{}\n", human_bytes(plan.output_bytes),
        human_bytes(plan.memory_bytes), human_bytes(plan.disk_bytes),
        plan.gpu_bytes ? ", GPU memory " + human_bytes(plan.gpu_bytes) : "",
        plan.calibration_tokens ? fmt::format(", {} calibration tokens", plan.calibration_tokens)
                                : "");
  }
  if (o.dry_run) {
    Json linears = Json::array();
    for (const auto& l : plan.linears) {
      linears.push_back({{"name", l.info.name},
                         {"from", to_string(l.from)},
                         {"to", to_string(l.to)},
                         {"bytes", l.bytes}});
      if (o.prints() && !o.quiet) {
        say("  {:<28} {:>8} x {:<6} {:<12} -> {:<16} {:>10}\n", l.info.name, l.info.n, l.info.k,
            to_string(l.from), to_string(l.to), human_bytes(l.bytes));
      }
    }
    j["linears"] = linears;
    return j;
  }

  const auto begin = std::chrono::steady_clock::now();
  const CompressReport report = compress(source, passes, options, progress);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  j["file_bytes"] = report.file_bytes;
  j["seconds"] = seconds;
  for (const auto& [name, s] : report.seconds) j["seconds_by_phase"][name] = s;
  j["worst_relative_error"] = report.worst_error;
  j["worst_linear"] = report.worst_linear;
  j["resumed_units"] = report.resumed_units;
  j["fallbacks"] = report.fallbacks;
  j["check_kl"] = report.check_kl;
  j["check_tokens"] = report.check_tokens;
  if (!o.prints()) return j;
  for (const auto& f : report.fallbacks) say("fallback: {}\n", f);
  if (report.resumed_units > 0)
    say("went on after {} finished parts of an interrupted run\n", report.resumed_units);
  say("wrote {} in {:.1f} s; largest relative error {:.2e} in {}\n", human_bytes(report.file_bytes),
      seconds, report.worst_error, report.worst_linear);
  if (o.quiet) return j;
  std::string phases;
  for (const auto& [name, s] : report.seconds)
    phases += fmt::format("{}{} {:.1f} s", phases.empty() ? "" : ", ", name, s);
  say("time: {}\n", phases);
  return j;
}

void quantize(const QuantizeCommand& o) {
  o.apply();
  const auto stored = open_model(o.model, o.tokenizer, !o.no_verify);
  const auto rotated = o.rotate ? rotate_model(*stored, {.seed = o.seed}) : nullptr;
  const ModelSource* source = rotated ? rotated.get() : stored.get();
  if (same_file(o.model, o.output) || source->reads(o.output))
    fail(ErrorKind::kUsage, "{}: the output is the input", o.output);
  QuantizeSettings settings = settings_of(o);
  CompressOptions options;
  options.output = o.output;
  const auto executor = make_executor(o.executor());
  options.executor = executor.get();
  options.seed = o.seed;
  if (!o.memory.empty()) options.memory = size_of("--memory", o.memory);
  options.max_fallbacks = o.max_fallbacks;
  options.sequential = !o.no_sequential;
  options.propagate = !o.no_propagate;
  const StatisticsNeeds needs = make_quantize_pass(settings)->needs();
  const bool needs_text = needs.gram || needs.output || o.mixed() || o.static_inputs;
  const std::string calibration = !o.calibration.empty() ? o.calibration
                                  : needs_text           ? "self"
                                                         : "none";
  TerminalProgress progress(o.quiet);
  if (calibration != "none") read_calibration(o, calibration, *source, progress, &options);
  for (const auto& pattern : o.ignore) {
    bool matched = false;
    for (const auto& info : linears_of(source->spec()))
      matched = matched || matches_linear(pattern, info);
    if (!matched && pattern != "lm_head")
      warn(fmt::format("--ignore {} matches no layer", pattern));
  }
  if (!o.mixed()) {
    o.write_json(run(o, *source, settings, options, progress));
    return;
  }
  if (options.calibration.empty())
    fail(ErrorKind::kUsage, "mixed precision measures on text: --calib");
  MixedOptions asked{.target_bytes = size_of("--target-size", o.target_size),
                     .target_bpw = o.target_bpw,
                     .max_kl = o.max_kl,
                     .candidates = {},
                     .plan_out = o.plan_out,
                     .costs = o.costs,
                     .prints = o.prints() && !o.quiet};
  for (const auto& type : o.candidates) asked.candidates.push_back(encoding_for_type(type));
  Mixed mixed(asked, *source, settings, options, progress);
  if (o.max_kl <= 0 || o.dry_run) {
    o.write_json(run(o, *source, mixed.by_costs(), options, progress));
  } else {
    Json last;
    const double kl = mixed.search_for_kl(
        [&](const QuantizeSettings& s) { last = run(o, *source, s, options, progress); });
    last["kl"] = kl;
    o.write_json(last);
  }
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto o = std::make_shared<QuantizeCommand>();
  add_quantize_options(app, *o)->callback([o] { quantize(*o); });
}

}  // namespace pith::tools
