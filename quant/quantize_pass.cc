#include "quant/quantize_pass.h"

#include <fnmatch.h>

#include <algorithm>
#include <cmath>

#include "core/buffer.h"
#include "core/bytes.h"
#include "core/error.h"
#include "core/parallel.h"
#include "formats/tokenizer/regex.h"
#include "runtime/compress/check.h"
#include "runtime/compress/decode.h"
#include "runtime/cpu/cpu_algebra.h"

namespace pith {
namespace {

class QuantizePass final : public Pass {
 public:
  explicit QuantizePass(const QuantizeSettings& settings)
      : settings_(settings),
        scaling_(find_scaling(settings.method)),
        method_(find_method(settings.method)) {}

  std::string recipe() const override {
    // Every setting is named, so that a new one does not compile before it is handled here.
    const auto& [linears, embedding, head, method, smooth_alpha, input, gptq, ignore, overrides] =
        settings_;
    const auto& [damping, order, search, static_groups, refine, correct_inputs] = gptq;
    std::string text = fmt::format(
        "  - quantize:\n      method: {}\n      linears: {}\n      embedding: {}\n      head: {}\n",
        method, to_string(linears), to_string(embedding), to_string(head));
    if (method_.stage != nullptr) {
      text += fmt::format(
          "      damping: {}\n      order: {}\n      search: {}\n      static_groups: {}\n"
          "      refine: {}\n      correct_inputs: {}\n",
          damping, order, search, static_groups, refine, correct_inputs);
    }
    if (input.rounds()) text += fmt::format("      inputs: {}\n", to_string(input));
    if (scaling_ != nullptr) text += fmt::format("      smooth_alpha: {}\n", smooth_alpha);
    if (!ignore.empty()) text += "      ignore:\n";
    for (const auto& p : ignore) text += fmt::format("        - \"{}\"\n", p);
    if (!overrides.empty()) text += "      overrides:\n";
    for (const auto& [p, e] : overrides)
      text += fmt::format("        - [\"{}\", {}]\n", p, to_string(e));
    return text;
  }

  std::string needs_text() const override {
    if (method_.stage != nullptr || scaling_ != nullptr) {
      return fmt::format(
          "{} needs a calibration text: --calib FILE, or leave --calib out and the "
          "model writes one",
          settings_.method);
    }
    if (settings_.input.rounds() && settings_.input.scale == InputScale::kTensor) {
      return "a constant scale of inputs comes from a calibration text: --calib FILE, or leave "
             "--calib out and the model writes one";
    }
    return "";
  }

  StatisticsNeeds needs() const override {
    StatisticsNeeds all = method_.needs;
    if (scaling_ != nullptr) all = all | scaling_->needs;
    if (method_.needs.gram && settings_.gptq.correct_inputs > 0) all.cross_gram = true;
    if (settings_.input.rounds() && settings_.input.scale == InputScale::kTensor)
      all.mean_square = true;
    return all;
  }
  uint64_t working_bytes(int64_t k) const override {
    if (!method_.needs.gram) return 0;
    // Input correction: products with the original inputs, the same of held-out windows, and what
    // is solved for, in f64 and in f32; as much again for hidden states where they are missed.
    const auto n = static_cast<uint64_t>(k);
    return GptqFactor::working_bytes(k) + (settings_.gptq.correct_inputs > 0 ? n * n * 56 : 0);
  }

  uint64_t gpu_working_bytes(int64_t n, int64_t k) const override {
    return method_.needs.gram ? gptq_gpu_bytes(n, k, gptq_group(settings_.linears, k)) : 0;
  }

  std::optional<Encoding> encoding(const LinearInfo& info) const override {
    for (const auto& p : settings_.ignore) {
      if (matches_linear(p, info)) return std::nullopt;
    }
    if (info.part() >= 0 && scaling_ != nullptr) {
      fail(ErrorKind::kUnsupported,
           "{}: {} does not know mixtures of experts or latent attention; gptq and rtn do",
           info.name, settings_.method);
    }
    bool rounds = !is_gate(info.role);
    Encoding e = info.role == LinearRole::kEmbedding ? settings_.embedding
                 : info.role == LinearRole::kHead    ? settings_.head
                                                     : settings_.linears;
    for (const auto& [p, by_name] : settings_.overrides) {
      if (!matches_linear(p, info)) continue;
      e = by_name;
      rounds = true;
    }
    return rounds ? std::optional(e) : std::nullopt;
  }

  bool prepare(const proto::Sublayer& spec, std::span<const Stage> stages, Block& block,
               Calibration* calibration) override {
    if (scaling_ == nullptr || calibration == nullptr) return false;
    for (const auto& stage : stages)
      scaling_->apply({settings_, spec, stage, encodings_of(stage), block, *calibration});
    return true;
  }

