#include "tools/mixed.h"

#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "core/file.h"
#include "runtime/eval/evaluate.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

std::vector<Encoding> usual_candidates() {
  std::vector<Encoding> out;
  for (const char* type : {"int2-g64-asym", "int3-g64-asym", "int4-g64-asym", "int4-g32-asym",
                           "int5-g64", "int6-g64", "int8-g64"}) {
    out.push_back(parse_encoding(type));
  }
  return out;
}

}  // namespace

Mixed::Mixed(const MixedOptions& o, const ModelSource& source, const QuantizeSettings& settings,
             CompressOptions& options, Progress& progress)
    : o_(o), source_(source), settings_(settings), options_(options), progress_(progress) {
  constexpr size_t kTokens = 256, kKept = 4, kStatistics = 8192;
  auto& windows = options.calibration;
  if (o.max_kl > 0) {
    if (windows.size() < 2 * kKept)
      fail(ErrorKind::kUsage,
           "--max-kl keeps {} windows of the calibration text apart: {} are too few", kKept,
           windows.size());
    kept_.assign(windows.end() - kKept, windows.end());
    windows.resize(windows.size() - kKept);
  }
  std::vector<int32_t> probe = windows.front();
  for (size_t i = 1; i < windows.size() && probe.size() < kTokens; ++i)
    probe.insert(probe.end(), windows[i].begin(), windows[i].end());
  probe.resize(std::min({probe.size(), kTokens, static_cast<size_t>(source.spec().context())}));
  std::vector<std::vector<int32_t>> some;
  size_t tokens = 0;
  for (size_t i = 0; i < windows.size() && tokens < kStatistics; ++i) {
    some.push_back(windows[i]);
    tokens += windows[i].size();
  }
  groups_ =
      measure_choices(source, settings, o.candidates.empty() ? usual_candidates() : o.candidates,
                      probe, some, progress);
  if (groups_.empty()) fail(ErrorKind::kUsage, "mixed precision: no layer is left to choose for");
}

QuantizeSettings Mixed::chosen(bool final) {
  QuantizeSettings out = settings_;
  std::string lines;
  for (const auto& [name, e] : overrides_of(groups_)) {
    out.overrides.emplace_back(name, e);
    lines += fmt::format("{}={}\n", name, to_string(e));
  }
  if (final && o_.prints) fmt::print("{}", lines);
  if (!o_.plan_out.empty()) write_file(o_.plan_out, std::as_bytes(std::span(lines)));
  return out;
}

CompressPlan Mixed::plan_of_choice() const {
  QuantizeSettings settings = settings_;
  for (const auto& o : overrides_of(groups_)) settings.overrides.push_back(o);
  Passes passes;
  passes.push_back(make_quantize_pass(settings));
  return plan_compression(source_, passes, {});
}

QuantizeSettings Mixed::for_size() {
  // What the choices make beside their own bytes (the tokenizer, other planes, alignment, the
  // manifest) is seen from the plan of a choice: so choose, look, and choose again with what is
  // left.
  constexpr uint64_t kRecord = 520;  // of a linear in the manifest, and of its vectors
  const auto size = [&] {
    const CompressPlan plan = plan_of_choice();
    if (o_.target_bytes > 0) return plan.output_bytes + plan.linears.size() * kRecord;
    uint64_t planes = 0;
    for (const auto& l : plan.linears) planes += l.bytes;
    return planes;
  };
  uint64_t weights = 0;
  for (const auto& info : linears_of(source_.spec()))
    weights += static_cast<uint64_t>(info.n * info.k);
  const auto target = o_.target_bytes > 0
                          ? o_.target_bytes
                          : static_cast<uint64_t>(o_.target_bpw * static_cast<double>(weights) / 8);
  choose_for_bytes(groups_, 0);  // the smallest
  if (size() > target) {
    fail(ErrorKind::kUsage, "{} cannot be had: the smallest choices make {}", human_bytes(target),
         human_bytes(size()));
  }
  for (int i = 0; i < 4; ++i) choose_for_bytes(groups_, chosen_bytes(groups_) + target - size());
  return chosen(true);
}

double Mixed::measure() {
  const Model base = load_model(source_);
  const auto packed = open_model(options_.output);
  const Model model = load_model(*packed);
  std::vector<Window> windows;
  for (const auto& w : kept_) windows.push_back({w, 0});
  const auto executor = make_cpu_executor();
  return evaluate_kl(*executor, base, model, windows, progress_).kl_mean;
}

void Mixed::search_for_kl(const std::function<void(const QuantizeSettings&)>& compress) {
  double ratio = 1;  // of what comes out to the sum of the costs: methods do better than rtn
  for (int i = 0; i < 5; ++i) {
    const bool enough = choose_for_kl(groups_, o_.max_kl / ratio);
    compress(chosen(false));
    const double kl = measure();
    if (o_.prints)
      fmt::print("KL divergence {:.5f} on {} windows that were kept apart (asked for: {:.5f})\n",
                 kl, kept_.size(), o_.max_kl);
    if (std::fabs(kl / o_.max_kl - 1) <= 0.1) return;
    if (enough && kl < o_.max_kl && chosen_bytes(groups_) == [&] {
          auto smallest = groups_;
          for (auto& g : smallest) g.chosen = 0;
          return chosen_bytes(smallest);
        }()) {
      return;  // nothing smaller to choose
    }
    if (!enough && kl > o_.max_kl) {
      fail(ErrorKind::kNumeric, "a KL divergence of {} cannot be had from these candidates: {:.5f}",
           o_.max_kl, kl);
    }
    ratio = kl / chosen_kl(groups_);
  }
  warn(fmt::format("the KL divergence did not come within 10 % of {}", o_.max_kl));
}

}  // namespace pith::tools
