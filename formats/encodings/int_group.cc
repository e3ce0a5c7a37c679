#include "formats/encodings/int_group.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>

#include "core/bytes.h"
#include "core/error.h"
#include "formats/encodings/names.h"
#include "formats/encodings/tcq.h"

namespace pith {

const std::array<float, 16> kNf4Values = {
#include "formats/encodings/nf4_values.inc"
};

const std::array<float, 16> kE2M1Values = {0, 0.5f,  1,  1.5f,  2,  3,  4,  6,
                                           0, -0.5f, -1, -1.5f, -2, -3, -4, -6};

namespace {

float load_scale(DType type, const std::byte* p) {
  float s;
  to_f32(type, p, &s, 1);
  return s;
}

// Where the tile of a row begins.
std::byte* tile_of(MutablePlanes to, PlaneKind kind, int64_t row, uint64_t tile_bytes) {
  return find_plane(to, kind).data() +
         static_cast<uint64_t>(row / GroupLayout::kTileRows) * tile_bytes;
}
const std::byte* tile_of(const Weight& w, PlaneKind kind, int64_t row, uint64_t tile_bytes) {
  return w.plane(kind).data() + static_cast<uint64_t>(row / GroupLayout::kTileRows) * tile_bytes;
}

// The words of one row in a unit: `to` and `from` point at that row's place in its first line.
void store_unit(int bits, const uint8_t* codes, std::byte* to) {
  int below = 0;
  for (const int part : code_parts(bits)) {
    const int codes_of_word = part == 0 ? 32 : 32 / part;
    for (int word = 0; word < part; ++word, to += 64) {
      uint32_t v = 0;
      for (int i = 0; i < codes_of_word; ++i) {
        const uint32_t bit = static_cast<uint32_t>(i % 4 * 8 + i / 4 * part);
        const uint32_t code = codes[word * codes_of_word + i];
        v |= (code >> below & ((1u << part) - 1)) << bit;
      }
      std::memcpy(to, &v, 4);
    }
    below += part;
  }
}
void load_unit(int bits, const std::byte* from, uint8_t* codes) {
  int below = 0;
  for (const int part : code_parts(bits)) {
    const int codes_of_word = part == 0 ? 32 : 32 / part;
    for (int word = 0; word < part; ++word, from += 64) {
      uint32_t v;
      std::memcpy(&v, from, 4);
      for (int i = 0; i < codes_of_word; ++i) {
        const uint32_t code = v >> (i % 4 * 8 + i / 4 * part) & ((1u << part) - 1);
        uint8_t& c = codes[word * codes_of_word + i];
        c = static_cast<uint8_t>(below == 0 ? code : c | code << below);
      }
    }
    below += part;
  }
}

// ---- Table rows ----

std::string format(const Encoding& e) {
  if (e.kind == EncodingKind::kMx) return "mxfp4";
  std::string s = e.kind == EncodingKind::kNf4
                      ? "nf4"
                      : fmt::format("{}{}", e.kind == EncodingKind::kTcq ? "tcq" : "int", e.bits);
  s += e.group == 0 ? std::string("-row") : fmt::format("-g{}", e.group);
  if (!e.symmetric) s += "-asym";
  if (e.scale == DType::kBF16) s += "-bf16";
  if (e.two_level) s += "-s8";
  return s;
}

bool parse(std::string_view name, Encoding* to) {
  if (name == "mxfp4") {
    *to = Encoding::mxfp4();
    return true;
  }
  const auto parts = split_name(name);
  Encoding e;
  if (parts[0] == "nf4") {
    e = Encoding::nf4(64);
  } else if (parts[0].starts_with("int")) {
    e = Encoding::integer(0, 64);
    if (!parse_whole(parts[0].substr(3), &e.bits)) return false;
  } else if (parts[0].starts_with("tcq")) {
    e = Encoding::tcq(0, 64);
    if (!parse_whole(parts[0].substr(3), &e.bits)) return false;
  } else {
    return false;
  }
  for (size_t i = 1; i < parts.size(); ++i) {
    const auto part = parts[i];
    if (part == "row")
      e.group = 0;
    else if (part == "asym")
      e.symmetric = false;
    else if (part == "sym")
      e.symmetric = true;
    else if (part == "bf16")
      e.scale = DType::kBF16;
    else if (part == "f16")
      e.scale = DType::kF16;
    else if (part == "s8")
      e.two_level = true;
    else if (!part.starts_with('g') || !parse_whole(part.substr(1), &e.group) || e.group <= 0)
      return false;
  }
  *to = e;
  return true;
}

void check(const Encoding& e) {
  if (e.kind == EncodingKind::kMx) {
    if (e != Encoding::mxfp4()) fail(ErrorKind::kUsage, "mxfp4 has groups of 32 and nothing else");
    return;
  }
  constexpr int kBits[] = {2, 3, 4, 5, 6, 8};
  constexpr int64_t kGroups[] = {0, 16, 32, 64, 128};
  if (std::ranges::find(kBits, e.bits) == std::end(kBits)) {
    fail(ErrorKind::kUsage, "{} bits: 2, 3, 4, 5, 6 and 8 exist", e.bits);
  }
  if (std::ranges::find(kGroups, e.group) == std::end(kGroups)) {
    fail(ErrorKind::kUsage, "group size {}: 16, 32, 64, 128 and a whole row exist", e.group);
  }
  if (e.scale != DType::kF16 && e.scale != DType::kBF16)
    fail(ErrorKind::kUsage, "scales are f16 or bf16");
  if (e.kind == EncodingKind::kNf4 && (e.bits != 4 || !e.symmetric)) {
    fail(ErrorKind::kUsage, "nf4 has 4 bits and no zero points");
  }
  if (e.kind == EncodingKind::kTcq && (e.bits > 4 || !e.symmetric || e.group == 16))
    fail(ErrorKind::kUsage,
         "trellis codes have 2, 3 or 4 bits, groups of 32, 64, 128 or a row, and no zero points");
}

std::vector<PlaneLayout> planes(const Encoding& e, int64_t n, int64_t k) {
  const GroupLayout l(e, n, k);
  std::vector<PlaneLayout> out;
  const auto add = [&](PlaneKind kind, int64_t rows, uint64_t bytes) {
    const auto count = static_cast<uint64_t>(ceil_div(n, rows));
    out.push_back({kind, checked_mul(count, bytes, "plane size"), rows, bytes});
  };
  add(PlaneKind::kCodes, GroupLayout::kTileRows, l.code_tile_bytes);
  add(PlaneKind::kScales, GroupLayout::kTileRows, l.scale_tile_bytes);
  if (!e.symmetric) add(PlaneKind::kZeros, GroupLayout::kTileRows, l.zero_tile_bytes);
  if (e.two_level) add(PlaneKind::kRowScales, 1, 2);
  return out;
}

// Plain rounding: the range of the group onto the range of the codes. Symmetric: s = absmax /
// (2^bits - 1) * 2, as GPTQ and compressed-tensors define it.
void encode_int(const Encoding& e, int64_t n, int64_t k, int64_t row, int64_t rows, const float* w,
                float, MutablePlanes to) {
  require_finite(row, rows, k, w);
  const GroupLayout l(e, n, k);
  const auto top = static_cast<float>((1 << e.bits) - 1);
  std::vector<float> scales(static_cast<size_t>(l.groups)), lows(scales.size());
  std::vector<uint8_t> zeros(scales.size()), codes(static_cast<size_t>(k));
  for (int64_t r = 0; r < rows; ++r) {
    const float* x = w + r * k;
    for (int64_t g = 0; g < l.groups; ++g) {
      float low = 0, high = 0;
      for (int64_t i = l.group_begin(g); i < l.group_end(g); ++i) {
        low = std::min(low, x[i]);
        high = std::max(high, x[i]);
      }
      const auto gi = static_cast<size_t>(g);
      lows[gi] = low;
      scales[gi] = e.symmetric ? 2 * std::max(-low, high) / top : (high - low) / top;
    }
    store_scales(e, l, to, row + r, scales);
    for (int64_t g = 0; g < l.groups; ++g) {
      const auto gi = static_cast<size_t>(g);
      const float inverse = scales[gi] != 0 ? 1 / scales[gi] : 0;
      float zero = static_cast<float>(1 << (e.bits - 1));
      if (!e.symmetric) zero = std::clamp(std::nearbyint(-lows[gi] * inverse), 0.0f, top);
      zeros[gi] = static_cast<uint8_t>(zero);
      for (int64_t i = l.group_begin(g); i < l.group_end(g); ++i) {
        codes[static_cast<size_t>(i)] =
            static_cast<uint8_t>(std::clamp(std::nearbyint(x[i] * inverse) + zero, 0.0f, top));
      }
    }
    if (!e.symmetric) store_zeros(l, to, row + r, zeros);
    store_codes(l, to, row + r, codes);
  }
}

void encode_nf4(const Encoding& e, int64_t n, int64_t k, int64_t row, int64_t rows, const float* w,
                float, MutablePlanes to) {
  require_finite(row, rows, k, w);
  const GroupLayout l(e, n, k);
  std::vector<float> scales(static_cast<size_t>(l.groups));
  std::vector<uint8_t> codes(static_cast<size_t>(k));
  for (int64_t r = 0; r < rows; ++r) {
    const float* x = w + r * k;
    for (int64_t g = 0; g < l.groups; ++g) {
      float absmax = 0;
      for (int64_t i = l.group_begin(g); i < l.group_end(g); ++i)
        absmax = std::max(absmax, std::fabs(x[i]));
      scales[static_cast<size_t>(g)] = absmax;
    }
    store_scales(e, l, to, row + r, scales);
    for (int64_t g = 0; g < l.groups; ++g) {
      const float s = scales[static_cast<size_t>(g)];
      const float inverse = s != 0 ? 1 / s : 0;
      for (int64_t i = l.group_begin(g); i < l.group_end(g); ++i)
        codes[static_cast<size_t>(i)] = nearest_nf4(x[i] * inverse);
    }
    store_codes(l, to, row + r, codes);
  }
}

void encode_mx(const Encoding& e, int64_t n, int64_t k, int64_t row, int64_t rows, const float* w,
               float, MutablePlanes to) {
  require_finite(row, rows, k, w);
  const GroupLayout l(e, n, k);
  std::vector<uint8_t> scales(static_cast<size_t>(l.groups)), codes(static_cast<size_t>(k));
  for (int64_t r = 0; r < rows; ++r) {
    const float* x = w + r * k;
    for (int64_t g = 0; g < l.groups; ++g) {
      const int64_t begin = l.group_begin(g), end = l.group_end(g);
      const int exponent = mx_exponent(x + begin, nullptr, end - begin);
      scales[static_cast<size_t>(g)] = static_cast<uint8_t>(exponent + 127);
      for (int64_t i = begin; i < end; ++i)
        codes[static_cast<size_t>(i)] = nearest_e2m1(std::ldexp(x[i], -exponent));
    }
    store_mx_row(l, to, row + r, codes, scales);
  }
}

void encode_tcq(const Encoding& e, int64_t n, int64_t k, int64_t row, int64_t rows, const float* w,
                float, MutablePlanes to) {
  require_finite(row, rows, k, w);
  const GroupLayout l(e, n, k);
  std::vector<float> scales(static_cast<size_t>(l.groups)), of_columns(static_cast<size_t>(k));
  std::vector<uint16_t> windows(static_cast<size_t>(k));
  for (int64_t r = 0; r < rows; ++r) {
    const float* x = w + r * k;
    for (int64_t g = 0; g < l.groups; ++g) {
      scales[static_cast<size_t>(g)] =
          tcq_scale(e.bits, x + l.group_begin(g), nullptr, l.group_end(g) - l.group_begin(g));
    }
    store_scales(e, l, to, row + r, scales);
    for (int64_t i = 0; i < k; ++i)
      of_columns[static_cast<size_t>(i)] = scales[static_cast<size_t>(i / l.group)];
    search_row(e.bits, k, x, of_columns.data(), windows.data());
    store_windows(l, to, row + r, windows);
  }
}

template <class Value>
void decode_groups(const Weight& w, int64_t row, int64_t rows, float* out, Value value) {
  const GroupLayout l(w.encoding, w.n, w.k);
  std::vector<float> scales(static_cast<size_t>(l.groups));
  std::vector<uint8_t> zeros(scales.size()),
      codes(static_cast<size_t>(l.units * GroupLayout::kUnitColumns));
  for (int64_t r = 0; r < rows; ++r) {
    load_scales(w, l, row + r, scales.data());
    if (w.encoding.kind == EncodingKind::kInt) load_zeros(w, l, row + r, zeros.data());
    load_codes(w, l, row + r, codes.data());
    for (int64_t g = 0; g < l.groups; ++g) {
      const float s = scales[static_cast<size_t>(g)];
      const int z = zeros[static_cast<size_t>(g)];
      const uint8_t* q = codes.data();
      for (int64_t i = l.group_begin(g), end = l.group_end(g); i < end; ++i)
        out[r * l.k + i] = s * value(q[i], z);
    }
  }
}

void decode_int(const Weight& w, int64_t row, int64_t rows, float* out) {
  decode_groups(w, row, rows, out, [](uint8_t q, int z) { return static_cast<float>(q - z); });
}
void decode_nf4(const Weight& w, int64_t row, int64_t rows, float* out) {
  decode_groups(w, row, rows, out, [](uint8_t q, int) { return kNf4Values[q]; });
}

void decode_tcq(const Weight& w, int64_t row, int64_t rows, float* out) {
  decode_groups(w, row, rows, out, [](uint8_t q, int) { return static_cast<float>(q - kTcqZero); });
}
void decode_mx(const Weight& w, int64_t row, int64_t rows, float* out) {
  decode_groups(w, row, rows, out, [](uint8_t q, int) { return kE2M1Values[q]; });
}

}  // namespace

uint8_t nearest_e2m1(float v) {
  const float m = std::fabs(v);
  const int code = (m > 0.25f) + (m >= 0.75f) + (m > 1.25f) + (m >= 1.75f) + (m > 2.5f) +
                   (m >= 3.5f) + (m > 5.0f);
  return static_cast<uint8_t>(v < 0 && code > 0 ? code + 8 : code);
}

int mx_exponent(const float* x, const float* weights, int64_t n) {
  float absmax = 0;
  for (int64_t i = 0; i < n; ++i) absmax = std::max(absmax, std::fabs(x[i]));
  if (absmax == 0) return 0;
  const auto missed = [&](int exponent) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) {
      const float v = std::ldexp(x[i], -exponent);
      const auto d = static_cast<double>(v - kE2M1Values[nearest_e2m1(v)]);
      sum += (weights ? static_cast<double>(weights[i]) : 1) * d * d;
    }
    return std::ldexp(sum, 2 * exponent);
  };
  const int low = std::max(std::ilogb(absmax) - 2, -126);
  return missed(low) <= missed(low + 1) ? low : low + 1;
}

