// What compression learns by running the model on text: statistics of the inputs of linear layers,
// taken stage by stage (stages.h) while a block is being compressed.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/phases.h"
#include "runtime/compress/calibration_states.h"
#include "runtime/compress/stages.h"
#include "runtime/compress/statistics.h"

namespace pith {

// Statistics of experts or heads that are taken before they are asked for, in bytes.
inline constexpr uint64_t kStatisticsAhead = uint64_t{256} << 20;

// Statistics of the inputs of the head of the uncompressed model, over the first `tokens` tokens of
// the windows.
InputStatistics head_inputs(Executor& executor, const ModelSource& source,
                            const std::vector<std::vector<int32_t>>& windows, int64_t tokens,
                            const StatisticsNeeds& needs);

// The calibration text as the passes see it while they work on one block.
class Calibration {
 public:
  struct Options {
    bool sequential = true;           // a stage sees what the compressed stages before it make
    std::vector<bool> held_out = {};  // windows that are kept for measuring; empty: none
    // All that passes ask for, where several of them ask for Gram matrices: it is taken for all of
    // them at once and kept while they work on a stage, whose inputs are the same for all.
    StatisticsNeeds shared = {};
    Phases* phases = nullptr;
  };
  // `originals` (states of the uncompressed model) may be null where no pass asks for
  // `cross_gram`.
  Calibration(Executor& executor, CalibrationStates& states, CalibrationStates* originals,
              const Options& options)
      : executor_(executor),
        states_(states),
        originals_(originals),
        options_(options),
        phases_(options.phases != nullptr ? *options.phases : own_phases_) {}

  // The block as it is, and as it was. Both stay where they are while it is worked on. `rewritten`:
  // the original is not the source's, but one that computes the same.
  void begin(const Block& block, const Block& original, bool rewritten = false) {
    prefetched_.clear();
    kept_.clear();
    block_ = &block;
    original_ = &original;
    rewritten_ = rewritten;
    reference_of_ = nullptr;
  }

  // Statistics of the inputs of a stage, as the block is now. `held_out`: over the windows that
  // were kept back. `rounding`: of the inputs as the stage will see them; those of the uncompressed
  // model are not rounded.
  InputStatistics inputs(const Stage& stage, const StatisticsNeeds& needs, bool held_out = false,
                         const InputEncoding& rounding = {});
  bool holds_out() const { return !options_.held_out.empty(); }
  // Linear algebra where calibration runs.
  Algebra& algebra() const { return executor_.algebra(); }

  // Runs all windows through a sublayer: the states by `block`, the originals by `loaded` (what the
  // source has there).
  void advance(const Block& block, const Block& loaded, int sublayer);

  // Mean square difference between what `candidate` and the original make of the same inputs in
  // one sublayer, over the first `tokens` tokens, relative to what the original adds to its input.
  double output_error(const Block& candidate, int sublayer, int64_t tokens);

 private:
  InputStatistics take(const Stage& stage, const StatisticsNeeds& needs, bool held_out,
                       const InputEncoding& rounding);
  std::vector<std::string> names_together(const Stage& stage) const;
  std::vector<InputStatistics> collect(const Stage& stage, const std::vector<std::string>& names,
                                       const StatisticsNeeds& needs, bool held_out,
                                       const InputEncoding& rounding);
  bool is_held_out(size_t window) const { return holds_out() && options_.held_out[window]; }

  Executor& executor_;
  CalibrationStates& states_;
  CalibrationStates* originals_;
  Options options_;
  Phases own_phases_;
  Phases& phases_;
  const Block* block_ = nullptr;
  const Block* original_ = nullptr;
  bool rewritten_ = false;

  struct Key {
    StatisticsNeeds needs;
    bool held_out;
    InputEncoding rounding;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct Kept {
    std::string linear;  // the first of the stage
    Key key;
    InputStatistics statistics;
  };
  std::vector<Kept> kept_;  // of one stage
  // Statistics of experts or heads that are going to be asked for.
  struct Prefetched {
    Key key;
    std::map<std::string, InputStatistics> statistics = {};  // by linear
  };
  std::vector<Prefetched> prefetched_;
  std::set<size_t> advanced_originals_;  // windows whose originals are behind the sublayer already
  std::vector<std::vector<float>> reference_;  // outputs of the original, by window
  double reference_norm_ = 0;
  const Block* reference_of_ = nullptr;
  int reference_sublayer_ = -1;
};

}  // namespace pith
