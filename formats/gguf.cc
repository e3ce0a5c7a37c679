#include "formats/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <new>
#include <tuple>
#include <type_traits>
#include <utility>

#include "core/bytes.h"
#include "formats/encodings/ggml.h"
#include "formats/gguf_internal.h"

namespace pith {
using namespace gguf;

namespace {

constexpr uint64_t kMaxPairs = 65536;
constexpr uint64_t kMaxTensors = 1048576;
constexpr uint64_t kMinPairBytes = 8 + 1 + 4 + 1;            // key, type, value
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;  // name, dimensions, size, type, offset

// A cursor over the first bytes of a file of `file_size` bytes. What cannot lie in the file is
// corrupt; what lies in the file but not in the bytes at hand is a ShortPrefix. Either way nothing
// that count() let pass exceeds the bytes at hand.
class HeaderReader {
 public:
  HeaderReader(std::span<const std::byte> bytes, uint64_t file_size, const std::string& name)
      : bytes_(bytes.first(std::min<uint64_t>(bytes.size(), file_size))),
        file_size_(file_size),
        name_(name) {}

  uint64_t offset() const { return offset_; }
  const std::string& name() const { return name_; }

  // n items of at least item_bytes each lie ahead, so that memory may be reserved for them.
  uint64_t count(uint64_t n, uint64_t item_bytes, std::string_view what) const {
    if (n > (file_size_ - offset_) / item_bytes) {
      fail(ErrorKind::kCorrupt, "{}: {} at offset {} needs {} times {} bytes, {} remain", name_,
           what, offset_, n, item_bytes, file_size_ - offset_);
    }
    if (n > (bytes_.size() - offset_) / item_bytes) {
      throw ShortPrefix(name_, bytes_.size(), offset_ + n * item_bytes);
    }
    return n;
  }

  std::span<const std::byte> take(uint64_t n, std::string_view what) {
    const auto taken = bytes_.subspan(offset_, count(n, 1, what));
    offset_ += n;
    return taken;
  }

  template <class T>
  T read(std::string_view what) {
    T v;
    std::memcpy(&v, take(sizeof(T), what).data(), sizeof(T));
    return v;
  }

  std::string_view text(std::string_view what) {
    const auto length = read<uint64_t>(what);
    return as_text(take(length, what));
  }

  bool boolean(std::string_view what) {
    const auto v = read<uint8_t>(what);
    if (v > 1) {
      fail(ErrorKind::kCorrupt, "{}: {} at offset {} is {}, a bool is 0 or 1", name_, what,
           offset_ - 1, v);
    }
    return v == 1;
  }

