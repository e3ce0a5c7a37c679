#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <optional>

#include "core/error.h"
#include "core/file.h"
#include "core/limits.h"
#include "core/phases.h"
#include "formats/tokenizer/tokenizer.h"
#include "quant/quantize_pass.h"
#include "quant/rotate.h"
#include "runtime/backends.h"
#include "runtime/compress/check.h"
#include "runtime/compress/driver.h"
#include "runtime/compress/fingerprint.h"
#include "runtime/compress/self_text.h"
#include "tools/calibration_text.h"
#include "tools/default_method.h"
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

// Memory that writing a text takes: the whole model, and the KV cache of its windows.
uint64_t text_memory(const ModelSource& source, TextSize text) {
  return model_bytes(source) + text_cache_bytes(source.spec(), text.windows, text.length) +
         (uint64_t{64} << 20);
}

struct Peaks {  // of memory, beside that of the compression itself
  uint64_t text = 0, measuring = 0;
};

// One command's work, from its start on.
struct Job {
  const QuantizeCommand& o;
  const ModelSource& source;
  Progress& progress;
  std::chrono::steady_clock::time_point begin;
  Phases phases;     // text and measurements, before the compression
  std::string goal;  // of mixed precision; empty: every layer gets the type
  Peaks peaks = {};

  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
};

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

// Lets the model write its calibration text, in the sizes of `to->calibration`, into it. The text
// is stored in the work folder as it comes.
void write_text(Job& job, const Tokenizer* tokenizer, WorkFolder& work, CompressOptions* to) {
  const Phases::Scope phase(job.phases, "writing text");
  const ModelSource& source = job.source;
  const auto count = static_cast<int64_t>(to->calibration.size());
  const auto length = static_cast<int64_t>(to->calibration.front().size());
  Fingerprint about = fingerprint_of(source);
  about.merge(fingerprint_of(to->executor));
  about["windows"] = fmt::format("{}", count);
  about["tokens of a window"] = fmt::format("{}", length);
  about["seed"] = fmt::format("{}", to->seed);
  RecordLog log = work.open_log("text", about);
  std::vector<TextPiece> written;
  for (const auto& record : log.records()) written.push_back(piece_from(record));
  const Model model = load_model(source);
  const WeightCacheScope held(*to->executor);
  try {
    to->calibration = write_windows(*to->executor, model, count, length, to->seed,
                                    stops_of(source, tokenizer), job.progress, kTextCacheBytes,
                                    written, [&](const TextPiece& p) { log.append(to_bytes(p)); });
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kNumeric) require_finite(source);  // which weight it comes from
    throw;
  }
  to->calibration_hash = hash_of_windows(to->calibration);
}

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

// How long a calibrated method takes; nothing without a text, on a GPU, and where types are chosen,
// which takes longer than the rounding.
std::optional<double> estimated_seconds(const Job& job, const QuantizeSettings& settings,
                                        const CompressPlan& plan) {
  if (!job.goal.empty() || job.o.executor().cuda || plan.calibration_tokens == 0) return {};
  const bool gptq = settings.method.rounding->stage != nullptr;
  return seconds_for(
      operations_of(job.source.spec(), gptq, {plan.calibration_tokens, 1}, job.peaks.text > 0));
}

// `plan_is_final`: else the types are not chosen yet, and the plan is of the largest.
void print_plan(const Job& job, const QuantizeSettings& settings, const CompressPlan& plan,
                bool plan_is_final = true) {
  const QuantizeCommand& o = job.o;
  if (!o.prints()) return;
  const std::string types =
      job.goal.empty() ? to_string(settings.linears) : "types chosen for " + job.goal;
  say("{} -> {}: {} with {}{}\n", one_line(o.model), one_line(o.output), types,
      settings.method.name(),
      plan_is_final ? fmt::format(", {:.3f} bits per weight", plan.bits_per_weight) : "");
  say("plan: output {}{}, memory {}, disk {}{}{}\n", plan_is_final ? "" : "at most ",
      human_bytes(plan.output_bytes), human_bytes(peak_of(plan, job.peaks)),
      human_bytes(plan.disk_bytes),
      plan.gpu_bytes ? ", GPU memory " + human_bytes(plan.gpu_bytes) : "",
      plan.calibration_tokens ? fmt::format(", {} calibration tokens", plan.calibration_tokens)
                              : "");
  if (const auto seconds = estimated_seconds(job, settings, plan)) {
    say("time: {}{}\n", about_time(*seconds),
        o.method_is_chosen ? "; --method rtn --calib none takes a small part of that, and loses "
                             "two or three times as much"
                           : "");
  }
  if (file_exists(o.output)) say("replaces {}\n", one_line(o.output));
  flush_out();
}

