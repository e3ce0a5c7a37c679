// The input is a packed file, or else a manifest. A file gets a version that is read, right sizes
// and checksums in its header first. Then, of either, the manifest is taken and a file made that
// fits it where that takes little: planes one behind the other, of the sizes that their encodings
// need, of bytes counted up. What parses is checked as a model, and rows of every weight are
// decoded; a plane that is shorter than its decoder believes is found by the sanitizer.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "core/error.h"
#include "formats/features.h"
#include "formats/manifest_wire.h"
#include "formats/packed_file.h"
#include "runtime/model/model.h"
#include "runtime/model/rope.h"
#include "runtime/model/spec.h"
#include "tests/support/packed_bytes.h"

namespace {

using namespace pith;

constexpr int64_t kMaxWeights = 1 << 16;
constexpr uint64_t kMaxPlanes = 1 << 20;

void require(bool holds) {
  if (!holds) __builtin_trap();
}

Weight weight_of(std::span<const std::byte> file, uint64_t end, const proto::WeightRecord& r) {
  Weight w{.encoding = encoding_from(r.encoding()),
           .n = static_cast<int64_t>(r.n()),
           .k = static_cast<int64_t>(r.k()),
           .planes = {},
           .owner = {}};
  for (const auto& p : r.planes()) {
    require(p.offset() % kPlaneAlignment == 0 && p.offset() <= end);
    require(p.bytes() <= end - p.offset() && end - p.offset() - p.bytes() >= kSlack);
    w.planes.push_back({static_cast<PlaneKind>(p.kind()), file.subspan(p.offset(), p.bytes())});
  }
  require(to_string(w.encoding) == to_string(encoding_from(record_of(w.encoding))));
  return w;
}

void decode_some(std::span<const std::byte> file, const PackedLayout& layout) {
  for (const auto& l : layout.manifest.linears()) {
    const InputEncoding input = input_from(l.input());
    check(input);
    require(input_from(record_of(input)) == input);
    Linear linear{.name = l.name(),
                  .n = static_cast<int64_t>(l.n()),
                  .k = static_cast<int64_t>(l.k()),
                  .terms = {},
                  .bias = {}};
    bool small = linear.k <= kMaxWeights;
    for (const auto& t : l.terms()) {
      Term term{.w = weight_of(file, layout.manifest_offset, t.weight()), .up = {}};
      if (t.has_up()) {
        term.up = weight_of(file, layout.manifest_offset, t.up());
        small = small && term.w.n <= kMaxWeights / linear.k;
      }
      linear.terms.push_back(std::move(term));
    }
    if (!small) continue;
    const int64_t rows = std::min(linear.n, kMaxWeights / linear.k);
    std::vector<float> out(static_cast<size_t>(rows * linear.k));
    reference_decode(linear, 0, rows, out.data());
    reference_decode(linear, linear.n - rows, rows, out.data());
  }
}

void check_model(const proto::ModelSpec& spec) {
  check_spec(spec, "fuzz");
  for (const auto& l : linears_of(spec)) require(l.n > 0 && l.k > 0 && !l.name.empty());
  for (const auto& v : vectors_of(spec)) require(v.length > 0);
  parameter_count(spec);
  for (const StackId stack : {StackId::kDecoder, StackId::kEncoder}) {
    for (int i = 0; i < std::min(layer_count(spec, stack), 4); ++i) {
      for (const auto& s : layer_of(spec, i, stack).sublayers()) {
        const auto& rope = s.attention().rope();
        for (const int64_t length : {int64_t{1}, static_cast<int64_t>(spec.context())})
          require(rope_table(rope, length).frequency.size() == rope.dims() / 2);
      }
    }
  }
}

void try_file(const std::string& file) {
  try {
    const auto bytes = as_bytes(file);
    const PackedLayout layout = parse_packed(bytes, "fuzz");
    decode_some(bytes, layout);
    check_model(layout.manifest.model());
  } catch (const Error&) {
  }
}

// Gives every plane a place; false where that takes more than kMaxPlanes.
class Placer {
 public:
  bool place(proto::Manifest* m) {
    for (auto& l : *m->mutable_linears()) {
      for (auto& t : *l.mutable_terms()) {
        if (!weight(t.mutable_weight())) return false;
        if (t.has_up() && !weight(t.mutable_up())) return false;
      }
      if (l.has_bias() && !plane(l.mutable_bias(), l.n() < kMaxPlanes ? l.n() * 4 : kMaxPlanes))
        return false;
    }
    for (auto& v : *m->mutable_vectors()) {
      const uint64_t length = v.length();
      if (!plane(v.mutable_plane(), length < kMaxPlanes ? length * 4 : kMaxPlanes)) return false;
    }
    for (auto& b : *m->mutable_blobs()) {
      if (!plane(b.mutable_plane(), b.plane().bytes())) return false;
    }
    return true;
  }
  uint64_t end() const { return end_; }

 private:
  bool weight(proto::WeightRecord* w) {
    if (w->n() >> 31 != 0 || w->k() >> 31 != 0) return true;  // refused as it is
    const auto layouts = plane_layouts(encoding_from(w->encoding()), static_cast<int64_t>(w->n()),
                                       static_cast<int64_t>(w->k()));
    for (size_t i = 0; i < layouts.size(); ++i) {
      auto* p = static_cast<int>(i) < w->planes_size() ? w->mutable_planes(static_cast<int>(i))
                                                       : w->add_planes();
      p->set_kind(static_cast<uint32_t>(layouts[i].kind));
      if (!plane(p, layouts[i].bytes)) return false;
    }
    return true;
  }
  bool plane(proto::PlaneRecord* p, uint64_t bytes) {
    if (bytes >= kMaxPlanes || end_ >= kMaxPlanes) return false;
    p->set_offset(round_up(end_, kPlaneAlignment));
    p->set_bytes(bytes);
    end_ = p->offset() + bytes;
    return true;
  }

  uint64_t end_ = 64;
};

void try_manifest(const std::string& bytes) {
  std::string file(sizeof(test::PackedHeader), '\0');
  test::PackedHeader h{};
  std::memcpy(h.magic, test::kPackedMagic, sizeof(h.magic));
  h.version = kPackedVersion;
  h.header_bytes = 64;
  proto::Manifest m;
  Placer placer;
  try {
    h.manifest_offset = 256;
    file.resize(256);
    try_file(test::with_manifest_bytes(test::with_packed_header(file, h), bytes));
    check_manifest_wire(bytes, "fuzz");
    if (!m.ParseFromString(bytes) || !placer.place(&m)) return;
    m.clear_features();
    for (const auto& feature : features_of(m)) m.add_features(feature);
  } catch (const Error&) {
    return;
  }
  h.manifest_offset = round_up(placer.end() + kSlack, kPlaneAlignment);
  file.resize(h.manifest_offset);
  for (size_t i = 256; i < file.size(); ++i) file[i] = static_cast<char>(i * 7 + (i >> 8));
  try_file(test::with_manifest(test::with_packed_header(file, h), m));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  if (!looks_like_packed(as_bytes(input)) || size < sizeof(test::PackedHeader)) {
    try_manifest(input);
    return 0;
  }
  test::PackedHeader h = test::packed_header(input);
  if (h.manifest_offset < 64 || h.manifest_offset > size) return 0;
  if (h.version != kOldestVersion) h.version = kPackedVersion;
  const std::string manifest = input.substr(h.manifest_offset);
  try_file(test::with_manifest_bytes(test::with_packed_header(input, h), manifest));
  try_manifest(manifest);
  return 0;
}
