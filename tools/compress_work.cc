#include "tools/compress_work.h"

#include <fmt/format.h>

#include "core/bytes.h"
#include "core/error.h"
#include "core/hash.h"
#include "runtime/compress/check.h"
#include "runtime/compress/fingerprint.h"
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

void tell_what_is_kept(const WorkFolder& work) {
  if (work.has_work())
    tell("what is done is kept in {}: the same command goes on from there\n",
         one_line(work.path()));
}

}  // namespace

Json compress_once(Job& job, const Passes& passes, const CompressOptions& options,
                   bool plan_is_shown) {
  const CompressPlan plan = plan_compression(job.source, passes, options);
  if (!plan_is_shown) print_plan(job, plan);
  Json j = json_of(job, plan);
  report_result(job, compress(job.source, passes, options, job.progress), &j);
  return j;
}

void show_plan(const Job& job, const CompressPlan& plan) {
  print_plan(job, plan);
  Json j = json_of(job, plan);
  report_linears(job.o, plan, &j);
  job.o.write_json(j);
}

void work_on(Job& job, const Passes& passes, const CompressPlan& plan, bool plan_is_final,
             const std::vector<const char*>& open, bool uses_costs, Prepared& p,
             FunctionRef<Json()> compress) {
  WorkFolder work(job.o.output, job.o.restart);
  open_work(job, passes, p, work, open, uses_costs);
  print_plan(job, plan, plan_is_final);
  try {
    if (p.text.count > 0) {
      if (!job.o.quiet) {
        tell("the model writes {} calibration tokens first; --calib FILE is faster\n",
             p.text.count * p.text.length);
      }
      write_text(job, p.text, work, &p.options);
    }
    const Json report = compress();
    if (const std::string left = work.remove(); !left.empty()) warn(left);
    tell_what_next(job.o);
    job.o.write_json(report);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kUsage) tell_what_is_kept(work);
    throw;
  }
}

}  // namespace pith::tools
