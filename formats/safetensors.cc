#include "formats/safetensors.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <tuple>
#include <utility>

#include "core/bytes.h"
#include "core/json_tree.h"
#include "formats/printable.h"

namespace pith {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr uint64_t kMaxString = 16u << 20;
constexpr size_t kMaxMetadata = 65'536;
constexpr size_t kMaxRank = 64;
// {"dtype":"U8","shape":[],"data_offsets":[0,0]} with the two quotes of its name and a colon.
constexpr uint64_t kSmallestEntry = 49;

// Element types of the format that pith does not support, with their bits.
struct OtherType {
  std::string_view name;
  uint64_t bits;
};
constexpr OtherType kOtherTypes[] = {
    {"BOOL", 8},    {"I16", 16},        {"U16", 16},       {"U32", 32},    {"U64", 64},
    {"F64", 64},    {"C64", 64},        {"F4", 4},         {"F6_E2M3", 6}, {"F6_E3M2", 6},
    {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}};
constexpr std::string_view kF64 = "F64";

// What nlohmann says of an error, without its prefix and without the token, which may be megabytes.
std::string reason_of(std::string_view what) {
  if (const auto end = what.find("; last read"); end != what.npos) what = what.substr(0, end);
  if (const auto begin = what.find(" - "); begin != what.npos) what = what.substr(begin + 3);
  return std::string(what.substr(0, 200));
}

// Receives the events of the header and admits only the one form it may have. The states are the
// places where the next event may stand.
class HeaderHandler {
 public:
  HeaderHandler(std::string name, uint64_t data_begin, uint64_t data_bytes, SafetensorsHeader* to)
      : name_(std::move(name)), data_begin_(data_begin), data_bytes_(data_bytes), to_(*to) {}

  bool null() { unexpected("null"); }
  bool boolean(bool) { unexpected("a boolean"); }
  bool number_integer(int64_t) { not_plain(); }
  bool number_float(double, const std::string&) { not_plain(); }
  bool number_unsigned(uint64_t v) {
    if (state_ == State::kInShape) {
      if (dimensions_.size() == kMaxRank) {
        fail(ErrorKind::kUnsupported, "{}: shape has more than {} dimensions", place(), kMaxRank);
      }
      if (!std::in_range<int64_t>(v))
        fail(ErrorKind::kCorrupt, "{}: size {} is out of range", place(), v);
      dimensions_.push_back(static_cast<int64_t>(v));
    } else if (state_ == State::kInOffsets) {
      if (offset_count_ == 2)
        fail(ErrorKind::kCorrupt, "{}: data_offsets has more than two numbers", place());
      offsets_[offset_count_++] = v;
    } else {
      unexpected("a number");
    }
    return true;
  }
  bool string(std::string& v) {
    if (state_ == State::kDtype) {
      set_dtype(v);
      state_ = State::kInTensor;
    } else if (state_ == State::kMetadataValue) {
      metadata_value_->swap(v);
      state_ = State::kInMetadata;
    } else {
      unexpected("a string");
    }
    return true;
  }
  bool binary(std::vector<uint8_t>&) { unexpected("binary"); }

  bool start_object(size_t) {
    switch (state_) {
      case State::kStart:
        state_ = State::kInHeader;
        break;
      case State::kMetadata:
        state_ = State::kInMetadata;
        break;
      case State::kTensor:
        state_ = State::kInTensor;
        dtype_.reset();
        other_ = nullptr;
        has_shape_ = has_offsets_ = false;
        dimensions_.clear();
        offset_count_ = 0;
        break;
      default:
        unexpected("an object");
    }
    return true;
  }
  bool key(std::string& v) {
    if (state_ == State::kInHeader) {
      key_of_header(v);
    } else if (state_ == State::kInMetadata) {
      const auto [it, is_new] = to_.metadata.try_emplace(std::move(v));
      if (!is_new)
        fail(ErrorKind::kCorrupt, "{}: duplicate key {} in __metadata__", name_,
             printable(it->first));
      if (to_.metadata.size() > kMaxMetadata) {
        fail(ErrorKind::kUnsupported, "{}: __metadata__ has more than {} entries", name_,
             kMaxMetadata);
      }
      metadata_value_ = &it->second;
      state_ = State::kMetadataValue;
    } else {
      key_of_tensor(v);
    }
    return true;
  }
  bool end_object() {
    if (state_ == State::kInTensor) {
      finish_tensor();
      state_ = State::kInHeader;
    } else {
      state_ = state_ == State::kInMetadata ? State::kInHeader : State::kEnd;
    }
    return true;
  }
  bool start_array(size_t) {
    if (state_ == State::kShape) {
      state_ = State::kInShape;
    } else if (state_ == State::kOffsets) {
      state_ = State::kInOffsets;
    } else {
      unexpected("an array");
    }
    return true;
  }
  bool end_array() {
    if (state_ == State::kInOffsets && offset_count_ != 2) {
      fail(ErrorKind::kCorrupt, "{}: data_offsets has {} numbers instead of two", place(),
           offset_count_);
    }
    state_ = State::kInTensor;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& e) {
    fail(ErrorKind::kCorrupt, "{}: header is not valid JSON at byte {}: {}", name_, position,
         reason_of(e.what()));
  }

