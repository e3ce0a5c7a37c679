#include "prune/prune_pass.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/dtype.h"
#include "core/error.h"
#include "prune/matrix.h"
#include "runtime/compress/check.h"
#include "runtime/cpu/cpu_algebra.h"
#include "runtime/cpu/decode.h"
#include "runtime/model/patterns.h"

namespace pith {
namespace {

constexpr const char* kPatternHelp =
    "n of every m weights are kept: 2:4; another name for --sparsity 2:4";
constexpr const char* kWithin[] = {"row", "matrix"};
constexpr const char* kAs[] = {"dense", "sparse", "mask"};

template <class E, size_t N>
void read_name(const std::string& text, const char* const (&names)[N], E* to) {
  for (size_t i = 0; i < N; ++i) {
    if (text == names[i]) return void(*to = static_cast<E>(i));
  }
  std::string all;
  for (const char* name : names) all += (all.empty() ? "" : ", ") + std::string(name);
  fail(ErrorKind::kUsage, "choose one of {}", all);
}

float as_stored(DType type, float v) {
  switch (type) {
    case DType::kF16:
      return f16_to_f32(f32_to_f16(v));
    case DType::kBF16:
      return bf16_to_f32(f32_to_bf16(v));
    default:
      return v;
  }
}

// `factors`: a Gram matrix is made use of.
template <class V>
void describe(V& v, PruneSettings& s, bool factors) {
  // Every setting is named, so that a new one does not compile before it is handled here.
  auto& [method, target, within, damping, refine, as, dtype, ignore, overrides] = s;
  v("method", method, "magnitude, wanda or sparsegpt");
  v("sparsity", target,
    "share of the weights that is dropped (0.5, 50%), or n of m that are kept (2:4)");
  v("within", within, "whose weights are compared: those of a row, or of the whole matrix");
  if (V::kReads || factors) {
    v("damp_percent", damping.damping,
      "added to the diagonal of the Hessian, as a share of its mean", {0, 10});
    v("shrink", damping.shrink, "how far the Hessian is moved towards its diagonal", {0, 1});
    v("refine", refine, "rounds of refinement of the kept weights; -1: those of the method",
      {-1, 1000});
  }
  v("as", as, "dense: with zeros; sparse: kept values and their places; mask: for the step behind");
  v("values", dtype, "type of the kept values: f16, bf16 or f32 (default: the source's)");
  v("ignore", ignore, "layers that stay as they are");
  v("layer_sparsity", overrides, "another sparsity for some layers, as down=0.3");
}

class PrunePass final : public Pass {
 public:
  explicit PrunePass(const PruneSettings& settings)
      : settings_(settings), method_(*settings.method) {
    if (settings_.refine < 0) settings_.refine = method_.refine;
    if (settings_.as == PrunedAs::kMask) settings_.refine = 0;
  }

  std::string recipe() const override {
    SettingsWriter writer("prune");
    PruneSettings settings = settings_;
    describe(writer, settings, needs().gram);
    return writer.text();
  }

  StatisticsNeeds needs() const override {
    StatisticsNeeds all = method_.needs;
    if (settings_.refine > 0) all = all | StatisticsNeeds{.mean_square = true, .gram = true};
    return all;
  }
  std::string needs_text() const override {
    if (!needs().any()) return "";
    return fmt::format("{} needs a calibration text: --calib FILE, or leave --calib out",
                       method_.needs.any() ? method_.name : "refinement of what is kept");
  }
  PassMemory working(const LinearInfo& info) const override {
    const bool whole = settings_.within == PruneWithin::kMatrix;
    PassMemory memory{.host = prune_matrix_bytes(info.n, info.k, whole), .gpu = 0};
    if (!needs().gram) return memory;
    memory.host += PruneInputs::host_bytes(info.k);
    memory.gpu = PruneInputs::gpu_bytes(info.k);
    return memory;
  }

  LinearForm form(const LinearInfo& info, const LinearForm& so_far) const override {
    const auto target = target_of(info);
    if (!target) return so_far;
    if (!so_far.plain()) {
      fail(ErrorKind::kUnsupported,
           "{}: is {}, and pruning takes one weight: prune first, or "
           "ignore it",
           info.name, to_string(so_far));
    }
    const Encoding& e = so_far.terms.front().weight;
    if (e.is_sparse()) {
      fail(ErrorKind::kUnsupported, "{}: is sparse already ({}): ignore it", info.name,
           to_string(so_far));
    }
    const Sparsity sparsity = sparsity_of(*target, info);
    if (settings_.as == PrunedAs::kMask) return so_far;
    const Encoding values = Encoding::dense(settings_.dtype                  ? *settings_.dtype
                                            : e.kind == EncodingKind::kDense ? e.dtype
                                                                             : DType::kF16);
    return plain_form(
        settings_.as == PrunedAs::kSparse ? Encoding::sparse(values, sparsity) : values,
        so_far.input);
  }

