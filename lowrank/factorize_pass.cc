#include "lowrank/factorize_pass.h"

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "core/nearest.h"
#include "lowrank/low_rank_term.h"
#include "runtime/model/patterns.h"

namespace pith {
namespace {

template <class V>
void describe(V& v, FactorizeSettings& s) {
  // Every setting is named, so that a new one does not compile before it is handled here.
  auto& [method, keep_params, rank, overrides, factors, inputs, ignore] = s;
  v("method", method, "svd, or svd-llm, which knows the inputs");
  if (V::kReads || rank == 0)
    v("keep_params", keep_params, "share of a layer's parameters that the two factors have",
      {0, 1});
  if (V::kReads || rank > 0) v("rank", rank, "of all layers; 0: by keep_params", {0, 1 << 20});
  v("factors", factors, "type of the factors");
  if (V::kReads || method == FactorizeMethod::kSvdLlm) describe(v, inputs);
  v("ignore", ignore, "layers that stay as they are");
  v("layer_rank", overrides, "another rank for some layers, 0: as it is");
}

class FactorizePass final : public Pass {
 public:
  explicit FactorizePass(const FactorizeSettings& settings) : settings_(settings) {}

  std::string recipe() const override {
    SettingsWriter writer("factorize");
    FactorizeSettings settings = settings_;
    describe(writer, settings);
    return writer.text();
  }

  StatisticsNeeds needs() const override {
    return whitens() ? settings_.inputs.needs() : StatisticsNeeds{};
  }
  std::string needs_text() const override {
    return whitens() ? "svd-llm needs a calibration text: --calib FILE, or leave --calib out" : "";
  }
  PassMemory working(const LinearInfo& info) const override {
    return settings_.inputs.working(info.n, info.k);
  }

  LinearForm form(const LinearInfo& info, const LinearForm& so_far) const override {
    const auto rank = rank_of(info);
    if (!rank || !saves_parameters(info.n, info.k, *rank)) return so_far;
    if (!so_far.plain()) {
      fail(ErrorKind::kUnsupported, "{}: is {}, and one weight alone can be factorized", info.name,
           to_string(so_far));
    }
    if (so_far.terms.front().weight.is_sparse()) refuse_sparse(info, to_string(so_far));
    return {.terms = {{settings_.factors, *rank, settings_.factors}}, .input = so_far.input};
  }

  void apply(const StageContext& at) override {
    std::optional<StageInputs> inputs;
    for (const auto& info : at.stage.linears) {
      const auto rank = rank_of(info);
      if (!rank) continue;
      LinearReport& report = at.report[info.name];
      if (!saves_parameters(info.n, info.k, *rank)) {
        report.method = fmt::format("dense, as factors of rank {} would be no smaller", *rank);
        continue;
      }
      if (find_mask(at.masks, info.name) != nullptr) refuse_sparse(info, "pruned");
      Linear& linear = find_linear(at.block, info);
      if (!inputs) {
        inputs.emplace(at.stage, whitens() ? at.calibration : nullptr, linear.input,
                       settings_.inputs);
      }
      report = factorize(*inputs, *rank, linear);
    }
  }

 private:
  bool whitens() const { return settings_.method == FactorizeMethod::kSvdLlm; }

  // None: the linear is left alone.
  std::optional<int64_t> rank_of(const LinearInfo& info) const {
    return rank_by(info, settings_.ignore, settings_.overrides, [&] {
      return settings_.rank > 0 ? settings_.rank
                                : rank_for_share(info.n, info.k, settings_.keep_params);
    });
  }

  LinearReport factorize(const StageInputs& inputs, int64_t rank, Linear& linear) const {
    Algebra& algebra = inputs.algebra();
    Matrix<float> w = weights_of(algebra, linear);
    const double share = inputs.correct(w);
    const Factors f = best_factors(algebra, w, inputs.whitening(), rank);
    const TermForm form{settings_.factors, rank, settings_.factors};
    linear.terms = {low_rank_term(algebra, f, form, linear.name)};
    const bool plain = inputs.whitening().plain();
    LinearReport done;
    done.method = plain ? "svd" : "svd-llm";
    done.fallback = inputs.fallback();
    const double error = f.norm > 0 ? f.loss / f.norm : 0;
    done.method +=
        fmt::format(" rank {}, {} error {:.2e}", rank, plain ? "weight" : "output", error);
    if (!plain) done.error = error;
    if (share > 0) done.method += fmt::format(", inputs corrected by {:.2f}", share);
    return done;
  }

  [[noreturn]] static void refuse_sparse(const LinearInfo& info, const std::string& is) {
    fail(ErrorKind::kUnsupported,
         "{}: is {}, and factors would fill in its zeros; a residual (lowrank/residual_pass.h) "
         "goes with pruning",
         info.name, is);
  }

  FactorizeSettings settings_;
};

}  // namespace

const char* method_name(FactorizeMethod method) {
  return method == FactorizeMethod::kSvd ? "svd" : "svd-llm";
}

FactorizeMethod parse_factorize_method(std::string_view name) {
  for (const auto method : {FactorizeMethod::kSvd, FactorizeMethod::kSvdLlm}) {
    if (name == method_name(method)) return method;
  }
  const std::string meant = nearest(std::string(name), {"svd", "svd-llm"});
  fail(ErrorKind::kUsage, "no method of factorization \"{}\": {}", name,
       meant.empty() ? "svd, svd-llm" : meant + "?");
}

std::string to_setting(FactorizeMethod method) { return method_name(method); }
void from_setting(const std::string& text, FactorizeMethod* to) {
  *to = parse_factorize_method(text);
}
FactorizeSettings read_factorize_settings(SettingsReader& reader) {
  FactorizeSettings s;
  describe(reader, s);
  reader.finish();
  if (s.rank > 0 && reader.find("keep_params") != nullptr)
    fail(ErrorKind::kUsage, "a rank and a share of the parameters: give one of them");
  make_factorize_pass(s);  // what does not go together
  require_patterns(s.ignore, s.overrides);
  return s;
}
std::vector<SettingHelp> factorize_settings_help() {
  SettingsHelp help;
  FactorizeSettings s;
  describe(help, s);
  return help.all;
}

std::unique_ptr<Pass> make_factorize_pass(const FactorizeSettings& settings) {
  if (settings.rank < 0) fail(ErrorKind::kUsage, "rank {}", settings.rank);
  if (settings.rank == 0 && !(settings.keep_params > 0 && settings.keep_params < 1)) {
    fail(ErrorKind::kUsage, "a share of {} of the parameters: above 0 and below 1",
         settings.keep_params);
  }
  check_ranks(settings.overrides);
  settings.inputs.check();
  if (!can_encode(settings.factors)) {
    fail(ErrorKind::kUsage, "factors in {}: pith reads that type and does not write it",
         to_string(settings.factors));
  }
  return std::make_unique<FactorizePass>(settings);
}

}  // namespace pith
