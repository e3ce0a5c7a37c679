#include "formats/manifest_wire.h"

#include <google/protobuf/descriptor.h>

#include "core/utf8.h"
#include "core/wire_reader.h"
#include "formats/packed_file.h"

namespace pith {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

int wire_type(const FieldDescriptor& field) {
  switch (field.type()) {
    case FieldDescriptor::TYPE_MESSAGE:
    case FieldDescriptor::TYPE_STRING:
      return 2;
    case FieldDescriptor::TYPE_FIXED64:
    case FieldDescriptor::TYPE_DOUBLE:
      return 1;
    case FieldDescriptor::TYPE_FLOAT:
      return 5;
    default:
      return 0;
  }
}

// The messages of pith.proto do not contain themselves, so the depth is theirs.
class WireChecker {
 public:
  explicit WireChecker(const std::string& name) : name_(name) {}

  void check(const Descriptor& message, std::string_view bytes) {
    for (WireReader in(bytes, name_); in.next();) {
      const FieldDescriptor* field = in.field <= FieldDescriptor::kMaxNumber
                                         ? message.FindFieldByNumber(static_cast<int>(in.field))
                                         : nullptr;
      const bool packed = field != nullptr && field->is_packable() && in.type == 2;
      const bool known = field != nullptr && (packed || in.type == wire_type(*field));
      if (!known) {
        count();
      } else if (field->type() == FieldDescriptor::TYPE_MESSAGE) {
        count();
        check(*field->message_type(), in.text);
      } else if (field->type() == FieldDescriptor::TYPE_STRING) {
        if (field->is_repeated()) count();
        if (valid_utf8_prefix(in.text) != in.text.size())
          fail(ErrorKind::kCorrupt, "{}: {} is not UTF-8", name_, field->full_name());
      }
    }
  }

 private:
  void count() {
    if (++records_ > kMaxManifestRecords)
      fail(ErrorKind::kUnsupported, "{}: more than {} records", name_, kMaxManifestRecords);
  }

  const std::string& name_;
  uint64_t records_ = 0;
};

}  // namespace

void check_manifest_wire(std::string_view bytes, const std::string& name) {
  WireChecker(name).check(*proto::Manifest::descriptor(), bytes);
}
void check_unit_wire(std::string_view bytes, const std::string& name) {
  WireChecker(name).check(*proto::JournalUnit::descriptor(), bytes);
}

}  // namespace pith
