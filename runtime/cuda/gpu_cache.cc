#include "runtime/cuda/gpu_cache.h"

#include <atomic>
#include <numeric>

#include "core/bytes.h"

namespace pith {
namespace {

cuda::CacheType type_of(KvType type) {
  switch (type) {
    case KvType::kF32:
      return cuda::CacheType::kF32;
    case KvType::kF16:
      return cuda::CacheType::kF16;
    case KvType::kBF16:
      return cuda::CacheType::kBF16;
    case KvType::kInt8:
      return cuda::CacheType::kInt8;
    case KvType::kFp8:
      return cuda::CacheType::kFp8;
    default:
      fail(ErrorKind::kUnsupported, "the CUDA backend has no cache of {}", kv_type_name(type));
  }
}
uint64_t element_bytes(cuda::CacheType type) {
  return type == cuda::CacheType::kF32 ? 4 : type <= cuda::CacheType::kBF16 ? 2 : 1;
}
std::atomic<uint64_t> next_id{0};

bool has_scales(cuda::CacheType type) { return type >= cuda::CacheType::kInt8; }

}  // namespace

GpuKvCache::GpuKvCache(GpuDevice& device, const proto::ModelSpec& spec, int slots, int64_t length,
                       KvTypes types)
    : id_(next_id.fetch_add(1)),
      slots_(slots),
      length_(length),
      pages_per_slot_(ceil_div(length, cuda::kPageTokens)),
      types_(types) {
  std::vector<int32_t> pages(static_cast<size_t>(slots * pages_per_slot_));
  std::iota(pages.begin(), pages.end(), 0);
  pages_ = GpuBuffer(device, pages.data(), pages.size() * sizeof(int32_t));
  for (const auto& layer : spec.layers()) {
    for (const auto& s : layer.sublayers()) {
      if (!s.has_attention()) continue;
      const proto::Attention form = cached_form(s.attention());
      const auto heads = static_cast<int64_t>(form.kv_heads()),
                 d = static_cast<int64_t>(form.head_dim());
      const uint64_t rows = pages.size() * static_cast<uint64_t>(cuda::kPageTokens * heads);
      const auto plane = [&](KvType kind) {
        const cuda::CacheType type = type_of(kind);
        return Plane{GpuBuffer(device, rows * static_cast<uint64_t>(d) * element_bytes(type)),
                     has_scales(type) ? GpuBuffer(device, rows * sizeof(float)) : GpuBuffer()};
      };
      const bool latent = s.attention().has_latent();
      layers_.push_back({plane(types.keys), latent ? Plane{} : plane(types.values), heads, d});
    }
  }
  device.wait();
}

uint64_t GpuKvCache::bytes() const {
  uint64_t sum = pages_.bytes();
  for (const auto& l : layers_) {
    sum += l.keys.rows.bytes() + l.keys.scales.bytes() + l.values.rows.bytes() +
           l.values.scales.bytes();
  }
  return sum;
}

cuda::Cache GpuKvCache::of(int index) const {
  const Layer& l = layers_[static_cast<size_t>(index)];
  return {{type_of(types_.keys), l.keys.rows.data(), l.keys.scales.data<float>()},
          {type_of(types_.values), l.values.rows.data(), l.values.scales.data<float>()},
          pages_.data<int32_t>(),
          pages_per_slot_,
          l.heads,
          l.head_dim};
}

}  // namespace pith
