// A weight matrix is an encoding plus named planes of bytes.
//
// Encoding is plain data that says how numbers are stored; one row of a table per kind gives its
// name, its planes, its reference encoder and its reference decoder. The reference decoder defines
// what the bytes mean; every kernel is tested against it. All matrices are [n, k]: n output rows of
// k inputs, row-major.
//
// Groups run along k. A row whose length the group does not divide has a shorter last group.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "formats/encodings/content_id.h"
#include "formats/encodings/number_format.h"

namespace pith {

enum class EncodingKind : uint8_t {
  kDense,   // elements of `dtype`
  kInt,     // w = scale * (code - zero): integers of `bits`, groups of `group`      (int_group.h)
  kNf4,     // w = scale * kNf4[code]: 4-bit normal floats, groups of `group`         (int_group.h)
  kFp8,     // w = scale * float(code): `dtype` is f8e4m3 or f8e5m2, scales by `area` (fp8.h)
  kGgml,    // blocks of a GGUF quantization type; decode only                        (ggml.h)
  kMx,      // w = 2^(e - 127) * e2m1(code): 4-bit floats in groups of 32, MXFP4       (int_group.h)
  kSparse,  // some columns of a row, in an encoding of kind `values`; others are 0    (sparse.h)
  kTcq,     // w = scale * (code of a path - 126): trellis codes of `bits`, groups         (tcq.h)
};

enum class ScaleArea : uint8_t { kTensor, kRow, kBlock128 };  // block: 128 rows by 128 columns

// The types of GGUF files, with their numbers there.
enum class GgmlType : uint8_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kMXFP4 = 39,
  kBF16 = 30,
};

// Which columns of a row are stored; the others are 0.
enum class SparsityKind : uint8_t {
  kNone,    // all
  kNM,      // `kept` of every `of`, as 2 of 4
  kBitmap,  // at most `kept`, anywhere in the row
};
struct Sparsity {
  SparsityKind kind = SparsityKind::kNone;
  int64_t kept = 0;
  int64_t of = 0;

  friend bool operator==(const Sparsity&, const Sparsity&) = default;
  static Sparsity n_of_m(int64_t n, int64_t m) { return {SparsityKind::kNM, n, m}; }
  static Sparsity bitmap(int64_t kept) { return {SparsityKind::kBitmap, kept}; }
};

struct Encoding {
  EncodingKind kind = EncodingKind::kDense;
  DType dtype = DType::kF32;         // dense and fp8: of the elements
  int bits = 0;                      // int: 2 3 4 5 6 8; tcq: 2 3 4
  int64_t group = 0;                 // int, nf4, tcq: 16 (not tcq) 32 64 128, or 0: a row
  bool symmetric = true;             // int: zero is 2^(bits-1), not stored
  DType scale = DType::kF16;         // int, nf4, tcq: f16 or bf16 (of the row's where two_level)
  bool two_level = false;            // int, nf4, tcq: group scale = row scale * int8
  ScaleArea area = ScaleArea::kRow;  // fp8
  GgmlType ggml = GgmlType::kQ4_0;   // ggml
  Sparsity sparsity = {};            // sparse
  EncodingKind values = EncodingKind::kDense;  // sparse: of the values that are kept

  // Sparsity goes with every kind. It has a kind of its own all the same, so that a kernel that
  // does not know it decodes the matrix instead of reading its codes as those of a dense one.
  bool is_sparse() const { return kind == EncodingKind::kSparse; }
  EncodingKind value_kind() const { return is_sparse() ? values : kind; }
  // Whether groups have scales in f16 or bf16, or int8 ones below such a scale of the row.
  bool has_group_scales() const {
    const EncodingKind v = value_kind();
    return v == EncodingKind::kInt || v == EncodingKind::kNf4 || v == EncodingKind::kTcq;
  }
  Encoding inner() const {  // of the values that are kept; a dense encoding is its own
    Encoding e = *this;
    e.kind = value_kind();
    e.values = EncodingKind::kDense;
    e.sparsity = {};
    return e;
  }

  bool has_tensor_scale() const {
    return value_kind() == EncodingKind::kFp8 && area == ScaleArea::kTensor;
  }

  friend bool operator==(const Encoding&, const Encoding&) = default;