float mx_scale(uint8_t e) {
  const uint32_t bits = e == 0 ? 0x00400000u : e == 255 ? 0x7fc00000u : uint32_t{e} << 23;
  return std::bit_cast<float>(bits);
}

void store_mx_row(const GroupLayout& l, MutablePlanes to, int64_t row,
                  std::span<const uint8_t> codes, std::span<const uint8_t> scales) {
  store_codes(l, to, row, codes);
  std::byte* p =
      tile_of(to, PlaneKind::kScales, row, l.scale_tile_bytes) + row % GroupLayout::kTileRows;
  for (const uint8_t e : scales) {
    *p = std::byte{e};
    p += GroupLayout::kTileRows;
  }
}

uint8_t nearest_nf4(float v) {
  uint8_t code = 0;
  for (size_t i = 0; i + 1 < kNf4Values.size(); ++i)
    code += v > (kNf4Values[i] + kNf4Values[i + 1]) / 2;
  return code;
}

GroupLayout::GroupLayout(const Encoding& e, int64_t rows, int64_t columns)
    : n(rows),
      k(columns),
      group(e.group == 0 ? std::max<int64_t>(columns, 1) : e.group),
      groups(ceil_div(columns, group)),
      bits(e.bits),
      units(ceil_div(columns, kUnitColumns)),
      code_tile_bytes(static_cast<uint64_t>(units) * static_cast<uint64_t>(64 * e.bits) +
                      (e.kind == EncodingKind::kTcq ? 64 : 0)),
      scale_tile_bytes(static_cast<uint64_t>(groups) *
                       (e.two_level || e.kind == EncodingKind::kMx ? 16 : 32)),
      zero_tile_bytes(static_cast<uint64_t>(groups) * static_cast<uint64_t>(2 * e.bits)) {}

