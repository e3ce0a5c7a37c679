// One step of a recipe: it changes one block at a time. Methods implement it (quant/, prune/, ...);
// the driver loads, observes, checks, records and propagates.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/compress/calibration.h"
#include "runtime/model/source.h"

namespace pith {

// What was done to one linear.
struct LinearReport {
  std::string method;    // for the record: "gptq, damping 0.1"
  std::string fallback;  // why it is not what was asked for; empty: it is
  double error = 0;      // squared, of the output on the text as a share of it; 0: not worked out
  // XXH3-64 of each row as the method meant it to be decoded (f32 [k]); empty: it does not say.
  std::vector<uint64_t> rows;
};
using PassReport = std::map<std::string, LinearReport>;  // by linear

class Pass {
 public:
  virtual ~Pass() = default;

  // Its settings as lines of a recipe (YAML): the result depends on nothing else.
  virtual std::string recipe() const = 0;
  virtual StatisticsNeeds needs() const { return {}; }
  // The reason why the pass needs a calibration text; empty: it needs none.
  virtual std::string needs_text() const { return {}; }

  // The encoding that a linear will have; nothing: as it is. Data only: what the plan is made of.
  virtual std::optional<Encoding> encoding(const LinearInfo& info) const = 0;
  // Working memory for a block whose widest input has k channels, beyond its weights.
  virtual uint64_t working_bytes(int64_t k) const { return 0 * static_cast<uint64_t>(k); }

  // Of a GPU, for n rows of k weights, where it works there.
  virtual uint64_t gpu_working_bytes(int64_t n, int64_t k) const {
    return 0 * static_cast<uint64_t>(n * k);
  }

  // Changes of a sublayer that leave what it computes the same (scales moved from one linear into
  // another), before any of its stages is compressed. `calibration` is null where none runs.
  // Returns whether anything changed.
  virtual bool prepare(const proto::Sublayer& spec, std::span<const Stage> stages, Block& block,
                       Calibration* calibration) {
    (void)spec, (void)stages, (void)block, (void)calibration;
    return false;
  }

  // Compresses the linears of a stage.
  virtual void apply(const Stage& stage, Block& block, Calibration* calibration,
                     PassReport& report) = 0;

  // Before the rows of the embedding or head come: what is known of the inputs that it is
  // multiplied with (a tied embedding is the head); null where nothing is.
  virtual void begin_table(const LinearInfo& info, const Encoding& e,
                           const InputStatistics* inputs) {
    (void)info, (void)e, (void)inputs;
  }
  // Embedding and head are too large for a block: rows [row, row + rows) of `info`, f32 [rows, k],
  // into planes of encoding(). `meant`: see LinearReport::rows. Returns what was done.
  virtual std::string encode_rows(const LinearInfo& info, const Encoding& e, int64_t row,
                                  int64_t rows, const float* w, float tensor_absmax,
                                  MutablePlanes to, uint64_t* meant) = 0;
};

}  // namespace pith