 private:
  enum class State {
    kStart,
    kInHeader,
    kMetadata,
    kInMetadata,
    kMetadataValue,
    kTensor,
    kInTensor,
    kDtype,
    kShape,
    kInShape,
    kOffsets,
    kInOffsets,
    kEnd
  };

  std::string place() const { return fmt::format("{}: tensor {}", name_, printable(tensor_)); }

  // Where the parser stands, and what may stand there.
  [[noreturn]] void unexpected(const char* what) const {
    switch (state_) {
      case State::kStart:
        fail(ErrorKind::kCorrupt, "{}: the header is {} instead of an object", name_, what);
      case State::kMetadata:
        fail(ErrorKind::kCorrupt, "{}: __metadata__ is {} instead of an object", name_, what);
      case State::kMetadataValue:
        fail(ErrorKind::kCorrupt, "{}: __metadata__ holds {}, only strings are allowed", name_,
             what);
      case State::kTensor:
        fail(ErrorKind::kCorrupt, "{}: {} instead of an object", place(), what);
      case State::kDtype:
        fail(ErrorKind::kCorrupt, "{}: dtype is {} instead of a string", place(), what);
      case State::kShape:
        fail(ErrorKind::kCorrupt, "{}: shape is {} instead of an array", place(), what);
      case State::kInShape:
        fail(ErrorKind::kCorrupt,
             "{}: shape holds {}, only plain non-negative integers are allowed", place(), what);
      case State::kOffsets:
        fail(ErrorKind::kCorrupt, "{}: data_offsets is {} instead of an array", place(), what);
      case State::kInOffsets:
        fail(ErrorKind::kCorrupt,
             "{}: data_offsets holds {}, only plain non-negative integers are allowed", place(),
             what);
      default:
        fail(ErrorKind::kCorrupt, "{}: {} is out of place in the header", name_, what);
    }
  }
  // "-0" and what does not fit in 64 bits come here too.
  [[noreturn]] void not_plain() const { unexpected("a negative, fractional or too large number"); }

