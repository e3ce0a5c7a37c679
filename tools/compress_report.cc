#include "tools/compress_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/file.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

// A word as a shell takes it.
std::string quoted(const std::string& word) {
  if (is_plain_word(word)) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return one_line(out + "'");
}

// How long the work takes; nothing without a text, and on a GPU.
std::optional<double> estimated_seconds(const Job& job, const CompressPlan& plan) {
  if (!job.work || job.o.executor().cuda || plan.calibration_tokens == 0) return {};
  return seconds_for(
      operations_of(job.source.spec(), *job.work, {plan.calibration_tokens, 1}, job.written_share));
}

}  // namespace

void print_plan(const Job& job, const CompressPlan& plan, bool plan_is_final) {
  const CompressCommand& o = job.o;
  if (!o.prints()) return;
  say("{} -> {}: {}{}\n", one_line(o.model), one_line(o.output), job.title,
      plan_is_final ? fmt::format(", {:.3f} bits per weight", plan.bits_per_weight) : "");
  say("plan: output {}{}, memory {}, disk {}{}{}\n", plan_is_final ? "" : "at most ",
      human_bytes(plan.output_bytes), human_bytes(peak_of(plan, job.peaks)),
      human_bytes(plan.disk_bytes),
      plan.gpu_bytes ? ", GPU memory " + human_bytes(plan.gpu_bytes) : "",
      plan.calibration_tokens ? fmt::format(", {} calibration tokens", plan.calibration_tokens)
                              : "");
  if (const auto seconds = estimated_seconds(job, plan))
    say("time: {} where nothing else runs{}\n", about_time(*seconds), job.hint);
  if (file_exists(o.output)) say("replaces {}\n", one_line(o.output));
  flush_out();
}

Json json_of(const Job& job, const CompressPlan& plan) {
  const auto seconds = estimated_seconds(job, plan);
  Json j = {{"source", job.o.model},
            {"output", job.o.output},
            {"seed", job.o.seed},
            {"parameters", parameter_count(job.source.spec())},
            {"bits_per_weight", plan.bits_per_weight},
            {"source_bytes", plan.source_bytes},
            {"planned_output_bytes", plan.output_bytes},
            {"planned_memory_bytes", peak_of(plan, job.peaks)},
            {"planned_disk_bytes", plan.disk_bytes},
            {"planned_gpu_bytes", plan.gpu_bytes},
            {"planned_seconds", seconds ? Json(*seconds) : Json(nullptr)},
            {"calibration_tokens", plan.calibration_tokens}};
  j.update(job.about);
  return j;
}

void report_linears(const CompressCommand& o, const CompressPlan& plan, Json* j) {
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

void report_result(const Job& job, const CompressReport& report, Json* j) {
  const CompressCommand& o = job.o;
  auto phases = job.phases.seconds();
  phases.insert(phases.end(), report.seconds.begin(), report.seconds.end());
  (*j)["file_bytes"] = report.file_bytes;
  (*j)["seconds"] = job.seconds();
  for (const auto& [name, s] : phases) (*j)["seconds_by_phase"][name] = s;
  (*j)["worst_relative_error"] = report.worst_error;
  (*j)["worst_linear"] = report.worst_linear;
  (*j)["resumed_units"] = report.resumed_units;
  (*j)["fallbacks"] = report.fallbacks;
  (*j)["methods"] = report.methods;
  (*j)["notes"] = report.notes;
  (*j)["check_kl"] = report.check_kl;
  (*j)["check_tokens"] = report.check_tokens;
  if (!o.prints()) return;
  for (const auto& f : report.fallbacks) say("fallback: {}\n", one_line(f));
  if (report.resumed_units > 0)
    say("went on after {} finished parts of an interrupted run\n", report.resumed_units);
  say("wrote {} in {:.1f} s; largest relative error {:.2e} in {}\n", human_bytes(report.file_bytes),
      job.seconds(), report.worst_error, report.worst_linear);
  if (o.quiet) return;
  std::string methods, times;
  for (const auto& [name, n] : report.methods)
    methods += fmt::format("{}{} {}", methods.empty() ? "" : ", ", n, name);
  say("layers: {}\n", methods);
  for (const auto& [name, s] : phases)
    times += fmt::format("{}{} {:.1f} s", times.empty() ? "" : ", ", name, s);
  say("time: {}\n", times);
}

void tell_what_next(const CompressCommand& o) {
  if (!o.prints() || o.quiet) return;
  say("to measure what it lost: pith eval kl {} --base {}{} --text FILE\n", quoted(o.output),
      quoted(o.model), o.tokenizer.empty() ? "" : " --tokenizer " + quoted(o.tokenizer));
}

}  // namespace pith::tools
