#include "tools/mixed.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "core/bytes.h"
#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/json.h"
#include "formats/printable.h"
#include "runtime/compress/fingerprint.h"
#include "runtime/eval/evaluate.h"
#include "tools/interrupt.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

// Up to 4 bits trellis codes lose least; from 5 bits on there are integers.
std::vector<Encoding> usual_candidates() {
  std::vector<Encoding> out;
  for (const char* type : {"tcq2-g64", "tcq3-g64", "tcq4-g64", "tcq4-g32", "int5-g64",
                           "int5-g64-asym", "int6-g64", "int6-g64-asym", "int8-g64"}) {
    out.push_back(parse_encoding(type));
  }
  return out;
}

Json json_of(const AllocationGroup& g) {
  Json group;
  for (const auto& info : g.linears) group["linears"].push_back(info.name);
  for (const auto& c : g.choices) {
    group["choices"].push_back({{"type", to_string(c.encoding)},
                                {"bytes", c.bytes},
                                {"kl", c.kl},
                                {"error", c.error},
                                {"measured", c.measured}});
  }
  return group;
}

void write_costs(const std::string& path, const std::string& key,
                 const std::vector<AllocationGroup>& groups) {
  Json j = {{"of", key}, {"groups", Json::array()}};
  for (const auto& g : groups) j["groups"].push_back(json_of(g));
  const std::string text = j.dump(1) + "\n";
  write_file(path, std::as_bytes(std::span(text)), interrupt());
}

AllocationGroup group_from(const Json& group, const std::map<std::string, LinearInfo>& infos,
                           const std::string& path) {
  AllocationGroup g;
  for (const auto& name : json_member(group, "linears", path)) {
    const auto it = name.is_string() ? infos.find(name.get<std::string>()) : infos.end();
    if (it == infos.end())
      fail(ErrorKind::kCorrupt, "{}: no such linear: {}", path, printable(name.dump()));
    g.linears.push_back(it->second);
  }
  for (const auto& choice : json_member(group, "choices", path)) {
    Choice& c = g.choices.emplace_back();
    try {
      c.encoding = parse_encoding(json_string(choice, "type", path));
    } catch (const Error& e) {
      throw Error(ErrorKind::kCorrupt, path + ": " + e.what());
    }
    c.kl = json_number(choice, "kl", path);
    c.error = json_number(choice, "error", path, 0.0);
    if (!(c.kl >= 0 && c.error >= 0) || std::isinf(c.kl) || std::isinf(c.error)) {
      fail(ErrorKind::kCorrupt, "{}: a cost of {} and an error of {}", path, c.kl, c.error);
    }
    for (const auto& info : g.linears) c.bytes += encoded_bytes(c.encoding, info.n, info.k);
  }
  if (g.linears.empty() || g.choices.empty() ||
      !std::ranges::is_sorted(g.choices, std::less_equal{}, &Choice::bytes)) {
    fail(ErrorKind::kCorrupt, "{}: a group without linears, or choices that are not in order",
         path);
  }
  return g;
}

std::map<std::string, LinearInfo> linears_by_name(const proto::ModelSpec& spec) {
  std::map<std::string, LinearInfo> infos;
  for (const auto& info : linears_of(spec)) infos.emplace(info.name, info);
  return infos;
}

std::vector<AllocationGroup> read_costs(const std::string& path, const std::string& key,
                                        const proto::ModelSpec& spec) {
  constexpr uint64_t kMax = 64 << 20;
  const Json j = parse_json(read_text_file(path, kMax), path);
  if (json_string(j, "of", path) != key) {
    fail(ErrorKind::kUsage,
         "{}: the costs of another model, text, method or other candidates; remove it to measure "
         "again",
         path);
  }
  const auto infos = linears_by_name(spec);
  std::vector<AllocationGroup> groups;
  for (const auto& group : json_member(j, "groups", path))
    groups.push_back(group_from(group, infos, path));
  return groups;
}

}  // namespace

constexpr size_t kKept = 4;  // windows that --max-kl measures the result on

