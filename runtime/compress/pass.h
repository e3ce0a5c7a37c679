// One step of a recipe: it changes one block at a time. Methods implement it (quant/, prune/, ...);
// the driver loads, observes, checks, records and propagates.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/compress/calibration.h"
#include "runtime/model/source.h"

namespace pith {

// By linear: what was done, for the record ("rtn", "gptq, damping 0.1").
using PassReport = std::map<std::string, std::string>;

class Pass {
 public:
  virtual ~Pass() = default;

  // Its settings as lines of a recipe (YAML): the result depends on nothing else.
  virtual std::string recipe() const = 0;
  virtual StatisticsNeeds needs() const { return {}; }

  // The encoding that a linear will have; nothing: as it is. Data only: what the plan is made of.
  virtual std::optional<Encoding> encoding(const LinearInfo& info) const = 0;

  // Changes the linears of a block. `statistics` has the inputs of those linears where needs()
  // asked and calibration runs, else nothing.
  virtual void apply(const std::vector<LinearInfo>& linears, Block& block,
                     const BlockStatistics& statistics, PassReport& report) = 0;

  // Embedding and head are too large for a block: rows [row, row + rows) of `info`, f32 [rows, k],
  // into planes of encoding(). Returns what was done.
  virtual std::string encode_rows(const LinearInfo& info, const Encoding& e, int64_t row,
                                  int64_t rows, const float* w, float tensor_absmax,
                                  MutablePlanes to) = 0;
};

}  // namespace pith
