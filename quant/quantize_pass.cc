#include "quant/quantize_pass.h"

#include <algorithm>

#include "core/error.h"
#include "runtime/cpu/cpu_algebra.h"
#include "runtime/model/patterns.h"

namespace pith {
namespace {

// Rows of the embedding or head, by what is known of the inputs that it is multiplied with.
class QuantizedTable final : public TableEncoder {
 public:
  // `inputs`: null where nothing is known.
  QuantizedTable(const QuantizeSettings& settings, const LinearInfo& info, const Encoding& e,
                 const InputStatistics* inputs)
      : rounding_(*settings.method.rounding), options_(settings.gptq), info_(info), encoding_(e) {
    if (inputs == nullptr) return;
    weights_ = channel_weights(*inputs);
    if (inputs->gram.empty() || !gptq_takes(e)) return;
    // A tied table is looked up as well, where every column counts alike: damping is that. 3 to 10
    // did best of 0.01 to 10 on TinyStories-656K, where 0.01 is worse than plain rounding.
    GptqOptions options = options_for(e, options_);
    if (info.role == LinearRole::kEmbedding) options.damping = 5;
    factor_ = GptqFactor::make(cpu_algebra(), inputs->gram.data(), info.k, gptq_group(e, info.k),
                               options);
  }

  std::string method() const override {
    if (factor_) return "gptq";
    return row_method(rounding_, encoding_, !weights_.empty());
  }
  void encode(const TableRows& t) const override {
    const RowJob job{encoding_,
                     t.n,
                     info_.k,
                     t.row,
                     t.rows,
                     t.w,
                     weights_.empty() ? nullptr : weights_.data(),
                     t.tensor_absmax,
                     t.to,
                     t.row_hashes};
    try {
      if (factor_) {
        factor_->encode(options_, job);
      } else {
        rounding_.encode(job);
      }
    } catch (const Error& error) {
      throw Error(error.kind(), info_.name + ": " + error.what());
    }
  }

 private:
  const Method& rounding_;
  const GptqOptions options_;
  const LinearInfo info_;
  const Encoding encoding_;
  std::vector<float> weights_;
  std::unique_ptr<GptqFactor> factor_;
};

template <class V>
void describe(V& v, QuantizeSettings& s) {
  // Every setting is named, so that a new one does not compile before it is handled here.
  auto& [linears, embedding, head, method, smooth_alpha, input, gptq, ignore, overrides] = s;
  auto& [damping, shrink, order, search, static_groups, refine, correct_inputs] = gptq;
  v("method", method, "how weights are rounded");
  v("type", linears, "of the linear layers");
  v("embedding_type", embedding, "of the embedding");
  v("head_type", head, "of the output head where it is not tied to the embedding");
  if (V::kReads || method.rounding->stage != nullptr) {
    v("damp_percent", damping, "added to the diagonal of the Hessian, as a share of its mean",
      {0, 10});
    v("shrink", shrink, "how far the Hessian is moved towards its diagonal", {0, 1});
    v("order", order, "columns by activation");
    v("search", search, "scales by search for the least error, not from the range");
    v("static_groups", static_groups, "scales from the original weights");
    v("refine", refine, "rounds of refinement after the sweep", {0, 100});
    v("correct_inputs", correct_inputs, "share of the way to make up for errors of earlier layers",
      {0, 1});
  }
  if (V::kReads || input.rounds()) v("inputs", input, "how inputs are rounded");
  if (V::kReads || method.scaling != nullptr)
    v("smooth_alpha", smooth_alpha, "how much of an outlier moves into the weights", {0, 1});
  v("ignore", ignore, "layers that stay as they are");
  v("tensor_type", overrides, "another type for some layers");
}

class QuantizePass final : public Pass {
 public:
  explicit QuantizePass(const QuantizeSettings& settings)
      : settings_(settings),
        scaling_(settings.method.scaling),
        rounding_(*settings.method.rounding) {}

  std::string recipe() const override {
    SettingsWriter writer("quantize");
    QuantizeSettings settings = settings_;
    describe(writer, settings);
    return writer.text();
  }

  std::string needs_text() const override {
    if (rounding_.stage != nullptr || scaling_ != nullptr) {
      return fmt::format(
          "{} needs a calibration text: --calib FILE, or leave --calib "
          "out",
          settings_.method.name());
    }
    if (settings_.input.rounds() && settings_.input.scale == InputScale::kTensor) {
      return "a constant scale of inputs comes from a calibration text: --calib FILE, or leave "
             "--calib out";
    }
    return "";
  }

  StatisticsNeeds needs() const override {
    StatisticsNeeds all = rounding_.needs;
    if (scaling_ != nullptr) all = all | scaling_->needs;
    if (rounding_.needs.gram && settings_.gptq.correct_inputs > 0) all.cross_gram = true;
    if (settings_.input.rounds() && settings_.input.scale == InputScale::kTensor)
      all.mean_square = true;
    return all;
  }
  PassMemory working(const LinearInfo& info) const override {
    if (!rounding_.needs.gram) return {};
    // Input correction: products with the original inputs, the same of held-out windows, and what
    // is solved for, in f64 and in f32; as much again for hidden states where they are missed.
    const auto k = static_cast<uint64_t>(info.k);
    const uint64_t correction = settings_.gptq.correct_inputs > 0 ? k * k * 56 : 0;
    return {.host = GptqFactor::working_bytes(info.k) + correction,
            .gpu = gptq_gpu_bytes(info.n, info.k, gptq_group(settings_.linears, info.k))};
  }

