#include "runtime/cuda/gpu_cache.h"

#include <atomic>
#include <vector>

namespace pith {
namespace {

// Error(kUnsupported) for types that the kernels have no cache of.
void require_type(NumberFormat type) {
  switch (type) {
    case NumberFormat::kF32:
    case NumberFormat::kF16:
    case NumberFormat::kBF16:
    case NumberFormat::kInt8:
    case NumberFormat::kE4M3:
      return;
    default:
      fail(ErrorKind::kUnsupported, "the CUDA backend has no cache of {}", kv_type_name(type));
  }
}
std::atomic<uint64_t> next_id{0};

}  // namespace

GpuKvStorage::GpuKvStorage(GpuDevice& device, const proto::ModelSpec& spec, KvTypes types,
                           const KvPages& pages)
    : KvStorage(pages),
      device_(device),
      id_(next_id.fetch_add(1)),
      parts_(pages.page_tokens() / cuda::kPageTokens),
      types_(types) {
  for (const NumberFormat type : {types.keys, types.values}) require_type(type);
  const auto tokens = static_cast<uint64_t>(pages.count() * pages.page_tokens());
  const int64_t entries = pages.slots() * pages.pages_per_slot() * parts_;
  tables_ = GpuBuffer(device, static_cast<uint64_t>(entries) * sizeof(int32_t));
  for (const auto& layer : spec.layers()) {
    for (const auto& s : layer.sublayers()) {
      if (!s.has_attention()) continue;
      const proto::Attention form = absorbed_form(s.attention());
      const auto heads = static_cast<int64_t>(form.kv_heads()),
                 d = static_cast<int64_t>(form.head_dim());
      const uint64_t rows = tokens * static_cast<uint64_t>(heads);
      const auto plane = [&](NumberFormat type) {
        return Plane{GpuBuffer(device, rows * static_cast<uint64_t>(d * bits_of(type) / 8)),
                     has_row_scale(type) ? GpuBuffer(device, rows * sizeof(float)) : GpuBuffer()};
      };
      const bool latent = s.attention().has_latent();
      layers_.push_back({plane(types.keys), latent ? Plane{} : plane(types.values), heads, d});
    }
  }
  device.wait();
}

void GpuKvStorage::upload_tables() {
  if (version_ == pages().version()) return;
  const int64_t stride = pages().pages_per_slot() * parts_;
  std::vector<int32_t> all(static_cast<size_t>(pages().slots() * stride));
  for (int slot = 0; slot < pages().slots(); ++slot) {
    int32_t* to = all.data() + slot * stride;
    for (const int32_t page : pages().table(slot)) {
      for (int64_t i = 0; i < parts_; ++i) *to++ = static_cast<int32_t>(page * parts_ + i);
    }
  }
  device_.upload(tables_.data(), all.data(), all.size() * sizeof(int32_t));
  version_ = pages().version();
}

void GpuKvStorage::copy_page(int32_t from, int32_t to) {
  const auto copy = [&](const GpuBuffer& buffer) {
    const uint64_t bytes = buffer.bytes() / static_cast<uint64_t>(pages().count());
    if (bytes == 0) return;
    auto* const data = buffer.data<std::byte>();
    device_.copy(data + static_cast<uint64_t>(to) * bytes,
                 data + static_cast<uint64_t>(from) * bytes, bytes);
  };
  for (const auto& l : layers_) {
    for (const Plane* p : {&l.keys, &l.values}) {
      copy(p->rows);
      copy(p->scales);
    }
  }
}

uint64_t GpuKvStorage::bytes() const {
  uint64_t sum = tables_.bytes();
  for (const auto& l : layers_) {
    sum += l.keys.rows.bytes() + l.keys.scales.bytes() + l.values.rows.bytes() +
           l.values.scales.bytes();
  }
  return sum;
}

cuda::Cache GpuKvStorage::of(int index) const {
  const Layer& l = layers_[static_cast<size_t>(index)];
  return {{types_.keys, l.keys.rows.data(), l.keys.scales.data<float>()},
          {types_.values, l.values.rows.data(), l.values.scales.data<float>()},
          tables_.data<int32_t>(),
          pages().pages_per_slot() * parts_,
          l.heads,
          l.head_dim};
}

}  // namespace pith
