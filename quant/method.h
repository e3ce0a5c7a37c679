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
#include "formats/encodings/encoding.h"
#include "runtime/compress/pass.h"

namespace pith {

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
  // What pruning cleared in the whole matrix becomes exactly zero and has no say in the choice of
  // scales. Null: nothing.
  const Mask* mask = nullptr;
};
// job.w with zeros where the mask clears, in `memory`; job.w itself where nothing is cleared.
const float* masked_rows(const RowJob& job, Buffer<float>* memory);

struct GroupLayout;
// Stores a row of integers or normal floats whose scales are stored already (`scales`: as stored),
// and notes what it should decode to. r: row of the job.
void store_row(const RowJob& job, const GroupLayout& layout, int64_t r,
               std::span<const float> scales, std::span<const uint8_t> zeros,
               std::span<const uint8_t> codes);

struct QuantizeSettings;
struct Scaling;

// The linears of a stage that are to be quantized, with their encodings, and what is known of their
// inputs.
struct StageJob {
  const QuantizeSettings& settings;
  const Stage& stage;
  const std::vector<std::optional<Encoding>>& encodings;  // of stage.linears; none: as it is
  Block& block;
  Calibration* calibration;  // null: no text
  PassReport& report;
  InputEncoding input = {};      // how the stage will round its inputs
  const Masks* masks = nullptr;  // null: nothing was pruned
};

// A method rounds rows one by one, or (where it has `stage`) all linears with one input together.
struct Method {
  const char* name;
  const char* summary;
  StatisticsNeeds needs;  // makes use of, where calibration runs
  void (*encode)(const RowJob& job);
  void (*stage)(const StageJob& job);
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
// of those of low rank.
LinearForm rounded_form(LinearForm form, const Encoding& e);

// One weight of a linear, as a linear of its own to be rounded.
struct WeightPart {
  Linear& linear;         // one plain term
  const Weight* through;  // the inputs are through x, for the up of a low-rank term; null: x
  const Mask* mask;       // null: nothing was pruned
  bool whole;             // the linear has no other weights
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
// All rows of a linear as one weight. Errors name the linear.
OwnedWeight encode_rows_of(const Linear& linear, const RowRounding& how);

// Rounds each weight of a linear row by row and reports it as `report`. The up of a low-rank term
// is weighted by its inputs as if those of the linear did not correlate.
LinearReport round_rows_of(Linear& linear, const RowRounding& how, const LinearReport& report);
// The same of one linear of a stage, with its report; nothing where it is to stay.
void round_rows_of(const StageJob& job, size_t linear, void (*encode)(const RowJob&),
                   const float* channel_weight, const LinearReport& report);

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

// Plain rounding onto the range of each group: the baseline.
void encode_minmax(const RowJob& job);

// Rounding onto the grid that loses least: weighted least squares of scale and zero point over
// candidates. See rtn.cc.
void encode_rtn(const RowJob& job);

// GPTQ over the linears of a stage, with its ladder of fallbacks. See gptq.h and gptq_stage.h.
void quantize_stage_gptq(const StageJob& job);

}  // namespace pith