  static Encoding dense(DType dtype) { return {.dtype = dtype}; }
  static Encoding integer(int bits, int64_t group, bool symmetric = true, DType scale = DType::kF16,
                          bool two_level = false) {
    return {.kind = EncodingKind::kInt,
            .bits = bits,
            .group = group,
            .symmetric = symmetric,
            .scale = scale,
            .two_level = two_level};
  }
  static Encoding nf4(int64_t group, DType scale = DType::kF16) {
    return {.kind = EncodingKind::kNf4, .bits = 4, .group = group, .scale = scale};
  }
  static Encoding fp8(DType dtype, ScaleArea area) {
    return {.kind = EncodingKind::kFp8, .dtype = dtype, .area = area};
  }
  static Encoding mxfp4() {
    return {.kind = EncodingKind::kMx, .bits = 4, .group = 32, .scale = DType::kU8};
  }
  static Encoding sparse(Encoding inner, Sparsity sparsity) {
    inner.values = inner.kind;
    inner.kind = EncodingKind::kSparse;
    inner.sparsity = sparsity;
    return inner;
  }
  static Encoding tcq(int bits, int64_t group, DType scale = DType::kF16, bool two_level = false) {
    return {.kind = EncodingKind::kTcq,
            .bits = bits,
            .group = group,
            .scale = scale,
            .two_level = two_level};
  }
  static Encoding of_ggml(GgmlType type) { return {.kind = EncodingKind::kGgml, .ggml = type}; }
};

// How the codes of a weight are stored, for kernels; none for blocks of GGUF, sparse weights and
// dense ones that are no floats of 16 or 32 bits.
std::optional<NumberFormat> number_format(const Encoding& e);

enum class PlaneKind : uint8_t { kCodes, kScales, kZeros, kRowScales, kIndices };
const char* plane_name(PlaneKind kind);

// Where the bytes of rows lie in a plane: `bytes` in all; each unit of `unit_rows` rows takes
// `unit_bytes` (unit_rows = n where the plane cannot be cut).
struct PlaneLayout {
  PlaneKind kind;
  uint64_t bytes;
  int64_t unit_rows;
  uint64_t unit_bytes;
};

// A plane of a weight: kSlack bytes behind its end are readable.
struct Plane {
  PlaneKind kind;
  std::span<const std::byte> bytes;
};

struct Weight {
  Encoding encoding;
  int64_t n = 0, k = 0;
  std::vector<Plane> planes;
  std::shared_ptr<const void> owner;  // keeps the bytes alive: a mapped file, or buffers
  ContentId id = {};                  // of the bytes, which do not change once they are used

  std::span<const std::byte> plane(PlaneKind kind) const;  // empty where there is none
  uint64_t bytes() const;
};

struct MutablePlane {
  PlaneKind kind;
  std::span<std::byte> bytes;
};
using MutablePlanes = std::span<const MutablePlane>;
std::span<std::byte> find_plane(MutablePlanes planes, PlaneKind kind);

// What the table says of one kind. Rows are [row, row + rows) of the matrix; w and out are f32
// [rows, k].
struct EncodingOps {
  EncodingKind kind;
  const char* name;
  std::string (*format)(const Encoding&);              // "int4-g64", unique for the encoding
  bool (*parse)(std::string_view name, Encoding* to);  // false: not of this kind
  void (*check)(const Encoding&);                      // Error(kUsage) for nonsense
  std::vector<PlaneLayout> (*planes)(const Encoding&, int64_t n, int64_t k);
  // Plain rounding (min-max scales); nullptr for kinds that are read only. Rows start at a unit of
  // every plane. `tensor_absmax` is the largest magnitude of the whole matrix, used by
  // ScaleArea::kTensor alone.
  void (*encode)(const Encoding&, int64_t n, int64_t k, int64_t row, int64_t rows, const float* w,
                 float tensor_absmax, MutablePlanes to);
  void (*decode)(const Weight&, int64_t row, int64_t rows, float* out);
};

const EncodingOps& ops(EncodingKind kind);
std::span<const EncodingOps* const> encoding_table();

std::string to_string(const Encoding& e);
Encoding parse_encoding(std::string_view name);  // Error(kUsage) naming what exists
std::vector<PlaneLayout> plane_layouts(const Encoding& e, int64_t n, int64_t k);  // checked
uint64_t encoded_bytes(const Encoding& e, int64_t n, int64_t k);
bool can_encode(const Encoding& e);

// Error(kNumeric) naming the row where one of the weights [rows, k] is not finite: encoders refuse
// those. `row` is the number of the first.
void require_finite(int64_t row, int64_t rows, int64_t k, const float* w);

// The smallest number of rows that every plane can be cut at.
int64_t row_unit(const Encoding& e, int64_t n, int64_t k);

// Rows [row, row + rows) as f32 [rows, k], by the table's decoder: what the bytes mean.
void reference_decode(const Weight& w, int64_t row, int64_t rows, float* out);

// A whole matrix by plain rounding, into memory of its own. w is f32 [n, k].
Weight encode(const Encoding& e, int64_t n, int64_t k, const float* w);

// Memory for a matrix of this encoding. `weight.planes` show the bytes that `planes` can write.
struct OwnedWeight {
  Weight weight;
  std::vector<MutablePlane> planes;
};
OwnedWeight allocate_weight(const Encoding& e, int64_t n, int64_t k);

}  // namespace pith
