// The quantization methods and the table that lists them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/buffer.h"
#include "core/function_ref.h"
#include "formats/encodings/sparse.h"
#include "runtime/compress/pass.h"

namespace pith {

// Rows of a sparse matrix, of which a job has the kept values.
struct StoredColumns {
  Sparsity sparsity;
  int64_t k;                       // of the sparse matrix
  std::span<const uint32_t> mask;  // [rows, mask_words(k)]
};

// Rows [row, row + rows) of a matrix [n, k] to encode. All of it is plain data: a method's result
// depends on nothing else.
struct RowJob {
  const Encoding& encoding;
  int64_t n, k;
  int64_t row, rows;
  const float* w;               // [rows, k]
  const float* channel_weight;  // [k]: mean square of each input on a text; null: none was read
  float tensor_absmax;          // of the whole matrix, for fp8 with one scale
  MutablePlanes to;             // of the whole matrix
  uint64_t* row_hashes;  // [rows]: row_hash of each row as it should decode; null: not asked for
  // [rows, mask_words(k)]: weights that are not kept become exactly zero and have no say in the
  // choice of scales; empty: all are kept. A sparse encoding stores these columns, of each group no
  // more than it takes; empty: those of the largest magnitudes.
  std::span<const uint32_t> mask = {};
  int64_t weight_stride = 0;  // from the channel weights of a row to the next's; 0: they are shared
  const StoredColumns* stored = nullptr;  // where the rows are those of a sparse matrix; else null
};
// job.w with zeros where the mask keeps nothing, in `memory`; job.w itself without a mask.
const float* masked_rows(const RowJob& job, Buffer<float>* memory);
// Notes what row r of the job should decode to: row [job.k], scattered to its columns where it is
// one of a sparse matrix.
void note_row_hash(const RowJob& job, int64_t r, const float* row);
// Rounds the kept values of a sparse encoding by `encode`, as the shorter matrix that they are.
void encode_kept(const RowJob& job, void (*encode)(const RowJob&));

struct GroupLayout;
// Stores a row of integers or normal floats whose scales are stored already (`scales`: as stored),
// and notes what it should decode to. r: row of the job.
void store_row(const RowJob& job, const GroupLayout& layout, int64_t r,
               std::span<const float> scales, std::span<const uint8_t> zeros,
               std::span<const uint8_t> codes);

// The same for trellis codes, from the windows [k] of the row.
void store_tcq_row(const RowJob& job, const GroupLayout& layout, int64_t r,
                   std::span<const float> scales, std::span<const uint16_t> windows);

struct QuantizeSettings;
struct Scaling;

// The encodings that the linears of a stage are rounded to.
struct StageRounding {
  const QuantizeSettings& settings;
  const std::vector<std::optional<Encoding>>& encodings;  // of stage.linears; none: as it is
  InputEncoding input;                                    // how the stage will round its inputs
};

// A method rounds rows one by one, or (where it has `stage`, and a text is read) all linears with
// one input together.
struct Method {
  const char* name;
  const char* summary;
  StatisticsNeeds needs;  // makes use of, where calibration runs
  void (*encode)(const RowJob& job);
  void (*stage)(const StageContext& at, const StageRounding& to);
};

std::span<const Method> methods();
const Method& plain_rounding();  // rtn

// What --method says: how weights are rounded, and how channels are scaled before.
struct MethodChoice {
  const Scaling* scaling = nullptr;  // null: none
  const Method* rounding = &plain_rounding();

  std::string name() const;  // "gptq", "awq" (rounds by rtn), "awq+gptq"
};
// "gptq", "awq", "awq+gptq", ...; Error(kUsage) listing what there is.
MethodChoice parse_method(std::string_view name);

// The form of a linear whose weights are all rounded to `e`: each of its terms, with both factors
// of those of low rank, which are dense where `e` is sparse.
LinearForm rounded_form(LinearForm form, const Encoding& e);

// One weight of a linear, as a linear of its own to be rounded.
struct WeightPart {
  Linear& linear;         // one plain term
  const Weight* through;  // the inputs are through x, for the up of a low-rank term; null: x
  const Mask* mask;       // null: nothing was pruned
  bool whole;             // the linear has no other weights
  bool factor;            // of a low-rank term

  Encoding encoding(const Encoding& of_linear) const {
    return factor ? of_linear.inner() : of_linear;
  }
};
// Calls `round` for each weight of a linear, in the order in which inputs pass them, and puts what
// it leaves there in place of the weight. A linear of several weights does not say how its rows
// decode.
LinearReport round_parts(Linear& linear, const Mask* mask,
                         FunctionRef<LinearReport(const WeightPart&)> round);

// Rounding row by row, to one encoding.
struct RowRounding {
  const Encoding& encoding;
  void (*encode)(const RowJob&);
  const float* channel_weight = nullptr;  // [k], of the inputs of the linear
  const Mask* mask = nullptr;
  uint64_t* row_hashes = nullptr;  // [n]
};
// The weights of a linear that `sparsity` may keep: those that its weight stores, where that has
// the same sparsity and nothing was pruned; else the largest magnitudes, of what pruning left.
Mask mask_for(const Linear& linear, const Sparsity& sparsity, const Mask* pruned);

// All rows of a linear as one weight. Errors name the linear.
OwnedWeight encode_rows_of(const Linear& linear, const RowRounding& how);

// Rounds each weight of a linear row by row and reports it as `report`. The up of a low-rank term
// is weighted by its inputs as if those of the linear did not correlate.
LinearReport round_rows_of(Linear& linear, const RowRounding& how, const LinearReport& report);

// RowJob::tensor_absmax, where the encoding asks for it.
float absmax_of(const Linear& linear);

// Puts a weight in the place of the one of a plain linear.
inline void set_weight(Linear& linear, OwnedWeight weight) {
  linear.terms.clear();
  linear.terms.push_back({.w = std::move(weight.weight), .up = {}});
}

// Mean squares of inputs as weights of channels: at a mean of 1, so that products stay in range; a
// channel that was never active keeps a little weight. Empty where none was active.
std::vector<float> channel_weights(const InputStatistics& s);

// The record's name for how a method rounds rows, without a text and in tables: "rtn weighted by
// inputs" where the encoding has scales to choose and `weighted`.
std::string row_method(const Method& method, const Encoding& e, bool weighted);

// Plain rounding onto the range of each group: the baseline.
void encode_minmax(const RowJob& job);

// Rounding onto the grid that loses least: weighted least squares of scale and zero point over
// candidates. See rtn.cc.
void encode_rtn(const RowJob& job);
// The same with a short search of trellis codes, to know about what they lose.
void encode_rtn_quickly(const RowJob& job);

// GPTQ over the linears of a stage, with its ladder of fallbacks. See gptq.h and gptq_stage.h.
void quantize_stage_gptq(const StageContext& at, const StageRounding& to);

}  // namespace pith