  void apply(const StageContext& at) override {
    const Stage& stage = at.stage;
    std::vector<const LinearInfo*> pruned;
    for (const auto& info : stage.linears) {
      if (target_of(info)) pruned.push_back(&info);
    }
    if (pruned.empty()) return;
    const Known known = inputs_of(at);
    for (const LinearInfo* info : pruned)
      at.report[info->name] = prune(*info, *target_of(*info), known, at);
  }

 private:
  // Inputs of a stage, and what can be done with them.
  struct Known {
    PruneInputs inputs;
    const PruneMethod& method;
  };

  // The target of a linear; none: it stays as it is.
  std::optional<PruneTarget> target_of(const LinearInfo& info) const {
    if (info.layer < 0 || is_gate(info.role)) return std::nullopt;
    const auto matches = [&](const std::string& pattern) { return matches_linear(pattern, info); };
    if (std::ranges::any_of(settings_.ignore, matches)) return std::nullopt;
    PruneTarget target = settings_.target;
    for (const auto& [pattern, by_name] : settings_.overrides) {
      if (matches(pattern)) target = by_name;
    }
    return target == PruneTarget{} ? std::nullopt : std::optional(target);
  }

  Known inputs_of(const StageContext& at) const {
    const int64_t k = at.stage.k();
    if (!needs().any()) return {{.k = k}, method_};
    Known out{observe(at), method_};
    PruneInputs& in = out.inputs;
    if (in.fallback.empty() || !in.factor.empty()) return out;
    // As good as what is known allows.
    const auto methods = prune_methods();
    const PruneMethod& less = in.mean_square.empty() ? methods[0] : methods[1];
    in.fallback += method_.needs.any() ? fmt::format(": pruned as by {}", less.name)
                                       : std::string(": not refined");
    return {std::move(in), method_.needs.any() ? less : method_};
  }
  PruneInputs observe(const StageContext& at) const {
    const Linear& first = find_linear(at.block, at.stage.linears.front());
    try {
      const InputStatistics s = at.calibration->inputs(at.stage, needs(), false, first.input);
      return PruneInputs::from(at.calibration->algebra(), s, at.stage.k(), needs(),
                               method_.makes_up, settings_.damping);
    } catch (const Error& e) {
      if (e.kind() != ErrorKind::kNumeric) throw;
      PruneInputs in{.k = at.stage.k()};
      in.fallback = e.what();
      return in;
    }
  }

  LinearReport prune(const LinearInfo& info, const PruneTarget& target, const Known& known,
                     const StageContext& at) const {
    Linear& linear = find_linear(at.block, info);
    if (find_mask(at.masks, info.name) != nullptr)
      fail(ErrorKind::kUnsupported, "{}: an earlier step pruned it already", info.name);
    const int64_t n = info.n, k = info.k;
    LinearReport done{.method = known.method.name, .fallback = known.inputs.fallback, .rows = {}};
    const Encoding e = form(info, form_of(linear)).terms.front().weight;
    const Sparsity sparsity = sparsity_of(target, info);
    Mask mask(n, k);
    const auto read = [&](int64_t begin, int64_t rows, float* w) {
      decode_rows(linear, begin, rows, w);
      check_finite(info.name, begin, k, {w, static_cast<size_t>(rows * k)});
    };
    OwnedWeight result;
    const bool stores = settings_.as != PrunedAs::kMask;
    if (stores) {
      result = allocate_weight(e, n, k);
      done.rows.resize(static_cast<size_t>(n));
    }
    const auto write = [&](int64_t begin, int64_t rows, const float* w) {
      if (!stores) return;
      if (e.is_sparse()) {
        encode_masked(e, n, k, begin, rows, w, mask.rows(begin, rows), 0, result.planes);
      } else {
        ops(e.kind).encode(e, n, k, begin, rows, w, 0, result.planes);
      }
      std::vector<float> row(static_cast<size_t>(k));
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < k; ++c)
          row[static_cast<size_t>(c)] = as_stored(e.dtype, w[r * k + c]);
        done.rows[static_cast<size_t>(begin + r)] = row_hash(row.data(), k);
      }
    };
    const PruneLoss loss = prune_matrix(
        {known.method, sparsity,
         settings_.within == PruneWithin::kMatrix && sparsity.kind == SparsityKind::kBitmap,
         settings_.refine},
        known.inputs, n, read, write, &mask);
    done.error = stores && loss.norm > 0 ? loss.error / loss.norm : 0;
    done.method += " " + to_string(target);
    if (done.error > 0) done.method += fmt::format(", output error {:.2e}", done.error);
    if (stores) linear.terms = {{.w = std::move(result.weight), .up = {}}};
    at.masks.insert_or_assign(info.name, std::move(mask));
    return done;
  }

