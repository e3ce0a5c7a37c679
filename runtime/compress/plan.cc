#include "runtime/compress/plan.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <numeric>

#include "core/error.h"
#include "core/limits.h"
#include "formats/packed_plan.h"
#include "runtime/algebra/algebra.h"
#include "runtime/compress/check.h"
#include "runtime/compress/fingerprint.h"

namespace pith {

LinearForm form_after(const Passes& passes, const LinearInfo& info, const LinearForm& from) {
  LinearForm form = from;
  for (const auto& p : passes) form = p->form(info, form);
  return form;
}

StatisticsNeeds needs_of(const Passes& passes) {
  StatisticsNeeds all;
  for (const auto& p : passes) all = all | p->needs();
  return all;
}

StatisticsNeeds shared_needs(const Passes& passes) {
  const auto asking = std::ranges::count_if(passes, [](const auto& p) { return p->needs().gram; });
  return asking > 1 ? needs_of(passes) : StatisticsNeeds{};
}

bool holds_out(const StatisticsNeeds& needs, const CompressOptions& options) {
  return needs.cross_gram && options.calibration.size() >= kHoldOut;
}

std::vector<bool> held_out_windows(const CompressOptions& options) {
  std::vector<size_t> order(options.calibration.size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (!options.domain.empty())
    std::ranges::stable_sort(order, {}, [&](size_t window) { return options.domain[window]; });
  std::vector<bool> held_out(order.size());
  for (size_t i = kHoldOut - 1; i < order.size(); i += kHoldOut) held_out[order[i]] = true;
  return held_out;
}

namespace {

// Weights of a block and of what it was, in 16 bits; some activations of a window; what passes
// take.
uint64_t gpu_bytes_of(const CompressPlan& plan, const Passes& passes,
                      const CompressOptions& options) {
  constexpr uint64_t kActivations = 8;  // of the widest input
  std::map<int, uint64_t> weights;
  uint64_t widest = 0, working = 0, longest = 0, ahead = 0;
  for (const auto& l : plan.linears) {
    if (l.info.layer < 0) continue;
    if (l.info.part() >= 0) ahead = kStatisticsAhead;
    weights[l.info.layer] += static_cast<uint64_t>(l.info.n * l.info.k);
    widest = std::max(widest, static_cast<uint64_t>(std::max(l.info.n, l.info.k)));
    for (const auto& p : passes) working = std::max(working, p->working(l.info).gpu);
  }
  uint64_t most = 0;
  for (const auto& [layer, n] : weights) most = std::max(most, n);
  for (const auto& w : options.calibration) longest = std::max<uint64_t>(longest, w.size());
  return 4 * most + kActivations * longest * widest * sizeof(float) + working + ahead;
}

// The most that a pass takes for a linear of a block.
uint64_t working_bytes(const CompressPlan& plan, const Passes& passes) {
  uint64_t most = 0;
  for (const auto& l : plan.linears) {
    if (l.info.layer < 0) continue;
    for (const auto& p : passes) most = std::max(most, p->working(l.info).host);
  }
  return most;
}

// Hidden states of the text, and statistics of inputs that are taken ahead.
void add_calibration(const proto::ModelSpec& spec, const Passes& passes,
                     const CompressOptions& options, CompressPlan* plan) {
  const StatisticsNeeds needs = needs_of(passes);
  if (!needs.any()) return;
  uint64_t states = 0;
  for (const auto& w : options.calibration) {
    plan->calibration_tokens += static_cast<int64_t>(w.size());
    states += w.size() * spec.hidden() * sizeof(float);
  }
  // Also those of the uncompressed model, where they are compared with.
  (states > options.memory ? plan->scratch_bytes : plan->memory_bytes) +=
      states * (holds_out(needs, options) ? 2 : 1);
  const bool parts =
      std::ranges::any_of(plan->linears, [](const LinearPlan& l) { return l.info.part() >= 0; });
  if (parts && !options.calibration.empty()) plan->memory_bytes += kStatisticsAhead;
  if (!shared_needs(passes).gram) return;
  // Where originals are compared with, also their products, and all of that of held-out windows.
  uint64_t kept = 0;
  for (const auto& l : plan->linears) {
    if (l.info.layer < 0) continue;
    const auto k = static_cast<uint64_t>(l.info.k);
    const uint64_t compared = holds_out(needs, options) ? 4 * k + 2 * spec.hidden() : k;
    kept = std::max(kept, compared * k * sizeof(float));
  }
  plan->memory_bytes += kept;
}

// The file, with its manifest. Text that methods report is taken at the length that it usually has.
uint64_t planned_bytes(const ModelSource& source, const Passes& passes,
                       const CompressOptions& options, CompressPlan* plan) {
  constexpr size_t kMethod = 24, kMeasuredMethod = 56, kFallback = 96;
  const bool measures = needs_of(passes).gram && !options.calibration.empty();
  PackedPlan file;
  proto::Manifest m;
  *m.mutable_model() = source.spec();
  *m.mutable_provenance() = provenance_of(source, passes, options);
  m.mutable_provenance()->set_source_hash(1);
  if (!options.calibration.empty()) m.mutable_provenance()->set_calibration_hash(1);
  file.add_blobs(blob_sizes(source.tokenizer()), &m);
  file.add_blobs(blob_sizes(source.config_files()), &m);
  for (const auto& l : plan->linears) {
    const LinearInfo& info = l.info;
    auto* record = m.add_linears();
    record->set_name(info.name);
    record->set_n(static_cast<uint64_t>(info.n));
    record->set_k(static_cast<uint64_t>(info.k));
    for (const auto& t : l.to.terms) {
      auto* term = record->add_terms();
      *term->mutable_weight() = file.add_weight(t.weight, t.rank > 0 ? t.rank : info.n, info.k);
      if (t.rank > 0) *term->mutable_up() = file.add_weight(t.up, info.n, t.rank);
    }
    if (info.bias) {
      *record->mutable_bias() =
          file.add_plane(PlaneKind::kCodes, static_cast<uint64_t>(info.n) * sizeof(float));
    }
    if (l.to.input.rounds()) *record->mutable_input() = record_of(l.to.input);
    record->set_relative_error(1);
    // Each pass says what it did.
    record->set_method(std::string(
        (measures ? kMeasuredMethod : kMethod) * std::max<size_t>(1, passes.size()), ' '));
    record->set_expected_hash(1);
    // An expert that no token comes to is rounded otherwise, and says so.
    if (!measures) continue;
    if (info.part() >= 0) {
      record->set_fallback(std::string(kFallback, ' '));
    } else {
      plan->fallback_bytes += kFallback;
    }
  }
  for (const auto& v : vectors_of(source.spec())) {
    auto* record = m.add_vectors();
    record->set_name(v.name);
    record->set_length(static_cast<uint64_t>(v.length));
    *record->mutable_plane() =
        file.add_plane(PlaneKind::kCodes, static_cast<uint64_t>(v.length) * sizeof(float));
  }
  return file.file_bytes(std::move(m));
}

}  // namespace

CompressPlan plan_compression(const ModelSource& source, const Passes& passes,
                              const CompressOptions& options) {
  CompressPlan plan;
  const auto& spec = source.spec();
  check_runs(spec, source.path());
  plan.source_bytes = source.tensor_bytes();
  std::map<int, uint64_t> from_bytes, to_bytes;  // by layer
  uint64_t weights = 0, planes = 0;
  for (const auto& info : linears_of(spec)) {
    LinearPlan p{.info = info, .from = source.form(info), .to = {}};
    p.to = p.from;
    uint64_t on_the_way = 0;  // in the form behind any of the passes
    for (const auto& pass : passes) {
      p.to = pass->form(info, p.to);
      on_the_way = std::max(on_the_way, encoded_bytes(p.to, info.n, info.k));
    }
    p.bytes = encoded_bytes(p.to, info.n, info.k);
    weights += static_cast<uint64_t>(info.n * info.k);
    planes += p.bytes;
    from_bytes[info.layer] += encoded_bytes(p.from, info.n, info.k);
    to_bytes[info.layer] += std::max(on_the_way, p.bytes);
    plan.linears.push_back(std::move(p));
  }
  plan.output_bytes = planned_bytes(source, passes, options, &plan);
  plan.bits_per_weight =
      weights ? 8 * static_cast<double>(planes) / static_cast<double>(weights) : 0;
  uint64_t largest = 0;
  for (const auto& [layer, bytes] : from_bytes) {
    if (layer >= 0) largest = std::max(largest, bytes + to_bytes[layer]);
  }
  constexpr uint64_t kWorking = 64 << 20;
  plan.memory_bytes = largest + kWorking + working_bytes(plan, passes);
  add_calibration(spec, passes, options, &plan);
  if (plan.calibration_tokens > 0 && options.executor != nullptr &&
      !options.executor->algebra().on_host())
    plan.gpu_bytes = gpu_bytes_of(plan, passes, options);
  if (!options.calibration.empty()) {
    plan.memory_bytes +=
        encoded_bytes(plan.linears.front().from, static_cast<int64_t>(spec.vocab()),
                      static_cast<int64_t>(spec.hidden()));
  }
  plan.memory_bytes =
      std::max(plan.memory_bytes, largest + kWorking + check_bytes(source, kCheckTokens));
  plan.disk_bytes = plan.output_bytes + plan.scratch_bytes;
  return plan;
}

void check_compression(const ModelSource& source, const Passes& passes,
                       const CompressOptions& options, const CompressPlan& plan) {
  if (same_file(source.path(), options.output) || source.reads(options.output))
    fail(ErrorKind::kUsage, "{}: the output is the input", options.output);
  if (is_folder(options.output))
    fail(ErrorKind::kUsage, "{}: the output is a folder", options.output);
  const OutputPath output = resolve_output(options.output);
  if (output.special)
    fail(ErrorKind::kUsage, "{}: the output is not a regular file", options.output);
  for (const auto& p : passes) {
    if (const std::string why = p->needs_text(); !why.empty() && plan.calibration_tokens == 0)
      fail(ErrorKind::kUsage, "{}", why);
  }
  const auto vocab = static_cast<int64_t>(source.spec().vocab());
  for (const auto& w : options.calibration) {
    for (const int32_t id : w) {
      if (id < 0 || id >= vocab) {
        fail(ErrorKind::kCorrupt,
             "the calibration text has token {}, and the model knows tokens below {}: the "
             "tokenizer is of another model",
             id, vocab);
      }
    }
  }
  if (plan.gpu_bytes > 0) {
    const uint64_t free = options.executor->algebra().free_bytes().value_or(0);
    if (plan.gpu_bytes > free) {
      fail(ErrorKind::kMemory, "the GPU has {:.1f} MB free of about {:.1f} MB that this takes",
           static_cast<double>(free) / 1e6, static_cast<double>(plan.gpu_bytes) / 1e6);
    }
  }
  require_memory(plan.memory_bytes, "this compression",
                 plan.calibration_tokens > 0
                     ? "--memory SIZE keeps calibration states in a file; fewer --nsamples or a "
                       "shorter --seqlen take less"
                     : "");
  const std::string data = join_path(WorkFolder::path_for(output.path), "data");
  const uint64_t there = is_regular_file(data) ? allocated_bytes(data) : 0;
  const uint64_t free = free_space(output.path);
  if (plan.disk_bytes > there && plan.disk_bytes - there > free) {
    fail(ErrorKind::kNoSpace, "{}: this takes {:.1f} MB of disk, and {:.1f} MB are free: {}",
         WorkFolder::path_for(output.path), static_cast<double>(plan.disk_bytes - there) / 1e6,
         static_cast<double>(free) / 1e6, std::strerror(ENOSPC));
  }
}

}  // namespace pith
