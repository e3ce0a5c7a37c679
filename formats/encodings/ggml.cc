#include "formats/encodings/ggml.h"

#include <cstring>

#include "core/bytes.h"
#include "formats/encodings/int_group.h"

namespace pith {
namespace {

constexpr GgmlTypeInfo kTypes[] = {
    {GgmlType::kF32, "f32", 1, 4},       {GgmlType::kF16, "f16", 1, 2},
    {GgmlType::kBF16, "bf16", 1, 2},     {GgmlType::kQ4_0, "q4_0", 32, 18},
    {GgmlType::kQ4_1, "q4_1", 32, 20},   {GgmlType::kQ5_0, "q5_0", 32, 22},
    {GgmlType::kQ5_1, "q5_1", 32, 24},   {GgmlType::kQ8_0, "q8_0", 32, 34},
    {GgmlType::kQ2_K, "q2_k", 256, 84},  {GgmlType::kQ3_K, "q3_k", 256, 110},
    {GgmlType::kQ4_K, "q4_k", 256, 144}, {GgmlType::kQ5_K, "q5_k", 256, 176},
    {GgmlType::kQ6_K, "q6_k", 256, 210}, {GgmlType::kIQ4_NL, "iq4_nl", 32, 18},
    {GgmlType::kMXFP4, "mxfp4", 32, 17},
};

const GgmlTypeInfo& info_of(GgmlType type) { return *ggml_type_info(static_cast<uint32_t>(type)); }

float half_at(const uint8_t* p) {
  uint16_t h;
  std::memcpy(&h, p, sizeof(h));
  return f16_to_f32(h);
}

// Decoders of one block each. The order of the operations is part of the format: products and sums
// round to f32 one by one, so that every reader of these files gets the same bits. Loops have
// constant lengths and no calls: they vectorize.

// Codes of 32: 16 low nibbles, then 16 high ones; bit 4 (where there are high bits) is bit i of a
// word.
template <int kBits>
void codes_of_32(const uint8_t* high, const uint8_t* nibbles, uint8_t* q) {
  for (int i = 0; i < 16; ++i) {
    q[i] = nibbles[i] & 0xf;
    q[i + 16] = static_cast<uint8_t>(nibbles[i] >> 4);
  }
  if constexpr (kBits == 5) {
    uint32_t word;
    std::memcpy(&word, high, sizeof(word));
    for (int i = 0; i < 32; ++i) q[i] = static_cast<uint8_t>(q[i] | (((word >> i) & 1u) << 4));
  }
}

// w = d (q - 2^(bits-1)): Q4_0, Q5_0
template <int kBits>
void decode_centred(const uint8_t* b, float* out) {
  const float d = half_at(b);
  uint8_t q[32];
  codes_of_32<kBits>(b + 2, b + (kBits == 5 ? 6 : 2), q);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(q[i] - (1 << (kBits - 1)));
}

// w = d q + m: Q4_1, Q5_1
template <int kBits>
void decode_affine(const uint8_t* b, float* out) {
  const float d = half_at(b), m = half_at(b + 2);
  uint8_t q[32];
  codes_of_32<kBits>(b + 4, b + (kBits == 5 ? 8 : 4), q);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(q[i]) + m;
}

void decode_q8_0(const uint8_t* b, float* out) {
  const float d = half_at(b);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(b[2 + i]));
}

// A 4-bit code book, denser near zero.
constexpr float kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};

void decode_iq4_nl(const uint8_t* b, float* out) {
  const float d = half_at(b);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * kIq4Values[b[2 + i] & 0xf];
    out[i + 16] = d * kIq4Values[b[2 + i] >> 4];
  }
}

void decode_mxfp4(const uint8_t* b, float* out) {
  const float d = mx_scale(b[0]);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * kE2M1Values[b[1 + i] & 0xf];
    out[i + 16] = d * kE2M1Values[b[1 + i] >> 4];
  }
}

// 16 groups of 16. Byte j of each half of the codes holds the 2-bit codes of weights j, j + 32, j +
// 64, j + 96.
void decode_q2_k(const uint8_t* b, float* out) {
  const uint8_t* scales = b;
  const uint8_t* codes = b + 16;
  const float d = half_at(b + 80), dmin = half_at(b + 82);
  for (int group = 0; group < 16; ++group) {
    const float dl = d * static_cast<float>(scales[group] & 0xf);
    const float ml = dmin * static_cast<float>(scales[group] >> 4);
    const uint8_t* q = codes + (group / 8) * 32 + (group % 2) * 16;
    const int shift = 2 * (group / 2 % 4);
    for (int i = 0; i < 16; ++i)
      out[group * 16 + i] = dl * static_cast<float>((q[i] >> shift) & 3) - ml;
  }
}

