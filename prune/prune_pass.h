// Pruning of single weights as a pass: which linear keeps how many of its weights, by which method.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "prune/method.h"
#include "runtime/compress/pass.h"
#include "runtime/compress/settings.h"

namespace pith {

// How much of a matrix is dropped: a share of its weights, wherever they are, or all but n of every
// m columns of a row.
struct PruneTarget {
  double ratio = 0;       // 0 to 1, both excluded; in overrides 0: the linear stays as it is
  Sparsity pattern = {};  // kNM: `ratio` says nothing

  static PruneTarget share(double ratio) { return {.ratio = ratio}; }
  // The share that is dropped.
  double dropped() const {
    return pattern.kind != SparsityKind::kNM
               ? ratio
               : 1 - static_cast<double>(pattern.kept) / static_cast<double>(pattern.of);
  }
  static PruneTarget n_of_m(int64_t n, int64_t m) { return {.pattern = Sparsity::n_of_m(n, m)}; }
  friend bool operator==(const PruneTarget&, const PruneTarget&) = default;
};
std::string to_string(const PruneTarget& target);  // "0.5", "2:4"
// "0.5", "50%", "2:4"; Error(kUsage) saying what is expected.
PruneTarget parse_prune_target(std::string_view text);
// The target for rows of k columns: kNM as it is, else a bitmap of k - floor(ratio k). Error
// (kUsage) naming the linear where that keeps nothing, or everything.
Sparsity sparsity_of(const PruneTarget& target, const LinearInfo& info);

// Whose weights are compared with each other, where they are not those of n:m.
enum class PruneWithin : uint8_t {
  kRow,     // an output: every one keeps as many of its inputs (Wanda, section 3.1)
  kMatrix,  // as in the papers' baseline of magnitude; the result is stored dense
};

// How the weights are stored.
enum class PrunedAs : uint8_t {
  kDense,   // stored with their zeros
  kSparse,  // n:m, or a bitmap, around the kept values (formats/encodings/sparse.h)
  kMask,  // weights stay as they are, and the mask is left to the pass behind this one: GPTQ makes
          // up for what it drops while it rounds. Without such a pass the driver refuses them.
};

struct PruneSettings {
  const PruneMethod* method = &prune_methods().back();
  PruneTarget target = PruneTarget::share(0.5);
  PruneWithin within = PruneWithin::kRow;
  Damping damping = kPruneDamping;
  int refine = -1;  // rounds of refinement (prune/matrix.h); -1: those of the method
  PrunedAs as = PrunedAs::kDense;
  // The type of kept values: f16, bf16, f32; none: that of the source where it is dense, else f16.
  std::optional<DType> dtype = {};
  // Patterns of linears: runtime/model/patterns.h.
  std::vector<std::string> ignore = {};
  std::vector<std::pair<std::string, PruneTarget>> overrides = {};  // the last that matches counts
};

// Words of recipes (runtime/compress/settings.h).
std::string to_setting(const PruneMethod* m);
void from_setting(const std::string& text, const PruneMethod** to);
std::string to_setting(const PruneTarget& t);
void from_setting(const std::string& text, PruneTarget* to);
std::string to_setting(PruneWithin w);
void from_setting(const std::string& text, PruneWithin* to);
std::string to_setting(PrunedAs as);
void from_setting(const std::string& text, PrunedAs* to);

// The settings of a step `prune` of a recipe. Error(kUsage).
PruneSettings read_prune_settings(SettingsReader& reader);
std::vector<SettingHelp> prune_settings_help();

// Prunes the linears of the blocks, but for routers. Error(kUsage) where settings contradict each
// other. form() refuses, by Error(kUnsupported) naming the linear, what is factorized or sparse
// already.
std::unique_ptr<Pass> make_prune_pass(const PruneSettings& settings);

}  // namespace pith
