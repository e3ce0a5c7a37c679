// What compression learns by running the model on text: statistics of the inputs of linear layers,
// taken stage by stage while a block is being compressed.
//
// A stage is the linears of a sublayer that have the same input: q k v, then o; gate and up, then
// down; of a mixture the router (with gate and up of a shared expert), then gate and up of each
// expert, over the tokens that come to it, then down of each; of latent attention what reads the
// hidden states, then q, k_up and v_up of each head, then o. They are compressed together, and the
// next stage sees inputs that the compressed ones made.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "core/file.h"
#include "core/phases.h"
#include "runtime/cuda/device_memory.h"
#include "runtime/forward/forwarding_executor.h"
#include "runtime/model/source.h"

namespace pith {

struct StatisticsNeeds {
  bool mean_square = false;  // of each input channel
  bool gram = false;         // mean of x x^T
  bool cross = false;        // how x differs from that of the uncompressed model
  bool output = false;       // output of the sublayer, see Calibration::output_error
  bool any() const { return mean_square || gram || cross || output; }
  friend bool operator==(const StatisticsNeeds&, const StatisticsNeeds&) = default;
  StatisticsNeeds operator|(const StatisticsNeeds& b) const {
    return {mean_square || b.mean_square, gram || b.gram, cross || b.cross, output || b.output};
  }
};

// Statistics of experts or heads that are taken before they are asked for, in bytes.
inline constexpr uint64_t kStatisticsAhead = uint64_t{256} << 20;

// Means over tokens, kept as running means: no count of tokens overflows them.
struct InputStatistics {
  int64_t tokens = 0;
  std::vector<double> mean_square;  // [k]
  std::vector<float> absmax;        // [k], beside mean_square
  Buffer<float> gram;               // [k, k]
  // o is the input that the uncompressed model has here, r the hidden states that the stage's
  // outputs are added to (where they are: o and down without a norm behind them), less those of the
  // uncompressed model.
  Buffer<float> cross;     // [k, k]: mean of (o - x) x^T
  Buffer<float> residual;  // [hidden, k]: mean of -r x^T; empty where nothing is added to

  // x [m, k], change [m, k] (o - x) or null, missing [m, hidden] (-r) or null. Error(kNumeric)
  // naming `name` where x is not finite.
  void add(const std::string& name, const StatisticsNeeds& needs, int64_t m, int64_t k,
           const float* x, const float* change = nullptr, const float* missing = nullptr,
           int64_t hidden = 0);
};

struct Stage {
  int sublayer = 0;
  std::vector<LinearInfo> linears;
  int64_t k() const { return linears.front().k; }
};
std::vector<Stage> stages_of(const proto::ModelSpec& spec, int layer);

// Hidden states of the calibration windows between two sublayers: on the executor's GPU where they
// take no more than a quarter of what is free there, else in memory, or in a scratch file (without
// a name) beside the output where they would take more than `memory` bytes.
class CalibrationStates {
 public:
  // Embeds the windows.
  CalibrationStates(Executor& executor, const proto::ModelSpec& spec, const Linear& embedding,
                    std::vector<std::vector<int32_t>> windows, uint64_t memory = UINT64_MAX,
                    const std::string& scratch_folder = "",
                    const CancelToken& cancel = CancelToken::never());

  size_t windows() const { return windows_.size(); }
  uint64_t hidden() const { return spec_.hidden(); }
  int64_t tokens(size_t window) const { return static_cast<int64_t>(windows_[window].size()); }
  uint64_t bytes() const { return bytes_; }
  bool in_file() const { return file_.is_open(); }

  void load(size_t window, std::vector<float>* to) const;
  // Where they are on the GPU; null: they are not there.
  float* on_gpu(size_t window) const {
    return gpu_.bytes() > 0 ? gpu_.data<float>() + offsets_[window] / sizeof(float) : nullptr;
  }
  // Runs one window through a sublayer of a block; its state becomes the output if `keeps`. Returns
  // the output, which lies in Slot::kHidden.
  Activation run(Executor& executor, const Block& block, int sublayer, size_t window, bool keeps);
  // Runs all windows through all blocks of a model, which is loaded block by block.
  void run_all(Executor& executor, const ModelSource& source);

