#include "formats/packed_plan.h"

#include "formats/features.h"

namespace pith {

proto::PlaneRecord PackedPlan::add_plane(PlaneKind kind, uint64_t bytes) {
  proto::PlaneRecord r;
  r.set_kind(static_cast<uint32_t>(kind));
  r.set_offset(plane_offset_after(end_));
  r.set_bytes(bytes);
  r.set_xxh3(1);
  end_ = r.offset() + bytes;
  return r;
}

proto::WeightRecord PackedPlan::add_weight(const Encoding& e, int64_t n, int64_t k) {
  proto::WeightRecord r;
  *r.mutable_encoding() = record_of(e);
  r.set_n(static_cast<uint64_t>(n));
  r.set_k(static_cast<uint64_t>(k));
  for (const auto& layout : plane_layouts(e, n, k))
    *r.add_planes() = add_plane(layout.kind, layout.bytes);
  return r;
}

void PackedPlan::add_blobs(const BlobSizes& blobs, proto::Manifest* manifest) {
  for (const auto& [name, bytes] : blobs) {
    auto* record = manifest->add_blobs();
    record->set_name(name);
    *record->mutable_plane() = add_plane(PlaneKind::kCodes, bytes);
  }
}

uint64_t PackedPlan::file_bytes(proto::Manifest manifest) const {
  manifest.clear_features();
  for (auto& feature : features_of(manifest)) manifest.add_features(std::move(feature));
  return manifest_offset_after(end_) + manifest.ByteSizeLong();
}

}  // namespace pith