void store_scales(const Encoding& e, const GroupLayout& l, MutablePlanes to, int64_t row,
                  std::span<float> scales, float largest) {
  const auto refuse = [&](float s) {
    fail(ErrorKind::kNumeric, "row {}: a scale of {} does not fit {}{}", row, s, info(e.scale).name,
         e.scale == DType::kF16 ? " (bf16 scales would)" : "");
  };
  // Trellis codes reach so far that what they mean overflows before their scale does.
  const float largest_code = e.kind == EncodingKind::kTcq ? kTcqZero : 1;
  const auto round = [&](float s, std::byte* p) {
    if (std::fabs(s) < 0x1p-126f) s = 0;  // its inverse would not be finite
    from_f32(e.scale, &s, p, 1);
    const float kept = load_scale(e.scale, p);
    if (!std::isfinite(largest_code * kept)) refuse(s);
    if (std::fabs(kept) >= 0x1p-126f || kept == 0) return kept;
    std::memset(p, 0, 2);  // its inverse may be beyond f32: such a group is one of zeros
    return 0.0f;
  };
  std::byte* p = tile_of(to, PlaneKind::kScales, row, l.scale_tile_bytes);
  if (e.kind == EncodingKind::kMx) {
    p += row % GroupLayout::kTileRows;
    for (float& s : scales) {
      if (!std::isfinite(s)) refuse(s);
      const float power = s > 0 ? std::clamp(std::round(std::log2(s)), -126.0f, 127.0f) : 0;
      const auto stored = static_cast<uint8_t>(power + 127);
      *p = std::byte{stored};
      p += GroupLayout::kTileRows;
      s = mx_scale(stored);
    }
    return;
  }
  if (!e.two_level) {
    p += 2 * (row % GroupLayout::kTileRows);
    for (float& s : scales) {
      s = round(s, p);
      p += 32;
    }
    return;
  }
  p += row % GroupLayout::kTileRows;
  const bool largest_is_free = largest == 0;
  for (const float s : scales) {
    if (!std::isfinite(s)) refuse(s);
    if (largest_is_free) largest = std::max(largest, std::fabs(s));
  }
  const float row_scale =
      round(largest / 127, find_plane(to, PlaneKind::kRowScales).data() + 2 * row);
  const float inverse = row_scale != 0 ? 1 / row_scale : 0;
  for (float& s : scales) {
    const float code = std::clamp(std::nearbyint(s * inverse), -127.0f, 127.0f);
    const auto stored = static_cast<int8_t>(code);
    *p = static_cast<std::byte>(stored);
    p += 16;
    s = row_scale * static_cast<float>(stored);
    if (!std::isfinite(largest_code * s)) refuse(s);
  }
}