 private:
  void keep(Executor& executor, size_t window, Activation x);

  const proto::ModelSpec& spec_;
  std::vector<std::vector<int32_t>> windows_;
  const CancelToken& cancel_;
  std::vector<uint64_t> offsets_;  // of windows in memory_ or file_, in bytes
  Buffer<float> memory_;           // [tokens, hidden] of each window, or
  File file_;                      // the same, or
  GpuDevice* device_ = nullptr;
  GpuBuffer gpu_;  // the same
  uint64_t bytes_ = 0;
  std::vector<float> state_;
  std::unique_ptr<KvCache> cache_;
  int cached_layer_ = -1, cached_sublayer_ = -1;
};

// Of the inputs of the head of the uncompressed model, over the first `tokens` tokens of the
// windows.
InputStatistics head_inputs(Executor& executor, const ModelSource& source,
                            const std::vector<std::vector<int32_t>>& windows, int64_t tokens,
                            const StatisticsNeeds& needs);

// The calibration text as the passes see it while they work on one block.
class Calibration {
 public:
  struct Options {
    bool sequential = true;  // a stage sees what the compressed stages before it make
    int hold_out = 0;        // every so many windows are kept for measuring; 0: none
    Phases* phases = nullptr;
  };
  // `originals` (states of the uncompressed model) may be null where no pass asks for `cross`.
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
    ahead_.clear();
    block_ = &block;
    original_ = &original;
    rewritten_ = rewritten;
    reference_of_ = nullptr;
  }

  // Of the inputs of a stage, as the block is now. `held_out`: over the windows that were kept
  // back. `rounding`: of the inputs as the stage will see them; those of the uncompressed model are
  // not rounded.
  InputStatistics inputs(const Stage& stage, const StatisticsNeeds& needs, bool held_out = false,
                         const InputEncoding& rounding = {});
  bool holds_out() const { return options_.hold_out > 0; }
  // That calibration runs on; null: it runs on the processor.
  GpuDevice* gpu() const { return executor_.gpu(); }

  // Runs all windows through a sublayer: the states by `block`, the originals by `loaded` (what the
  // source has there).
  void advance(const Block& block, const Block& loaded, int sublayer);

  // Mean square difference between what `candidate` and the original make of the same inputs in
  // one sublayer, over the first `tokens` tokens, relative to what the original adds to its input.
  double output_error(const Block& candidate, int sublayer, int64_t tokens);

 private:
  std::vector<std::string> names_together(const Stage& stage) const;
  std::vector<InputStatistics> run_for(const Stage& stage, std::span<const std::string> names,
                                       const StatisticsNeeds& needs, bool held_out,
                                       const InputEncoding& rounding);
  bool is_held_out(size_t window) const {
    return options_.hold_out > 0 && window % static_cast<size_t>(options_.hold_out) ==
                                        static_cast<size_t>(options_.hold_out) - 1;
  }

  Executor& executor_;
  CalibrationStates& states_;
  CalibrationStates* originals_;
  Options options_;
  Phases own_phases_;
  Phases& phases_;
  const Block* block_ = nullptr;
  const Block* original_ = nullptr;
  bool rewritten_ = false;

  // Statistics of experts or heads that are going to be asked for.
  struct Ahead {
    struct Key {
      StatisticsNeeds needs;
      bool held_out;
      InputEncoding rounding;
      friend bool operator==(const Key&, const Key&) = default;
    };
    Key key;
    std::map<std::string, InputStatistics> statistics = {};  // by linear
  };
  std::vector<Ahead> ahead_;
  std::set<size_t> originals_ahead_;  // windows whose originals are behind the sublayer already
  std::vector<std::vector<float>> reference_;  // outputs of the original, by window
  double reference_norm_ = 0;
  const Block* reference_of_ = nullptr;
  int reference_sublayer_ = -1;
};

}  // namespace pith