// As Q2_K; bit g/2 of byte j of the high bits says whether 4 is not taken off. Scales are 6 bits:
// 16 low nibbles in 8 bytes, 16 pairs of high bits in 4.
void decode_q3_k(const uint8_t* b, float* out) {
  const uint8_t* high = b;
  const uint8_t* codes = b + 32;
  const uint8_t* scales = b + 96;
  const float d = half_at(b + 108);
  for (int group = 0; group < 16; ++group) {
    const int low4 = (scales[group % 8] >> (group < 8 ? 0 : 4)) & 0xf;
    const int high2 = (scales[8 + group % 4] >> (2 * (group / 4))) & 3;
    const float dl = d * static_cast<float>((low4 | (high2 << 4)) - 32);
    const uint8_t* q = codes + (group / 8) * 32 + (group % 2) * 16;
    const uint8_t* h = high + (group % 2) * 16;
    const int shift = 2 * (group / 2 % 4), bit = group / 2;
    for (int i = 0; i < 16; ++i) {
      const int code = ((q[i] >> shift) & 3) + 4 * ((h[i] >> bit) & 1) - 4;
      out[group * 16 + i] = dl * static_cast<float>(code);
    }
  }
}

// The 6-bit scale and minimum of group g of 8: the first four of each whole, the upper bits of the
// others in their tops.
struct ScaleAndMin {
  int scale, min;
};
ScaleAndMin scale_and_min(const uint8_t* s, int g) {
  if (g < 4) return {s[g] & 63, s[g + 4] & 63};
  return {(s[g + 4] & 0xf) | ((s[g - 4] >> 2) & 0x30), (s[g + 4] >> 4) | ((s[g] >> 2) & 0x30)};
}

// 8 groups of 32. Byte j of each quarter of the codes: low nibbles of one group, high nibbles of
// the next; bit g of byte j of the high bits (Q5_K) is bit 4 of group g.
template <int kBits>
void decode_q45_k(const uint8_t* b, float* out) {
  const float d = half_at(b), dmin = half_at(b + 2);
  const uint8_t* high = b + 16;
  const uint8_t* codes = b + (kBits == 5 ? 48 : 16);
  for (int g = 0; g < 8; ++g) {
    const auto [scale, min] = scale_and_min(b + 4, g);
    const float dl = d * static_cast<float>(scale), ml = dmin * static_cast<float>(min);
    const uint8_t* q = codes + (g / 2) * 32;
    const int shift = 4 * (g % 2);
    for (int i = 0; i < 32; ++i) {
      int code = (q[i] >> shift) & 0xf;
      if constexpr (kBits == 5) code |= ((high[i] >> g) & 1) << 4;
      out[g * 32 + i] = dl * static_cast<float>(code) - ml;
    }
  }
}

// 16 groups of 16. In each half: 64 bytes of nibbles (low: weights 0..63, high: 64..127), 32 bytes
// of bit pairs.
void decode_q6_k(const uint8_t* b, float* out) {
  const float d = half_at(b + 208);
  for (int group = 0; group < 16; ++group) {
    const int half = group / 8, part = group / 2 % 4, side = (group % 2) * 16;
    const uint8_t* low = b + half * 64 + (part % 2) * 32 + side;
    const uint8_t* high = b + 128 + half * 32 + side;
    const float dl = d * static_cast<float>(static_cast<int8_t>(b[192 + group]));
    const int low_shift = 4 * (part / 2), high_shift = 2 * part;
    for (int i = 0; i < 16; ++i) {
      const int code = ((low[i] >> low_shift) & 0xf) | (((high[i] >> high_shift) & 3) << 4);
      out[group * 16 + i] = dl * static_cast<float>(code - 32);
    }
  }
}

template <void (*kDecode)(const uint8_t*, float*), int64_t kBlock, int64_t kBytes>
void decode_blocks(const uint8_t* from, int64_t blocks, float* out) {
  for (int64_t i = 0; i < blocks; ++i) kDecode(from + i * kBytes, out + i * kBlock);
}

