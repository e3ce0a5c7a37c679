// The quantization methods and the table that lists them.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "formats/encodings/encoding.h"
#include "runtime/compress/pass.h"

namespace pith {

// Rows [row, row + rows) of a matrix [n, k] to encode. All of it is plain data: a method's result
// depends on nothing else.
struct RowJob {
  const Encoding& encoding;
  int64_t n, k;
  int64_t row, rows;
  const float* w;  // [rows, k]
  const float*
      channel_weight;   // [k]: mean square of each input on calibration text; null: none ran
  float tensor_absmax;  // of the whole matrix, for fp8 with one scale
  MutablePlanes to;     // of the whole matrix
  uint64_t* meant;      // [rows]: row_hash of each row as it should decode; null: not asked for
};

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

// The linears of a stage that are to be quantized, with their encodings, and what is known of their
// inputs.
struct StageJob {
  const QuantizeSettings& settings;
  const Stage& stage;
  const std::vector<std::optional<Encoding>>& encodings;  // of stage.linears; none: as it is
  Block& block;
  Calibration* calibration;  // null: no text
  PassReport& report;
  InputEncoding input = {};  // how the stage will round its inputs
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
// The rounding of "gptq", "awq+gptq", ...; Error(kUsage) listing them.
const Method& find_method(std::string_view name);

// Quantizes one linear of a stage row by row. channel_weight [k] or null.
void encode_linear(const StageJob& job, size_t linear, void (*encode)(const RowJob&),
                   const float* channel_weight, const LinearReport& report);

// All rows of a linear; the hash of each as the method meant it to `meant` [n], or null. Errors
// name the linear.
OwnedWeight encode_rows_of(const Linear& linear, const Encoding& e, void (*encode)(const RowJob&),
                           const float* channel_weight, uint64_t* meant);

// RowJob::tensor_absmax, where the encoding asks for it.
float absmax_of(const Linear& linear);

// Puts a weight in the place of all terms.
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