  PruneSettings settings_;
  const PruneMethod& method_;
};

void require_sensible(const PruneTarget& t, bool may_be_none) {
  if (t.pattern.kind == SparsityKind::kNM) {
    Encoding e = Encoding::sparse(Encoding::dense(DType::kF16), t.pattern);
    ops(e.kind).check(e);
    return;
  }
  if (!(t.ratio > 0 && t.ratio < 1) && !(may_be_none && t.ratio == 0)) {
    fail(ErrorKind::kUsage, "sparsity {}: a share of the weights above 0 and below 1, or n:m",
         t.ratio);
  }
}

}  // namespace

std::string to_setting(const PruneMethod* m) { return m->name; }
void from_setting(const std::string& text, const PruneMethod** to) {
  *to = &parse_prune_method(text);
}
std::string to_setting(const PruneTarget& t) { return to_setting(to_string(t)); }
void from_setting(const std::string& text, PruneTarget* to) { *to = parse_prune_target(text); }
std::string to_setting(PruneWithin w) { return kWithin[static_cast<size_t>(w)]; }
void from_setting(const std::string& text, PruneWithin* to) { read_name(text, kWithin, to); }
std::string to_setting(PrunedAs as) { return kAs[static_cast<size_t>(as)]; }
void from_setting(const std::string& text, PrunedAs* to) { read_name(text, kAs, to); }

PruneSettings read_prune_settings(SettingsReader& reader) {
  PruneSettings s;
  std::optional<PruneTarget> pattern;
  reader("pattern", pattern, kPatternHelp);
  if (pattern) s.target = *pattern;
  describe(reader, s, true);
  if (pattern && s.target != *pattern && s.target != PruneTarget::share(pattern->dropped()))
    fail(ErrorKind::kUsage, "sparsity {} and pattern {} differ", to_string(s.target),
         to_string(*pattern));
  if (pattern) s.target = *pattern;
  reader.finish();
  make_prune_pass(s);  // what does not go together
  require_patterns(s.ignore, s.overrides);
  return s;
}
std::vector<SettingHelp> prune_settings_help() {
  SettingsHelp help;
  PruneSettings s;
  help("pattern", std::optional<PruneTarget>(), kPatternHelp);
  describe(help, s, true);
  return help.all;
}

std::string to_string(const PruneTarget& t) {
  return t.pattern.kind == SparsityKind::kNM ? to_string(t.pattern) : fmt::format("{}", t.ratio);
}

PruneTarget parse_prune_target(std::string_view text) {
  PruneTarget t;
  if (parse_sparsity(text, &t.pattern) && t.pattern.kind == SparsityKind::kNM) {
    require_sensible(t, false);
    return t;
  }
  t.pattern = {};
  const bool percent = text.ends_with('%');
  const std::string_view number = text.substr(0, text.size() - (percent ? 1 : 0));
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), t.ratio);
  if (error != std::errc() || end != number.data() + number.size() || !std::isfinite(t.ratio)) {
    fail(ErrorKind::kUsage,
         "sparsity \"{}\": a share of the weights (0.5, 50%) or n of m columns (2:4) is expected",
         text);
  }
  if (percent) t.ratio /= 100;
  require_sensible(t, true);
  return t;
}

Sparsity sparsity_of(const PruneTarget& target, const LinearInfo& info) {
  const int64_t k = info.k;
  // 0.7 of 10 is 7, whatever 0.7 is in binary.
  const auto dropped = static_cast<int64_t>(target.ratio * static_cast<double>(k) + 1e-9);
  const Sparsity s =
      target.pattern.kind == SparsityKind::kNM ? target.pattern : Sparsity::bitmap(k - dropped);
  const int64_t kept = s.kind == SparsityKind::kNM ? kept_per_row(s, k) : s.kept;
  if (kept <= 0 || kept >= k) {
    fail(ErrorKind::kUsage, "{}: sparsity {} keeps {} of its {} columns", info.name,
         to_string(target), kept <= 0 ? "none" : "all", k);
  }
  return s;
}

std::unique_ptr<Pass> make_prune_pass(const PruneSettings& s) {
  require_sensible(s.target, false);
  for (const auto& o : s.overrides) require_sensible(o.second, true);
  if (s.within == PruneWithin::kMatrix && s.as == PrunedAs::kSparse) {
    fail(
        ErrorKind::kUsage,
        "rows that keep different numbers of weights cannot be stored sparse: compare within rows, "
        "or store them dense");
  }
  if (s.dtype && *s.dtype != DType::kF16 && *s.dtype != DType::kBF16 && *s.dtype != DType::kF32)
    fail(ErrorKind::kUsage, "pruned values are stored as f16, bf16 or f32, not {}",
         info(*s.dtype).name);
  return std::make_unique<PrunePass>(s);
}

}  // namespace pith