void decode_all(GgmlType type, const uint8_t* from, int64_t blocks, float* out) {
  switch (type) {
    case GgmlType::kQ4_0:
      return decode_blocks<decode_centred<4>, 32, 18>(from, blocks, out);
    case GgmlType::kQ4_1:
      return decode_blocks<decode_affine<4>, 32, 20>(from, blocks, out);
    case GgmlType::kQ5_0:
      return decode_blocks<decode_centred<5>, 32, 22>(from, blocks, out);
    case GgmlType::kQ5_1:
      return decode_blocks<decode_affine<5>, 32, 24>(from, blocks, out);
    case GgmlType::kQ8_0:
      return decode_blocks<decode_q8_0, 32, 34>(from, blocks, out);
    case GgmlType::kQ2_K:
      return decode_blocks<decode_q2_k, 256, 84>(from, blocks, out);
    case GgmlType::kQ3_K:
      return decode_blocks<decode_q3_k, 256, 110>(from, blocks, out);
    case GgmlType::kQ4_K:
      return decode_blocks<decode_q45_k<4>, 256, 144>(from, blocks, out);
    case GgmlType::kQ5_K:
      return decode_blocks<decode_q45_k<5>, 256, 176>(from, blocks, out);
    case GgmlType::kQ6_K:
      return decode_blocks<decode_q6_k, 256, 210>(from, blocks, out);
    case GgmlType::kIQ4_NL:
      return decode_blocks<decode_iq4_nl, 32, 18>(from, blocks, out);
    case GgmlType::kMXFP4:
      return decode_blocks<decode_mxfp4, 32, 17>(from, blocks, out);
    case GgmlType::kF32:
    case GgmlType::kF16:
    case GgmlType::kBF16:
      break;
  }
  fail(ErrorKind::kUsage, "ggml type {} is not a block type", static_cast<int>(type));
}

constexpr std::string_view kPrefix = "ggml-";

void check(const Encoding& e) {
  const GgmlTypeInfo* type = ggml_type_info(static_cast<uint32_t>(e.ggml));
  if (type == nullptr || type->block == 1) {
    fail(ErrorKind::kUsage, "ggml type {} is not a block type", static_cast<int>(e.ggml));
  }
}

std::string format(const Encoding& e) {
  check(e);
  return std::string(kPrefix) + info_of(e.ggml).name;
}

bool parse(std::string_view name, Encoding* to) {
  if (!name.starts_with(kPrefix)) return false;
  name.remove_prefix(kPrefix.size());
  for (const GgmlTypeInfo& t : kTypes) {
    if (t.block > 1 && name == t.name) {
      *to = Encoding::of_ggml(t.type);
      return true;
    }
  }
  return false;
}

uint64_t row_bytes(const Encoding& e, int64_t k) {
  const GgmlTypeInfo& type = info_of(e.ggml);
  if (k < 0 || k % type.block != 0) {
    fail(ErrorKind::kUsage, "rows of {}: {}{} needs a multiple of {}", k, kPrefix, type.name,
         type.block);
  }
  return checked_mul(static_cast<uint64_t>(k / type.block), type.bytes, "bytes of a row");
}

std::vector<PlaneLayout> planes(const Encoding& e, int64_t n, int64_t k) {
  check(e);
  if (n < 0) fail(ErrorKind::kUsage, "a matrix of {} rows", n);
  const uint64_t unit = row_bytes(e, k);
  const uint64_t bytes = checked_mul(static_cast<uint64_t>(n), unit, "bytes of a matrix");
  return {{.kind = PlaneKind::kCodes, .bytes = bytes, .unit_rows = 1, .unit_bytes = unit}};
}

void decode(const Weight& w, int64_t row, int64_t rows, float* out) {
  check(w.encoding);
  const uint64_t unit = row_bytes(w.encoding, w.k);
  std::span<const std::byte> codes;
  for (const Plane& plane : w.planes) {
    if (plane.kind == PlaneKind::kCodes) codes = plane.bytes;
  }
  if (row < 0 || rows < 0 || row > w.n - rows) {
    fail(ErrorKind::kUsage, "{} rows from row {} of {}", rows, row, w.n);
  }
  const uint64_t end = checked_mul(static_cast<uint64_t>(row + rows), unit, "bytes of rows");
  if (end > codes.size()) {
    fail(ErrorKind::kCorrupt, "{} rows of {} bytes in a plane of {}", row + rows, unit,
         codes.size());
  }
  const auto* from =
      reinterpret_cast<const uint8_t*>(codes.data()) + static_cast<uint64_t>(row) * unit;
  decode_all(w.encoding.ggml, from, rows * (w.k / info_of(w.encoding.ggml).block), out);
}

}  // namespace

std::span<const GgmlTypeInfo> ggml_types() { return kTypes; }

const GgmlTypeInfo* ggml_type_info(uint32_t number) {
  for (const GgmlTypeInfo& t : kTypes) {
    if (static_cast<uint32_t>(t.type) == number) return &t;
  }
  return nullptr;
}

Encoding encoding_of(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
      return Encoding::dense(DType::kF32);
    case GgmlType::kF16:
      return Encoding::dense(DType::kF16);
    case GgmlType::kBF16:
      return Encoding::dense(DType::kBF16);
    default:
      return Encoding::of_ggml(type);
  }
}

const EncodingOps kGgmlOps = {
    .kind = EncodingKind::kGgml,
    .name = "ggml",
    .format = format,
    .parse = parse,
    .check = check,
    .planes = planes,
    .encode = nullptr,
    .decode = decode,
};

}  // namespace pith
