#include "runtime/cpu/kv_cache.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/bytes.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/limits.h"
#include "core/parallel.h"

namespace pith {
namespace {

constexpr int64_t kGroup = 32;   // of int4
constexpr int64_t kFewRows = 8;  // up to which codes are not decoded once for all
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

bool rotates_keys(NumberFormat type) {
  return type == NumberFormat::kInt8 || type == NumberFormat::kInt4;
}

int64_t int4_bytes(int64_t n) { return ceil_div(n, 8) * 4; }
int64_t code_bytes(NumberFormat type, int64_t n) {
  return type == NumberFormat::kInt4 ? int4_bytes(n) : n * bits_of(type) / 8;
}

// The largest magnitude, NaN where a number is not finite.
float absmax_of(const float* x, int64_t n) {
  float largest = 0, sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    largest = std::max(largest, std::fabs(x[i]));
    sum += x[i] * 0;  // NaN for infinities too
  }
  return sum == 0 ? largest : kNan;
}

// To the nearest integer, ties to even, for magnitudes below 2^22.
float round_small(float x) {
  constexpr float kShift = 12582912;
  return (x + kShift) - kShift;
}

// The scale that puts the largest magnitude on `top`; NaN stays, and next to nothing is 0.
float scale_of(const float* x, int64_t n, float top) {
  const float scale = absmax_of(x, n) / top;
  return scale < 1e-37f ? 0 : scale;  // below, its inverse would be infinite
}

float encode_int8(const float* x, int64_t n, uint8_t* codes) {
  const float scale = scale_of(x, n, 127);
  const float inverse = 1 / scale;
  for (int64_t i = 0; i < n; ++i) {
    const float q = scale > 0 ? std::clamp(round_small(x[i] * inverse), -127.0f, 127.0f) : 0;
    codes[i] = static_cast<uint8_t>(static_cast<int>(q));
  }
  return scale;
}

float encode_fp8(const float* x, int64_t n, uint8_t* codes) {
  const float scale = scale_of(x, n, 448);
  const float inverse = 1 / scale;
  for (int64_t i = 0; i < n; ++i) codes[i] = scale > 0 ? f32_to_f8e4m3(x[i] * inverse) : 0;
  return scale;
}

// A step is not smaller than what the minimum is rounded by: finer ones would gain nothing, and
// m / s stays so small that m + s q may be computed as s (q + m / s).
void encode_int4(const float* x, int64_t n, uint8_t* codes, uint16_t* scale, uint16_t* minimum) {
  std::fill(codes, codes + int4_bytes(n), uint8_t{0});
  const auto [low, high] = std::minmax_element(x, x + n);
  const float top = std::max(std::fabs(*low), std::fabs(*high));
  const float step = std::max({(*high - *low) / 15, top * 0x1p-11f, 0x1p-24f});
  *minimum = f32_to_f16(*low);
  *scale = top == 0 ? 0 : f32_to_f16(step);
  const float m = f16_to_f32(*minimum), s = f16_to_f32(*scale);
  if (!std::isfinite(absmax_of(x, n)) || !std::isfinite(m) || !std::isfinite(s)) {
    *minimum = *scale = f32_to_f16(kNan);
    return;
  }
  if (s == 0) return;
  for (int64_t i = 0; i < n; ++i) {
    const float q = std::clamp(round_small((x[i] - m) / s), 0.0f, 15.0f);
    codes[i / 2] = static_cast<uint8_t>(codes[i / 2] | static_cast<int>(q) << (i % 2 * 4));
  }
}

}  // namespace

