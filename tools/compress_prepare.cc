#include "tools/compress_prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "core/file.h"
#include "core/limits.h"
#include "runtime/compress/fingerprint.h"
#include "tools/outputs.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

int64_t window_length(const CompressCommand& o, const ModelSource& source) {
  return std::min<int64_t>(o.seqlen, static_cast<int64_t>(source.spec().context()));
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

void check_outputs(const CompressCommand& o) {
  if (!same_file(o.model, o.output)) {
    if (is_folder(o.output)) fail(ErrorKind::kUsage, "{}: the output is a folder", o.output);
    if (resolve_output(o.output).special)
      fail(ErrorKind::kUsage, "{}: the output is not a regular file", o.output);
  }
  for (const auto& side : o.side_files) check_side_file(side);
  for (const auto& input : calibration_inputs(o.calibration)) {
    if (input.kind != CalibrationInput::Kind::kFile || input.name == "-") continue;
    std::vector<std::string> outputs = o.side_files;
    outputs.insert(outputs.end(), {o.output, o.json});
    for (const auto& output : outputs) {
      if (!output.empty() && same_file(output, input.name))
        fail(ErrorKind::kUsage, "{}: is the calibration text", output);
    }
  }
}

void require_other_output(const CompressCommand& o, const ModelSource& source) {
  if (same_file(o.model, o.output) || source.reads(o.output))
    fail(ErrorKind::kUsage, "{}: the output is the input", o.output);
  require_not_of_model(o.output, o.model, o.tokenizer);
}

uint64_t seed_of(const CompressCommand& o) {
  if (!o.random_seed || o.restart) return o.seed;
  const std::string left = WorkFolder::left_value(o.output, "seed");
  uint64_t seed = o.seed;
  const auto [end, error] = std::from_chars(left.data(), left.data() + left.size(), seed);
  if (error != std::errc() || left.empty()) return o.seed;
  if (!o.quiet) tell("seed {}, as the interrupted run has it\n", seed);
  return seed;
}

std::string text_needed_by(const Passes& passes) {
  for (const auto& p : passes) {
    if (const std::string why = p->needs_text(); !why.empty()) return why;
  }
  return "";
}

CalibrationInputs calibration_of(const CompressCommand& o, const std::string& why) {
  if (o.calibration.empty())
    return why.empty() ? CalibrationInputs() : calibration_inputs(o.standard_text);
  const CalibrationInputs inputs = calibration_inputs(o.calibration);
  if (inputs.empty() && !why.empty()) fail(ErrorKind::kUsage, "{}", why);
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

CompressOptions options_of(const CompressCommand& o, Executor* executor) {
  CompressOptions options;
  options.output = o.output;
  options.executor = executor;
  options.seed = o.seed;
  if (!o.memory.empty()) options.memory = size_of("--memory", o.memory);
  options.max_fallbacks = o.max_fallbacks;
  options.sequential = !o.no_sequential;
  options.propagate = !o.no_propagate;
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

void check_memory(const Peaks& peaks, uint64_t peak) {
  require_memory(peaks.text, "the model that writes its calibration text",
                 "--calib FILE takes a text instead");
  require_memory(peaks.measuring, "measuring what choices cost");
  if (const std::string low = memory_warning(peak, "this compression"); !low.empty()) warn(low);
}

void open_work(const Job& job, const Passes& passes, Prepared& p, WorkFolder& work,
               const std::vector<const char*>& open, bool uses_costs) {
  p.options.work = &work;
  Fingerprint about = fingerprint_of(job.source, passes, p.options);
  // They are not known where a text is not written yet; compress() looks at all of it.
  if (p.text.count > 0) {
    about.erase("texts");
    about.erase("calibration text");
  }
  for (const char* key : open) about.erase(key);
  work.require_same("finished parts", about);
  warn_of_unused(work, "text", "the calibration text", p.text.count > 0);
  warn_of_unused(work, "costs", "what choices cost", uses_costs);
}

}  // namespace pith::tools