  void apply(const Stage& stage, Block& block, Calibration* calibration,
             PassReport& report) override {
    const auto encodings = encodings_of(stage);
    if (std::ranges::none_of(encodings, [](const auto& e) { return e.has_value(); })) return;
    const InputEncoding input = input_of(stage, calibration);
    round({settings_, stage, encodings, block, calibration, report, input});
    for (size_t i = 0; i < encodings.size(); ++i) {
      const auto& info = stage.linears[i];
      if (encodings[i]) find_linear(block, info).input = input;
    }
  }

  // With the scale of a constant one from the text.
  InputEncoding input_of(const Stage& stage, Calibration* calibration) const {
    InputEncoding input = settings_.input;
    if (!input.rounds() || input.scale != InputScale::kTensor) return input;
    if (calibration == nullptr) {
      fail(ErrorKind::kUsage, "a constant scale of inputs comes from calibration: --calib");
    }
    const auto s = calibration->inputs(stage, {.mean_square = true});
    if (s.tokens == 0) {
      fail(ErrorKind::kUsage,
           "{}: no token of the calibration text came to it, and a constant scale of its inputs "
           "was asked for",
           stage.linears.front().name);
    }
    input.value = tensor_scale(input, *std::ranges::max_element(s.absmax));
    return input;
  }

  void round(const StageJob& job) const {
    const Stage& stage = job.stage;
    Calibration* calibration = job.calibration;
    if (method_.stage != nullptr && calibration != nullptr) return method_.stage(job);
    std::vector<float> weights;
    if (method_.needs.mean_square && calibration != nullptr)
      weights = channel_weights(calibration->inputs(stage, {.mean_square = true}));
    LinearReport done{.method = row_method(), .fallback = {}, .rows = {}};
    if (!weights.empty()) done.method += " weighted by inputs";
    for (size_t i = 0; i < stage.linears.size(); ++i)
      encode_linear(job, i, method_.encode, weights.empty() ? nullptr : weights.data(), done);
  }

  void begin_table(const LinearInfo& info, const Encoding& e,
                   const InputStatistics* inputs) override {
    table_weights_.clear();
    table_factor_.reset();
    if (inputs == nullptr) return;
    table_weights_ = channel_weights(*inputs);
    if (!inputs->gram.empty() && gptq_takes(e)) {
      // A tied table is looked up as well, where every column counts alike: damping is that. 3 to
      // 10 did best of 0.01 to 10 on TinyStories-656K, where 0.01 is worse than plain rounding.
      GptqOptions options = settings_.gptq;
      if (info.role == LinearRole::kEmbedding) options.damping = 5;
      table_factor_ = GptqFactor::make(cpu_algebra(), inputs->gram.data(), info.k,
                                       gptq_group(e, info.k), options);
    }
  }

  std::string encode_rows(const LinearInfo& info, const Encoding& e, int64_t row, int64_t rows,
                          const float* w, float tensor_absmax, MutablePlanes to,
                          uint64_t* meant) override {
    const float* weights = table_weights_.empty() ? nullptr : table_weights_.data();
    const RowJob job{e, info.n, info.k, row, rows, w, weights, tensor_absmax, to, meant};
    try {
      if (table_factor_) {
        table_factor_->encode(settings_.gptq, job);
        return "gptq";
      }
      method_.encode(job);
    } catch (const Error& error) {
      throw Error(error.kind(), info.name + ": " + error.what());
    }
    return weights == nullptr ? row_method() : row_method() + " weighted by inputs";
  }

 private:
  // What the method does row by row: without a text, and to tables.
  std::string row_method() const { return method_.stage == nullptr ? method_.name : "rtn"; }

  std::vector<std::optional<Encoding>> encodings_of(const Stage& stage) const {
    std::vector<std::optional<Encoding>> out;
    for (const auto& info : stage.linears) out.push_back(encoding(info));
    return out;
  }
  // The scaling in "awq", "awq+gptq"; null where there is none.
  static const Scaling* find_scaling(const std::string& method) {
    const std::string first = method.substr(0, method.find('+'));
    for (const auto& s : scalings()) {
      if (first == s.name) return &s;
    }
    if (first.size() < method.size())
      fail(ErrorKind::kUsage, "method \"{}\": {} is not a scaling (awq, smoothquant)", method,
           first);
    return nullptr;
  }