void rotate_head(float* x, int64_t n) {
  const int64_t block = n & -n;
  const float factor = 1 / std::sqrt(static_cast<float>(block));
  for (int64_t begin = 0; begin < n; begin += block) {
    for (int64_t half = 1; half < block; half *= 2) {
      for (int64_t pair = begin; pair < begin + block; pair += 2 * half) {
        for (int64_t i = pair; i < pair + half; ++i) {
          const float a = x[i], b = x[i + half];
          x[i] = a + b;
          x[i + half] = a - b;
        }
      }
    }
  }
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

KvPlane::KvPlane(NumberFormat type, bool keys, int64_t heads, int64_t length, int64_t head_dim)
    : type_(type),
      keys_(keys),
      rotated_(keys && rotates_keys(type)),
      heads_(heads),
      length_(keys ? ceil_div(length, kTile) * kTile : length),
      head_dim_(head_dim),
      groups_(ceil_div(head_dim, kGroup)),
      row_bytes_(code_bytes(type, head_dim)) {
  const int64_t rows = heads_ * length_;
  codes_ = Buffer<std::byte>(rows * row_bytes_);
  if (has_row_scale(type)) scales_ = Buffer<float>(rows);
  if (type == NumberFormat::kInt4) {
    group_scales_ = Buffer<uint16_t>(rows * groups_);
    group_minima_ = Buffer<uint16_t>(rows * groups_);
  }
}

uint64_t KvPlane::row_bytes(NumberFormat type, int64_t head_dim) {
  int64_t bytes = code_bytes(type, head_dim);
  if (has_row_scale(type)) bytes += 4;
  if (type == NumberFormat::kInt4) bytes += 2 * 2 * ceil_div(head_dim, kGroup);
  return static_cast<uint64_t>(bytes);
}

uint64_t KvPlane::bytes() const {
  return codes_.span().size_bytes() + scales_.span().size_bytes() +
         group_scales_.span().size_bytes() + group_minima_.span().size_bytes();
}

void KvPlane::encode(const CpuKernels& kernels, const float* x, std::byte* codes, float* scale,
                     uint16_t* group_scales, uint16_t* group_minima) const {
  auto* bytes = reinterpret_cast<uint8_t*>(codes);
  switch (type_) {
    case NumberFormat::kF32:
      std::memcpy(codes, x, static_cast<size_t>(row_bytes_));
      break;
    case NumberFormat::kF16:
      kernels.f32_to_f16(x, head_dim_, reinterpret_cast<uint16_t*>(codes));
      break;
    case NumberFormat::kBF16:
      from_f32(DType::kBF16, x, codes, static_cast<size_t>(head_dim_));
      break;
    case NumberFormat::kInt8:
      *scale = encode_int8(x, head_dim_, bytes);
      break;
    case NumberFormat::kE4M3:
      *scale = encode_fp8(x, head_dim_, bytes);
      break;
    case NumberFormat::kInt4:
      for (int64_t g = 0; g < groups_; ++g) {
        const int64_t begin = g * kGroup;
        encode_int4(x + begin, std::min(kGroup, head_dim_ - begin), bytes + begin / 2,
                    group_scales + g, group_minima + g);
      }
      break;
    default:
      fail(ErrorKind::kUnsupported, "the CPU has no cache of {}", kv_type_name(type_));
  }
}

namespace {

template <class T>
void scatter(const std::byte* from, int64_t n, std::byte* to) {
  for (int64_t i = 0; i < n; ++i)
    std::memcpy(to + KvPlane::kTile * i * sizeof(T), from + i * sizeof(T), sizeof(T));
}

}  // namespace

void KvPlane::write(const CpuKernels& kernels, int64_t head, int64_t position, const float* x) {
  const int64_t at = row(head, position);
  float* const scale = scales_.empty() ? nullptr : scales_.data() + at;
  if (!keys_) {
    const bool grouped = !group_scales_.empty();
    return encode(kernels, x, codes_.data() + at * row_bytes_, scale,
                  grouped ? group_scales_.data() + at * groups_ : nullptr,
                  grouped ? group_minima_.data() + at * groups_ : nullptr);
  }
  thread_local Buffer<float> rotated;
  thread_local Buffer<std::byte> codes;
  thread_local Buffer<uint16_t> halves;
  if (rotated_) {
    rotated.require(head_dim_);
    std::copy_n(x, head_dim_, rotated.data());
    rotate_head(rotated.data(), head_dim_);
    x = rotated.data();
  }
  codes.require(row_bytes_);
  halves.require(2 * groups_);
  encode(kernels, x, codes.data(), scale, halves.data(), halves.data() + groups_);
  const int64_t tile = at / kTile, lane = at % kTile;
  std::byte* const to = codes_.data() + tile * kTile * row_bytes_;
  switch (bits_of(type_)) {
    case 32:
      return scatter<uint32_t>(codes.data(), head_dim_, to + lane * 4);
    case 16:
      return scatter<uint16_t>(codes.data(), head_dim_, to + lane * 2);
    case 8:
      return scatter<uint8_t>(codes.data(), head_dim_, to + lane);
    default:
      break;
  }
  const int own = static_cast<int>(lane % 2 * 4), other = 4 - own;
  for (int64_t i = 0; i < head_dim_; ++i) {
    const int code = std::to_integer<int>(codes[i / 2]) >> (i % 2 * 4) & 15;
    std::byte& both = to[(kTile * i + lane) / 2];
    both = (both & std::byte(15 << other)) | std::byte(code << own);
  }
  for (int64_t g = 0; g < groups_; ++g) {
    group_scales_[(tile * groups_ + g) * kTile + lane] = halves[g];
    group_minima_[(tile * groups_ + g) * kTile + lane] = halves[groups_ + g];
  }
}

void KvPlane::fill(const CpuKernels& kernels) {
  std::vector<float> x(static_cast<size_t>(head_dim_));
  for (size_t i = 0; i < x.size(); ++i) x[i] = 0.1f * std::sin(static_cast<float>(i));
  parallel_ranges(heads_ * length_, 64 * kTile, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) write(kernels, i / length_, i % length_, x.data());
  });
}