Json json_of(const Job& job, const QuantizeSettings& settings, const CompressPlan& plan) {
  return {{"source", job.o.model},
          {"output", job.o.output},
          {"type", job.goal.empty() ? to_string(settings.linears) : "mixed"},
          {"method", settings.method.name()},
          {"seed", job.o.seed},
          {"parameters", parameter_count(job.source.spec())},
          {"bits_per_weight", plan.bits_per_weight},
          {"source_bytes", plan.source_bytes},
          {"planned_output_bytes", plan.output_bytes},
          {"planned_memory_bytes", peak_of(plan, job.peaks)},
          {"planned_disk_bytes", plan.disk_bytes},
          {"planned_gpu_bytes", plan.gpu_bytes},
          {"calibration_tokens", plan.calibration_tokens}};
}

Passes passes_for(const QuantizeSettings& settings) {
  Passes passes;
  passes.push_back(make_quantize_pass(settings));
  return passes;
}

// One compression with these settings; what became of it.
Json run(Job& job, const QuantizeSettings& settings, const CompressOptions& options,
         bool plan_is_shown) {
  const QuantizeCommand& o = job.o;
  const Passes passes = passes_for(settings);
  const CompressPlan plan = plan_compression(job.source, passes, options);
  if (!plan_is_shown) print_plan(job, settings, plan);
  Json j = json_of(job, settings, plan);
  const CompressReport report = compress(job.source, passes, options, job.progress);
  auto phases = job.phases.seconds();
  phases.insert(phases.end(), report.seconds.begin(), report.seconds.end());
  j["file_bytes"] = report.file_bytes;
  j["seconds"] = job.seconds();
  for (const auto& [name, s] : phases) j["seconds_by_phase"][name] = s;
  j["worst_relative_error"] = report.worst_error;
  j["worst_linear"] = report.worst_linear;
  j["resumed_units"] = report.resumed_units;
  j["fallbacks"] = report.fallbacks;
  j["methods"] = report.methods;
  j["notes"] = report.notes;
  j["check_kl"] = report.check_kl;
  j["check_tokens"] = report.check_tokens;
  if (!o.prints()) return j;
  for (const auto& f : report.fallbacks) say("fallback: {}\n", one_line(f));
  if (report.resumed_units > 0)
    say("went on after {} finished parts of an interrupted run\n", report.resumed_units);
  say("wrote {} in {:.1f} s; largest relative error {:.2e} in {}\n", human_bytes(report.file_bytes),
      job.seconds(), report.worst_error, report.worst_linear);
  if (o.quiet) return j;
  std::string methods, times;
  for (const auto& [name, n] : report.methods)
    methods += fmt::format("{}{} {}", methods.empty() ? "" : ", ", n, name);
  say("layers: {}\n", methods);
  for (const auto& [name, s] : phases)
    times += fmt::format("{}{} {:.1f} s", times.empty() ? "" : ", ", name, s);
  say("time: {}\n", times);
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
  print_linears(o, final, &j);
  o.write_json(j);
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
  for (const auto& side : {o.plan_out, o.costs}) check_side_file(side);
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
    tell("what is done is kept in {}: the same command goes on from there\n",
         one_line(work.path()));
}

// What an earlier run left for this output and this one has no use for goes when this one is done.
void warn_of_unused(const WorkFolder& work, const char* name, const char* what, bool used) {
  const size_t parts = work.records_in(name);
  if (used || parts == 0) return;
  warn(
      fmt::format("{} of an earlier run ({} in {}) is not used by this one, and is discarded when "
                  "this one is done; stop now and run that command again to go on with it",
                  what, counted(parts, "part"), work.path()));
}

// The seed of --seed -1 where an interrupted run goes on: the one it had.
uint64_t seed_of(const QuantizeCommand& o) {
  if (!o.random_seed || o.restart) return o.seed;
  const std::string left = WorkFolder::left_value(o.output, "seed");
  uint64_t seed = o.seed;
  const auto [end, error] = std::from_chars(left.data(), left.data() + left.size(), seed);
  if (error != std::errc() || left.empty()) return o.seed;
  if (!o.quiet) tell("seed {}, as the interrupted run has it\n", seed);
  return seed;
}

// A word as a shell takes it.
std::string quoted(const std::string& word) {
  if (is_plain_word(word)) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return one_line(out + "'");
}

void tell_what_next(const QuantizeCommand& o, const ModelSource& source) {
  if (!o.prints() || o.quiet) return;
  say("to measure what it lost: pith eval kl {} --base {}{} --text FILE\n", quoted(o.output),
      quoted(o.model), o.tokenizer.empty() ? "" : " --tokenizer " + quoted(o.tokenizer));
  if (const std::string how = how_to_get_closer(o, source.spec()); !how.empty()) say("{}\n", how);
}