Mixed::Mixed(const MixedOptions& o, const ModelSource& source, const QuantizeSettings& settings,
             CompressOptions& options, Progress& progress)
    : o_(o),
      source_(source),
      settings_(settings),
      options_(options),
      progress_(progress),
      candidates_(o.candidates.empty() ? usual_candidates() : o.candidates) {
  const size_t windows = options.calibration.size();
  if (windows == 0) fail(ErrorKind::kUsage, "mixed precision measures on text: --calib");
  if (o.max_kl > 0 && windows < 2 * kKept) {
    fail(ErrorKind::kUsage,
         "--max-kl keeps {} windows of the calibration text apart: {} are too few", kKept, windows);
  }
  require_possible();
  loose_ = target() > 0 && size_with(largest()) <= target();
}

std::string Mixed::goal() const {
  if (o_.target_bytes > 0) return "a file of at most " + human_bytes(o_.target_bytes);
  if (o_.target_bpw > 0) return fmt::format("at most {:g} bits per weight", o_.target_bpw);
  return fmt::format("a mean KL divergence of about {:g}", o_.max_kl);
}

// Each layer's smallest (or largest) choice, behind what the user said of single layers.
QuantizeSettings Mixed::extreme(bool largest) const {
  QuantizeSettings out = settings_;
  out.overrides.clear();
  for (const auto& info : linears_of(source_.spec())) {
    if (is_gate(info.role)) continue;
    const LinearForm form = source_.form(info);
    const auto bytes = [&](const Encoding& e) {
      return encoded_bytes(rounded_form(form, e), info.n, info.k);
    };
    out.overrides.emplace_back(info.name, largest
                                              ? *std::ranges::max_element(candidates_, {}, bytes)
                                              : *std::ranges::min_element(candidates_, {}, bytes));
  }
  for (const auto& o : settings_.overrides) out.overrides.push_back(o);
  return out;
}
QuantizeSettings Mixed::largest() const { return extreme(true); }

std::string Mixed::loose_text() const {
  return fmt::format("the target is larger than the largest choice: {}; all layers take it",
                     human_bytes(size_with(largest())));
}

CompressPlan Mixed::plan() const {
  Passes passes;
  passes.push_back(make_quantize_pass(largest()));
  CompressPlan plan = plan_compression(source_, passes, options_);
  if (o_.target_bytes > 0) plan.output_bytes = std::min(plan.output_bytes, o_.target_bytes);
  plan.disk_bytes = plan.output_bytes + plan.scratch_bytes;
  return plan;
}

bool Mixed::has_costs() const {
  return !o_.costs.empty() && file_exists(o_.costs) && is_regular_file(o_.costs);
}

Json Mixed::measuring_json() const {
  std::vector<std::vector<int32_t>> probes, some;
  cut(&probes, &some);
  size_t tokens = 0;
  for (const auto& w : probes) tokens += w.size();
  const MeasuringPlan plan = plan_measuring(source_, settings_, candidates_);
  return {{"groups", plan.groups},
          {"types", candidates_.size()},
          {"most_model_runs", plan.runs},
          {"tokens", tokens}};
}

std::string Mixed::measuring_text() const {
  const Json j = measuring_json();
  return fmt::format(
      "{} of layers in {}: at most {} of the model over {} tokens",
      counted(j["groups"].get<uint64_t>(), "group"), counted(j["types"].get<uint64_t>(), "type"),
      counted(j["most_model_runs"].get<uint64_t>(), "run"), j["tokens"].get<uint64_t>());
}

void Mixed::cut(std::vector<std::vector<int32_t>>* probes,
                std::vector<std::vector<int32_t>>* some) const {
  constexpr size_t kTokens = 256, kProbes = 3, kStatistics = 16384;
  const auto& windows = options_.calibration;
  // Measured at the end of the text, rounded by what its beginning says of the inputs.
  for (size_t i = 0; i < std::min(kProbes, windows.size()); ++i) {
    const auto& w = windows[windows.size() - 1 - i];
    probes->emplace_back(w.begin(), w.begin() + static_cast<int64_t>(std::min(kTokens, w.size())));
  }
  size_t tokens = 0;
  for (size_t i = 0; i < windows.size() && tokens < kStatistics; ++i) {
    some->push_back(windows[i]);
    tokens += windows[i].size();
  }
}