void KvPlane::copy(int64_t from, int64_t to, int64_t count) {
  const auto copy_rows = [&](auto& buffer, int64_t head, int64_t of_row) {
    if (buffer.empty()) return;
    std::copy_n(buffer.data() + row(head, from) * of_row, count * of_row,
                buffer.data() + row(head, to) * of_row);
  };
  for (int64_t h = 0; h < heads_; ++h) {
    copy_rows(codes_, h, row_bytes_);
    copy_rows(scales_, h, 1);
    copy_rows(group_scales_, h, groups_);
    copy_rows(group_minima_, h, groups_);
  }
}

void KvPlane::unpack_groups(const CpuKernels& kernels, int64_t group, int64_t count,
                            KvScratch& scratch) const {
  scratch.scales.require(count);
  scratch.zeros.require(count);
  float* const scales = scratch.scales.data();
  float* const zeros = scratch.zeros.data();
  kernels.f16_to_f32(group_scales_.data() + group, count, scales);
  kernels.f16_to_f32(group_minima_.data() + group, count, zeros);
  for (int64_t i = 0; i < count; ++i) zeros[i] = scales[i] > 0 ? -zeros[i] / scales[i] : 0;
}

CodeRow KvPlane::codes(const CpuKernels& kernels, int64_t row, int64_t count,
                       KvScratch& scratch) const {
  const std::byte* const codes = codes_.data() + row * row_bytes_;
  if (type_ != NumberFormat::kInt4)
    return {codes, scales_.empty() ? nullptr : scales_.data() + row, nullptr, head_dim_};
  unpack_groups(kernels, row * groups_, count * groups_, scratch);
  return {codes, scratch.scales.data(), scratch.zeros.data(), kGroup};
}

CodeColumns KvPlane::tiles(const CpuKernels& kernels, const KvRange& range,
                           KvScratch& scratch) const {
  const int64_t count = ceil_div(range.count, kTile) * kTile;
  const CodeRow c = codes(kernels, row(range.head, range.first), count, scratch);
  return {c.codes, c.scales, c.zeros, c.group};
}

const float* KvPlane::rows(const CpuKernels& kernels, const KvRange& range,
                           KvScratch& scratch) const {
  const int64_t count = range.count;
  CodeRow from = codes(kernels, row(range.head, range.first), count, scratch);
  if (type_ == NumberFormat::kF32) return static_cast<const float*>(from.codes);
  scratch.numbers.require(count * head_dim_);
  float* const to = scratch.numbers.data();
  if (type_ == NumberFormat::kF16) {
    kernels.f16_to_f32(static_cast<const uint16_t*>(from.codes), count * head_dim_, to);
    return to;
  }
  const auto decode = kernels.decode[static_cast<size_t>(type_)];
  const int64_t groups = ceil_div(head_dim_, from.group);
  for (int64_t i = 0; i < count; ++i) {
    decode(from, head_dim_, to + i * head_dim_);
    from.codes = static_cast<const std::byte*>(from.codes) + row_bytes_;
    if (from.scales) from.scales += groups;
    if (from.zeros) from.zeros += groups;
  }
  return to;
}

const float* KvPlane::columns(const CpuKernels& kernels, const KvRange& range,
                              KvScratch& scratch) const {
  const int64_t tiles = ceil_div(range.count, kTile);
  CodeColumns from = this->tiles(kernels, range, scratch);
  scratch.numbers.require(tiles * kTile * head_dim_);
  float* const to = scratch.numbers.data();
  const auto decode = kernels.decode_columns[static_cast<size_t>(type_)];
  const int64_t groups = ceil_div(head_dim_, from.group);
  for (int64_t i = 0; i < tiles; ++i) {
    decode(from, head_dim_, to + i * kTile, tiles * kTile);
    from.codes = static_cast<const std::byte*>(from.codes) + kTile * row_bytes_;
    if (from.scales) from.scales += groups * kTile;
    if (from.zeros) from.zeros += groups * kTile;
  }
  return to;
}

