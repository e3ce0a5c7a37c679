// Versions of the packed file, and the parts of it that came with version 3: they are listed by
// name, and a program that does not know one says which.

#include "formats/features.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "core/file.h"
#include "formats/packed_file.h"
#include "tests/support/packed_bytes.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_packed.h"

namespace pith {
namespace {

using proto::Manifest;
using proto::ModelSpec;

PackedLayout parse(const std::string& file) { return parse_packed(as_bytes(file), "x.pith"); }

proto::Sublayer& sublayer(ModelSpec& m, int i) {
  return *m.mutable_layers(0)->mutable_sublayers(i);
}
proto::Attention& attention(ModelSpec& m) { return *sublayer(m, 0).mutable_attention(); }

struct Use {
  const char* feature;
  std::function<void(ModelSpec&)> set;
};
const Use kUses[] = {
    {"attention.alibi", [](ModelSpec& m) { attention(m).set_alibi(true); }},
    {"attention.bidirectional", [](ModelSpec& m) { attention(m).set_bidirectional(true); }},
    {"attention.cross", [](ModelSpec& m) { attention(m).set_source(proto::SOURCE_CROSS); }},
    {"attention.relative_bias",
     [](ModelSpec& m) { attention(m).mutable_relative_bias()->set_buckets(32); }},
    {"embedding.norm", [](ModelSpec& m) { m.mutable_embedding_norm()->set_kind(proto::NORM_RMS); }},
    {"embedding.positions", [](ModelSpec& m) { m.set_positions(64); }},
    {"embedding.token_types", [](ModelSpec& m) { m.set_token_types(2); }},
    {"encoder", [](ModelSpec& m) { m.mutable_encoder(); }},
    {"layer.parallel", [](ModelSpec& m) { m.mutable_layers(0)->set_parallel(true); }},
    {"norm.bias", [](ModelSpec& m) { m.mutable_final_norm()->set_bias(true); }},
    {"norm.layer",
     [](ModelSpec& m) { sublayer(m, 1).mutable_norm()->set_kind(proto::NORM_LAYER); }},
    {"norm.output",
     [](ModelSpec& m) { sublayer(m, 1).mutable_output_norm()->set_kind(proto::NORM_RMS); }},
};

TEST(Features, each_is_found_where_it_is_used_and_nowhere_else) {
  EXPECT_TRUE(features_of(test::tiny_spec()).empty());
  std::set<std::string> tried = {"encoding.sparse", "encoding.tcq"};
  for (const Use& use : kUses) {
    ModelSpec m = test::tiny_spec();
    use.set(m);
    EXPECT_EQ(features_of(m), std::vector<std::string>{use.feature});
    tried.insert(use.feature);
  }
  for (const Feature& f : known_features()) {
    EXPECT_TRUE(tried.contains(f.name)) << f.name << " is not tried here";
    EXPECT_EQ(find_feature(f.name), &f);
  }
  EXPECT_EQ(find_feature("norm"), nullptr);
}

TEST(Features, layers_of_an_encoder_count) {
  ModelSpec m = test::tiny_spec();
  *m.mutable_encoder()->add_layers() = m.layers(0);
  m.mutable_encoder()->mutable_final_norm()->set_kind(proto::NORM_LAYER);
  m.mutable_encoder()->mutable_layers(0)->set_parallel(true);
  EXPECT_EQ(features_of(m), (std::vector<std::string>{"encoder", "layer.parallel", "norm.layer"}));
}

std::string sparse_file() {
  return test::packed_bytes([](PackedWriter& writer, Manifest* m) {
    const Encoding e = Encoding::sparse(Encoding::integer(4, 16), Sparsity::n_of_m(2, 4));
    *m->mutable_model() = test::tiny_spec();
    auto* linear = m->add_linears();
    linear->set_name("a");
    linear->set_n(3);
    linear->set_k(20);
    // The sum of three terms of different ranks and encodings.
    for (const int64_t rank : {0, 2, 5}) {
      auto* term = linear->add_terms();
      *term->mutable_weight() =
          writer.add_weight(test::random_weight(e, rank == 0 ? 3 : rank, 20, 1).weight);
      if (rank == 0) continue;
      *term->mutable_up() =
          writer.add_weight(test::random_weight(Encoding::dense(DType::kF16), 3, rank, 2).weight);
    }
  });
}

TEST(PackedVersion, files_list_the_features_of_their_records) {
  EXPECT_EQ(test::packed_header(test::smallest_packed()).version, 3u);
  EXPECT_TRUE(parse(test::smallest_packed()).manifest.features().empty());
  const Manifest m = parse(sparse_file()).manifest;
  ASSERT_EQ(m.features_size(), 1);
  EXPECT_EQ(m.features(0), "encoding.sparse");
  EXPECT_EQ(m.linears(0).terms_size(), 3);
  const Encoding e = encoding_from(m.linears(0).terms(1).weight().encoding());
  EXPECT_EQ(to_string(e), "int4-g16-2:4");
}

TEST(PackedVersion, a_feature_from_the_future_is_refused_by_its_name) {
  const std::string file = test::smallest_packed();
  Manifest m = test::packed_manifest(file);
  m.add_features("encoding.trellis");
  EXPECT_PITH_ERROR(parse(test::with_manifest(file, m)), ErrorKind::kUnsupported,
                    "x.pith: it needs \"encoding.trellis\"");
}

TEST(PackedVersion, a_list_of_features_that_lies_is_corrupt) {
  const std::string file = test::smallest_packed();
  Manifest m = test::packed_manifest(file);
  m.add_features("encoder");
  EXPECT_PITH_ERROR(parse(test::with_manifest(file, m)), ErrorKind::kCorrupt, "list of features");
  const std::string sparse = sparse_file();
  Manifest none = test::packed_manifest(sparse);
  none.clear_features();
  EXPECT_PITH_ERROR(parse(test::with_manifest(sparse, none)), ErrorKind::kCorrupt,
                    "list of features");
  Manifest twice = test::packed_manifest(sparse);
  twice.add_features("encoding.sparse");
  EXPECT_PITH_ERROR(parse(test::with_manifest(sparse, twice)), ErrorKind::kCorrupt,
                    "list of features");
}

// A name takes two bytes of a file and forty of memory.
TEST(PackedVersion, a_million_features_are_refused_before_they_are_parsed) {
  const std::string file = test::smallest_packed();
  std::string features;
  for (uint64_t i = 0; i <= kMaxManifestRecords; ++i) features += std::string("\x32\x00", 2);
  EXPECT_PITH_ERROR(parse(test::with_manifest_bytes(file, features)), ErrorKind::kUnsupported,
                    "more than");
}

TEST(PackedVersion, version_2_has_no_features) {
  const auto as_version_2 = [](const std::string& file) {
    test::PackedHeader h = test::packed_header(file);
    h.version = 2;
    return test::with_packed_header(file, h);
  };
  EXPECT_EQ(parse(as_version_2(test::smallest_packed())).manifest.linears_size(), 3);
  EXPECT_PITH_ERROR(parse(as_version_2(sparse_file())), ErrorKind::kCorrupt,
                    "version 2 does not have \"encoding.sparse\"");
}

// Written by the last program of version 2: every linear decodes to what its method chose.
TEST(PackedVersion, a_file_of_version_2_is_read) {
  const std::string path = test::fixture("golden/packed_v2.bin");
  EXPECT_EQ(test::packed_header(read_text_file(path, 1 << 20)).version, 2u);
  const PackedFile file = PackedFile::open(path);
  file.check_planes();
  EXPECT_EQ(file.manifest().linears_size(), 8);
  for (const auto& l : file.manifest().linears()) {
    const Weight w = file.weight(l.terms(0).weight());
    std::vector<float> row(static_cast<size_t>(w.k));
    std::vector<uint64_t> hashes;
    for (int64_t r = 0; r < w.n; ++r) {
      reference_decode(w, r, 1, row.data());
      hashes.push_back(hash64(std::as_bytes(std::span(row))));
    }
    EXPECT_EQ(hash64(std::as_bytes(std::span(hashes))), l.expected_hash()) << l.name();
  }
}

TEST(PackedFile, configuration_of_the_source_comes_back_byte_for_byte) {
  const ConfigFiles files = {.config = "{ \"model_type\":\"llama\" }\n", .generation_config = "{}"};
  const std::string bytes = test::packed_bytes([&](PackedWriter& writer, Manifest* m) {
    *m->mutable_model() = test::tiny_spec();
    add_config(writer, files, m);
  });
  const test::TemporaryFolder folder;
  write_file(folder.file("x.pith"), as_bytes(bytes));
  const ConfigFiles back = PackedFile::open(folder.file("x.pith")).config_files();
  EXPECT_EQ(back.config, files.config);
  EXPECT_EQ(back.generation_config, files.generation_config);
  EXPECT_EQ(hash_of(back), hash_of(files));
  EXPECT_NE(hash_of(back), hash_of(ConfigFiles{}));
  EXPECT_EQ(blob_sizes(back),
            (BlobSizes{{"config.json", files.config.size()}, {"generation_config.json", 2}}));
}

}  // namespace
}  // namespace pith
