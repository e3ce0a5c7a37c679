#include "runtime/model/arch/fp8_scales.h"

#include <array>
#include <cstring>

#include "core/bytes.h"
#include "core/error.h"
#include "core/parallel.h"
#include "formats/encodings/fp8.h"
#include "formats/printable.h"

namespace pith {
namespace {

constexpr const char* kConfig = "config.json";
constexpr int64_t kBlock = 128;

bool is_fp8(const Encoding& e) {
  return e.kind == EncodingKind::kDense && (e.dtype == DType::kF8E4M3 || e.dtype == DType::kF8E5M2);
}

const Json* quantization_of(const Checkpoint& c) {
  if (c.kind != Checkpoint::Kind::kSafetensors) return nullptr;
  const Json* const found = json_find(c.config, "quantization_config");
  return found != nullptr ? found : json_find(c.config, "compression_config");
}

// Calls f(weights) for each group of compressed-tensors.
template <class F>
void for_each_group(const Json& quantization, F f) {
  const Json* const groups = json_find(quantization, "config_groups");
  if (groups == nullptr || !groups->is_object()) return;
  for (const auto& [name, group] : groups->items()) {
    if (const Json* const weights = json_find(group, "weights")) f(*weights);
  }
}

bool holds_fp8(const Json& q, const std::string& method) {
  if (method == "fp8" || method == "fbgemm_fp8") return true;
  if (method == "modelopt") {
    const Json* const algorithm = json_find(q, "quant_algo");
    return algorithm != nullptr && *algorithm == "FP8";
  }
  if (method != "compressed-tensors") return false;
  int groups = 0, fp8 = 0;
  for_each_group(q, [&](const Json& weights) {
    ++groups;
    const Json *const type = json_find(weights, "type"), *const bits =
                                                             json_find(weights, "num_bits");
    if (type != nullptr && *type == "float" && bits != nullptr && *bits == 8) ++fp8;
  });
  return groups > 0 && fp8 == groups;
}

// Rows and columns that share a scale.
std::array<int64_t, 2> block_size(const Checkpoint& checkpoint) {
  std::array<int64_t, 2> size{kBlock, kBlock};
  const Json* const q = quantization_of(checkpoint);
  if (q == nullptr) return size;
  const auto take = [&](const Json* list) {
    if (list == nullptr || !list->is_array() || list->size() != 2) return;
    for (size_t i = 0; i < 2; ++i) {
      const Json& v = (*list)[i];
      if (!v.is_number_unsigned() || v < 1u || v > 1u << 24)
        fail(ErrorKind::kCorrupt, "{}: weight_block_size is not two sizes", kConfig);
      size[i] = v.get<int64_t>();
    }
  };
  take(json_find(*q, "weight_block_size"));
  for_each_group(*q, [&](const Json& weights) { take(json_find(weights, "block_structure")); });
  return size;
}

// The index of the scale of row r, column c of a tensor with `width` columns.
struct Grid {
  Grid(const Fp8Scales& s, int64_t width)
      : scales(s), rows(ceil_div(s.matrix_rows, s.rows)), columns(ceil_div(width, s.columns)) {}
  int64_t at(int64_t r, int64_t c) const {
    return (r / scales.matrix_rows * rows + r % scales.matrix_rows / scales.rows) * columns +
           c / scales.columns;
  }
  const Fp8Scales& scales;
  int64_t rows, columns;
};

Fp8Scales scales_of(const Checkpoint& c, const TensorInfo& codes, const TensorInfo& scales,
                    std::array<int64_t, 2> block) {
  if (codes.shape.size() < 2)
    fail(ErrorKind::kCorrupt, "{}: {} in FP8 is not a matrix", c.path, printable(codes.name));
  if (scales.encoding.kind != EncodingKind::kDense || !info(scales.encoding.dtype).floating ||
      is_fp8(scales.encoding)) {
    fail(ErrorKind::kUnsupported, "{}: {} does not hold scales of FP8 in f32, f16 or bf16", c.path,
         printable(scales.name));
  }
  const int64_t width = codes.shape.back(), height = codes.shape[codes.shape.size() - 2];
  int64_t matrices = 1, count = 1;  // bounded by the file: checked on opening
  for (size_t i = 0; i + 2 < codes.shape.size(); ++i) matrices *= codes.shape[i];
  for (const int64_t d : scales.shape) count *= d;
  Fp8Scales out{scales.name, codes.encoding.dtype, 1, 1, 1};
  const auto fits = [&](int64_t rows, int64_t columns, int64_t matrix_rows) {
    out.rows = std::max<int64_t>(rows, 1);
    out.columns = std::max<int64_t>(columns, 1);
    out.matrix_rows = std::max<int64_t>(matrix_rows, 1);
    const Grid grid(out, width);
    return count == matrices * height / out.matrix_rows * grid.rows * grid.columns;
  };
  if (fits(matrices * height, width, matrices * height)) return out;  // one
  // Scales of rows and a grid of blocks may have the same count.
  const size_t rank = scales.shape.size();
  const bool by_row = rank == 1 || scales.shape.back() == 1;
  if (by_row && fits(1, width, height)) return out;
  if (fits(block[0], block[1], height) && rank == codes.shape.size() &&
      scales.shape.back() == ceil_div(width, block[1]))
    return out;
  if (fits(height, width, height)) return out;  // one for each of the stacked matrices
  fail(ErrorKind::kCorrupt, "{}: {} [{}] does not hold the scales of {} [{}]", c.path,
       printable(scales.name), fmt::join(scales.shape, ", "), printable(codes.name),
       fmt::join(codes.shape, ", "));
}

std::vector<float> read_scales(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo& t = checkpoint.require(name);
  std::vector<std::byte> bytes(t.bytes);
  const int64_t all = t.shape.empty() ? 1 : t.shape[0];
  checkpoint.read(t, 0, all, bytes);
  std::vector<float> out(t.bytes / info(t.encoding.dtype).bytes);
  to_f32(t.encoding.dtype, bytes.data(), out.data(), out.size());
  return out;
}

}  // namespace

bool is_fp8_checkpoint(const Checkpoint& checkpoint) {
  const Json* const q = quantization_of(checkpoint);
  if (q == nullptr) return false;
  const Json* const named = json_find(*q, "quant_method");
  const std::string method =
      named != nullptr && named->is_string() ? named->get<std::string>() : "";
  if (method == "mxfp4") return false;
  if (holds_fp8(*q, method)) return true;
  const Json* const format = json_find(*q, "format");
  fail(ErrorKind::kUnsupported, "{}: already quantized{}{}; give the original checkpoint",
       checkpoint.path, method.empty() ? "" : " by " + printable(method),
       format != nullptr && format->is_string() ? " (" + printable(format->get<std::string>()) + ")"
                                                : "");
}

void find_fp8_scales(const Checkpoint& checkpoint, ImportedModel* model) {
  const bool promised = is_fp8_checkpoint(checkpoint);
  const auto block = block_size(checkpoint);
  for (const auto& l : linears_of(model->spec)) {
    const auto it = model->tensors.find(l.name);
    if (it == model->tensors.end() || !it->second.scales.empty()) continue;
    TensorSlice& slice = it->second;
    const TensorInfo* const codes = checkpoint.find(slice.tensor);
    if (codes == nullptr || !is_fp8(codes->encoding)) continue;
    const TensorInfo* scales = checkpoint.find(slice.tensor + "_scale_inv");
    if (scales == nullptr) scales = checkpoint.find(slice.tensor + "_scale");
    if (scales != nullptr) {
      if (slice.column_step != 1)
        fail(ErrorKind::kUnsupported, "{}: {} is in FP8 and interleaved", checkpoint.path,
             printable(slice.tensor));
      slice.fp8 = scales_of(checkpoint, *codes, *scales, block);
    } else if (promised) {
      fail(ErrorKind::kCorrupt, "{}: {} is in FP8 and {} is missing", checkpoint.path,
           printable(slice.tensor), printable(slice.tensor + "_scale_inv"));
    }
  }
  if (!promised) return;
  model->notes.push_back(fmt::format(
      "{}: weights in FP8 are read as they are; inputs are not rounded to FP8", checkpoint.path));
}

Encoding fp8_encoding(const TensorSlice& slice, int64_t n, int64_t k, int64_t row, int64_t rows) {
  const Fp8Scales& s = *slice.fp8;
  const int64_t width = slice.transposed ? n : k,
                first = slice.transposed ? slice.row : slice.row + row * slice.step,
                count = slice.transposed ? k : rows, last = first + std::max<int64_t>(count, 1) - 1;
  const bool one_matrix = first / s.matrix_rows == last / s.matrix_rows;
  const auto made = [&](ScaleArea area) { return Encoding::fp8(s.codes, area); };
  if (slice.step == 1) {
    const bool at_blocks = first % s.matrix_rows % kBlock == 0 &&
                           (one_matrix || s.matrix_rows % kBlock == 0) &&
                           (!slice.transposed || row % kBlock == 0);
    if (s.rows == kBlock && s.columns == kBlock && at_blocks) return made(ScaleArea::kBlock128);
    const bool whole_rows = s.columns >= width;
    if (whole_rows && one_matrix && first % s.matrix_rows / s.rows == last % s.matrix_rows / s.rows)
      return made(ScaleArea::kTensor);
    if (whole_rows && !slice.transposed) return made(ScaleArea::kRow);
  }
  return Encoding::dense(DType::kF32);
}

Weight fp8_rows(const Checkpoint& checkpoint, const TensorSlice& slice, int64_t n, int64_t k,
                int64_t row, int64_t rows) {
  const Fp8Scales& s = *slice.fp8;
  const Encoding e = fp8_encoding(slice, n, k, row, rows);
  const int64_t width = slice.transposed ? n : k;
  const int64_t first = slice.transposed ? slice.row : slice.row + row * slice.step;
  const int64_t count = slice.transposed ? k : rows == 0 ? 0 : (rows - 1) * slice.step + 1;
  const TensorInfo t = as_matrix(checkpoint.require(slice.tensor), width);
  std::vector<std::byte> codes(static_cast<size_t>(count * width));
  checkpoint.read(t, first, count, codes);
  const std::vector<float> scales = read_scales(checkpoint, s.tensor);
  const Grid grid(s, width);
  // The scale of the weight's row i, column j.
  const auto code = [&](int64_t i, int64_t j) {
    return codes[static_cast<size_t>(slice.transposed ? j * width + row + i
                                                      : i * slice.step * width + j)];
  };
  const auto scale = [&](int64_t i, int64_t j) {
    return scales.at(static_cast<size_t>(slice.transposed ? grid.at(first + j, row + i)
                                                          : grid.at(first + i * slice.step, j)));
  };

  OwnedWeight w = allocate_weight(e, rows, k);
  if (rows == 0) return std::move(w.weight);
  if (e.kind == EncodingKind::kDense) {
    auto* const out = reinterpret_cast<float*>(w.planes[0].bytes.data());
    std::array<std::byte, 256> all;
    std::array<float, 256> values;
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::byte>(i);
    to_f32(s.codes, all.data(), values.data(), values.size());
    parallel_ranges(rows, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t j = 0; j < k; ++j)
          out[i * k + j] = scale(i, j) * values[static_cast<size_t>(code(i, j))];
      }
    });
    return std::move(w.weight);
  }
  std::byte* const to = find_plane(w.planes, PlaneKind::kCodes).data();
  parallel_ranges(rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t j = 0; j < k; ++j) to[i * k + j] = code(i, j);
    }
  });
  const bool blocks = e.area == ScaleArea::kBlock128;
  const int64_t row_step = blocks ? kBlock : e.area == ScaleArea::kRow ? 1 : rows;
  const int64_t column_step = blocks ? kBlock : std::max<int64_t>(k, 1);
  std::byte* const to_scales = find_plane(w.planes, PlaneKind::kScales).data();
  for (int64_t i = 0; i < rows; i += row_step) {
    for (int64_t j = 0; j < k; j += column_step) {
      const float v = scale(i, j);
      std::memcpy(to_scales + fp8_scale_index(e, k, i, j) * 4, &v, sizeof v);
    }
  }
  return std::move(w.weight);
}

}  // namespace pith
