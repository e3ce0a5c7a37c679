#include "formats/encodings/int_group.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "core/bytes.h"
#include "core/error.h"
#include "formats/encodings/names.h"

namespace pith {

const std::array<float, 16> kNf4Values = {-1.0f,
                                          -0.6961928009986877f,
                                          -0.5250730514526367f,
                                          -0.39491748809814453f,
                                          -0.28444138169288635f,
                                          -0.18477343022823334f,
                                          -0.09105003625154495f,
                                          0.0f,
                                          0.07958029955625534f,
                                          0.16093020141124725f,
                                          0.24611230194568634f,
                                          0.33791524171829224f,
                                          0.44070982933044434f,
                                          0.5626170039176941f,
                                          0.7229568362236023f,
                                          1.0f};

namespace {

template <int bits>
void pack(const uint8_t* codes, std::byte* to) {
  uint8_t out[2 * bits + 1] = {};
  for (int i = 0; i < 16; ++i) {
    const int bit = i * bits;
    const unsigned v = static_cast<unsigned>(codes[i]) << (bit % 8);
    out[bit / 8] = static_cast<uint8_t>(out[bit / 8] | v);
    out[bit / 8 + 1] = static_cast<uint8_t>(out[bit / 8 + 1] | v >> 8);
  }
  std::memcpy(to, out, 2 * bits);
}

template <int bits>
void unpack(const std::byte* from, uint8_t* codes) {
  constexpr unsigned mask = (1u << bits) - 1;
  for (int i = 0; i < 16; ++i) {
    const int bit = i * bits;
    uint16_t v;
    std::memcpy(&v, from + bit / 8, 2);
    codes[i] = static_cast<uint8_t>((static_cast<unsigned>(v) >> (bit % 8)) & mask);
  }
}

float load_scale(DType type, const std::byte* p) {
  float s;
  to_f32(type, p, &s, 1);
  return s;
}

std::byte* row_of(MutablePlanes to, PlaneKind kind, int64_t row, uint64_t row_bytes) {
  return find_plane(to, kind).data() + static_cast<uint64_t>(row) * row_bytes;
}

// ---- Table rows ----

std::string format(const Encoding& e) {
  std::string s = e.kind == EncodingKind::kNf4 ? "nf4" : fmt::format("int{}", e.bits);
  s += e.group == 0 ? std::string("-row") : fmt::format("-g{}", e.group);
  if (!e.symmetric) s += "-asym";
  if (e.scale == DType::kBF16) s += "-bf16";
  if (e.two_level) s += "-s8";
  return s;
}

bool parse(std::string_view name, Encoding* to) {
  const auto parts = split_name(name);
  Encoding e;
  if (parts[0] == "nf4") {
    e = Encoding::nf4(64);
  } else if (parts[0].starts_with("int")) {
    e = Encoding::integer(0, 64);
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
}

std::vector<PlaneLayout> planes(const Encoding& e, int64_t n, int64_t k) {
  const GroupLayout l(e, n, k);
  std::vector<PlaneLayout> out;
  const auto add = [&](PlaneKind kind, uint64_t row_bytes) {
    out.push_back(
        {kind, checked_mul(static_cast<uint64_t>(n), row_bytes, "plane size"), 1, row_bytes});
  };
  add(PlaneKind::kCodes, l.code_row_bytes);
  add(PlaneKind::kScales, static_cast<uint64_t>(l.groups) * (e.two_level ? 1 : 2));
  if (!e.symmetric) add(PlaneKind::kZeros, l.zero_row_bytes);
  if (e.two_level) add(PlaneKind::kRowScales, 2);
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

template <class Value>
void decode_groups(const Weight& w, int64_t row, int64_t rows, float* out, Value value) {
  const GroupLayout l(w.encoding, w.n, w.k);
  std::vector<float> scales(static_cast<size_t>(l.groups));
  std::vector<uint8_t> zeros(round_up(static_cast<uint64_t>(l.groups), 16)),
      codes(round_up(static_cast<uint64_t>(l.k), 16));
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

}  // namespace

void pack_unit(int bits, const uint8_t* codes, std::byte* to) {
  switch (bits) {
    case 2:
      return pack<2>(codes, to);
    case 3:
      return pack<3>(codes, to);
    case 4:
      return pack<4>(codes, to);
    case 5:
      return pack<5>(codes, to);
    case 6:
      return pack<6>(codes, to);
    case 8:
      std::memcpy(to, codes, 16);
      return;
    default:
      fail(ErrorKind::kUsage, "{} bits cannot be packed", bits);
  }
}
void unpack_unit(int bits, const std::byte* from, uint8_t* codes) {
  switch (bits) {
    case 2:
      return unpack<2>(from, codes);
    case 3:
      return unpack<3>(from, codes);
    case 4:
      return unpack<4>(from, codes);
    case 5:
      return unpack<5>(from, codes);
    case 6:
      return unpack<6>(from, codes);
    case 8:
      std::memcpy(codes, from, 16);
      return;
    default:
      fail(ErrorKind::kUsage, "{} bits cannot be unpacked", bits);
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
      code_row_bytes(static_cast<uint64_t>(ceil_div(columns, 16)) *
                     static_cast<uint64_t>(2 * e.bits)),
      zero_row_bytes(static_cast<uint64_t>(ceil_div(groups, 16)) *
                     static_cast<uint64_t>(2 * e.bits)) {}

void store_scales(const Encoding& e, const GroupLayout& l, MutablePlanes to, int64_t row,
                  std::span<float> scales) {
  const auto refuse = [&](float s) {
    fail(ErrorKind::kNumeric, "row {}: a scale of {} does not fit {}{}", row, s, info(e.scale).name,
         e.scale == DType::kF16 ? " (bf16 scales would)" : "");
  };
  const auto round = [&](float s, std::byte* p) {
    if (std::fabs(s) < 0x1p-126f) s = 0;  // its inverse would not be finite
    from_f32(e.scale, &s, p, 1);
    const float kept = load_scale(e.scale, p);
    if (!std::isfinite(kept)) refuse(s);
    if (std::fabs(kept) >= 0x1p-126f || kept == 0) return kept;
    std::memset(p, 0, 2);  // its inverse may be beyond f32: such a group is one of zeros
    return 0.0f;
  };
  if (!e.two_level) {
    std::byte* p = row_of(to, PlaneKind::kScales, row, static_cast<uint64_t>(l.groups) * 2);
    for (float& s : scales) {
      s = round(s, p);
      p += 2;
    }
    return;
  }
  float absmax = 0;
  for (const float s : scales) {
    if (!std::isfinite(s)) refuse(s);
    absmax = std::max(absmax, std::fabs(s));
  }
  const float row_scale = round(absmax / 127, row_of(to, PlaneKind::kRowScales, row, 2));
  const float inverse = row_scale != 0 ? 1 / row_scale : 0;
  std::byte* p = row_of(to, PlaneKind::kScales, row, static_cast<uint64_t>(l.groups));
  for (float& s : scales) {
    const float code = std::clamp(std::nearbyint(s * inverse), -127.0f, 127.0f);
    const auto stored = static_cast<int8_t>(code);
    *p++ = static_cast<std::byte>(stored);
    s = row_scale * static_cast<float>(stored);
  }
}

namespace {

void store_packed(int bits, std::span<const uint8_t> codes, std::byte* to) {
  const size_t whole = codes.size() / 16 * 16;
  for (size_t i = 0; i < whole; i += 16, to += 2 * bits) pack_unit(bits, codes.data() + i, to);
  if (whole < codes.size()) {
    uint8_t last[16] = {};
    std::copy(codes.begin() + static_cast<std::ptrdiff_t>(whole), codes.end(), last);
    pack_unit(bits, last, to);
  }
}

// [count] rounded up to 16 codes are written.
void load_packed(int bits, const std::byte* from, int64_t count, uint8_t* codes) {
  for (int64_t i = 0; i < count; i += 16, from += 2 * bits) unpack_unit(bits, from, codes + i);
}

const std::byte* row_of(const Weight& w, PlaneKind kind, int64_t row, uint64_t row_bytes) {
  return w.plane(kind).data() + static_cast<uint64_t>(row) * row_bytes;
}

}  // namespace

void store_zeros(const GroupLayout& l, MutablePlanes to, int64_t row,
                 std::span<const uint8_t> zeros) {
  store_packed(l.bits, zeros, row_of(to, PlaneKind::kZeros, row, l.zero_row_bytes));
}
void store_codes(const GroupLayout& l, MutablePlanes to, int64_t row,
                 std::span<const uint8_t> codes) {
  store_packed(l.bits, codes, row_of(to, PlaneKind::kCodes, row, l.code_row_bytes));
}

void load_scales(const Weight& w, const GroupLayout& l, int64_t row, float* scales) {
  const Encoding& e = w.encoding;
  if (!e.two_level) {
    to_f32(e.scale, row_of(w, PlaneKind::kScales, row, static_cast<uint64_t>(l.groups) * 2), scales,
           static_cast<size_t>(l.groups));
    return;
  }
  const float row_scale = load_scale(e.scale, row_of(w, PlaneKind::kRowScales, row, 2));
  const std::byte* p = row_of(w, PlaneKind::kScales, row, static_cast<uint64_t>(l.groups));
  for (int64_t g = 0; g < l.groups; ++g)
    scales[g] = row_scale * static_cast<float>(static_cast<int8_t>(p[g]));
}
void load_zeros(const Weight& w, const GroupLayout& l, int64_t row, uint8_t* zeros) {
  if (w.encoding.symmetric) {
    std::fill(zeros, zeros + l.groups, static_cast<uint8_t>(1 << (l.bits - 1)));
  } else {
    load_packed(l.bits, row_of(w, PlaneKind::kZeros, row, l.zero_row_bytes), l.groups, zeros);
  }
}
void load_codes(const Weight& w, const GroupLayout& l, int64_t row, uint8_t* codes) {
  load_packed(l.bits, row_of(w, PlaneKind::kCodes, row, l.code_row_bytes), l.k, codes);
}

const EncodingOps kIntOps = {EncodingKind::kInt, "int",     format, parse, check, planes,
                             encode_int,         decode_int};
const EncodingOps kNf4Ops = {EncodingKind::kNf4, "nf4",     format, parse, check, planes,
                             encode_nf4,         decode_nf4};

}  // namespace pith