  void key_of_header(std::string& v) {
    if (v == "__metadata__") {
      if (has_metadata_) fail(ErrorKind::kCorrupt, "{}: duplicate key \"__metadata__\"", name_);
      has_metadata_ = true;
      state_ = State::kMetadata;
    } else {
      tensor_ = std::move(v);
      state_ = State::kTensor;
    }
  }
  void key_of_tensor(const std::string& v) {
    const auto once = [&](bool seen, State next) {
      if (seen) fail(ErrorKind::kCorrupt, "{}: duplicate key \"{}\"", place(), v);
      state_ = next;
    };
    if (v == "dtype") {
      once(dtype_.has_value() || other_ != nullptr, State::kDtype);
    } else if (v == "shape") {
      once(has_shape_, State::kShape);
      has_shape_ = true;
    } else if (v == "data_offsets") {
      once(has_offsets_, State::kOffsets);
      has_offsets_ = true;
    } else {
      fail(ErrorKind::kCorrupt, "{}: unknown key {}", place(), printable(v));
    }
  }
  void set_dtype(const std::string& v) {
    dtype_ = dtype_from_safetensors(v);
    const auto other =
        std::ranges::find_if(kOtherTypes, [&](const OtherType& t) { return t.name == v; });
    other_ = dtype_ || other == std::end(kOtherTypes) ? nullptr : &*other;
    if (!dtype_ && other_ == nullptr)
      fail(ErrorKind::kCorrupt, "{}: unknown dtype {}", place(), printable(v));
  }
  void finish_tensor() {
    if (!dtype_ && other_ == nullptr) fail(ErrorKind::kCorrupt, "{}: dtype is missing", place());
    if (!has_shape_) fail(ErrorKind::kCorrupt, "{}: shape is missing", place());
    if (!has_offsets_) fail(ErrorKind::kCorrupt, "{}: data_offsets is missing", place());
    const auto [begin, end] = offsets_;
    if (begin > end)
      fail(ErrorKind::kCorrupt, "{}: data_offsets [{}, {}] end before they begin", place(), begin,
           end);
    if (end > data_bytes_) {
      fail(ErrorKind::kCorrupt, "{}: data_offsets [{}, {}] go beyond the {} bytes of data", place(),
           begin, end, data_bytes_);
    }
    uint64_t bytes = 1;
    const std::string what = place() + ": size";
    for (const int64_t d : dimensions_) bytes = checked_mul(bytes, static_cast<uint64_t>(d), what);
    const uint64_t bits = checked_mul(bytes, dtype_ ? 8 * info(*dtype_).bytes : other_->bits, what);
    if (bits % 8 != 0) fail(ErrorKind::kCorrupt, "{}: ends within a byte", place());
    bytes = bits / 8;
    if (bytes != end - begin) {
      fail(ErrorKind::kCorrupt, "{}: shape and dtype need {} bytes, data_offsets [{}, {}] hold {}",
           place(), bytes, begin, end, end - begin);
    }
    if (!dtype_ && other_->name != kF64) to_.other_types.emplace(tensor_, other_->name);
    to_.tensors.push_back({.name = std::move(tensor_),
                           .encoding = Encoding::dense(dtype_.value_or(DType::kF32)),
                           .shape = std::vector<int64_t>(dimensions_.begin(), dimensions_.end()),
                           .offset = data_begin_ + begin,
                           .bytes = bytes,
                           .f64 = !dtype_ && other_->name == kF64});
  }

  const std::string name_;
  const uint64_t data_begin_, data_bytes_;
  SafetensorsHeader& to_;
  State state_ = State::kStart;
  bool has_metadata_ = false;
  std::string* metadata_value_ = nullptr;
  // The fields of the tensor that is being read.
  std::string tensor_;
  std::optional<DType> dtype_;
  const OtherType* other_ = nullptr;  // where dtype_ is empty
  bool has_shape_ = false, has_offsets_ = false;
  std::vector<int64_t> dimensions_;
  std::array<uint64_t, 2> offsets_{};
  size_t offset_count_ = 0;
};

// One pass before the parser's: bounds what it may need. Returns the number of objects at most.
uint64_t survey(std::string_view header, const std::string& name) {
  uint64_t objects = 0;
  size_t string_begin = 0;
  bool in_string = false;
  for (size_t i = 0; i < header.size(); ++i) {
    const char c = header[i];
    if (in_string && c == '\\') {
      ++i;
    } else if (c == '"') {
      in_string = !in_string;
      if (in_string) string_begin = i;
    } else if (c == '{') {
      ++objects;
    }
    if (in_string && i - string_begin > kMaxString) {
      fail(ErrorKind::kUnsupported, "{}: header has a string longer than {} bytes", name,
           kMaxString);
    }
  }
  return std::min<uint64_t>(objects, header.size() / kSmallestEntry + 1);
}

void check_names_are_unique(const std::vector<TensorInfo>& tensors, const std::string& name) {
  std::vector<uint32_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(),
            [&](uint32_t a, uint32_t b) { return tensors[a].name < tensors[b].name; });
  for (size_t i = 1; i < order.size(); ++i) {
    const std::string& n = tensors[order[i]].name;
    if (n == tensors[order[i - 1]].name)
      fail(ErrorKind::kCorrupt, "{}: duplicate tensor {}", name, printable(n));
  }
}

