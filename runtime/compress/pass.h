// One step of a recipe. Methods implement it (quant/, prune/, lowrank/, ...); the driver loads,
// observes, checks, records and propagates.
//
// A pass turns the form of each linear (runtime/model/form.h) into another, and a block of linears
// in one form into one in the other. Passes are run one after the other over each stage (the
// linears of a sublayer with one input), so that a layer can be pruned, then factorized, then
// rounded in one run. What changes shapes (layers that are dropped, widths that are cut, rotation)
// is not a pass but a source: ForwardingSource (runtime/model/source.h).
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/function_ref.h"
#include "formats/encodings/mask.h"
#include "runtime/compress/calibration.h"
#include "runtime/model/source.h"

namespace pith {

// What a pass did to one linear.
struct LinearReport {
  std::string method;    // for the record: "gptq, damping 0.1"
  std::string fallback;  // why it is not what was asked for; empty: it is
  double error = 0;      // squared, of the output on the text as a share of it; 0: not worked out
  // XXH3-64 of each row that the linear should decode to (f32 [k]); empty: it does not say.
  std::vector<uint64_t> rows;
};
using PassReport = std::map<std::string, LinearReport>;  // by linear

// The masks of a block's linears by name, for their one term without `up`: what pruning kept. A
// linear that is not in here is dense.
using Masks = std::map<std::string, Mask>;

inline const Mask* find_mask(const Masks& masks, const std::string& linear) {
  const auto it = masks.find(linear);
  return it == masks.end() ? nullptr : &it->second;
}

// Working memory in bytes, beyond the weights of a block.
struct PassMemory {
  uint64_t host = 0, gpu = 0;
};

struct SublayerContext {
  const proto::Sublayer& spec;
  std::span<const Stage> stages;
  Block& block;
  Calibration* calibration;  // null: no text is read
};

struct StageContext {
  const Stage& stage;
  const proto::Sublayer& spec;
  Block& block;              // as the passes before this one left it
  const Block& original;     // as the source has it, but for scales that prepare() moved
  Calibration* calibration;  // null: no text is read
  // The weights that were pruned in this block. One that a mask does not keep is exactly zero in
  // the result: who rounds sees to it, and may make up for it; who leaves the weights as they are sets
  // them to zero. The weights of `block` are what later passes aim at, also where a mask drops
  // them.
  Masks& masks;
  PassReport& report;  // an entry for every linear that this pass changes; empty so far
};

// Rows [row, row + rows) of a table (embedding or head) to be encoded.
struct TableRows {
  int64_t n;  // rows of `to`
  int64_t row, rows;
  const float* w;       // [rows, k]
  float tensor_absmax;  // of the whole table, for fp8 with one scale
  MutablePlanes to;
  uint64_t* row_hashes;  // [rows]: see LinearReport::rows
};

// Encodes the rows of one table. Thread-safe.
class TableEncoder {
 public:
  virtual ~TableEncoder() = default;
  virtual std::string method() const = 0;  // see LinearReport
  virtual void encode(const TableRows& rows) const = 0;
};

class Pass {
 public:
  virtual ~Pass() = default;

  // Its settings as lines of a recipe (YAML): the result depends on nothing else.
  virtual std::string recipe() const = 0;
  virtual StatisticsNeeds needs() const { return {}; }
  // The reason why the pass needs a calibration text; empty: it needs none.
  virtual std::string needs_text() const { return {}; }

  // The form that a linear will have, by the form that it has so far: from the source, or after the
  // passes before this one. Data only: what the plan is made of; the driver holds the result
  // against it. A constant scale of inputs has the value 0 here. Error(kUnsupported) naming the
  // linear where the pass cannot take it.
  virtual LinearForm form(const LinearInfo& info, const LinearForm& so_far) const = 0;
  virtual PassMemory working(const LinearInfo&) const { return {}; }

  // Changes a sublayer without changing its function (scales moved from one linear into another),
  // before any of its stages is compressed by any pass. Returns whether anything changed.
  virtual bool prepare(const SublayerContext&) { return false; }

  // Brings the linears of a stage into their form().
  virtual void apply(const StageContext& at) = 0;

  // Embedding and head are too large for a block and come row by row; only the last pass that takes
  // them encodes them. Null: this pass leaves the table as it is. `form`: of the result, one plain
  // term. `inputs(needs)`: statistics of the inputs of a table that is multiplied (the head; a tied
  // embedding); null where it is only looked up or no text is read.
  using TableInputs = FunctionRef<const InputStatistics*(const StatisticsNeeds& needs)>;
  virtual std::unique_ptr<TableEncoder> table(const LinearInfo& info, const LinearForm& form,
                                              TableInputs inputs) {
    (void)info, (void)form, (void)inputs;
    return nullptr;
  }
};

using Passes = std::vector<std::unique_ptr<Pass>>;

}  // namespace pith