// Cuts the calibration text into windows, or makes room for those that the model will write: true.
bool prepare_text(Job& job, const std::string& calibration, const Tokenizer* tokenizer,
                  CompressOptions* options) {
  const ModelSource& source = job.source;
  const int64_t count = job.o.nsamples, length = window_length(job.o, source);
  if (calibration == "self") {
    options->calibration.assign(static_cast<size_t>(count),
                                std::vector<int32_t>(static_cast<size_t>(length)));
    job.peaks.text =
        model_bytes(source) + text_cache_bytes(source.spec(), count, length) + (uint64_t{64} << 20);
    return true;
  }
  if (calibration != "none")
    cut_calibration_text(calibration, source, *tokenizer, count, length, options);
  return false;
}

// Everything of a compression that is known before the work.
struct Prepared {
  QuantizeSettings settings;
  CompressOptions options;
  std::optional<Mixed> mixed;
  bool writes_text = false;
};

// The search for types, where there is one. A target that every choice satisfies needs no text.
void prepare_mixed(Job& job, Prepared* to) {
  const QuantizeCommand& o = job.o;
  if (!o.mixed()) return;
  Mixed& mixed =
      to->mixed.emplace(mixed_options_of(o), job.source, to->settings, to->options, job.progress);
  job.goal = mixed.goal();
  if (!mixed.is_loose()) {
    job.peaks.measuring = mixed.memory_bytes() + (uint64_t{64} << 20);
    return;
  }
  warn(mixed.loose_text());
  const bool only_to_measure =
      o.calibration.empty() && passes_for(to->settings).front()->needs_text().empty();
  if (to->writes_text && only_to_measure) {
    to->writes_text = false;
    to->options.calibration.clear();
    job.peaks.text = 0;
  }
}

// Writes the text, measures, and compresses; what became of it.
Json work_on(Job& job, const Tokenizer* tokenizer, WorkFolder& work, Prepared& p) {
  const QuantizeCommand& o = job.o;
  if (p.writes_text) {
    if (!o.quiet) {
      tell("the model writes {} calibration tokens first; --calib FILE is faster\n",
           std::ssize(p.options.calibration) * std::ssize(p.options.calibration.front()));
    }
    write_text(job, tokenizer, work, &p.options);
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

// Opens the work folder, where an interrupted run may have left its parts.
void open_work(const Job& job, const Passes& passes, Prepared& p, WorkFolder& work) {
  p.options.work = &work;
  Fingerprint about = fingerprint_of(job.source, passes, p.options);
  about.erase("calibration text");  // if it is not written yet; compress() looks at all of it
  if (p.mixed) about.erase("overrides");
  work.require_same("finished parts", about);
  warn_of_unused(work, "text", "the calibration text", p.writes_text);
  warn_of_unused(work, "costs", "what choices cost",
                 p.mixed && !p.mixed->is_loose() && !p.mixed->has_costs());
}

void require_other_output(const QuantizeCommand& o, const ModelSource& source) {
  if (same_file(o.model, o.output) || source.reads(o.output))
    fail(ErrorKind::kUsage, "{}: the output is the input", o.output);
  require_not_of_model(o.output, o.model, o.tokenizer);
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
  choose_method(o, source.spec(), text_memory(source, kGptqText) <= most_memory().bytes);
  p.settings.method = parse_method(o.method);
  std::vector<std::string> notes;
  if (!o.mixed()) p.settings = effective_settings(p.settings, &notes);
  for (const auto& n : notes) warn(n);
  const std::string calibration = calibration_of(o, p.settings);
  const auto tokenizer = tokenizer_for(source, calibration != "none" && calibration != "self");

  const auto executor = make_executor(o.executor());
  p.options = options_of(o, executor.get());
  TerminalProgress progress(o.quiet);
  Job job{o, source, progress, begin, {}, "", {}};
  p.writes_text = prepare_text(job, calibration, tokenizer.get(), &p.options);
  warn_of_useless_options(o, p.settings, source, !p.options.calibration.empty());
  prepare_mixed(job, &p);

  const Passes passes = passes_for(p.settings);
  const CompressPlan plan = p.mixed ? p.mixed->plan() : plan_compression(source, passes, p.options);
  check_compression(source, passes, p.options, plan);
  check_memory(plan, job.peaks);
  if (!p.mixed) warn_of_choices(o, p.settings, source, plan);
  if (o.dry_run) {
    return dry_run(job, p.settings, plan, p.mixed ? &*p.mixed : nullptr, p.writes_text, p.options);
  }

  WorkFolder work(o.output, o.restart);
  open_work(job, passes, p, work);
  print_plan(job, p.settings, plan, !p.mixed);
  try {
    const Json report = work_on(job, tokenizer.get(), work, p);
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
