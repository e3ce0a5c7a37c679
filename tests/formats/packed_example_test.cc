// The worked example of docs/format.md, byte for byte: tests/golden/packed_example.bin is its hex
// dump. A change that alters these bytes is another version of the format.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "core/bytes.h"
#include "core/file.h"
#include "formats/encodings/int_group.h"
#include "formats/packed_file.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

const char* const kGolden = "golden/packed_example.bin";

// w[0] = 0.5 * (0 1 ... 15 - 8), w[1] = 0.25 * (15 14 ... 0 - 8)
Weight example_weight() {
  const Encoding e = Encoding::integer(4, 16);
  OwnedWeight w = allocate_weight(e, 2, 16);
  const GroupLayout layout(e, 2, 16);
  for (int64_t row = 0; row < 2; ++row) {
    std::vector<float> scale = {row == 0 ? 0.5f : 0.25f};
    std::vector<uint8_t> codes(16);
    for (uint8_t i = 0; i < 16; ++i) codes[i] = row == 0 ? i : static_cast<uint8_t>(15 - i);
    store_scales(e, layout, w.planes, row, scale);
    store_codes(layout, w.planes, row, codes);
  }
  return std::move(w.weight);
}

void write_example(const std::string& path) {
  File file = File::create(path);
  PackedWriter writer(file);
  proto::Manifest m;
  m.mutable_model()->set_family("example");
  auto* linear = m.add_linears();
  linear->set_name("layers.0.mlp.down");
  linear->set_n(2);
  linear->set_k(16);
  *linear->add_terms()->mutable_weight() = writer.add_weight(example_weight());
  linear->set_method("rtn");
  const float values[] = {1, 2, -1, 0.5f};
  auto* vector = m.add_vectors();
  vector->set_name("final_norm");
  vector->set_length(4);
  *vector->mutable_plane() = writer.add_plane(PlaneKind::kCodes, std::as_bytes(std::span(values)));
  m.mutable_provenance()->set_tool("pith 0.1.0");
  writer.finish(m);
}

TEST(PackedExample, is_written_as_documented) {
  const test::TemporaryFolder folder;
  write_example(folder.file("example.pith"));
  const auto written = read_file(folder.file("example.pith"), 1 << 20);
  const auto golden = read_file(test::fixture(kGolden), 1 << 20);
  EXPECT_TRUE(written == golden) << written.size() << " bytes, documented are " << golden.size();
}

TEST(PackedExample, is_read_as_documented) {
  const PackedFile file = PackedFile::open(test::fixture(kGolden));
  file.check_planes();
  ASSERT_EQ(file.manifest().linears_size(), 1);
  const Weight w = file.weight(file.manifest().linears(0).terms(0).weight());
  EXPECT_EQ(to_string(w.encoding), "int4-g16");
  std::vector<float> values(32);
  reference_decode(w, 0, 2, values.data());
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(values[static_cast<size_t>(i)], 0.5f * static_cast<float>(i - 8));
    EXPECT_EQ(values[static_cast<size_t>(16 + i)], 0.25f * static_cast<float>(15 - i - 8));
  }
}

}  // namespace
}  // namespace pith
