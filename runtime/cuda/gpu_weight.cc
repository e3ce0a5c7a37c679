#include "runtime/cuda/gpu_weight.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/bytes.h"
#include "formats/encodings/int_group.h"

namespace pith {
namespace {

using cuda::Scales;

// Whether the device has the codes themselves; other weights are decoded to f16 for it.
bool keeps_codes(const Encoding& e) {
  const auto format = number_format(e);
  return format && *format != NumberFormat::kF32;
}
NumberFormat tile_format(const Encoding& e) {
  return keeps_codes(e) ? *number_format(e) : NumberFormat::kF16;
}

std::vector<uint16_t> decoded_halves(const Weight& w) {
  std::vector<uint16_t> halves(static_cast<size_t>(w.n * w.k));
  std::vector<float> row(static_cast<size_t>(w.k));
  for (int64_t r = 0; r < w.n; ++r) {
    reference_decode(w, r, 1, row.data());
    for (int64_t i = 0; i < w.k; ++i) {
      const float v = row[static_cast<size_t>(i)];
      if (!(std::fabs(v) <= 65504.0f))
        fail(ErrorKind::kUnsupported,
             "a weight of {} in {} does not fit f16, as which the GPU takes it", v,
             to_string(w.encoding));
      halves[static_cast<size_t>(r * w.k + i)] = f32_to_f16(v);
    }
  }
  return halves;
}

int32_t group_shift(const Encoding& e) {
  if (e.kind == EncodingKind::kFp8) return e.area == ScaleArea::kBlock128 ? 3 : cuda::kWholeRow;
  if (!in_groups(e) || e.group == 0) return cuda::kWholeRow;
  return std::countr_zero(static_cast<uint64_t>(e.group / cuda::kStepColumns));
}

// Powers of two as bf16; to plan, their size is enough.
std::vector<uint16_t> mx_scales(std::span<const std::byte> bytes, bool plans) {
  std::vector<uint16_t> to(bytes.size());
  if (plans) return to;
  std::ranges::transform(bytes, to.begin(), [](std::byte b) {
    return f32_to_bf16(mx_scale(static_cast<uint8_t>(b)));
  });
  return to;
}

}  // namespace

GpuWeight::GpuWeight(GpuDevice& device, const Weight& w) {
  const Encoding& e = w.encoding;
  tiles_.format = tile_format(e);
  tiles_.n = w.n;
  tiles_.k = w.k;
  tiles_.tiles = ceil_div(w.n, cuda::kTileRows);
  tiles_.stages = ceil_div(w.k, cuda::kStageColumns);
  tiles_.groups = 1;
  tiles_.group_shift = cuda::kWholeRow;
  const cuda::Parts parts = cuda::parts_of(tiles_.format);
  const auto codes = w.plane(PlaneKind::kCodes);
  if (!keeps_codes(e)) {
    const auto halves = device.plans() ? std::vector<uint16_t>() : decoded_halves(w);
    const GpuBuffer from(device, halves.data(), static_cast<uint64_t>(w.n * w.k) * 2);
    tiles_.low = repack_part(device, {from.data(), true, 0, 0}, 16);
    device.wait();
    return;
  }
  const GpuBuffer from(device, codes.data(), codes.size());
  const int bits = parts.low + parts.high;
  if (e.kind == EncodingKind::kTcq) {
    repack_tcq(device, from.data());
  } else {
    tiles_.low = repack_part(device, {from.data(), !in_groups(e), bits, 0}, parts.low);
    if (parts.high > 0)
      tiles_.high = repack_part(device, {from.data(), false, bits, parts.low}, parts.high);
  }
  if (in_groups(e)) set_group_planes(device, w);
  if (e.kind == EncodingKind::kFp8) set_float_scales(device, w);
  device.wait();  // what was uploaded may go
}

const void* GpuWeight::repack_part(GpuDevice& device, const cuda::CodeSource& from, int bits) {
  const auto bytes = static_cast<uint64_t>(cuda::part_bytes(tiles_.tiles, tiles_.stages, bits));
  void* const to = add(GpuBuffer(device, bytes)).data();
  device.run(&cuda::Ops::repack_codes,
             {from, bits, tiles_.n, tiles_.k, tiles_.tiles, tiles_.stages, to});
  return to;
}

void GpuWeight::repack_tcq(GpuDevice& device, const void* codes) {
  const cuda::Parts parts = cuda::parts_of(tiles_.format);
  const int bits = parts.low + parts.high;
  const auto part = [&](int of) {
    const auto bytes = static_cast<uint64_t>(cuda::part_bytes(tiles_.tiles, tiles_.stages, of));
    return add(GpuBuffer(device, bytes)).data();
  };
  auto* const low = static_cast<uint32_t*>(part(parts.low));
  auto* const high = parts.high > 0 ? static_cast<uint8_t*>(part(parts.high)) : nullptr;
  auto* const tails =
      add(GpuBuffer(device, static_cast<uint64_t>(tiles_.tiles * tiles_.stages) * 32))
          .data<uint32_t>();
  const int64_t words = bits * ceil_div(tiles_.k, 32) + 1;
  device.run(&cuda::Ops::repack_tcq, {static_cast<const uint32_t*>(codes), bits, words,
                                      tiles_.tiles, tiles_.stages, low, high, tails});
  tiles_.low = low;
  tiles_.high = high;
  tiles_.tails = tails;
}

void GpuWeight::set_group_planes(GpuDevice& device, const Weight& w) {
  const Encoding& e = w.encoding;
  const GroupLayout l(e, w.n, w.k);
  tiles_.group_shift = group_shift(e);
  tiles_.groups = cuda::groups_of(tiles_.stages, tiles_.group_shift);
  tiles_.zero = e.kind == EncodingKind::kInt ? 1 << (e.bits - 1) : 0;
  const auto count = static_cast<uint64_t>(tiles_.tiles * tiles_.groups * 16);
  const auto pairs = [&](std::span<const std::byte> from, int bytes) {
    const GpuBuffer raw(device, from.data(), from.size());
    void* const to = add(GpuBuffer(device, count * static_cast<uint64_t>(bytes))).data();
    device.run(&cuda::Ops::repack_pairs,
               {raw.data(), bytes, tiles_.tiles, l.groups, tiles_.groups, to});
    device.wait();
    return to;
  };
  const bool powers = e.kind == EncodingKind::kMx;
  tiles_.scale_type = e.two_level               ? Scales::kTwoLevels
                      : powers                  ? Scales::kBF16
                      : e.scale == DType::kBF16 ? Scales::kBF16
                                                : Scales::kF16;
  std::vector<uint16_t> widened;
  if (powers) widened = mx_scales(w.plane(PlaneKind::kScales), device.plans());
  const auto scales = powers ? std::as_bytes(std::span(widened)) : w.plane(PlaneKind::kScales);
  tiles_.scales = pairs(scales, e.two_level ? 1 : 2);
  if (e.two_level) {
    std::vector<float> rows(static_cast<size_t>(tiles_.tiles * 16));
    to_f32(e.scale, w.plane(PlaneKind::kRowScales).data(), rows.data(), w.n);
    std::vector<float> in_pairs(rows.size());
    for (size_t i = 0; i < rows.size(); ++i)
      in_pairs[i - i % 16 + i % 8 * 2 + i % 16 / 8] = rows[i];
    tiles_.row_scales =
        add(GpuBuffer(device, in_pairs.data(), in_pairs.size() * sizeof(float))).data<float>();
    device.wait();
  }
  if (e.kind == EncodingKind::kInt && !e.symmetric) {
    const auto packed = w.plane(PlaneKind::kZeros);
    const GpuBuffer raw(device, packed.data(), packed.size());
    auto* const to = add(GpuBuffer(device, count)).data<uint8_t>();
    device.run(&cuda::Ops::repack_zeros,
               {raw.data(), e.bits, tiles_.tiles, l.groups, tiles_.groups, to});
    device.wait();
    tiles_.zeros = to;
  }
}

// One f32 for a tensor, a row, or 128 x 128 weights: in pairs of rows by groups of 128 columns.
void GpuWeight::set_float_scales(GpuDevice& device, const Weight& w) {
  const auto plane = w.plane(PlaneKind::kScales);
  const bool blocks = w.encoding.area == ScaleArea::kBlock128;
  tiles_.group_shift = group_shift(w.encoding);
  const int64_t groups = tiles_.groups = cuda::groups_of(tiles_.stages, tiles_.group_shift);
  tiles_.scale_type = Scales::kF32;
  std::vector<float> scales(static_cast<size_t>(tiles_.tiles * groups * 16));
  for (int64_t r = 0; r < w.n; ++r) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t from = blocks                               ? r / 128 * groups + g
                           : w.encoding.area == ScaleArea::kRow ? r
                                                                : 0;
      float& to = scales[static_cast<size_t>(((r / 16 * groups + g) * 8 + r % 8) * 2 + r % 16 / 8)];
      std::memcpy(&to, plane.data() + from * 4, 4);
    }
  }
  tiles_.scales = add(GpuBuffer(device, scales.data(), scales.size() * sizeof(float))).data();
  device.wait();
}