  QuantizeSettings settings_;
  const Scaling* scaling_;
  const Method& method_;
  std::vector<float> table_weights_;  // of the embedding or head that is being encoded
  std::unique_ptr<GptqFactor> table_factor_;
};

}  // namespace

float absmax_of(const Linear& linear) {
  std::vector<float> maxima(static_cast<size_t>(linear.n));
  parallel_for(linear.n, [&](int64_t r) {
    thread_local Buffer<float> w;
    w.require(linear.k);
    fast_rows(linear, r, 1, w.data());
    for (int64_t i = 0; i < linear.k; ++i)
      maxima[static_cast<size_t>(r)] = std::max(maxima[static_cast<size_t>(r)], std::fabs(w[i]));
  });
  return *std::ranges::max_element(maxima);
}

OwnedWeight encode_rows_of(const Linear& linear, const Encoding& e, void (*encode)(const RowJob&),
                           const float* channel_weight, uint64_t* meant) {
  const float absmax = e.has_tensor_scale() ? absmax_of(linear) : 0;
  OwnedWeight result = allocate_weight(e, linear.n, linear.k);
  parallel_ranges(linear.n, slab_rows(e, linear.n, linear.k), [&](int64_t begin, int64_t end) {
    thread_local Buffer<float> w;
    w.require((end - begin) * linear.k);
    fast_rows(linear, begin, end - begin, w.data());
    check_finite(linear.name, begin, linear.k,
                 {w.data(), static_cast<size_t>((end - begin) * linear.k)});
    try {
      encode({e, linear.n, linear.k, begin, end - begin, w.data(), channel_weight, absmax,
              result.planes, meant == nullptr ? nullptr : meant + begin});
    } catch (const Error& error) {
      throw Error(error.kind(), linear.name + ": " + error.what());
    }
  });
  return result;
}

void encode_linear(const StageJob& job, size_t index, void (*encode)(const RowJob&),
                   const float* channel_weight, const LinearReport& report) {
  if (!job.encodings[index]) return;
  const LinearInfo& info = job.stage.linears[index];
  Linear& linear = find_linear(job.block, info);
  LinearReport done = report;
  done.rows.resize(static_cast<size_t>(info.n));
  set_weight(linear, encode_rows_of(linear, *job.encodings[index], encode, channel_weight,
                                    done.rows.data()));
  if (done.rows[0] == 0) done.rows.clear();  // the method does not say
  job.report[info.name] = std::move(done);
}

std::vector<float> channel_weights(const InputStatistics& s) {
  double mean = 0;
  for (const double v : s.mean_square) mean += v;
  mean /= static_cast<double>(std::max<size_t>(1, s.mean_square.size()));
  std::vector<float> out;
  if (mean <= 0) return out;
  for (const double v : s.mean_square) out.push_back(static_cast<float>(std::max(v / mean, 1e-6)));
  return out;
}

bool matches_linear(const std::string& pattern, const LinearInfo& info) {
  if (pattern.starts_with("re:")) {
    bool found = false;
    Regex(pattern.substr(3), "pattern").for_each_match(info.name, [&](size_t, size_t) {
      found = true;
    });
    return found;
  }
  if (pattern == "lm_head") return info.role == LinearRole::kHead;
  if (pattern == "embed_tokens") return info.role == LinearRole::kEmbedding;
  return pattern == role_name(info.role) || ::fnmatch(pattern.c_str(), info.name.c_str(), 0) == 0;
}

QuantizeSettings effective_settings(const QuantizeSettings& settings,
                                    std::vector<std::string>* notes) {
  QuantizeSettings out = settings;
  std::vector<Encoding> types = {settings.linears};
  for (const auto& o : settings.overrides) types.push_back(o.second);
  const auto note = [&](const std::string& line) {
    if (notes != nullptr) notes->push_back(line);
  };
  const auto none = [&](auto takes) { return std::ranges::none_of(types, takes); };
  const std::string type = to_string(settings.linears);
  const bool scales =
      out.method.find('+') != std::string::npos ||
      std::ranges::any_of(scalings(), [&](const Scaling& s) { return out.method == s.name; });
  // Dense numbers are rounded to the nearest: there is nothing to choose.
  if (none([](const Encoding& e) { return e.kind != EncodingKind::kDense; }) &&
      (scales || find_method(out.method).stage != nullptr)) {
    note(fmt::format("{} changes nothing for {}: plain rounding, without a calibration text",
                     out.method, type));
    out.method = "rtn";
    return out;
  }
  if (find_method(out.method).stage != nullptr && none(gptq_takes)) {
    const size_t plus = out.method.find('+');
    const std::string instead =
        plus == std::string::npos ? "rtn" : out.method.substr(0, plus) + "+rtn";
    note(fmt::format("gptq does not round {}: {} instead of {}, weighted by inputs on the text",
                     type, instead, out.method));
    out.method = instead;
  }
  return out;
}

std::unique_ptr<Pass> make_quantize_pass(const QuantizeSettings& settings) {
  find_method(settings.method);  // a wrong name is said first
  return std::make_unique<QuantizePass>(effective_settings(settings));
}

}  // namespace pith
