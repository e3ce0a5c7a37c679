// What the reader of packed files refuses, one named case each. Every case but those of checksums
// carries right ones: a rule is met by itself.

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "formats/packed_file.h"
#include "tests/support/packed_bytes.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_packed.h"

namespace pith {
namespace {

using proto::EncodingRecord;
using proto::LinearRecord;
using proto::Manifest;
using proto::PlaneRecord;
using test::PackedHeader;

constexpr uint64_t k2_31 = uint64_t{1} << 31, k2_63 = uint64_t{1} << 63;
constexpr ErrorKind kCorrupt = ErrorKind::kCorrupt;
constexpr ErrorKind kUnsupported = ErrorKind::kUnsupported;

PackedLayout parse(const std::string& file) { return parse_packed(as_bytes(file), "x.pith"); }

// Linears: a int4-g16-asym 3 x 20 with bias, b nf4-g16 4 x 20 plus rank 2, c fp8e4m3-row 2 x 5;
// vector v of 7; blob "tokenizer_config.json" of 2 bytes.
const std::string& small_file() {
  static const std::string file = test::smallest_packed();
  return file;
}

using MakeFile = std::function<std::string()>;

template <class Change>
MakeFile header(Change change) {
  return [change] {
    PackedHeader h = test::packed_header(small_file());
    change(h);
    return test::with_packed_header(small_file(), h);
  };
}
template <class Change>
MakeFile manifest(Change change) {
  return [change] {
    Manifest m = test::packed_manifest(small_file());
    change(m);
    return test::with_manifest(small_file(), m);
  };
}
// A change of the encoding of a linear's first weight.
template <class Change>
MakeFile encoding(int linear, Change change) {
  return manifest([=](Manifest& m) {
    change(*m.mutable_linears(linear)->mutable_terms(0)->mutable_weight()->mutable_encoding());
  });
}
// A change of a plane of the linear "a": codes, scales, zeros.
template <class Change>
MakeFile plane(int i, Change change) {
  return manifest([=](Manifest& m) {
    change(*m.mutable_linears(0)->mutable_terms(0)->mutable_weight()->mutable_planes(i));
  });
}
template <class Change>
MakeFile up(Change change) {
  return manifest([=](Manifest& m) {
    change(*m.mutable_linears(1)->mutable_terms(1)->mutable_weight(),
           *m.mutable_linears(1)->mutable_terms(1)->mutable_up());
  });
}
MakeFile size_of_a(uint64_t n, uint64_t k) {
  return manifest([=](Manifest& m) {
    auto* a = m.mutable_linears(0);
    a->set_n(n);
    a->set_k(k);
    a->mutable_terms(0)->mutable_weight()->set_n(n);
    a->mutable_terms(0)->mutable_weight()->set_k(k);
  });
}
MakeFile manifest_bytes(const std::string& bytes) {
  return [bytes] { return test::with_manifest_bytes(small_file(), bytes); };
}
// Large ones are made when their test runs, not whenever the program starts.
template <class Make>
MakeFile large_manifest_bytes(Make make) {
  return [make] { return test::with_manifest_bytes(small_file(), make()); };
}
MakeFile manifest_then(const std::string& bytes) {
  return [bytes] {
    return test::with_manifest_bytes(small_file(),
                                     test::packed_manifest_bytes(small_file()) + bytes);
  };
}
std::string repeated(const std::string& bytes, uint64_t times) {
  std::string out;
  out.reserve(bytes.size() * times);
  for (uint64_t i = 0; i < times; ++i) out += bytes;
  return out;
}
EncodingRecord ggml(GgmlType type) { return record_of(Encoding::of_ggml(type)); }

MakeFile input(uint32_t dtype, uint32_t scale, float value) {
  return manifest([=](Manifest& m) {
    auto* r = m.mutable_linears(0)->mutable_input();
    r->set_dtype(dtype);
    r->set_scale(scale);
    r->set_value(value);
  });
}

struct CorruptCase {
  const char* name;
  MakeFile file;
  ErrorKind kind;
  const char* text;
};

const CorruptCase kHeaderCases[] = {
    {"empty", [] { return std::string(); }, kCorrupt, "cut off: it has 0 bytes"},
    {"one_byte", [] { return std::string("\x89"); }, kCorrupt, "cut off: it has 1 bytes"},
    {"a_header_less_one_byte", [] { return small_file().substr(0, 63); }, kCorrupt, "63 bytes"},
    {"a_header_alone", [] { return small_file().substr(0, 64); }, kCorrupt,
     "cut off: it has 64 of "},
    {"zeros", [] { return std::string(4096, '\0'); }, kCorrupt, "magic"},
    {"magic_of_gguf", header([](PackedHeader& h) { std::memcpy(h.magic, "GGUF", 4); }), kCorrupt,
     "magic"},
    {"magic_without_its_high_bit", header([](PackedHeader& h) { h.magic[0] = 0x09; }), kCorrupt,
     "magic"},
    {"magic_after_a_conversion_of_line_ends", header([](PackedHeader& h) { h.magic[5] = '\n'; }),
     kCorrupt, "magic"},
    {"header_checksum",
     [] {
       std::string file = small_file();
       file[63] = static_cast<char>(file[63] ^ 1);
       return file;
     },
     kCorrupt, "header checksum is wrong"},
    {"version_0", header([](PackedHeader& h) { h.version = 0; }), kUnsupported, "version 0"},
    {"version_1", header([](PackedHeader& h) { h.version = 1; }), kUnsupported, "version 1"},
    {"version_4", header([](PackedHeader& h) { h.version = 4; }), kUnsupported, "version 4"},
    {"version_big_endian", header([](PackedHeader& h) { h.version = 1u << 24; }), kUnsupported,
     "version 16777216"},
    {"header_bytes_0", header([](PackedHeader& h) { h.header_bytes = 0; }), kCorrupt, "malformed"},
    {"header_bytes_128", header([](PackedHeader& h) { h.header_bytes = 128; }), kCorrupt,
     "malformed"},
    {"reserved_not_zero", header([](PackedHeader& h) { h.reserved = 1; }), kCorrupt, "malformed"},
    {"file_bytes_0", header([](PackedHeader& h) { h.file_bytes = 0; }), kCorrupt, "header says 0"},
    {"file_bytes_one_less", header([](PackedHeader& h) { --h.file_bytes; }), kCorrupt,
     "its header says"},
    {"file_bytes_2_63", header([](PackedHeader& h) { h.file_bytes = k2_63; }), kCorrupt, "cut off"},
    {"manifest_offset_0", header([](PackedHeader& h) {
       h.manifest_offset = 0;
       h.manifest_bytes = h.file_bytes;
     }),
     kCorrupt, "does not end the file"},
    {"manifest_offset_right_behind_the_header", header([](PackedHeader& h) {
       h.manifest_offset = 64;
       h.manifest_bytes = h.file_bytes - 64;
     }),
     kCorrupt, "does not end the file"},
    {"manifest_offset_not_aligned", header([](PackedHeader& h) {
       ++h.manifest_offset;
       --h.manifest_bytes;
     }),
     kCorrupt, "does not end the file"},
    {"manifest_offset_beyond_the_file", header([](PackedHeader& h) {
       h.manifest_offset = (h.file_bytes + 511) / 256 * 256;
       h.manifest_bytes = h.file_bytes - h.manifest_offset;  // wraps
     }),
     kCorrupt, "does not end the file"},
    {"manifest_offset_2_63", header([](PackedHeader& h) { h.manifest_offset = k2_63; }), kCorrupt,
     "does not end the file"},
    {"manifest_offset_wraps", header([](PackedHeader& h) {
       h.manifest_offset = uint64_t{0} - 256;
       h.manifest_bytes = h.file_bytes + 256;
     }),
     kCorrupt, "does not end the file"},
    {"manifest_bytes_0", header([](PackedHeader& h) { h.manifest_bytes = 0; }), kCorrupt,
     "does not end the file"},
    {"manifest_bytes_one_less", header([](PackedHeader& h) { --h.manifest_bytes; }), kCorrupt,
     "does not end the file"},
    {"manifest_bytes_2_64_less_1", header([](PackedHeader& h) { h.manifest_bytes = UINT64_MAX; }),
     kCorrupt, "does not end the file"},
    {"manifest_checksum", header([](PackedHeader& h) { ++h.manifest_xxh3; }), kCorrupt,
     "manifest checksum is wrong"},
    {"manifest_a_unit_late",
     [] {
       std::string file = small_file();
       PackedHeader h = test::packed_header(file);
       file.insert(h.manifest_offset, 256, '\0');
       h.manifest_offset += 256;
       h.file_bytes += 256;
       return test::with_packed_header(file, h);
     },
     kCorrupt, "manifest at offset"},
    {"manifest_a_unit_early",
     [] {
       std::string file = small_file();
       PackedHeader h = test::packed_header(file);
       h.manifest_offset -= 256;
       file.erase(h.manifest_offset, 256);
       h.file_bytes -= 256;
       return test::with_packed_header(file, h);
     },
     kCorrupt, "outside of the planes"},
};

const CorruptCase kMessageCases[] = {
    {"no_manifest", manifest_bytes(""), kCorrupt, "manifest at offset"},
    {"manifest_too_large",
     large_manifest_bytes([] { return std::string(kMaxManifestBytes + 1, '\0'); }), kCorrupt,
     "a manifest of 33554433 bytes"},
    {"zeros", manifest_bytes(std::string(100, '\0')), kCorrupt, "field 0"},
    {"ones", manifest_bytes(std::string(100, '\xff')), kCorrupt, "varint longer than 10 bytes"},
    {"text", manifest_bytes("{\"model\": {}}"), kCorrupt, "manifest: field 15"},
    {"length_beyond_the_end", manifest_then("\x12\x05"), kCorrupt, "needs 5 bytes, 0 remain"},
    {"length_2_64_less_1", manifest_then("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), kCorrupt,
     "needs 18446744073709551615 bytes"},
    {"length_beyond_its_message", manifest_then("\x12\x02\x0a\x05"), kCorrupt, "needs 5 bytes"},
    {"half_a_fixed_number", manifest_then(std::string("\x22\x06\x12\x04\x11\0\0\0", 8)), kCorrupt,
     "needs 8 bytes, 3 remain"},
    {"group", manifest_then("\x9b\x06\x9c\x06"), kCorrupt, "has type 3"},
    {"end_of_no_group", manifest_then("\x9c\x06"), kCorrupt, "has type 4"},
    {"field_number_too_large", manifest_then("\xf8\xff\xff\xff\xff\xff\x01\x01"), kCorrupt,
     "manifest is not a valid message"},
    {"model_with_parts_that_nobody_knows", manifest_then("\x0a\x03\x98\x06\x01"), kUnsupported,
     "too old to know"},
    {"name_not_utf8", manifest_then("\x12\x03\x0a\x01\xff"), kCorrupt,
     "pith.proto.LinearRecord.name is not UTF-8"},
    {"half_a_character", manifest_then("\x2a\x04\x12\x02\xe2\x82"), kCorrupt,
     "pith.proto.Provenance.source_name is not UTF-8"},
    {"records_without_end",
     large_manifest_bytes([] { return repeated(std::string("\x12\0", 2), 1048577); }), kUnsupported,
     "more than 1048576 records"},
    {"terms_without_end",
     [] {
       LinearRecord l;
       for (int i = 0; i < 1048576; ++i) l.add_terms();
       Manifest m;
       *m.add_linears() = l;
       return test::with_manifest(small_file(), m);
     },
     kUnsupported, "more than 1048576 records"},
    {"unknown_fields_without_end",
     large_manifest_bytes([] { return repeated("\x78\x01", 1048577); }), kUnsupported,
     "more than 1048576 records"},
    {"known_fields_of_another_type_without_end",
     [] {
       // LinearRecord.n as a text.
       const std::string linear = repeated(std::string("\x12\0", 2), 1048577);
       std::string bytes("\x12");
       for (uint64_t v = linear.size(); v != 0; v >>= 7)
         bytes += static_cast<char>((v & 0x7f) | (v >= 128 ? 0x80 : 0));
       return test::with_manifest_bytes(small_file(), bytes + linear);
     },
     kUnsupported, "more than 1048576 records"},
};

const CorruptCase kRecordCases[] = {
    // Names.
    {"linear_without_a_name", manifest([](Manifest& m) { m.mutable_linears(0)->clear_name(); }),
     kCorrupt, "a record without a name"},
    {"vector_without_a_name", manifest([](Manifest& m) { m.mutable_vectors(0)->clear_name(); }),
     kCorrupt, "a record without a name"},
    {"blob_without_a_name", manifest([](Manifest& m) { m.mutable_blobs(0)->clear_name(); }),
     kCorrupt, "a record without a name"},
    {"two_linears_of_a_name", manifest([](Manifest& m) { m.mutable_linears(1)->set_name("a"); }),
     kCorrupt, "\"a\" is recorded twice"},
    {"a_linear_and_a_vector_of_a_name",
     manifest([](Manifest& m) { m.mutable_vectors(0)->set_name("a"); }), kCorrupt,
     "\"a\" is recorded twice"},
    {"two_blobs_of_a_name", manifest([](Manifest& m) { *m.add_blobs() = m.blobs(0); }), kCorrupt,
     "\"blob tokenizer_config.json\" is recorded twice"},
    {"a_name_that_moves_the_cursor", manifest([](Manifest& m) {
       m.mutable_linears(0)->set_name("\x1b[2Ja");
       m.mutable_linears(1)->set_name("\x1b[2Ja");
     }),
     kCorrupt, "\"\\x1b[2Ja\" is recorded twice"},

    // Sizes.
    {"no_terms", manifest([](Manifest& m) { m.mutable_linears(0)->clear_terms(); }), kCorrupt,
     "\"a\" has no terms"},
    {"an_empty_linear", manifest([](Manifest& m) { m.add_linears()->set_name("x"); }), kCorrupt,
     "\"x\" has no terms"},
    {"an_empty_term", manifest([](Manifest& m) { m.mutable_linears(0)->add_terms(); }), kCorrupt,
     "\"a\" has a weight of 0 x 0 where 3 x 20"},
    {"n_0", size_of_a(0, 20), kCorrupt, "\"a\" has a size of 0 x 20"},
    {"k_0", size_of_a(3, 0), kCorrupt, "\"a\" has a size of 3 x 0"},
    {"n_2_31", size_of_a(k2_31, 20), kCorrupt, "\"a\" has a size of 2147483648 x 20"},
    {"k_2_31", size_of_a(3, k2_31), kCorrupt, "\"a\" has a size of 3 x 2147483648"},
    {"n_2_63", size_of_a(k2_63, 20), kCorrupt, "\"a\" has a size of 9223372036854775808 x 20"},
    {"k_2_63", size_of_a(3, k2_63), kCorrupt, "\"a\" has a size of 3 x 9223372036854775808"},
    {"n_2_64_less_1", size_of_a(UINT64_MAX, 20), kCorrupt, "\"a\" has a size of"},
    {"n_and_k_the_largest_there_are", size_of_a(k2_31 - 1, k2_31 - 1), kCorrupt,
     "\"a\" has 256 bytes of codes, 2305843009213693952 are needed"},
    {"n_of_the_linear_alone", manifest([](Manifest& m) { m.mutable_linears(0)->set_n(4); }),
     kCorrupt, "has a weight of 3 x 20 where 4 x 20 is needed"},
    {"k_of_the_weight_alone", manifest([](Manifest& m) {
       m.mutable_linears(0)->mutable_terms(0)->mutable_weight()->set_k(19);
     }),
     kCorrupt, "has a weight of 3 x 19 where 3 x 20 is needed"},
    {"one_row_more", size_of_a(4, 20), kCorrupt, "\"a\" has 12 bytes of codes, 16 are needed"},
    {"one_tile_more", size_of_a(17, 20), kCorrupt, "\"a\" has 256 bytes of codes, 512 are needed"},

    // Low rank.
    {"rank_0", up([](auto& w, auto& u) {
       w.set_n(0);
       u.set_k(0);
     }),
     kCorrupt, "\"b\" has a size of 0 x 20"},
    {"rank_2_31", up([](auto& w, auto& u) {
       w.set_n(k2_31);
       u.set_k(k2_31);
     }),
     kCorrupt, "\"b\" has a size of 2147483648 x 20"},
    {"rank_2_63", up([](auto& w, auto& u) {
       w.set_n(k2_63);
       u.set_k(k2_63);
     }),
     kCorrupt, "\"b\" has a weight of 9223372036854775808 x 20"},
    {"rank_of_up_alone", up([](auto&, auto& u) { u.set_k(3); }), kCorrupt,
     "\"b\" has a weight of 2 x 20 where 3 x 20 is needed"},
    {"rank_of_weight_alone", up([](auto& w, auto&) { w.set_n(3); }), kCorrupt,
     "\"b\" has a weight of 3 x 20 where 2 x 20 is needed"},
    {"rows_of_up", up([](auto&, auto& u) { u.set_n(5); }), kCorrupt,
     "\"b\" has a weight of 5 x 2 where 4 x 2 is needed"},
    {"columns_of_the_inner_weight", up([](auto& w, auto&) { w.set_k(21); }), kCorrupt,
     "\"b\" has a weight of 2 x 21 where 2 x 20 is needed"},
    {"up_without_planes", up([](auto&, auto& u) { u.clear_planes(); }), kCorrupt,
     "\"b\" has 0 planes, its encoding has 1"},
    {"up_of_an_unknown_encoding", up([](auto&, auto& u) { u.mutable_encoding()->set_kind(6); }),
     kCorrupt, "encoding 6 does not exist"},
    {"no_up", manifest([](Manifest& m) { m.mutable_linears(1)->mutable_terms(1)->clear_up(); }),
     kCorrupt, "\"b\" has a weight of 2 x 20 where 4 x 20 is needed"},
    {"up_of_a_whole_weight", manifest([](Manifest& m) {
       auto* t = m.mutable_linears(1);
       *t->mutable_terms(0)->mutable_up() = t->terms(1).up();
     }),
     kCorrupt, "\"b\" has a weight of 4 x 20 where 2 x 20 is needed"},

    // Encodings.
    {"encoding_missing", manifest([](Manifest& m) {
       m.mutable_linears(0)->mutable_terms(0)->mutable_weight()->clear_encoding();
     }),
     kCorrupt, "\"a\" has 3 planes, its encoding has 1"},
    {"mxfp4_of_other_groups", encoding(0, [](EncodingRecord& e) { e.set_kind(5); }), kCorrupt,
     "mxfp4 has groups of 32 and nothing else"},
    {"encoding_kind_6", encoding(0, [](EncodingRecord& e) { e.set_kind(6); }), kCorrupt,
     "\"a\" has a wrong encoding: encoding 6 does not exist"},
    {"encoding_kind_256", encoding(0, [](EncodingRecord& e) { e.set_kind(256); }), kCorrupt,
     "encoding 256 does not exist"},
    {"encoding_kind_2_32_less_1", encoding(0, [](EncodingRecord& e) { e.set_kind(~0u); }), kCorrupt,
     "encoding 4294967295 does not exist"},
    {"dtype_unknown", encoding(0, [](EncodingRecord& e) { e.set_dtype(9); }), kCorrupt,
     "dtype 9 does not exist"},
    {"dtype_256", encoding(0, [](EncodingRecord& e) { e.set_dtype(256); }), kCorrupt,
     "dtype 256 does not exist"},
    {"dense_integers",
     encoding(0, [](EncodingRecord& e) { e = record_of(Encoding::dense(DType::kI64)); }), kCorrupt,
     "elements of type i64"},
    {"bits_0", encoding(0, [](EncodingRecord& e) { e.set_bits(0); }), kCorrupt, "0 bits"},
    {"bits_1", encoding(0, [](EncodingRecord& e) { e.set_bits(1); }), kCorrupt, "1 bits"},
    {"bits_7", encoding(0, [](EncodingRecord& e) { e.set_bits(7); }), kCorrupt, "7 bits"},
    {"bits_16", encoding(0, [](EncodingRecord& e) { e.set_bits(16); }), kCorrupt, "16 bits"},
    {"bits_260", encoding(0, [](EncodingRecord& e) { e.set_bits(260); }), kCorrupt,
     "bit width 260 does not exist"},
    {"bits_2_32_less_1", encoding(0, [](EncodingRecord& e) { e.set_bits(~0u); }), kCorrupt,
     "bit width 4294967295 does not exist"},
    {"bits_other_than_the_planes", encoding(0, [](EncodingRecord& e) { e.set_bits(8); }), kCorrupt,
     "\"a\" has 256 bytes of codes, 512 are needed"},
    {"group_8", encoding(0, [](EncodingRecord& e) { e.set_group(8); }), kCorrupt, "group size 8"},
    {"group_33", encoding(0, [](EncodingRecord& e) { e.set_group(33); }), kCorrupt,
     "group size 33"},
    {"group_256", encoding(0, [](EncodingRecord& e) { e.set_group(256); }), kCorrupt,
     "group size 256"},
    {"group_2_63", encoding(0, [](EncodingRecord& e) { e.set_group(k2_63); }), kCorrupt,
     "group: 9223372036854775808 is out of range"},
    {"group_other_than_the_planes", encoding(0, [](EncodingRecord& e) { e.set_group(32); }),
     kCorrupt, "\"a\" has 64 bytes of scales, 32 are needed"},
    {"scale_f32", encoding(0, [](EncodingRecord& e) { e.set_scale(0); }), kCorrupt,
     "scales are f16 or bf16"},
    {"scale_unknown", encoding(0, [](EncodingRecord& e) { e.set_scale(9); }), kCorrupt,
     "scale type 9 does not exist"},
    {"zeros_that_a_symmetric_encoding_has_not",
     encoding(0, [](EncodingRecord& e) { e.set_symmetric(true); }), kCorrupt,
     "\"a\" has 3 planes, its encoding has 2"},
    {"row_scales_missing", encoding(0, [](EncodingRecord& e) { e.set_two_level(true); }), kCorrupt,
     "\"a\" has 3 planes, its encoding has 4"},
    {"nf4_of_3_bits", encoding(1, [](EncodingRecord& e) { e.set_bits(3); }), kCorrupt,
     "nf4 has 4 bits"},
    {"nf4_with_zeros", encoding(1, [](EncodingRecord& e) { e.set_symmetric(false); }), kCorrupt,
     "nf4 has 4 bits and no zero points"},
    {"fp8_of_f32", encoding(2, [](EncodingRecord& e) { e.set_dtype(0); }), kCorrupt,
     "fp8 is f8e4m3 or f8e5m2, not f32"},
    {"fp8_area_3", encoding(2, [](EncodingRecord& e) { e.set_area(3); }), kCorrupt,
     "scale area 3 does not exist"},
    {"fp8_area_other_than_the_planes", encoding(2, [](EncodingRecord& e) { e.set_area(0); }),
     kCorrupt, "\"c\" has 8 bytes of scales, 4 are needed"},
    {"ggml_not_a_block_type", encoding(0, [](EncodingRecord& e) { e = ggml(GgmlType::kF16); }),
     kCorrupt, "ggml type 1 is not a block type"},
    {"ggml_removed_long_ago",
     encoding(0,
              [](EncodingRecord& e) {
                e = ggml(GgmlType::kQ4_0);
                e.set_ggml(4);
              }),
     kCorrupt, "ggml type 4 is not a block type"},
    {"ggml_unknown",
     encoding(0,
              [](EncodingRecord& e) {
                e = ggml(GgmlType::kQ4_0);
                e.set_ggml(200);
              }),
     kCorrupt, "ggml type 200 is not a block type"},
    {"ggml_256",
     encoding(0,
              [](EncodingRecord& e) {
                e = ggml(GgmlType::kQ4_0);
                e.set_ggml(256);
              }),
     kCorrupt, "ggml type 256 does not exist"},
    {"ggml_rows_cut_through_a_block",
     encoding(0, [](EncodingRecord& e) { e = ggml(GgmlType::kQ4_0); }), kCorrupt,
     "needs a multiple of 32"},

    // Inputs.
    {"inputs_of_nothing", manifest([](Manifest& m) { m.mutable_linears(0)->mutable_input(); }),
     kCorrupt, "\"a\" has a wrong encoding of its inputs: a record of inputs that are not rounded"},
    {"inputs_f16", input(1, 0, 0), kCorrupt, "inputs are rounded to i8 or f8e4m3, not to f16"},
    {"inputs_f8e5m2", input(4, 0, 0), kCorrupt, "not to f8e5m2"},
    {"inputs_u8", input(6, 1, 1), kCorrupt, "not to u8"},
    {"inputs_of_an_unknown_type", input(9, 0, 0), kCorrupt, "dtype 9 does not exist"},
    {"inputs_of_type_256_and_5", input(261, 0, 0), kCorrupt, "dtype 261 does not exist"},
    {"inputs_of_an_unknown_scale", input(5, 3, 0), kCorrupt, "scale of inputs 3 does not exist"},
    {"inputs_of_scale_2_32_less_1", input(5, ~0u, 0), kCorrupt,
     "scale of inputs 4294967295 does not exist"},
    {"input_scale_missing", input(5, 1, 0), kCorrupt, "0 is no scale of inputs"},
    {"input_scale_negative", input(3, 1, -0.5f), kCorrupt, "-0.5 is no scale of inputs"},
    {"input_scale_subnormal", input(3, 1, 0x1p-127f), kCorrupt, "is no scale of inputs"},
    {"input_scale_nan", input(5, 1, std::numeric_limits<float>::quiet_NaN()), kCorrupt,
     "nan is no scale of inputs"},
    {"input_scale_infinite", input(5, 1, std::numeric_limits<float>::infinity()), kCorrupt,
     "inf is no scale of inputs"},

    // Planes.
    {"plane_missing", manifest([](Manifest& m) {
       m.mutable_linears(0)->mutable_terms(0)->mutable_weight()->mutable_planes()->RemoveLast();
     }),
     kCorrupt, "\"a\" has 2 planes, its encoding has 3"},
    {"plane_too_many", manifest([](Manifest& m) {
       auto* w = m.mutable_linears(0)->mutable_terms(0)->mutable_weight();
       *w->add_planes() = w->planes(2);
     }),
     kCorrupt, "\"a\" has 4 planes, its encoding has 3"},
    {"planes_in_another_order", manifest([](Manifest& m) {
       m.mutable_linears(0)->mutable_terms(0)->mutable_weight()->mutable_planes()->SwapElements(0,
                                                                                                1);
     }),
     kCorrupt, "\"a\" has a plane of kind 1"},
    {"plane_of_kind_4", plane(0, [](PlaneRecord& p) { p.set_kind(4); }), kCorrupt,
     "\"a\" has a plane of kind 4"},
    {"plane_of_kind_256", plane(0, [](PlaneRecord& p) { p.set_kind(256); }), kCorrupt,
     "\"a\" has a plane of kind 256"},
    {"plane_bytes_0", plane(0, [](PlaneRecord& p) { p.set_bytes(0); }), kCorrupt,
     "\"a\" has 0 bytes of codes, 256 are needed"},
    {"plane_bytes_one_less", plane(0, [](PlaneRecord& p) { p.set_bytes(47); }), kCorrupt,
     "\"a\" has 47 bytes of codes"},
    {"plane_bytes_one_more", plane(2, [](PlaneRecord& p) { p.set_bytes(p.bytes() + 1); }), kCorrupt,
     "bytes of zeros"},
    {"plane_bytes_2_63", plane(1, [](PlaneRecord& p) { p.set_bytes(k2_63); }), kCorrupt,
     "\"a\" has 9223372036854775808 bytes of scales"},
    {"plane_offset_0", plane(0, [](PlaneRecord& p) { p.set_offset(0); }), kCorrupt,
     "a plane at offset 0, the next one was expected at 256"},
    {"plane_offset_not_aligned", plane(0, [](PlaneRecord& p) { p.set_offset(257); }), kCorrupt,
     "\"a\" lies at offset 257"},
    {"plane_offset_64", plane(0, [](PlaneRecord& p) { p.set_offset(64); }), kCorrupt,
     "\"a\" lies at offset 64"},
    {"plane_in_the_manifest",
     plane(0,
           [](PlaneRecord& p) { p.set_offset(test::packed_header(small_file()).manifest_offset); }),
     kCorrupt, "outside of the planes"},
    {"plane_offset_2_63", plane(0, [](PlaneRecord& p) { p.set_offset(k2_63); }), kCorrupt,
     "outside of the planes"},
    {"plane_offset_wraps", plane(0, [](PlaneRecord& p) { p.set_offset(uint64_t{0} - 256); }),
     kCorrupt, "outside of the planes"},
    {"planes_in_one_place", plane(1, [](PlaneRecord& p) { p.set_offset(256); }), kCorrupt,
     "a plane at offset 256, the next one was expected at 512"},
    {"two_linears_share_their_planes", manifest([](Manifest& m) {
       *m.add_linears() = m.linears(2);
       m.mutable_linears(3)->set_name("d");
     }),
     kCorrupt, "the next one was expected at"},
    {"hole_in_front", plane(0, [](PlaneRecord& p) { p.set_offset(768); }), kCorrupt,
     "a plane at offset 512, the next one was expected at 256"},
    {"hole_of_a_record_left_out",
     manifest([](Manifest& m) { m.mutable_linears()->DeleteSubrange(1, 1); }), kCorrupt,
     "the next one was expected at"},
    {"hole_behind_the_last_record", manifest([](Manifest& m) { m.clear_blobs(); }), kCorrupt,
     "manifest at offset"},

    // Biases, vectors, blobs.
    {"bias_too_short",
     manifest([](Manifest& m) { m.mutable_linears(0)->mutable_bias()->set_bytes(8); }), kCorrupt,
     "\"a\" has 8 bytes of codes, 12 are needed"},
    {"bias_of_scales",
     manifest([](Manifest& m) { m.mutable_linears(0)->mutable_bias()->set_kind(1); }), kCorrupt,
     "\"a\" has a plane of kind 1"},
    {"bias_nowhere", manifest([](Manifest& m) { m.mutable_linears(0)->mutable_bias()->Clear(); }),
     kCorrupt, "\"a\" has 0 bytes of codes, 12 are needed"},
    {"bias_beyond_the_planes",
     manifest([](Manifest& m) { m.mutable_linears(0)->mutable_bias()->set_offset(1 << 20); }),
     kCorrupt, "\"a\" lies at offset 1048576"},
    {"bias_left_out", manifest([](Manifest& m) { m.mutable_linears(0)->clear_bias(); }), kCorrupt,
     "the next one was expected at"},
    {"vector_length_0", manifest([](Manifest& m) { m.mutable_vectors(0)->set_length(0); }),
     kCorrupt, "\"v\" has a size of 0 x 1"},
    {"vector_length_2_31", manifest([](Manifest& m) { m.mutable_vectors(0)->set_length(k2_31); }),
     kCorrupt, "\"v\" has a size of 2147483648 x 1"},
    {"vector_length_2_63", manifest([](Manifest& m) { m.mutable_vectors(0)->set_length(k2_63); }),
     kCorrupt, "\"v\" has a size of 9223372036854775808 x 1"},
    {"vector_longer_than_its_plane",
     manifest([](Manifest& m) { m.mutable_vectors(0)->set_length(8); }), kCorrupt,
     "\"v\" has 28 bytes of codes, 32 are needed"},
    {"vector_without_a_plane", manifest([](Manifest& m) { m.mutable_vectors(0)->clear_plane(); }),
     kCorrupt, "\"v\" has 0 bytes of codes, 28 are needed"},
    {"blob_without_a_plane", manifest([](Manifest& m) { m.mutable_blobs(0)->clear_plane(); }),
     kCorrupt, "a plane at offset 0, the next one was expected at 256"},
    {"blob_of_scales",
     manifest([](Manifest& m) { m.mutable_blobs(0)->mutable_plane()->set_kind(1); }), kCorrupt,
     "has a plane of kind 1"},
    {"blob_that_takes_the_manifest_in", manifest([](Manifest& m) {
       auto* p = m.mutable_blobs(0)->mutable_plane();
       p->set_bytes(test::packed_header(small_file()).manifest_offset - p->offset() + 1);
     }),
     kCorrupt, "outside of the planes"},
    {"blob_that_takes_the_slack_in", manifest([](Manifest& m) {
       auto* p = m.mutable_blobs(0)->mutable_plane();
       p->set_bytes(test::packed_header(small_file()).manifest_offset - p->offset());
     }),
     kCorrupt, "manifest at offset"},
    {"blob_bytes_2_63",
     manifest([](Manifest& m) { m.mutable_blobs(0)->mutable_plane()->set_bytes(k2_63); }), kCorrupt,
     "outside of the planes"},
    {"blob_bytes_wrap", manifest([](Manifest& m) {
       m.mutable_blobs(0)->mutable_plane()->set_bytes(uint64_t{0} - 256);
     }),
     kCorrupt, "outside of the planes"},
};

class CorruptPacked : public testing::TestWithParam<CorruptCase> {};

TEST_P(CorruptPacked, is_refused_with_a_reason) {
  const CorruptCase& c = GetParam();
  const std::string file = c.file();
  EXPECT_PITH_ERROR(parse(file), c.kind, c.text);
  EXPECT_PITH_ERROR(parse(file), c.kind, "x.pith");
}
const auto kName = [](const auto& test) { return std::string(test.param.name); };
INSTANTIATE_TEST_SUITE_P(Header, CorruptPacked, testing::ValuesIn(kHeaderCases), kName);
INSTANTIATE_TEST_SUITE_P(Message, CorruptPacked, testing::ValuesIn(kMessageCases), kName);
INSTANTIATE_TEST_SUITE_P(Record, CorruptPacked, testing::ValuesIn(kRecordCases), kName);

TEST(CorruptPackedBase, the_file_that_the_cases_change_is_right) {
  EXPECT_EQ(parse(small_file()).manifest.linears_size(), 3);
  EXPECT_NO_THROW(parse(test::with_manifest(small_file(), test::packed_manifest(small_file()))));
}

// Times are far above what is measured and far below what anything quadratic takes.
TEST(CorruptPackedCost, as_many_records_as_are_allowed_are_checked_quickly) {
  Manifest m = test::packed_manifest(small_file());
  for (int i = 0; i < 500'000; ++i) {
    auto* blob = m.add_blobs();
    blob->set_name(std::to_string(i));
    blob->mutable_plane()->set_offset(256);  // empty, before the first
  }
  const std::string file = test::with_manifest(small_file(), m);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(parse(file).manifest.blobs_size(), 500'001);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

}  // namespace
}  // namespace pith