void store_zeros(const GroupLayout& l, MutablePlanes to, int64_t row,
                 std::span<const uint8_t> zeros) {
  std::byte* unit = tile_of(to, PlaneKind::kZeros, row, l.zero_tile_bytes);
  const auto begin = static_cast<int>(row % GroupLayout::kTileRows) * l.bits;
  for (const uint8_t zero : zeros) {
    for (int i = 0; i < l.bits; ++i) {
      const int bit = begin + i;
      const auto mask = static_cast<std::byte>(1 << bit % 8);
      unit[bit / 8] = (zero >> i & 1) != 0 ? unit[bit / 8] | mask : unit[bit / 8] & ~mask;
    }
    unit += 2 * l.bits;
  }
}
void store_codes(const GroupLayout& l, MutablePlanes to, int64_t row,
                 std::span<const uint8_t> codes) {
  constexpr auto kColumns = static_cast<size_t>(GroupLayout::kUnitColumns);
  std::byte* unit =
      tile_of(to, PlaneKind::kCodes, row, l.code_tile_bytes) + 4 * (row % GroupLayout::kTileRows);
  for (size_t c = 0; c < codes.size(); c += kColumns, unit += 64 * l.bits) {
    if (codes.size() - c >= kColumns) {
      store_unit(l.bits, codes.data() + c, unit);
    } else {
      uint8_t last[kColumns] = {};
      std::ranges::copy(codes.subspan(c), last);
      store_unit(l.bits, last, unit);
    }
  }
}