Fingerprint Mixed::about_costs(const std::vector<std::vector<int32_t>>& probes,
                               const std::vector<std::vector<int32_t>>& some) const {
  Passes passes;
  passes.push_back(make_quantize_pass(settings_));
  CompressOptions options;
  options.seed = options_.seed;
  options.executor = options_.executor;
  options.calibration = some;
  options.calibration.insert(options.calibration.end(), probes.begin(), probes.end());
  Fingerprint about = fingerprint_of(source_, passes, options);
  for (const auto& e : candidates_) about["candidates"] += to_string(e) + " ";
  return about;
}

uint64_t Mixed::memory_bytes() const {
  std::vector<std::vector<int32_t>> probes, some;
  cut(&probes, &some);
  return measuring_bytes({source_, settings_, candidates_, probes, some});
}

void Mixed::measure() {
  if (loose_) return;
  auto& windows = options_.calibration;
  if (o_.max_kl > 0) {
    kept_.assign(windows.end() - kKept, windows.end());
    windows.resize(windows.size() - kKept);
    options_.domain.resize(std::min(options_.domain.size(), windows.size()));
  }
  std::vector<std::vector<int32_t>> probes, some;
  cut(&probes, &some);
  const Fingerprint about = about_costs(probes, some);
  const std::string key = fmt::format("{:016x}", hash64(as_bytes(fingerprint_text(about))));
  if (has_costs()) {
    groups_ = read_costs(o_.costs, key, source_.spec());
  } else {
    RecordLog log = options_.work->open_log("costs", about);
    const auto infos = linears_by_name(source_.spec());
    std::vector<AllocationGroup> known;
    for (const auto& record : log.records())
      known.push_back(group_from(parse_json(record, log.path()), infos, log.path()));
    groups_ = measure_choices({source_, settings_, candidates_, probes, some}, *options_.executor,
                              progress_, known,
                              [&](const AllocationGroup& g) { log.append(json_of(g).dump()); });
    if (!o_.costs.empty()) write_costs(o_.costs, key, groups_);
  }
  if (groups_.empty()) fail(ErrorKind::kUsage, "mixed precision: no layer is left to choose for");
}

QuantizeSettings Mixed::chosen() const {
  QuantizeSettings out = settings_;
  for (const auto& o : overrides_of(groups_)) out.overrides.push_back(o);
  return out;
}

uint64_t Mixed::target() const {
  if (o_.target_bytes > 0) return o_.target_bytes;
  uint64_t weights = 0;
  for (const auto& info : linears_of(source_.spec()))
    weights += static_cast<uint64_t>(info.n * info.k);
  return static_cast<uint64_t>(o_.target_bpw * static_cast<double>(weights) / 8);
}

uint64_t Mixed::size_with(const QuantizeSettings& settings) const {
  Passes passes;
  passes.push_back(make_quantize_pass(settings));
  const CompressPlan plan = plan_compression(source_, passes, options_);
  if (o_.target_bytes > 0) return plan.output_bytes + plan.fallback_bytes;
  uint64_t planes = 0;
  for (const auto& l : plan.linears) planes += l.bytes;
  return planes;
}

void Mixed::require_possible() const {
  if (target() == 0) return;
  const uint64_t size = size_with(extreme(false));
  if (size > target()) {
    fail(ErrorKind::kUsage, "{} cannot be had: the smallest choices make {}", human_bytes(target()),
         human_bytes(size));
  }
}

void Mixed::tell_choice(const std::vector<std::pair<std::string, Encoding>>& choice) const {
  std::string lines;
  for (const auto& [name, e] : choice) lines += fmt::format("{}={}\n", name, to_string(e));
  if (o_.prints) say("{}", lines);
  if (!o_.plan_out.empty()) write_file(o_.plan_out, std::as_bytes(std::span(lines)), interrupt());
}

