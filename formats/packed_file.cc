#include "formats/packed_file.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "core/buffer.h"
#include "core/bytes.h"
#include "core/error.h"
#include "core/parallel.h"
#include "formats/features.h"
#include "formats/manifest_wire.h"
#include "formats/printable.h"

namespace pith {
namespace {

constexpr uint64_t kHeaderBytes = 64;
constexpr unsigned char kMagic[8] = {0x89, 'P', 'I', 'T', 'H', '\r', '\n', 0x1a};
constexpr int64_t kMaxDimension = int64_t{1} << 31;

struct Header {
  unsigned char magic[8];
  uint32_t version;
  uint32_t header_bytes;
  uint64_t file_bytes;
  uint64_t manifest_offset;
  uint64_t manifest_bytes;
  uint64_t manifest_xxh3;
  uint64_t reserved;
  uint64_t header_xxh3;  // of all before it
};
static_assert(sizeof(Header) == kHeaderBytes);

std::span<const std::byte> hashed_part(const Header& h) {
  return std::as_bytes(std::span(&h, 1)).first(offsetof(Header, header_xxh3));
}

// A reader ignores what it does not know, but not of what the model computes.
bool knows_all_of(const google::protobuf::Message& m) {
  const auto& reflection = *m.GetReflection();
  if (!reflection.GetUnknownFields(m).empty()) return false;
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection.ListFields(m, &fields);
  for (const auto* f : fields) {
    if (f->cpp_type() != f->CPPTYPE_MESSAGE) continue;
    const int count = f->is_repeated() ? reflection.FieldSize(m, f) : 1;
    for (int i = 0; i < count; ++i) {
      if (!knows_all_of(f->is_repeated() ? reflection.GetRepeatedMessage(m, f, i)
                                         : reflection.GetMessage(m, f)))
        return false;
    }
  }
  return true;
}

// Refuses by its name what this program does not know, and a list that is not that of the records.
void check_features(const proto::Manifest& m, uint32_t version, const std::string& name) {
  for (const auto& feature : m.features()) {
    if (find_feature(feature) == nullptr) {
      fail(ErrorKind::kUnsupported, "{}: it needs {}, which this program is too old to know", name,
           printable(feature));
    }
  }
  if (!knows_all_of(m.model())) {
    fail(ErrorKind::kUnsupported, "{}: a model with parts that this program is too old to know",
         name);
  }
  const auto used = features_of(m);
  if (version < 3 && !used.empty()) {
    fail(ErrorKind::kCorrupt, "{}: version {} does not have {}", name, version,
         printable(used.front()));
  }
  if (!std::ranges::equal(used, m.features()))
    fail(ErrorKind::kCorrupt, "{}: its list of features is not that of its records", name);
}

// Checks records and collects their planes.
class ManifestChecker {
 public:
  // Planes lie behind `begin`, one right behind the other, and before `limit`.
  ManifestChecker(const std::string& name, uint64_t limit, uint64_t begin = 0)
      : name_(name), limit_(limit), begin_(begin) {}

  // Returns where the last plane ends.
  uint64_t check(const proto::Manifest& m) {
    for (const auto& l : m.linears()) {
      unique(l.name());
      if (l.terms().empty()) refuse(l.name(), "has no terms");
      const auto [n, k] = dimensions(l.name(), l.n(), l.k());
      for (const auto& t : l.terms()) {
        const int64_t inner =
            t.has_up() ? static_cast<int64_t>(std::min<uint64_t>(t.up().k(), kMaxDimension)) : n;
        weight(l.name(), t.weight(), inner, k);
        if (t.has_up()) weight(l.name(), t.up(), n, inner);
      }
      if (l.has_input()) input(l.name(), l.input());
      if (l.has_bias()) plane(l.name(), l.bias(), PlaneKind::kCodes, static_cast<uint64_t>(n) * 4);
    }
    for (const auto& v : m.vectors()) {
      unique(v.name());
      const auto [length, one] = dimensions(v.name(), v.length(), 1);
      plane(v.name(), v.plane(), PlaneKind::kCodes, static_cast<uint64_t>(length * one) * 4);
    }
    for (const auto& b : m.blobs()) {
      if (b.name().empty()) refuse_nameless();
      unique("blob " + b.name());
      plane(b.name(), b.plane(), PlaneKind::kCodes, b.plane().bytes());
    }
    // An empty plane shares its offset with the next one, and comes first.
    std::ranges::sort(planes_, {},
                      [](const auto* p) { return std::pair(p->offset(), p->bytes()); });
    uint64_t end = begin_;
    for (const auto* p : planes_) {
      const uint64_t expected = plane_offset_after(end);
      if (p->offset() != expected) {
        fail(ErrorKind::kCorrupt, "{}: a plane at offset {}, the next one was expected at {}",
             name_, p->offset(), expected);
      }
      end = p->offset() + p->bytes();
    }
    return end;
  }
  // The same of a whole file, whose manifest follows at `limit`.
  void check_file(const proto::Manifest& m) {
    const uint64_t end = check(m);
    if (manifest_offset_after(end) != limit_) {
      fail(ErrorKind::kCorrupt, "{}: manifest at offset {}, expected at {}", name_, limit_,
           manifest_offset_after(end));
    }
  }