void load_scales(const Weight& w, const GroupLayout& l, int64_t row, float* scales) {
  const Encoding& e = w.encoding;
  const std::byte* p = tile_of(w, PlaneKind::kScales, row, l.scale_tile_bytes);
  const int64_t place = row % GroupLayout::kTileRows;
  if (e.kind == EncodingKind::kMx) {
    for (int64_t g = 0; g < l.groups; ++g)
      scales[g] = mx_scale(static_cast<uint8_t>(p[GroupLayout::kTileRows * g + place]));
    return;
  }
  if (!e.two_level) {
    for (int64_t g = 0; g < l.groups; ++g) scales[g] = load_scale(e.scale, p + 32 * g + 2 * place);
    return;
  }
  const float row_scale = load_scale(e.scale, w.plane(PlaneKind::kRowScales).data() + 2 * row);
  for (int64_t g = 0; g < l.groups; ++g)
    scales[g] = row_scale * static_cast<float>(static_cast<int8_t>(p[16 * g + place]));
}
void load_zeros(const Weight& w, const GroupLayout& l, int64_t row, uint8_t* zeros) {
  if (w.encoding.symmetric) {
    std::fill(zeros, zeros + l.groups, static_cast<uint8_t>(1 << (l.bits - 1)));
    return;
  }
  const std::byte* unit = tile_of(w, PlaneKind::kZeros, row, l.zero_tile_bytes);
  const auto begin = static_cast<int>(row % GroupLayout::kTileRows) * l.bits;
  for (int64_t g = 0; g < l.groups; ++g, unit += 2 * l.bits) {
    uint16_t v;  // of which the second byte may be of what follows
    std::memcpy(&v, unit + begin / 8, 2);
    zeros[g] = static_cast<uint8_t>(v >> begin % 8 & ((1 << l.bits) - 1));
  }
}
void load_codes(const Weight& w, const GroupLayout& l, int64_t row, uint8_t* codes) {
  if (w.encoding.kind == EncodingKind::kTcq) return load_tcq_codes(w, l, row, codes);
  const std::byte* unit =
      tile_of(w, PlaneKind::kCodes, row, l.code_tile_bytes) + 4 * (row % GroupLayout::kTileRows);
  for (int64_t u = 0; u < l.units; ++u, unit += 64 * l.bits)
    load_unit(l.bits, unit, codes + u * GroupLayout::kUnitColumns);
}

const EncodingOps kIntOps = {EncodingKind::kInt, "int",     format, parse, check, planes,
                             encode_int,         decode_int};
const EncodingOps kNf4Ops = {EncodingKind::kNf4, "nf4",     format, parse, check, planes,
                             encode_nf4,         decode_nf4};
const EncodingOps kMxOps = {EncodingKind::kMx, "mxfp4",  format, parse, check, planes,
                            encode_mx,         decode_mx};

const EncodingOps kTcqOps = {EncodingKind::kTcq, "tcq",     format, parse, check, planes,
                             encode_tcq,         decode_tcq};

}  // namespace pith