void check_tensors_fill_the_file(const SafetensorsHeader& header, uint64_t data_begin,
                                 uint64_t file_size, const std::string& name) {
  uint64_t at = data_begin;
  for (const auto& t : header.tensors) {
    if (t.offset != at) {
      fail(ErrorKind::kCorrupt, "{}: tensor {} begins at data offset {}, {} {}", name,
           printable(t.name), t.offset - data_begin,
           t.offset < at ? "inside the one before it, which ends at" : "a hole follows",
           at - data_begin);
    }
    at += t.bytes;
  }
  if (at != file_size) {
    fail(ErrorKind::kCorrupt, "{}: {} bytes behind the last tensor belong to none", name,
         file_size - at);
  }
}

}  // namespace

SafetensorsHeader parse_safetensors(std::span<const std::byte> bytes, uint64_t file_size,
                                    const std::string& name) {
  if (file_size < 8)
    fail(ErrorKind::kCorrupt, "{}: {} bytes are too few for a safetensors file", name, file_size);
  ByteReader reader(bytes, name);
  const auto length = reader.read<uint64_t>("header length");
  if (length > kMaxHeader) {
    fail(ErrorKind::kCorrupt, "{}: header length {} is more than {}", name, length, kMaxHeader);
  }
  if (length > file_size - 8) {
    fail(ErrorKind::kCorrupt, "{}: header length {} goes beyond the file of {} bytes", name, length,
         file_size);
  }
  std::string_view text = reader.text(length, "header");
  if (text.empty() || text[0] != '{')
    fail(ErrorKind::kCorrupt, "{}: header does not begin with '{{'", name);
  while (text.back() == ' ') text.remove_suffix(1);
  if (text.back() != '}')
    fail(ErrorKind::kCorrupt, "{}: header does not end with '}}' and spaces", name);

  // The parser would take it for the end of the text.
  if (const size_t nul = text.find('\0'); nul != text.npos) {
    fail(ErrorKind::kCorrupt, "{}: header has a NUL at byte {}", name, nul);
  }

  SafetensorsHeader header;
  header.tensors.reserve(survey(text, name));
  const uint64_t data_begin = 8 + length;
  HeaderHandler handler(name, data_begin, file_size - data_begin, &header);
  Json::sax_parse(text, &handler);
  check_names_are_unique(header.tensors, name);
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) {
              return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
            });
  check_tensors_fill_the_file(header, data_begin, file_size, name);
  std::erase_if(header.tensors,
                [&](const TensorInfo& t) { return header.other_types.contains(t.name); });
  for (auto& t : header.tensors) {
    if (t.f64) t.bytes /= 2;
  }
  return header;
}

std::map<std::string, std::string> parse_safetensors_index(std::string_view text,
                                                           const std::string& name) {
  const JsonTree tree(parse_json(text, name, 8));
  const Json& index = tree.root();
  if (!index.is_object())
    fail(ErrorKind::kCorrupt, "{}: is {} instead of an object", name, index.type_name());
  const Json& map = json_member(index, "weight_map", name);
  if (!map.is_object())
    fail(ErrorKind::kCorrupt, "{}: weight_map is {} instead of an object", name, map.type_name());
  std::map<std::string, std::string> shard_of;
  for (const auto& [tensor, value] : map.items()) {
    if (!value.is_string()) {
      fail(ErrorKind::kCorrupt, "{}: shard of {} is {} instead of a string", name,
           printable(tensor), value.type_name());
    }
    const auto& shard = value.get_ref<const std::string&>();
    const bool plain =
        !shard.empty() && shard.size() <= 255 && shard != "." && shard != ".." &&
        std::none_of(shard.begin(), shard.end(), [](char c) {
          return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
        });
    if (!plain) {
      fail(ErrorKind::kCorrupt, "{}: shard of {} is {}, not a plain file name", name,
           printable(tensor), printable(shard));
    }
    shard_of.emplace(tensor, shard);
  }
  if (shard_of.empty()) fail(ErrorKind::kCorrupt, "{}: weight_map is empty", name);
  return shard_of;
}

bool looks_like_safetensors(std::span<const std::byte> first_bytes, uint64_t file_size) {
  if (first_bytes.size() < 9 || file_size < 9) return false;
  // The length may go beyond the end here: a file that was cut short is one that the parser
  // explains.
  return ByteReader(first_bytes, "").read<uint64_t>("") <= kMaxHeader &&
         first_bytes[8] == std::byte{'{'};
}

}  // namespace pith
