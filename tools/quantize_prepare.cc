#include "tools/quantize_prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "core/file.h"
#include "core/limits.h"
#include "runtime/compress/fingerprint.h"
#include "tools/outputs.h"
#include "tools/quantize_warnings.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

int64_t window_length(const QuantizeCommand& o, const ModelSource& source) {
  return std::min<int64_t>(o.seqlen, static_cast<int64_t>(source.spec().context()));
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

// What an earlier run left for this output and this one has no use for goes when this one is done.
void warn_of_unused(const WorkFolder& work, const char* name, const char* what, bool used) {
  const size_t parts = work.records_in(name);
  if (used || parts == 0) return;
  warn(
      fmt::format("{} of an earlier run ({} in {}) is not used by this one, and is discarded when "
                  "this one is done; stop now and run that command again to go on with it",
                  what, counted(parts, "part"), work.path()));
}

}  // namespace

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
  for (const auto& input : calibration_inputs(o.calibration)) {
    if (input.kind != CalibrationInput::Kind::kFile || input.name == "-") continue;
    for (const auto& output : {o.output, o.json, o.plan_out, o.costs}) {
      if (!output.empty() && same_file(output, input.name))
        fail(ErrorKind::kUsage, "{}: is the calibration text", output);
    }
  }
}

void require_other_output(const QuantizeCommand& o, const ModelSource& source) {
  if (same_file(o.model, o.output) || source.reads(o.output))
    fail(ErrorKind::kUsage, "{}: the output is the input", o.output);
  require_not_of_model(o.output, o.model, o.tokenizer);
}

uint64_t seed_of(const QuantizeCommand& o) {
  if (!o.random_seed || o.restart) return o.seed;
  const std::string left = WorkFolder::left_value(o.output, "seed");
  uint64_t seed = o.seed;
  const auto [end, error] = std::from_chars(left.data(), left.data() + left.size(), seed);
  if (error != std::errc() || left.empty()) return o.seed;
  if (!o.quiet) tell("seed {}, as the interrupted run has it\n", seed);
  return seed;
}

CalibrationInputs calibration_of(const QuantizeCommand& o, const QuantizeSettings& settings) {
  const auto pass = make_quantize_pass(settings);
  const bool needed = !pass->needs_text().empty() || o.mixed();
  if (o.calibration.empty())
    return needed ? calibration_inputs(default_sources()) : CalibrationInputs();
  const CalibrationInputs inputs = calibration_inputs(o.calibration);
  if (inputs.empty() && needed) {
    const std::string why = pass->needs_text();
    fail(ErrorKind::kUsage, "{}",
         !why.empty() ? why
                      : "mixed precision measures on a calibration text: --calib FILE, or leave "
                        "--calib out and the model writes one");
  }
  return inputs;
}

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

uint64_t text_memory(const ModelSource& source, int64_t windows, int64_t length) {
  return model_bytes(source) + text_cache_bytes(source.spec(), windows, length) +
         (uint64_t{64} << 20);
}

void prepare_text(Job& job, const CalibrationInputs& calibration, const Tokenizer* tokenizer,
                  Prepared* to) {
  if (calibration.empty()) return;
  const ModelSource& source = job.source;
  cut_calibration_text(calibration, source, tokenizer, job.o.nsamples, window_length(job.o, source),
                       &to->options);
  to->text = request_of(to->options, source, tokenizer);
  job.written_share = written_share(calibration);
  if (to->text.count > 0) job.peaks.text = text_memory(source, to->text.count, to->text.length);
}

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
  if (only_to_measure) {
    to->text = {};
    to->options.calibration.clear();
    to->options.domain.clear();
    to->options.sources.clear();
    job.peaks.text = 0;
    job.written_share = 0;
  }
}

void check_memory(const Peaks& peaks, uint64_t peak) {
  require_memory(peaks.text, "the model that writes its calibration text",
                 "--calib FILE takes a text instead");
  require_memory(peaks.measuring, "measuring what choices cost");
  if (const std::string low = memory_warning(peak, "this compression"); !low.empty()) warn(low);
}

void open_work(const Job& job, const Passes& passes, Prepared& p, WorkFolder& work) {
  p.options.work = &work;
  Fingerprint about = fingerprint_of(job.source, passes, p.options);
  // They are not known where a text is not written yet; compress() looks at all of it.
  if (p.text.count > 0) {
    about.erase("calibration");
    about.erase("calibration text");
  }
  if (p.mixed) about.erase("overrides");
  work.require_same("finished parts", about);
  warn_of_unused(work, "text", "the calibration text", p.text.count > 0);
  warn_of_unused(work, "costs", "what choices cost",
                 p.mixed && !p.mixed->is_loose() && !p.mixed->has_costs());
}

}  // namespace pith::tools