QuantizeSettings Mixed::by_costs() {
  if (loose_) {
    tell_choice(largest().overrides);
    return largest();
  }
  if (o_.max_kl > 0) {
    choose_for_kl(groups_, o_.max_kl);
  } else {
    choose_for_size();
  }
  tell_choice(overrides_of(groups_));
  return chosen();
}

void Mixed::choose_for_size() {
  // What the choices make beside their own bytes (the tokenizer, other planes, alignment, the
  // manifest) is seen from the plan of a choice: so choose, look, and choose again with what is
  // left.
  choose_for_bytes(groups_, 0);  // the smallest
  for (int i = 0; i < 4; ++i)
    choose_for_bytes(groups_, chosen_bytes(groups_) + target() - size_with(chosen()));
  // The rest may have grown with the last choice: its names are in the recipe.
  for (uint64_t size = size_with(chosen()); size > target(); size = size_with(chosen())) {
    const uint64_t chosen_now = chosen_bytes(groups_), over = size - target();
    choose_for_bytes(groups_, chosen_now - std::min(chosen_now, over));
    if (chosen_bytes(groups_) == chosen_now) return;  // the smallest
  }
}

double Mixed::measure_result() {
  const Model base = load_model(source_);
  const auto packed = open_model(options_.output);
  const Model model = load_model(*packed);
  std::vector<Window> windows;
  for (const auto& w : kept_) windows.push_back({w, 0});
  const WeightCacheScope held(*options_.executor);
  return evaluate_kl(*options_.executor, base, model, windows, progress_).kl_mean;
}

double Mixed::search_for_kl(const std::function<void(const QuantizeSettings&)>& compress) {
  constexpr int kTries = 5;
  constexpr double kNear = 0.9;  // of the budget
  struct Try {
    double cost, kl;  // the sum of the costs, and what came out
  };
  std::optional<Try> under, over;
  double cost = o_.max_kl;  // to choose for
  const auto attempt = [&] {
    const bool enough = choose_for_kl(groups_, cost);
    compress(chosen());
    const double kl = measure_result();
    if (o_.prints)
      say("KL divergence {:.5f} on {} that were kept apart (asked for: at most {:g})\n", kl,
          counted(kept_.size(), "window"), o_.max_kl);
    if (!enough && kl > o_.max_kl) {
      fail(ErrorKind::kUsage, "a KL divergence of {} cannot be had from these candidates: {:.5f}",
           o_.max_kl, kl);
    }
    (kl > o_.max_kl ? over : under) = Try{chosen_kl(groups_), kl};
    return kl;
  };
  double kl = 0;
  for (int i = 0; i < kTries; ++i) {
    kl = attempt();
    const bool near = kl <= o_.max_kl && kl >= kNear * o_.max_kl;
    const bool no_smaller = kl <= o_.max_kl && chosen_bytes(groups_) == smallest_bytes(groups_);
    if (near || no_smaller) {
      tell_choice(overrides_of(groups_));
      return kl;
    }
    // Aims at the middle of the accepted range.
    const double aim = (1 + kNear) / 2 * o_.max_kl;
    cost = chosen_kl(groups_) * aim / kl;
    if (under && over) {
      const double share = std::log(aim / under->kl) / std::log(over->kl / under->kl);
      cost = under->cost * std::pow(over->cost / under->cost, std::clamp(share, 0.0, 1.0));
    }
  }
  warn(fmt::format(
      "the KL divergence did not come within 10 % of {}: more --candidates lie closer together",
      o_.max_kl));
  // The last try exceeds the budget: returns to the best one within it, or takes the largest
  // choices.
  if (kl > o_.max_kl) {
    cost = under ? under->cost : 0;
    kl = attempt();
  }
  tell_choice(overrides_of(groups_));
  return kl;
}

}  // namespace pith::tools