  const std::vector<const proto::PlaneRecord*>& planes() const { return planes_; }

 private:
  [[noreturn]] void refuse(const std::string& item, const std::string& why) const {
    fail(ErrorKind::kCorrupt, "{}: {} {}", name_, printable(item), why);
  }
  [[noreturn]] void refuse_nameless() const {
    fail(ErrorKind::kCorrupt, "{}: a record without a name", name_);
  }
  void unique(const std::string& item) {
    if (item.empty()) refuse_nameless();
    if (!names_.insert(item).second) refuse(item, "is recorded twice");
  }
  std::pair<int64_t, int64_t> dimensions(const std::string& item, uint64_t n, uint64_t k) const {
    if (n == 0 || k == 0 || n >= kMaxDimension || k >= kMaxDimension) {
      refuse(item, fmt::format("has a size of {} x {}", n, k));
    }
    return {static_cast<int64_t>(n), static_cast<int64_t>(k)};
  }
  void weight(const std::string& item, const proto::WeightRecord& w, int64_t n, int64_t k) {
    if (w.n() != static_cast<uint64_t>(n) || w.k() != static_cast<uint64_t>(k)) {
      refuse(item,
             fmt::format("has a weight of {} x {} where {} x {} is needed", w.n(), w.k(), n, k));
    }
    dimensions(item, w.n(), w.k());
    std::vector<PlaneLayout> layouts;
    try {
      const Encoding e = encoding_from(w.encoding());
      if (e.kind == EncodingKind::kDense && !info(e.dtype).floating)
        fail(ErrorKind::kCorrupt, "elements of type {}", info(e.dtype).name);
      layouts = plane_layouts(e, n, k);
    } catch (const Error& e) {
      refuse(item, fmt::format("has a wrong encoding: {}", e.what()));
    }
    if (w.planes().size() != static_cast<int>(layouts.size())) {
      refuse(item,
             fmt::format("has {} planes, its encoding has {}", w.planes().size(), layouts.size()));
    }
    for (size_t i = 0; i < layouts.size(); ++i) {
      plane(item, w.planes(static_cast<int>(i)), layouts[i].kind, layouts[i].bytes);
    }
  }
  void input(const std::string& item, const proto::InputRecord& r) const {
    try {
      const InputEncoding e = input_from(r);
      if (!e.rounds()) fail(ErrorKind::kCorrupt, "a record of inputs that are not rounded");
      pith::check(e);
    } catch (const Error& e) {
      refuse(item, fmt::format("has a wrong encoding of its inputs: {}", e.what()));
    }
  }
  void plane(const std::string& item, const proto::PlaneRecord& p, PlaneKind kind, uint64_t bytes) {
    if (p.kind() != static_cast<uint32_t>(kind))
      refuse(item, fmt::format("has a plane of kind {}", p.kind()));
    if (p.bytes() != bytes) {
      refuse(item,
             fmt::format("has {} bytes of {}, {} are needed", p.bytes(), plane_name(kind), bytes));
    }
    if (p.offset() % kPlaneAlignment != 0 || p.offset() > limit_ ||
        p.bytes() > limit_ - p.offset()) {
      refuse(item, fmt::format("lies at offset {}, {} bytes, outside of the planes", p.offset(),
                               p.bytes()));
    }
    planes_.push_back(&p);
  }