 private:
  std::span<const std::byte> bytes_;
  uint64_t file_size_;
  const std::string& name_;
  uint64_t offset_ = 0;
};

// body(T{}) for the number type that `type` stands for; false for bool, string, array and what does
// not exist.
template <class Body>
bool with_number(uint32_t type, Body body) {
  switch (type) {
    case kU8:
      body(uint8_t{});
      return true;
    case kI8:
      body(int8_t{});
      return true;
    case kU16:
      body(uint16_t{});
      return true;
    case kI16:
      body(int16_t{});
      return true;
    case kU32:
      body(uint32_t{});
      return true;
    case kI32:
      body(int32_t{});
      return true;
    case kF32:
      body(float{});
      return true;
    case kU64:
      body(uint64_t{});
      return true;
    case kI64:
      body(int64_t{});
      return true;
    case kF64:
      body(double{});
      return true;
    default:
      return false;
  }
}

template <class T>
using Wide = std::conditional_t<std::is_floating_point_v<T>, double,
                                std::conditional_t<std::is_unsigned_v<T>, uint64_t, int64_t>>;

GgufValue read_array(HeaderReader& r, const std::string& what) {
  const auto type = r.read<uint32_t>(what);
  const auto n = r.read<uint64_t>(what);
  GgufValue value;
  const bool is_number = with_number(type, [&]<class T>(T) {
    const auto bytes = r.take(r.count(n, sizeof(T), what) * sizeof(T), what);
    std::vector<Wide<T>> items(n);
    for (size_t i = 0; i < n; ++i) {
      T v;
      std::memcpy(&v, bytes.data() + i * sizeof(T), sizeof(T));
      items[i] = static_cast<Wide<T>>(v);
    }
    value = std::move(items);
  });
  if (is_number) return value;
  switch (type) {
    case kBool: {
      std::vector<bool> items(r.count(n, 1, what));
      for (size_t i = 0; i < n; ++i) items[i] = r.boolean(what);
      return items;
    }
    case kString: {
      std::vector<std::string> items;
      items.reserve(r.count(n, sizeof(uint64_t), what));
      for (uint64_t i = 0; i < n; ++i) items.emplace_back(r.text(what));
      return items;
    }
    case kArray:
      fail(ErrorKind::kCorrupt, "{}: {} is an array of arrays", r.name(), what);
    default:
      fail(ErrorKind::kCorrupt, "{}: {} holds values of type {}, which does not exist", r.name(),
           what, type);
  }
}

GgufValue read_value(HeaderReader& r, const std::string& what) {
  const auto type = r.read<uint32_t>(what);
  GgufValue value;
  if (with_number(type,
                  [&]<class T>(T) { value = static_cast<Wide<T>>(r.template read<T>(what)); })) {
    return value;
  }
  switch (type) {
    case kBool:
      return r.boolean(what);
    case kString:
      return std::string(r.text(what));
    case kArray:
      return read_array(r, what);
    default:
      fail(ErrorKind::kCorrupt, "{}: {} has type {}, which does not exist", r.name(), what, type);
  }
}

// The limit is checked after the bytes: a wild count is corrupt, an honest large one is
// unsupported.
uint64_t check_count(const HeaderReader& r, uint64_t n, uint64_t item_bytes, uint64_t limit,
                     std::string_view what) {
  r.count(n, item_bytes, what);
  if (n > limit) {
    fail(ErrorKind::kUnsupported, "{}: {} is {}, at most {} are read", r.name(), what, n, limit);
  }
  return n;
}

void read_pairs(HeaderReader& r, uint64_t n, GgufMetadata* to) {
  for (uint64_t i = 0; i < n; ++i) {
    const uint64_t begin = r.offset();
    const std::string_view key = r.text("a key");
    if (key.empty())
      fail(ErrorKind::kCorrupt, "{}: the key at offset {} is empty", r.name(), begin);
    const std::string name = in_quotes(key);
    const auto [it, is_new] = to->values.try_emplace(std::string(key));
    if (!is_new) fail(ErrorKind::kCorrupt, "{}: the key {} occurs twice", r.name(), name);
    it->second = read_value(r, "the value of " + name);
  }
}

uint64_t read_alignment(const GgufMetadata& metadata) {
  const uint64_t alignment = metadata.uint("general.alignment", 32);
  if (!std::has_single_bit(alignment) || alignment < 8 || alignment > 65536) {
    fail(ErrorKind::kCorrupt, "{}: general.alignment is {}, expected a power of two, 8 to 65536",
         metadata.file, alignment);
  }
  return alignment;
}

// Types of other GGUF readers and of the past, so that a refusal can name them.
std::string_view name_of_other_type(uint32_t type) {
  static constexpr std::pair<uint32_t, std::string_view> kNames[] = {
      {4, "q4_2"},    {5, "q4_3"},     {9, "q8_1"},   {15, "q8_K"},  {16, "iq2_xxs"},
      {17, "iq2_xs"}, {18, "iq3_xxs"}, {19, "iq1_s"}, {21, "iq3_s"}, {22, "iq2_s"},
      {23, "iq4_xs"}, {24, "i8"},      {25, "i16"},   {26, "i32"},   {27, "i64"},
      {29, "iq1_m"},  {34, "tq1_0"},   {35, "tq2_0"}, {40, "nvfp4"},
  };
  for (const auto& [number, name] : kNames) {
    if (number == type) return name;
  }
  return "unknown";
}
constexpr uint32_t kTypeF64 = 28;

// Reads one tensor info; its offset stays relative to the data section. An unsupported type is
// noted in `other_types`, and the tensor then has 0 bytes.
TensorInfo read_tensor(HeaderReader& r, uint64_t alignment,
                       std::map<std::string, std::string>* other_types) {
  TensorInfo t;
  const uint64_t begin = r.offset();
  t.name = r.text("a tensor's name");
  if (t.name.empty()) {
    fail(ErrorKind::kCorrupt, "{}: the tensor name at offset {} is empty", r.name(), begin);
  }
  const std::string what = "tensor " + in_quotes(t.name);
  const std::string where = r.name() + ": " + what;

  const auto dimensions = r.read<uint32_t>(what);
  if (dimensions < 1 || dimensions > 4) {
    fail(ErrorKind::kCorrupt, "{} has {} dimensions, expected 1 to 4", where, dimensions);
  }
  std::array<uint64_t, 4> sizes{};  // innermost first
  uint64_t elements = 1;
  for (uint32_t i = 0; i < dimensions; ++i) {
    sizes[i] = r.read<uint64_t>(what);
    elements = checked_mul(elements, sizes[i], where);
    t.shape.insert(t.shape.begin(), checked_cast<int64_t>(sizes[i], where));
  }
  checked_cast<int64_t>(elements, where);

  const auto number = r.read<uint32_t>(what);
  const GgmlTypeInfo* type = ggml_type_info(number);
  if (type != nullptr) {
    t.encoding = encoding_of(type->type);
    const auto block = static_cast<uint64_t>(type->block);
    if (sizes[0] % block != 0) {
      fail(ErrorKind::kCorrupt, "{} has rows of {}, which blocks of {} ({}) do not divide", where,
           sizes[0], block, type->name);
    }
    t.bytes = checked_mul(elements / block, type->bytes, where);
  } else if (number == kTypeF64) {
    t.bytes = checked_mul(elements, sizeof(double), where);
    t.f64 = true;
  } else {
    other_types->emplace(t.name, fmt::format("{} ({})", number, name_of_other_type(number)));
  }

  t.offset = r.read<uint64_t>(what);
  if (t.offset % alignment != 0) {
    fail(ErrorKind::kCorrupt, "{} has offset {}, which is not aligned to {}", where, t.offset,
         alignment);
  }
  return t;
}

// Turns relative offsets into absolute ones; every tensor then lies inside the file.
void place_tensors(std::vector<TensorInfo>& tensors, uint64_t data_begin, uint64_t file_size,
                   const std::string& name) {
  for (TensorInfo& t : tensors) {
    const std::string where = name + ": tensor " + in_quotes(t.name);
    t.offset = checked_add(data_begin, t.offset, where);
    const uint64_t end = checked_add(t.offset, t.bytes, where);
    if (end > file_size) {
      fail(ErrorKind::kCorrupt, "{} lies at bytes {} to {}, the file has {}", where, t.offset, end,
           file_size);
    }
  }
}

void sort_and_check_overlap(std::vector<TensorInfo>& tensors, const std::string& name) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  const TensorInfo* previous = nullptr;
  for (const TensorInfo& t : tensors) {
    if (t.bytes == 0) continue;
    if (previous != nullptr && previous->offset + previous->bytes > t.offset) {
      fail(ErrorKind::kCorrupt, "{}: the tensors {} and {} overlap", name,
           in_quotes(previous->name), in_quotes(t.name));
    }
    previous = &t;
  }
}

uint32_t read_version(HeaderReader& r) {
  if (as_text(r.take(kMagic.size(), "the magic number")) != kMagic) {
    fail(ErrorKind::kCorrupt, "{}: not a GGUF file", r.name());
  }
  const auto version = r.read<uint32_t>("the version");
  if (version != 0 && (version & 0xffffu) == 0) {
    fail(ErrorKind::kUnsupported, "{}: a big-endian GGUF file, only little-endian ones are read",
         r.name());
  }
  if (version != 2 && version != 3) {
    fail(ErrorKind::kUnsupported, "{}: GGUF version {}, versions 2 and 3 are read", r.name(),
         version);
  }
  return version;
}

GgufHeader parse_header(std::span<const std::byte> bytes, uint64_t file_size,
                        const std::string& name) {
  HeaderReader r(bytes, file_size, name);
  GgufHeader header;
  header.metadata.file = name;
  header.version = read_version(r);
  const auto tensors = r.read<uint64_t>("the number of tensors");
  const auto pairs = r.read<uint64_t>("the number of pairs");
  check_count(r, tensors, kMinTensorBytes, kMaxTensors, "the number of tensors");
  check_count(r, pairs, kMinPairBytes, kMaxPairs, "the number of pairs");

  read_pairs(r, pairs, &header.metadata);
  const uint64_t alignment = read_alignment(header.metadata);

  r.count(tensors, kMinTensorBytes, "the tensors");
  header.tensors.reserve(tensors);
  for (uint64_t i = 0; i < tensors; ++i)
    header.tensors.push_back(read_tensor(r, alignment, &header.other_types));
  check_unique_names(header.tensors, name);

  header.data_begin = round_up(r.offset(), alignment);
  place_tensors(header.tensors, header.data_begin, file_size, name);
  sort_and_check_overlap(header.tensors, name);
  std::erase_if(header.tensors,
                [&](const TensorInfo& t) { return header.other_types.contains(t.name); });
  for (TensorInfo& t : header.tensors) {
    if (t.f64) t.bytes /= 2;  // as f32, which it is read as
  }
  return header;
}

}  // namespace

namespace gguf {

std::string in_quotes(std::string_view name) {
  std::string s = "'";
  for (const char c : name.substr(0, 80)) {
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x20 || u >= 0x7f) {
      s += fmt::format("\\x{:02x}", u);
    } else {
      s += c;
    }
  }
  return s + (name.size() > 80 ? "...'" : "'");
}

void check_unique_names(const std::vector<TensorInfo>& tensors, const std::string& name) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorInfo& t : tensors) names.push_back(t.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) {
    fail(ErrorKind::kCorrupt, "{}: the tensor {} occurs twice", name, in_quotes(*twice));
  }
}

}  // namespace gguf

bool looks_like_gguf(std::span<const std::byte> first_bytes) {
  return as_text(first_bytes).starts_with(kMagic);
}

GgufHeader parse_gguf(std::span<const std::byte> bytes, uint64_t file_size,
                      const std::string& name) {
  try {
    return parse_header(bytes, file_size, name);
  } catch (const std::bad_alloc&) {
    fail(ErrorKind::kMemory, "{}: not enough memory for the header", name);
  }
}

}  // namespace pith