void KvPlane::scores(const CpuKernels& kernels, const KvRange& range,
                     const MatrixRef<const float>& x, const MatrixRef<float>& to,
                     KvScratch& scratch) const {
  const int64_t tiles = ceil_div(range.count, kTile);
  if (x.rows > kFewRows) {
    const float* const keys = columns(kernels, range, scratch);
    return kernels.gemm(x.rows, tiles * kTile, head_dim_, x.data, x.ld, keys, tiles * kTile,
                        to.data, to.ld, false);
  }
  const CodeColumns keys = this->tiles(kernels, range, scratch);
  const auto scores = kernels.attn_qk[static_cast<size_t>(type_)];
  for (int64_t r = 0; r < x.rows; r += 4) {
    scores(std::min<int64_t>(4, x.rows - r), x.row(r), head_dim_, keys, kTile * row_bytes_, tiles,
           to.row(r), to.ld);
  }
}

void KvPlane::weigh(const CpuKernels& kernels, const KvRange& range,
                    const MatrixRef<const float>& weights, const MatrixRef<float>& to,
                    KvScratch& scratch) const {
  const int64_t rows = weights.rows, count = range.count;
  if (rows > kFewRows || head_dim_ % 16 != 0) {
    const float* const values = this->rows(kernels, range, scratch);
    return kernels.gemm(rows, head_dim_, count, weights.data, weights.ld, values, head_dim_,
                        to.data, to.ld, true);
  }
  const CodeRow values = codes(kernels, row(range.head, range.first), count, scratch);
  const auto weigh = kernels.attn_pv[static_cast<size_t>(type_)];
  for (int64_t r = 0; r < rows; r += 4) {
    weigh(std::min<int64_t>(4, rows - r), weights.row(r), weights.ld, values, row_bytes_, count,
          head_dim_, to.row(r));
  }
}

void require_cache_memory(const proto::ModelSpec& spec, const KvConfig& cache, uint64_t other,
                          const std::string& options) {
  const auto& [slots, length, types, pages] = cache;
  double token = 0;
  for (const auto& layer : spec.layers()) {
    for (const auto& s : layer.sublayers()) {
      if (!s.has_attention()) continue;
      const proto::Attention form = absorbed_form(s.attention());
      const int64_t d = form.head_dim();
      const uint64_t row = KvPlane::row_bytes(types.keys, d) + KvPlane::row_bytes(types.values, d);
      token += static_cast<double>(slots) * form.kv_heads() * static_cast<double>(row);
    }
  }
  const double bytes = token * static_cast<double>(length);
  const MemoryLimit most = most_memory();
  const double left = static_cast<double>(most.bytes) - static_cast<double>(other);
  if (bytes <= left) return;
  const auto fits = static_cast<int64_t>(std::max(0.0, left / token));
  const std::string besides =
      other < (1 << 20) ? "" : fmt::format(" besides {:.2f} GB", static_cast<double>(other) / 1e9);
  const bool wide = bits_of(types.keys) > 8 || bits_of(types.values) > 8;
  fail(ErrorKind::kMemory,
       "a KV cache of {}{} tokens takes {:.2f} GB of memory{}, and there are {:.2f} GB at most "
       "({}): {} tokens fit ({}){}",
       slots > 1 ? fmt::format("{} times ", slots) : "", length, bytes / 1e9, besides,
       static_cast<double>(most.bytes) / 1e9, most.by, fits, options,
       wide ? ", more in a narrower type (--kv int8)" : "");
}

CpuKvStorage::CpuKvStorage(const proto::ModelSpec& spec, KvTypes types, const KvPages& pages)
    : KvStorage(pages) {
  const int64_t tokens = pages.count() * pages.page_tokens();
  const bool whole = pages.count() == pages.slots() * pages.pages_per_slot();
  require_cache_memory(
      spec, whole ? KvConfig{pages.slots(), pages.length(), types} : KvConfig{1, tokens, types},
      memory_in_use());
  for (const auto& layer : spec.layers()) {
    for (const auto& s : layer.sublayers()) {
      if (!s.has_attention()) continue;
      const proto::Attention form = absorbed_form(s.attention());
      const int64_t kv_heads = form.kv_heads(), d = form.head_dim();
      layers_.push_back({KvPlane(types.keys, true, kv_heads, tokens, d),
                         KvPlane(types.values, false, kv_heads, tokens, d)});
    }
  }
}

void CpuKvStorage::copy_page(int32_t from, int32_t to) {
  const int64_t n = pages().page_tokens();
  for (auto& l : layers_) {
    l.keys.copy(from * n, to * n, n);
    l.values.copy(from * n, to * n, n);
  }
}

void CpuKvStorage::fill() {
  for (auto& l : layers_) {
    l.keys.fill(cpu_kernels());
    l.values.fill(cpu_kernels());
  }
}

uint64_t CpuKvStorage::bytes() const {
  uint64_t total = 0;
  for (const auto& l : layers_) total += l.keys.bytes() + l.values.bytes();
  return total;
}

}  // namespace pith