  LinearForm form(const LinearInfo& info, const LinearForm& so_far) const override {
    const auto e = encoding(info);
    if (!e) return so_far;
    if (e->sparsity.kind == SparsityKind::kBitmap && e->sparsity.kept > info.k) {
      fail(ErrorKind::kUsage, "{}: {} keeps {} columns of each row, and it has {}", info.name,
           to_string(*e), e->sparsity.kept, info.k);
    }
    if (info.layer < 0) return plain_form(*e, so_far.input);
    LinearForm form = rounded_form(so_far, *e);
    form.input = settings_.input;
    return form;
  }

  bool prepare(const SublayerContext& at) override {
    if (scaling_ == nullptr || at.calibration == nullptr) return false;
    for (const auto& stage : at.stages)
      scaling_->apply({settings_, at.spec, stage, encodings_of(stage), at.block, *at.calibration});
    return true;
  }

  void apply(const StageContext& at) override {
    const Stage& stage = at.stage;
    const auto encodings = encodings_of(stage);
    auto rounded = encodings;
    for (size_t i = 0; i < encodings.size(); ++i) {
      if (encodings[i] && stays(find_linear(at.block, stage.linears[i]), *encodings[i], at.masks))
        rounded[i].reset();
    }
    const auto is_any = [](const auto& e) { return e.has_value(); };
    if (std::ranges::none_of(encodings, is_any)) return;
    const InputEncoding input = input_of(stage, at.calibration);
    if (std::ranges::any_of(rounded, is_any)) round(at, {settings_, rounded, input});
    for (size_t i = 0; i < encodings.size(); ++i) {
      if (encodings[i]) find_linear(at.block, stage.linears[i]).input = input;
    }
  }

  std::unique_ptr<TableEncoder> table(const LinearInfo& info, const LinearForm& form,
                                      TableInputs inputs) override {
    if (!encoding(info)) return nullptr;
    return std::make_unique<QuantizedTable>(settings_, info, form.terms.front().weight,
                                            inputs(needs()));
  }

 private:
  // What a linear's weights are rounded to; none: it stays as it is.
  std::optional<Encoding> encoding(const LinearInfo& info) const {
    for (const auto& p : settings_.ignore) {
      if (matches_linear(p, info)) return std::nullopt;
    }
    if (info.part() >= 0 && scaling_ != nullptr) {
      fail(ErrorKind::kUnsupported,
           "{}: {} does not take MoE or MLA (latent attention); gptq and rtn do", info.name,
           settings_.method.name());
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

  // Sparse weights that have this encoding already would only lose by being rounded again.
  static bool stays(const Linear& linear, const Encoding& e, const Masks& masks) {
    return e.is_sparse() && form_of(linear).terms == plain_form(e).terms &&
           find_mask(masks, linear.name) == nullptr;
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

  void round(const StageContext& at, const StageRounding& to) const {
    if (rounding_.stage != nullptr && at.calibration != nullptr) return rounding_.stage(at, to);
    std::vector<float> weights;
    if (rounding_.needs.mean_square && at.calibration != nullptr)
      weights = channel_weights(at.calibration->inputs(at.stage, {.mean_square = true}));
    for (size_t i = 0; i < to.encodings.size(); ++i) {
      if (!to.encodings[i]) continue;
      const Encoding& e = *to.encodings[i];
      const LinearInfo& info = at.stage.linears[i];
      const LinearReport done{
          .method = row_method(rounding_, e, !weights.empty()), .fallback = {}, .rows = {}};
      at.report[info.name] =
          round_rows_of(find_linear(at.block, info),
                        {e, rounding_.encode, weights.empty() ? nullptr : weights.data(),
                         find_mask(at.masks, info.name)},
                        done);
    }
  }

  std::vector<std::optional<Encoding>> encodings_of(const Stage& stage) const {
    std::vector<std::optional<Encoding>> out;
    for (const auto& info : stage.linears) out.push_back(encoding(info));
    return out;
  }
  QuantizeSettings settings_;
  const Scaling* scaling_;
  const Method& rounding_;
};

}  // namespace

std::string to_setting(const MethodChoice& m) { return m.name(); }
void from_setting(const std::string& text, MethodChoice* to) { *to = parse_method(text); }

QuantizeSettings effective_settings(const QuantizeSettings& settings) {
  QuantizeSettings out = settings;
  std::vector<Encoding> types = {settings.linears};
  for (const auto& o : settings.overrides) types.push_back(o.second);
  const auto none = [&](auto takes) { return std::ranges::none_of(types, takes); };
  if (none([](const Encoding& e) { return e.kind != EncodingKind::kDense; })) {
    // Dense numbers are rounded to the nearest: there is nothing to choose.
    const bool calibrates =
        settings.method.scaling != nullptr || settings.method.rounding->stage != nullptr;
    if (calibrates) out.method = {};
  } else if (settings.method.rounding->stage != nullptr && none(gptq_takes)) {
    out.method.rounding = &plain_rounding();
  }
  return out;
}

QuantizeSettings read_quantize_settings(SettingsReader& reader) {
  QuantizeSettings s{.linears = encoding_for_type("w4")};
  if (const YamlNode* type = reader.find("type")) s.input = input_for_type(type->text);
  describe(reader, s);
  reader.finish();
  require_patterns(s.ignore, s.overrides);
  const Encoding values = s.linears.is_sparse() ? s.linears.inner() : s.linears;
  if (reader.find("method") == nullptr && gptq_takes(s.linears) && gains_from_gptq(values))
    s.method = parse_method("gptq");
  return s;
}

std::unique_ptr<Pass> make_quantize_pass(const QuantizeSettings& settings) {
  return std::make_unique<QuantizePass>(effective_settings(settings));
}

}  // namespace pith
