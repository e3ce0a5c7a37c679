#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "core/error.h"
#include "core/file.h"
#include "core/limits.h"
#include "formats/printable.h"
#include "formats/text_input.h"
#include "formats/tokenizer/tokenizer.h"
#include "quant/quantize_pass.h"
#include "quant/rotate.h"
#include "quant/scaling.h"
#include "runtime/backends.h"
#include "runtime/compress/driver.h"
#include "runtime/compress/fingerprint.h"
#include "runtime/compress/self_text.h"
#include "tools/calibration_text.h"
#include "tools/mixed.h"
#include "tools/outputs.h"
#include "tools/quantize_options.h"
#include "tools/quantize_warnings.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

int64_t window_length(const QuantizeCommand& o, const ModelSource& source) {
  return std::min<int64_t>(o.seqlen, static_cast<int64_t>(source.spec().context()));
}

// Lets the model write its calibration text, in the sizes of `to->calibration`, into it. The text
// is stored in the work folder as it comes.
void write_text(const QuantizeCommand& o, const ModelSource& source, WorkFolder& work,
                Progress& progress, CompressOptions* to) {
  const auto count = static_cast<int64_t>(to->calibration.size());
  const auto length = static_cast<int64_t>(to->calibration.front().size());
  Fingerprint about = fingerprint_of(source);
  about.merge(fingerprint_of(to->executor));
  about["windows"] = fmt::format("{}", count);
  about["tokens of a window"] = fmt::format("{}", length);
  about["seed"] = fmt::format("{}", o.seed);
  RecordLog log = work.open_log("text", about);
  std::vector<TextPiece> written;
  for (const auto& record : log.records()) written.push_back(piece_from(record));
  const Model model = load_model(source);
  const Held held(*to->executor);
  to->calibration =
      write_windows(*to->executor, model, count, length, o.seed, progress, kTextCacheBytes, written,
                    [&](const TextPiece& p) { log.append(to_bytes(p)); });
  to->calibration_hash = hash_of_windows(to->calibration);
}

struct Peaks {  // of memory, beside that of the compression itself
  uint64_t text = 0, measuring = 0;
};

void print_linears(const QuantizeCommand& o, const CompressPlan& plan, Json* j) {
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
  (*j)["linears"] = linears;
}

uint64_t peak_of(const CompressPlan& plan, const Peaks& peaks) {
  return std::max({plan.memory_bytes, peaks.text, peaks.measuring});
}

void print_plan(const QuantizeCommand& o, const QuantizeSettings& settings,
                const CompressPlan& plan, const Peaks& peaks) {
  if (!o.prints()) return;
  say("{} -> {}: {} with {}, {:.3f} bits per weight\n", o.model, o.output,
      to_string(settings.linears), settings.method, plan.bits_per_weight);
  say("plan: output {}, memory {}, disk {}{}{}\n", human_bytes(plan.output_bytes),
      human_bytes(peak_of(plan, peaks)), human_bytes(plan.disk_bytes),
      plan.gpu_bytes ? ", GPU memory " + human_bytes(plan.gpu_bytes) : "",
      plan.calibration_tokens ? fmt::format(", {} calibration tokens", plan.calibration_tokens)
                              : "");
  if (file_exists(o.output)) say("replaces {}\n", o.output);
  flush_out();
}

Json json_of(const QuantizeCommand& o, const ModelSource& source, const QuantizeSettings& settings,
             const CompressPlan& plan, const Peaks& peaks) {
  return {{"source", o.model},
          {"output", o.output},
          {"type", to_string(settings.linears)},
          {"method", settings.method},
          {"parameters", parameter_count(source.spec())},
          {"bits_per_weight", plan.bits_per_weight},
          {"source_bytes", plan.source_bytes},
          {"planned_output_bytes", plan.output_bytes},
          {"planned_memory_bytes", peak_of(plan, peaks)},
          {"planned_disk_bytes", plan.disk_bytes},
          {"planned_gpu_bytes", plan.gpu_bytes},
          {"calibration_tokens", plan.calibration_tokens}};
}