  const std::string& name_;
  uint64_t limit_, begin_;
  std::set<std::string> names_;
  std::vector<const proto::PlaneRecord*> planes_;
};

uint8_t narrow(uint32_t v, uint32_t end, const char* what) {
  if (v >= end) fail(ErrorKind::kCorrupt, "{} {} does not exist", what, v);
  return static_cast<uint8_t>(v);
}

}  // namespace

Encoding encoding_from(const proto::EncodingRecord& r) {
  const auto types = static_cast<uint32_t>(dtypes().size());
  Encoding e;
  e.kind = static_cast<EncodingKind>(
      narrow(r.kind(), static_cast<uint32_t>(EncodingKind::kTcq) + 1, "encoding"));
  if (e.is_sparse())
    fail(ErrorKind::kCorrupt, "encoding {} does not exist: sparsity is beside it", r.kind());
  e.dtype = static_cast<DType>(narrow(r.dtype(), types, "dtype"));
  e.bits = narrow(r.bits(), 65, "bit width");
  e.group = checked_cast<int64_t>(r.group(), "group");
  e.symmetric = r.symmetric();
  e.scale = static_cast<DType>(narrow(r.scale(), types, "scale type"));
  e.two_level = r.two_level();
  e.area = static_cast<ScaleArea>(narrow(r.area(), 3, "scale area"));
  e.ggml = static_cast<GgmlType>(narrow(r.ggml(), 256, "ggml type"));
  if (!r.has_sparsity()) return e;
  return Encoding::sparse(e, {static_cast<SparsityKind>(narrow(r.sparsity().kind(), 3, "sparsity")),
                              checked_cast<int64_t>(r.sparsity().kept(), "number of kept columns"),
                              checked_cast<int64_t>(r.sparsity().of(), "group of columns")});
}

proto::EncodingRecord record_of(const Encoding& e) {
  proto::EncodingRecord r;
  r.set_kind(static_cast<uint32_t>(e.value_kind()));
  r.set_dtype(static_cast<uint32_t>(e.dtype));
  r.set_bits(static_cast<uint32_t>(e.bits));
  r.set_group(static_cast<uint64_t>(e.group));
  r.set_symmetric(e.symmetric);
  r.set_scale(static_cast<uint32_t>(e.scale));
  r.set_two_level(e.two_level);
  r.set_area(static_cast<uint32_t>(e.area));
  r.set_ggml(static_cast<uint32_t>(e.ggml));
  if (!e.is_sparse()) return r;
  r.mutable_sparsity()->set_kind(static_cast<uint32_t>(e.sparsity.kind));
  r.mutable_sparsity()->set_kept(static_cast<uint64_t>(e.sparsity.kept));
  r.mutable_sparsity()->set_of(static_cast<uint64_t>(e.sparsity.of));
  return r;
}

InputEncoding input_from(const proto::InputRecord& r) {
  InputEncoding e;
  e.dtype = static_cast<DType>(narrow(r.dtype(), static_cast<uint32_t>(dtypes().size()), "dtype"));
  e.scale = static_cast<InputScale>(narrow(r.scale(), 3, "scale of inputs"));
  if (e.scale == InputScale::kTensor) e.value = r.value();
  return e;
}

proto::InputRecord record_of(const InputEncoding& e) {
  proto::InputRecord r;
  r.set_dtype(static_cast<uint32_t>(e.dtype));
  r.set_scale(static_cast<uint32_t>(e.scale));
  if (e.scale == InputScale::kTensor) r.set_value(e.value);
  return r;
}

uint64_t manifest_offset_after(uint64_t planes_end) {
  return round_up(planes_end + kSlack, kPlaneAlignment);
}
uint64_t plane_offset_after(uint64_t end) {
  return round_up(std::max(end, kHeaderBytes), kPlaneAlignment);
}

bool looks_like_packed(std::span<const std::byte> first) {
  return first.size() >= sizeof(kMagic) && std::memcmp(first.data(), kMagic, sizeof(kMagic)) == 0;
}

PackedLayout parse_packed(std::span<const std::byte> file, const std::string& name) {
  if (file.size() < kHeaderBytes) {
    fail(ErrorKind::kCorrupt, "{}: cut off: it has {} bytes, and a header alone has {}", name,
         file.size(), kHeaderBytes);
  }
  Header h;
  std::memcpy(&h, file.data(), sizeof(h));
  if (!looks_like_packed(file))
    fail(ErrorKind::kCorrupt, "{}: not a packed file: wrong magic number", name);
  if (h.header_xxh3 != hash64(hashed_part(h)))
    fail(ErrorKind::kCorrupt, "{}: header checksum is wrong", name);
  if (h.version < kOldestVersion || h.version > kPackedVersion) {
    fail(ErrorKind::kUnsupported, "{}: format version {}, this program reads {} to {}{}", name,
         h.version, kOldestVersion, kPackedVersion,
         h.version == 1 ? ": make it again from its source" : "");
  }
  if (h.header_bytes != kHeaderBytes || h.reserved != 0)
    fail(ErrorKind::kCorrupt, "{}: header is malformed", name);
  if (file.size() < h.file_bytes) {
    fail(ErrorKind::kCorrupt, "{}: cut off: it has {} of {} bytes", name, file.size(),
         h.file_bytes);
  }
  if (file.size() > h.file_bytes) {
    fail(ErrorKind::kCorrupt, "{}: it has {} bytes, its header says {}", name, file.size(),
         h.file_bytes);
  }
  if (h.manifest_offset < kPlaneAlignment || h.manifest_offset % kPlaneAlignment != 0 ||
      h.manifest_offset > h.file_bytes || h.manifest_bytes != h.file_bytes - h.manifest_offset) {
    fail(ErrorKind::kCorrupt, "{}: manifest at offset {}, {} bytes, does not end the file", name,
         h.manifest_offset, h.manifest_bytes);
  }
  if (h.manifest_bytes > kMaxManifestBytes)
    fail(ErrorKind::kCorrupt, "{}: a manifest of {} bytes", name, h.manifest_bytes);
  const auto bytes = file.subspan(h.manifest_offset, h.manifest_bytes);
  if (hash64(bytes) != h.manifest_xxh3)
    fail(ErrorKind::kCorrupt, "{}: manifest checksum is wrong", name);
  check_manifest_wire(as_text(bytes), name + ": manifest");
  PackedLayout layout;
  layout.manifest_offset = h.manifest_offset;
  if (!layout.manifest.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    fail(ErrorKind::kCorrupt, "{}: manifest is not a valid message", name);
  }
  check_features(layout.manifest, h.version, name);
  ManifestChecker(name, h.manifest_offset).check_file(layout.manifest);
  return layout;
}

uint64_t check_planes_follow(const proto::Manifest& records, uint64_t begin, uint64_t limit,
                             const std::string& name) {
  return ManifestChecker(name, limit, std::max(begin, kHeaderBytes)).check(records);
}

void for_each_plane(const proto::Manifest& m, FunctionRef<void(const proto::PlaneRecord&)> body) {
  const auto weight = [&](const proto::WeightRecord& w) {
    for (const auto& p : w.planes()) body(p);
  };
  for (const auto& l : m.linears()) {
    for (const auto& t : l.terms()) {
      weight(t.weight());
      if (t.has_up()) weight(t.up());
    }
    if (l.has_bias()) body(l.bias());
  }
  for (const auto& v : m.vectors()) body(v.plane());
  for (const auto& b : m.blobs()) body(b.plane());
}

PackedFile PackedFile::open(const std::string& path) {
  PackedFile f;
  f.mapped_ = MappedFile::open(path);
  f.layout_ = parse_packed(f.mapped_->bytes(), path);
  return f;
}

std::span<const std::byte> PackedFile::plane(const proto::PlaneRecord& r) const {
  return mapped_->bytes().subspan(r.offset(), r.bytes());
}

Weight PackedFile::weight(const proto::WeightRecord& r) const {
  Weight w{.encoding = encoding_from(r.encoding()),
           .n = static_cast<int64_t>(r.n()),
           .k = static_cast<int64_t>(r.k()),
           .planes = {},
           .owner = mapped_};
  for (const auto& p : r.planes()) w.planes.push_back({static_cast<PlaneKind>(p.kind()), plane(p)});
  return w;
}

std::string PackedFile::blob(const std::string& name) const {
  for (const auto& b : manifest().blobs()) {
    if (b.name() == name) return std::string(as_text(plane(b.plane())));
  }
  return "";
}

void PackedFile::check_planes() const {
  ManifestChecker checker(path(), layout_.manifest_offset);
  checker.check_file(manifest());
  const auto& planes = checker.planes();
  const auto file = mapped_->bytes();
  parallel_for(static_cast<int64_t>(planes.size()), [&](int64_t i) {
    const auto& p = *planes[static_cast<size_t>(i)];
    if (hash64(plane(p)) != p.xxh3()) {
      fail(ErrorKind::kCorrupt, "{}: checksum of the {} bytes at offset {} is wrong", path(),
           p.bytes(), p.offset());
    }
  });
  uint64_t end = kHeaderBytes;
  const auto check_gap = [&](uint64_t to) {
    for (; end < to; ++end) {
      if (file[end] != std::byte{0})
        fail(ErrorKind::kCorrupt, "{}: byte {} between planes is not zero", path(), end);
    }
  };
  for (const auto* p : planes) {
    check_gap(p->offset());
    end = p->offset() + p->bytes();
  }
  check_gap(layout_.manifest_offset);
}

void PlaneWriter::append(std::span<const std::byte> bytes) {
  if (bytes.size() > bytes_ - written_)
    fail(ErrorKind::kUsage, "a plane of {} bytes gets more", bytes_);
  file_->write(offset_ + written_, bytes);
  hasher_.add(bytes);
  written_ += bytes.size();
}

proto::PlaneRecord PlaneWriter::finish() {
  if (written_ != bytes_) fail(ErrorKind::kUsage, "a plane of {} bytes got {}", bytes_, written_);
  proto::PlaneRecord r;
  r.set_kind(static_cast<uint32_t>(kind_));
  r.set_offset(offset_);
  r.set_bytes(bytes_);
  r.set_xxh3(hasher_.value());
  return r;
}

PackedWriter::PackedWriter(File& file, uint64_t end)
    : file_(file), end_(std::max(end, kHeaderBytes)) {}

PlaneWriter PackedWriter::begin_plane(PlaneKind kind, uint64_t bytes) {
  const uint64_t offset = plane_offset_after(end_);
  const std::array<std::byte, kPlaneAlignment> zeros{};
  file_.write(end_, std::span(zeros).first(offset - end_));
  end_ = offset + bytes;
  return PlaneWriter(&file_, kind, offset, bytes);
}

proto::PlaneRecord PackedWriter::add_plane(PlaneKind kind, std::span<const std::byte> bytes) {
  PlaneWriter plane = begin_plane(kind, bytes.size());
  plane.append(bytes);
  return plane.finish();
}

proto::WeightRecord PackedWriter::add_weight(const Weight& w) {
  proto::WeightRecord r;
  *r.mutable_encoding() = record_of(w.encoding);
  r.set_n(static_cast<uint64_t>(w.n));
  r.set_k(static_cast<uint64_t>(w.k));
  for (const auto& layout : plane_layouts(w.encoding, w.n, w.k)) {
    PlaneWriter plane = begin_plane(layout.kind, layout.bytes);
    plane.append(w.plane(layout.kind));
    *r.add_planes() = plane.finish();
  }
  return r;
}

uint64_t PackedWriter::finish(proto::Manifest manifest) {
  manifest.clear_features();
  for (auto& feature : features_of(manifest)) manifest.add_features(std::move(feature));
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);  // maps in order of their keys
    manifest.SerializeToCodedStream(&coded);
  }
  if (bytes.size() > kMaxManifestBytes)
    fail(ErrorKind::kUnsupported, "a manifest of {} bytes", bytes.size());
  check_manifest_wire(bytes, file_.path() + ": manifest");
  const uint64_t offset = manifest_offset_after(end_);
  const std::vector<std::byte> zeros(offset - end_);
  file_.write(end_, zeros);
  file_.write(offset, as_bytes(bytes));
  Header h{};
  std::memcpy(h.magic, kMagic, sizeof(kMagic));
  h.version = kPackedVersion;
  h.header_bytes = kHeaderBytes;
  h.file_bytes = offset + bytes.size();
  h.manifest_offset = offset;
  h.manifest_bytes = bytes.size();
  h.manifest_xxh3 = hash64(as_bytes(bytes));
  h.header_xxh3 = hash64(hashed_part(h));
  file_.truncate(h.file_bytes);
  file_.write(0, std::as_bytes(std::span(&h, 1)));
  file_.sync();
  return h.file_bytes;
}

