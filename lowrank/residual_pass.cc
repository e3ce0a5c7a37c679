#include "lowrank/residual_pass.h"

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "lowrank/low_rank_term.h"
#include "runtime/model/patterns.h"

namespace pith {
namespace {

template <class V>
void describe(V& v, ResidualSettings& s) {
  // Every setting is named, so that a new one does not compile before it is handled here.
  auto& [rank, overrides, factors, whiten, inputs, ignore] = s;
  v("rank", rank, "of all compressed layers", {1, 1 << 20});
  v("factors", factors, "type of the factors");
  v("whiten", whiten, "weigh errors by the inputs");
  if (V::kReads || whiten) describe(v, inputs);
  v("ignore", ignore, "layers without a residual");
  v("layer_rank", overrides, "another rank for some layers, 0: none");
}

class ResidualPass final : public Pass {
 public:
  explicit ResidualPass(const ResidualSettings& settings) : settings_(settings) {}

  std::string recipe() const override {
    SettingsWriter writer("residual");
    ResidualSettings settings = settings_;
    describe(writer, settings);
    return writer.text();
  }

  StatisticsNeeds needs() const override {
    return settings_.whiten ? settings_.inputs.needs() : StatisticsNeeds{};
  }
  std::string needs_text() const override {
    return settings_.whiten
               ? "a residual needs a calibration text: --calib FILE, or leave --calib out"
               : "";
  }
  PassMemory working(const LinearInfo& info) const override {
    return settings_.inputs.working(info.n, info.k);
  }

  LinearForm form(const LinearInfo& info, const LinearForm& so_far) const override {
    const int64_t rank = rank_of(info);
    if (rank == 0 || !so_far.compressed()) return so_far;
    LinearForm form = so_far;
    form.terms.push_back({settings_.factors, rank, settings_.factors});
    return form;
  }

  void apply(const StageContext& at) override {
    std::optional<StageInputs> inputs;
    for (const auto& info : at.stage.linears) {
      Linear& linear = find_linear(at.block, info);
      const int64_t rank = rank_of(info);
      if (rank == 0 || !form_of(linear).compressed()) continue;
      if (!inputs) {
        inputs.emplace(at.stage, settings_.whiten ? at.calibration : nullptr, linear.input,
                       settings_.inputs);
      }
      at.report[info.name] = add_residual(*inputs, rank, find_linear(at.original, info), linear);
    }
  }

 private:
  int64_t rank_of(const LinearInfo& info) const {
    const auto rank =
        rank_by(info, settings_.ignore, settings_.overrides, [&] { return settings_.rank; });
    return std::min({rank.value_or(0), info.n, info.k});
  }

  LinearReport add_residual(const StageInputs& inputs, int64_t rank, const Linear& original,
                            Linear& linear) const {
    Algebra& algebra = inputs.algebra();
    Matrix<float> e = weights_of(algebra, original);
    const Matrix<float> now = weights_of(algebra, linear);
    Matrix<float> missing(algebra, e.rows(), e.columns());
    algebra.copy(e.ref(), missing.ref());
    algebra.add_scaled(-1, now, missing);
    if (algebra.dot(missing, missing) == 0) {
      fail(ErrorKind::kUsage,
           "{}: is what the source has, and nothing is missing: a residual goes behind the pass "
           "that rounds, in one run",
           linear.name);
    }
    const double share = inputs.correct(e);
    algebra.add_scaled(-1, now, e);
    const Factors f = best_factors(algebra, e, inputs.whitening(), rank);
    const TermForm form{settings_.factors, rank, settings_.factors};
    linear.terms.push_back(low_rank_term(algebra, f, form, linear.name));
    LinearReport done;
    done.fallback = inputs.fallback();
    done.method =
        fmt::format("residual rank {}, error to {:.2f}", rank, f.norm > 0 ? f.loss / f.norm : 0);
    if (share > 0) done.method += fmt::format(", inputs corrected by {:.2f}", share);
    return done;
  }

  ResidualSettings settings_;
};

}  // namespace

ResidualSettings read_residual_settings(SettingsReader& reader) {
  ResidualSettings s;
  describe(reader, s);
  reader.finish();
  make_residual_pass(s);  // what does not go together
  require_patterns(s.ignore, s.overrides);
  return s;
}

std::unique_ptr<Pass> make_residual_pass(const ResidualSettings& settings) {
  if (settings.rank < 0) fail(ErrorKind::kUsage, "a residual of rank {}", settings.rank);
  check_ranks(settings.overrides);
  settings.inputs.check();
  if (!can_encode(settings.factors)) {
    fail(ErrorKind::kUsage, "factors in {}: pith reads that type and does not write it",
         to_string(settings.factors));
  }
  return std::make_unique<ResidualPass>(settings);
}

}  // namespace pith