// One compression with these settings; what became of it.
Json run(const QuantizeCommand& o, const ModelSource& source, const QuantizeSettings& settings,
         const CompressOptions& options, const Peaks& peaks, bool plan_is_shown,
         Progress& progress) {
  Passes passes;
  passes.push_back(make_quantize_pass(settings));
  const CompressPlan plan = plan_compression(source, passes, options);
  if (!plan_is_shown) print_plan(o, settings, plan, peaks);
  Json j = json_of(o, source, settings, plan, peaks);
  if (o.dry_run) {
    print_linears(o, plan, &j);
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
  j["methods"] = report.methods;
  j["notes"] = report.notes;
  j["check_kl"] = report.check_kl;
  j["check_tokens"] = report.check_tokens;
  if (!o.prints()) return j;
  for (const auto& f : report.fallbacks) say("fallback: {}\n", f);
  if (report.resumed_units > 0)
    say("went on after {} finished parts of an interrupted run\n", report.resumed_units);
  say("wrote {} in {:.1f} s; largest relative error {:.2e} in {}\n", human_bytes(report.file_bytes),
      seconds, report.worst_error, report.worst_linear);
  if (o.quiet) return j;
  std::string methods, phases;
  for (const auto& [name, n] : report.methods)
    methods += fmt::format("{}{} {}", methods.empty() ? "" : ", ", n, name);
  say("layers: {}\n", methods);
  for (const auto& [name, s] : report.seconds)
    phases += fmt::format("{}{} {:.1f} s", phases.empty() ? "" : ", ", name, s);
  say("time: {}\n", phases);
  return j;
}

// Refuses names that are a mistake, and files that cannot be written, before anything is read.
void check_outputs(const QuantizeCommand& o) {
  require_no_type_as_output(o.output);
  if (!same_file(o.model, o.output)) {
    if (is_folder(o.output)) fail(ErrorKind::kUsage, "{}: the output is a folder", o.output);
    if (resolve_output(o.output).special)
      fail(ErrorKind::kUsage, "{}: the output is not a regular file", o.output);
  }
  if (!o.mixed() && !o.plan_out.empty())
    fail(ErrorKind::kUsage, "--plan-out writes what mixed precision chose: give a --target-size");
  for (const auto& side : {o.json, o.plan_out, o.costs}) {
    check_side_output(side, o.model, o.tokenizer);
    if (side.empty() || side == "-") continue;
    if (side == o.output || same_file(side, o.output))
      fail(ErrorKind::kUsage, "{}: is the output as well", side);
  }
  if (o.calibration.empty() || o.calibration == "-") return;
  for (const auto& output : {o.output, o.json, o.plan_out, o.costs}) {
    if (!output.empty() && same_file(output, o.calibration))
      fail(ErrorKind::kUsage, "{}: is the calibration text", output);
  }
}

// "self", "none", or a file.
std::string calibration_of(const QuantizeCommand& o, const QuantizeSettings& settings) {
  const auto pass = make_quantize_pass(settings);
  if (o.calibration == "none") {
    if (const std::string why = pass->needs_text(); !why.empty() || o.mixed()) {
      fail(ErrorKind::kUsage, "{}",
           !why.empty() ? why
                        : "mixed precision measures on a calibration text: --calib FILE, or leave "
                          "--calib out and the model writes one");
    }
    return "none";
  }
  if (!o.calibration.empty()) return o.calibration;
  return !pass->needs_text().empty() || o.mixed() ? "self" : "none";
}

// The tokenizer goes into the file, so it is checked even where no text is read.
std::unique_ptr<Tokenizer> tokenizer_for(const ModelSource& source, bool reads_text) {
  if (source.tokenizer().empty() && !reads_text) {
    warn("the model has no tokenizer, and neither will the file have one: --tokenizer");
    return nullptr;
  }
  std::vector<std::string> notes;
  std::unique_ptr<Tokenizer> tokenizer;
  try {
    tokenizer = load_tokenizer(source, &notes);
  } catch (const Error& e) {
    if (reads_text || e.kind() != ErrorKind::kUnsupported) throw;
    notes.push_back(
        fmt::format("the tokenizer goes into the file as it is, and cannot be used: {}", e.what()));
  }
  for (const auto& n : notes) warn(n);
  return tokenizer;
}

CompressOptions options_of(const QuantizeCommand& o, Executor* executor) {
  CompressOptions options;
  options.output = o.output;
  options.executor = executor;
  options.seed = o.seed;
  if (!o.memory.empty()) options.memory = size_of("--memory", o.memory);
  options.max_fallbacks = o.max_fallbacks;
  options.sequential = !o.no_sequential;
  options.propagate = !o.no_propagate;
  options.one_of_tries = o.max_kl > 0;
  return options;
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

// Refuses what exceeds the machine, and warns of what exceeds what is free.
void check_memory(const CompressPlan& plan, const Peaks& peaks) {
  require_memory(peaks.text, "the model that writes its calibration text",
                 "--calib FILE takes a text instead");
  require_memory(peaks.measuring, "measuring what choices cost");
  if (const std::string low = memory_warning(peak_of(plan, peaks), "this compression");
      !low.empty())
    warn(low);
}

void tell_what_is_kept(const WorkFolder& work) {
  if (work.has_work())
    tell("what is done is kept in {}: the same command goes on from there\n", work.path());
}

void quantize(const QuantizeCommand& o) {
  o.apply();
  check_outputs(o);
  require_one_target(o);
  QuantizeSettings settings = settings_of(o);
  const auto stored = open_model_for(o);
  const auto rotated = o.rotate ? rotate_model(*stored, {.seed = o.seed}) : nullptr;
  const ModelSource& source = rotated ? *rotated : *stored;
  if (same_file(o.model, o.output) || source.reads(o.output))
    fail(ErrorKind::kUsage, "{}: the output is the input", o.output);
  require_not_of_model(o.output, o.model, o.tokenizer);
  std::vector<std::string> notes;
  if (!o.mixed()) settings = effective_settings(settings, &notes);
  for (const auto& n : notes) warn(n);
  const std::string calibration = calibration_of(o, settings);
  const auto tokenizer = tokenizer_for(source, calibration != "none" && calibration != "self");

  const auto executor = make_executor(o.executor());
  CompressOptions options = options_of(o, executor.get());
  TerminalProgress progress(o.quiet);
  Peaks peaks;
  const bool writes = calibration == "self";
  if (writes) {
    const int64_t length = window_length(o, source);
    options.calibration.assign(static_cast<size_t>(o.nsamples),
                               std::vector<int32_t>(static_cast<size_t>(length)));
    peaks.text = model_bytes(source) + text_cache_bytes(source.spec(), o.nsamples, length) +
                 (uint64_t{64} << 20);
  } else if (calibration != "none") {
    cut_calibration_text(calibration, source, *tokenizer, o.nsamples, window_length(o, source),
                         &options);
  }
  warn_of_useless_options(o, settings, source, !options.calibration.empty());

  std::optional<Mixed> mixed;
  if (o.mixed()) {
    mixed.emplace(mixed_options_of(o), source, settings, options, progress);
    peaks.measuring = mixed->memory_bytes() + (uint64_t{64} << 20);
  }

  Passes passes;
  passes.push_back(make_quantize_pass(settings));
  const CompressPlan plan = plan_compression(source, passes, options);
  check_compression(source, passes, options, plan);
  check_memory(plan, peaks);
  if (!mixed) warn_of_choices(o, settings, source, plan);
  if (o.dry_run && !mixed) {
    print_plan(o, settings, plan, peaks);
    Json j = json_of(o, source, settings, plan, peaks);
    print_linears(o, plan, &j);
    o.write_json(j);
    return;
  }

  WorkFolder work(o.output, o.restart);
  options.work = &work;
  Fingerprint about = fingerprint_of(source, passes, options);
  about.erase("calibration text");  // if it is not written yet; compress() looks at all of it
  if (mixed) about.erase("overrides");
  work.require_same("finished parts", about);
  print_plan(o, settings, plan, peaks);
  try {
    if (writes) {
      if (!o.quiet)
        tell("the model writes {} calibration tokens first; --calib FILE is faster\n",
             plan.calibration_tokens);
      write_text(o, source, work, progress, &options);
    }
    if (mixed) {
      if (o.dry_run && !o.quiet)
        tell("measuring what choices cost; that is kept in {} for the run itself\n", work.path());
      mixed->measure();
    }
    if (!mixed || o.max_kl <= 0 || o.dry_run) {
      if (mixed) settings = mixed->by_costs();
      const Json j = run(o, source, settings, options, peaks, !mixed, progress);
      if (!o.dry_run) work.remove();
      o.write_json(j);
      return;
    }
    Json last;
    const double kl = mixed->search_for_kl([&](const QuantizeSettings& s) {
      last = run(o, source, s, options, peaks, false, progress);
    });
    last["kl"] = kl;
    work.remove();
    o.write_json(last);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kUsage) tell_what_is_kept(work);
    throw;
  }
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto o = std::make_shared<QuantizeCommand>();
  add_quantize_options(app, *o)->callback([o] { quantize(*o); });
}

}  // namespace pith::tools