uint64_t GpuWeight::bytes() const {
  uint64_t sum = 0;
  for (const auto& p : planes_) sum += p.bytes();
  return sum;
}

uint64_t GpuWeight::bytes_of(const Encoding& e, int64_t n, int64_t k) {
  const cuda::Parts parts = cuda::parts_of(tile_format(e));
  const int64_t tiles = ceil_div(n, cuda::kTileRows), stages = ceil_div(k, cuda::kStageColumns);
  const int64_t groups = cuda::groups_of(stages, group_shift(e));
  auto sum = static_cast<uint64_t>(cuda::part_bytes(tiles, stages, parts.low + parts.high));
  if (in_groups(e)) {
    const auto count = static_cast<uint64_t>(tiles * groups * 16);
    sum += count * (e.two_level ? 1 : 2);
    if (e.two_level) sum += static_cast<uint64_t>(tiles * 16) * sizeof(float);
    if (e.kind == EncodingKind::kInt && !e.symmetric) sum += count;
    if (e.kind == EncodingKind::kTcq) sum += static_cast<uint64_t>(tiles * stages) * 32;
  } else if (e.kind == EncodingKind::kFp8) {
    sum += static_cast<uint64_t>(tiles * groups * 16) * sizeof(float);
  }
  return sum;
}

}  // namespace pith
