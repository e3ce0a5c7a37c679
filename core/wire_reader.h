// The wire format of Protocol Buffers, as far as SentencePiece models and manifests need it: a
// message is a sequence of (number << 3 | type) and a value; type 0 a varint of at most 10 bytes, 1
// eight bytes, 2 a length and so many bytes, 5 four bytes. Groups (3, 4) are refused. Every length
// is bounded by what remains.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/bytes.h"

namespace pith {

class WireReader {
 public:
  WireReader(std::string_view message, std::string name)
      : reader_(as_bytes(message), std::move(name)) {}

  // Moves to the next field; false at the end. Its value is then in the members below, by type.
  bool next() {
    if (reader_.remaining() == 0) return false;
    const uint64_t key = varint();
    field = key >> 3;
    type = static_cast<int>(key & 7);
    if (field == 0)
      fail(ErrorKind::kCorrupt, "{}: field 0 at offset {}", reader_.name(), reader_.offset());
    switch (type) {
      case 0:
        number = varint();
        break;
      case 1:
        number = reader_.read<uint64_t>("field");
        break;
      case 2:
        text = reader_.text(varint(), "field");
        break;
      case 5:
        number = reader_.read<uint32_t>("field");
        break;
      default:
        fail(ErrorKind::kCorrupt, "{}: field {} at offset {} has type {}", reader_.name(), field,
             reader_.offset(), type);
    }
    return true;
  }

  // The value as what the field should be; Error(kCorrupt) where its type is another.
  std::string_view as_message() const { return expect(2), text; }
  bool as_bool() const { return expect(0), number != 0; }
  int32_t as_int() const { return expect(0), static_cast<int32_t>(static_cast<uint32_t>(number)); }
  float as_float() const { return expect(5), std::bit_cast<float>(static_cast<uint32_t>(number)); }

  uint64_t field = 0;
  int type = 0;
  uint64_t number = 0;
  std::string_view text;

 private:
  void expect(int wanted) const {
    if (type != wanted) {
      fail(ErrorKind::kCorrupt, "{}: field {} has type {} instead of {}", reader_.name(), field,
           type, wanted);
    }
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int i = 0; i < 10; ++i) {
      const auto byte = reader_.read<uint8_t>("varint");
      value |= static_cast<uint64_t>(byte & 0x7fu) << (7 * i);
      if ((byte & 0x80u) == 0) return value;
    }
    fail(ErrorKind::kCorrupt, "{}: varint longer than 10 bytes at offset {}", reader_.name(),
         reader_.offset());
  }

  ByteReader reader_;
};

}  // namespace pith