namespace {

// The name of the blob that a member of Files becomes.
template <class Files>
struct FileBlob {
  const char* name;
  std::string Files::*member;
};
constexpr FileBlob<TokenizerFiles> kTokenizerBlobs[] = {
    {"tokenizer.json", &TokenizerFiles::tokenizer_json},
    {"tokenizer_config.json", &TokenizerFiles::tokenizer_config},
    {"tokenizer.model", &TokenizerFiles::sentencepiece},
    {"tiktoken.model", &TokenizerFiles::tiktoken},
    {"tokenizer.gguf", &TokenizerFiles::gguf},
    {"tokenizer.bin", &TokenizerFiles::llama2c},
    {"chat_template", &TokenizerFiles::chat_template},
};
constexpr FileBlob<ConfigFiles> kConfigBlobs[] = {
    {"config.json", &ConfigFiles::config},
    {"generation_config.json", &ConfigFiles::generation_config},
};

template <class Files>
Files files_of(const PackedFile& file, std::span<const FileBlob<Files>> blobs) {
  Files files;
  for (const auto& b : blobs) files.*b.member = file.blob(b.name);
  return files;
}
template <class Files>
uint64_t hash_files(const Files& files, std::span<const FileBlob<Files>> blobs) {
  Hasher h;
  for (const auto& b : blobs) {
    const uint64_t size = (files.*b.member).size();
    h.add(std::as_bytes(std::span(&size, 1)));
    h.add(as_bytes(files.*b.member));
  }
  return h.value();
}
template <class Files>
BlobSizes sizes_of(const Files& files, std::span<const FileBlob<Files>> blobs) {
  BlobSizes out;
  for (const auto& b : blobs) {
    if (!(files.*b.member).empty()) out.emplace_back(b.name, (files.*b.member).size());
  }
  return out;
}
template <class Files>
void add_files(PackedWriter& writer, const Files& files, std::span<const FileBlob<Files>> blobs,
               proto::Manifest* manifest) {
  for (const auto& b : blobs) {
    if ((files.*b.member).empty()) continue;
    auto* record = manifest->add_blobs();
    record->set_name(b.name);
    *record->mutable_plane() = writer.add_plane(PlaneKind::kCodes, as_bytes(files.*b.member));
  }
}

constexpr std::span<const FileBlob<TokenizerFiles>> kTokenizer = kTokenizerBlobs;
constexpr std::span<const FileBlob<ConfigFiles>> kConfig = kConfigBlobs;

}  // namespace

TokenizerFiles PackedFile::tokenizer() const {
  TokenizerFiles files = files_of(*this, kTokenizer);
  files.from = path();
  return files;
}
uint64_t hash_of(const TokenizerFiles& files) { return hash_files(files, kTokenizer); }
BlobSizes blob_sizes(const TokenizerFiles& files) { return sizes_of(files, kTokenizer); }
void add_tokenizer(PackedWriter& writer, const TokenizerFiles& files, proto::Manifest* manifest) {
  add_files(writer, files, kTokenizer, manifest);
}

ConfigFiles PackedFile::config_files() const { return files_of(*this, kConfig); }
uint64_t hash_of(const ConfigFiles& files) { return hash_files(files, kConfig); }
BlobSizes blob_sizes(const ConfigFiles& files) { return sizes_of(files, kConfig); }
void add_config(PackedWriter& writer, const ConfigFiles& files, proto::Manifest* manifest) {
  add_files(writer, files, kConfig, manifest);
}

}  // namespace pith
