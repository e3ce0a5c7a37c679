// Folders of safetensors files, with and without an index.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "formats/safetensors.h"
#include "tests/support/safetensors_bytes.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using test::TemporaryFolder;
using testing::ElementsAre;
using testing::Pair;

constexpr const char* kIndexName = "model.safetensors.index.json";

struct IndexCase {
  const char* name;
  std::string text;
  std::string message;
};
const IndexCase kBadIndexes[] = {
    {"empty", "", "not valid JSON"},
    {"array", "[]", "instead of an object"},
    {"no_weight_map", R"({"metadata":{}})", "\"weight_map\" is missing"},
    {"weight_map_is_null", R"({"weight_map":null})", "\"weight_map\" is missing"},
    {"weight_map_is_an_array", R"({"weight_map":[]})", "weight_map is array"},
    {"weight_map_is_empty", R"({"weight_map":{}})", "weight_map is empty"},
    {"shard_is_a_number", R"({"weight_map":{"a":1}})",
     "shard of \"a\" is number instead of a string"},
    {"shard_is_null", R"({"weight_map":{"a":null}})", "shard of \"a\" is null"},
    {"shard_is_empty", R"({"weight_map":{"a":""}})", "not a plain file name"},
    {"shard_is_dot", R"({"weight_map":{"a":"."}})", "not a plain file name"},
    {"shard_is_dot_dot", R"({"weight_map":{"a":".."}})", "not a plain file name"},
    {"shard_in_a_parent", R"({"weight_map":{"a":"../x.safetensors"}})", "not a plain file name"},
    {"shard_in_a_folder", R"({"weight_map":{"a":"sub/x.safetensors"}})", "not a plain file name"},
    {"shard_is_absolute", R"({"weight_map":{"a":"/etc/passwd"}})", "not a plain file name"},
    {"shard_with_backslash", R"({"weight_map":{"a":"..\\x"}})", "not a plain file name"},
    {"shard_with_escaped_slash", R"({"weight_map":{"a":"..\u002fx"}})", "not a plain file name"},
    {"shard_with_nul", R"({"weight_map":{"a":"x\u0000.safetensors"}})", "not a plain file name"},
    {"shard_with_line_end", R"({"weight_map":{"a":"x\n"}})", "not a plain file name"},
    {"shard_too_long", R"({"weight_map":{"a":")" + std::string(256, 'x') + "\"}}",
     "not a plain file name"},
    {"duplicate_tensor", R"({"weight_map":{"a":"x","a":"y"}})", "duplicate key \"a\""},
    {"duplicate_weight_map", R"({"weight_map":{"a":"x"},"weight_map":{"a":"y"}})",
     "duplicate key \"weight_map\""},
    {"trailing_text", R"({"weight_map":{"a":"x"}} {})", "not valid JSON"},
    {"nul_and_more", std::string("{\"weight_map\":{\"a\":\"x\"}}\0}", 26), "NUL at byte"},
    {"too_deep", R"({"metadata":[[[[[[[[[[]]]]]]]]]],"weight_map":{"a":"x"}})", "nested deeper"},
};
class BadIndex : public testing::TestWithParam<IndexCase> {};
TEST_P(BadIndex, is_refused) {
  EXPECT_PITH_ERROR(parse_safetensors_index(GetParam().text, "index"), ErrorKind::kCorrupt,
                    GetParam().message);
}
INSTANTIATE_TEST_SUITE_P(Table, BadIndex, testing::ValuesIn(kBadIndexes),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(SafetensorsIndex, maps_tensors_to_shards_and_ignores_the_rest) {
  EXPECT_THAT(
      parse_safetensors_index(
          R"({"metadata":{"total_size":8.0},"weight_map":{"b":"2..safetensors","a":"1"},"x":[]})",
          "index"),
      ElementsAre(Pair("a", "1"), Pair("b", "2..safetensors")));
}

// A folder with a config and these files; each file is a list of one-byte tensors.
class Folder {
 public:
  Folder() { put("config.json", "{\"model_type\":\"llama\"}"); }
  void put(const std::string& name, std::string_view text) {
    write_file(file(name), as_bytes(text));
  }
  void shard(const std::string& name, const std::vector<std::string>& tensors) {
    std::vector<TensorData> data;
    for (const auto& t : tensors) data.push_back({t, DType::kU8, {1}, as_bytes("x")});
    write_safetensors(file(name), data);
  }
  void index(const std::string& weight_map) {
    put(kIndexName, "{\"weight_map\":" + weight_map + "}");
  }
  std::string file(const std::string& name) const { return folder_.file(name); }
  const std::string& path() const { return folder_.path(); }

 private:
  TemporaryFolder folder_;
};

TEST(SafetensorsFolder, shards_open_in_order_of_their_names) {
  Folder f;
  f.shard("m-2.safetensors", {"a", "d"});
  f.shard("m-1.safetensors", {"c", "b"});
  f.shard("consolidated.safetensors", {"other"});  // not of the index: none of its business
  f.index(
      R"({"a":"m-2.safetensors","b":"m-1.safetensors","c":"m-1.safetensors","d":"m-2.safetensors"})");
  const Checkpoint c = open_safetensors(f.path());
  ASSERT_EQ(c.files.size(), 2u);
  std::string order;
  for (const auto& t : c.tensors) order += t.name + std::to_string(t.file);
  EXPECT_EQ(order, "b0c0a1d1");
  std::byte b{};
  c.read(c.require("d"), 0, 1, std::span(&b, 1));
  EXPECT_EQ(b, std::byte{'x'});
  EXPECT_EQ(c.config.at("model_type"), "llama");
}

struct FolderCase {
  const char* name;
  std::function<void(Folder&)> make;
  ErrorKind kind;
  std::string message;
};
const FolderCase kBadFolders[] = {
    {"no_weights", [](Folder&) {}, ErrorKind::kCorrupt, "no *.safetensors"},
    {"two_files_without_index",
     [](Folder& f) {
       f.shard("a.safetensors", {"a"});
       f.shard("b.safetensors", {"b"});
     },
     ErrorKind::kUsage, "2 safetensors files"},
    {"missing_shard",
     [](Folder& f) {
       f.shard("1.safetensors", {"a"});
       f.index(R"({"a":"1.safetensors","b":"2.safetensors"})");
     },
     ErrorKind::kIo, "shard \"2.safetensors\" is missing"},
    {"tensor_in_two_shards",
     [](Folder& f) {
       f.shard("1.safetensors", {"a"});
       f.shard("2.safetensors", {"a", "b"});
       f.index(R"({"a":"1.safetensors","b":"2.safetensors"})");
     },
     ErrorKind::kCorrupt, "tensor \"a\" is also in another shard"},
    {"tensor_in_another_shard_than_the_index_says",
     [](Folder& f) {
       f.shard("1.safetensors", {"a", "c"});
       f.shard("2.safetensors", {"b"});
       f.index(R"({"a":"2.safetensors","b":"2.safetensors","c":"1.safetensors"})");
     },
     ErrorKind::kCorrupt, "tensor \"a\" is not in \"2.safetensors\""},
    {"tensor_in_no_shard",
     [](Folder& f) {
       f.shard("1.safetensors", {"a"});
       f.index(R"({"a":"1.safetensors","b":"1.safetensors"})");
     },
     ErrorKind::kCorrupt, "tensor \"b\" is not in \"1.safetensors\""},
    {"tensor_not_listed",
     [](Folder& f) {
       f.shard("1.safetensors", {"a", "b"});
       f.index(R"({"a":"1.safetensors"})");
     },
     ErrorKind::kCorrupt, "tensor \"b\" of \"1.safetensors\" is not listed"},
    {"short_shard",
     [](Folder& f) {
       f.shard("1.safetensors", {"a"});
       f.put("2.safetensors", test::safetensors_bytes(
                                  R"({"b":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}})", 8));
       f.index(R"({"a":"1.safetensors","b":"2.safetensors"})");
     },
     ErrorKind::kCorrupt, "2.safetensors: tensor \"b\": data_offsets [0, 9] go beyond the 8 bytes"},
    {"shard_is_a_folder",
     [](Folder& f) {
       std::filesystem::create_directory(f.file("1.safetensors"));
       f.index(R"({"a":"1.safetensors"})");
     },
     ErrorKind::kIo, "not a regular file"},
    {"no_config",
     [](Folder& f) {
       f.shard("model.safetensors", {"a"});
       remove_file(f.file("config.json"));
     },
     ErrorKind::kCorrupt, "no config.json"},
    {"config_is_an_array",
     [](Folder& f) {
       f.shard("model.safetensors", {"a"});
       f.put("config.json", "[]");
     },
     ErrorKind::kCorrupt, "config.json: is array instead of an object"},
    {"config_with_duplicate_keys",
     [](Folder& f) {
       f.shard("model.safetensors", {"a"});
       f.put("config.json", R"({"hidden_size":1,"hidden_size":2})");
     },
     ErrorKind::kCorrupt, "duplicate key \"hidden_size\""},
    {"config_too_large",
     [](Folder& f) {
       f.shard("model.safetensors", {"a"});
       f.put("config.json", std::string((16 << 20) + 1, ' '));
     },
     ErrorKind::kCorrupt, "at most 16777216"},
    {"empty_file", [](Folder& f) { f.put("model.safetensors", ""); }, ErrorKind::kCorrupt,
     "too few"},
    {"text_for_weights",
     [](Folder& f) { f.put("model.safetensors", "version https://git-lfs.github.com/spec/v1"); },
     ErrorKind::kCorrupt, "header length"},
};
class BadFolder : public testing::TestWithParam<FolderCase> {};
TEST_P(BadFolder, is_refused) {
  Folder f;
  GetParam().make(f);
  EXPECT_PITH_ERROR(open_safetensors(f.path()), GetParam().kind, GetParam().message);
}
INSTANTIATE_TEST_SUITE_P(Table, BadFolder, testing::ValuesIn(kBadFolders),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(SafetensorsFolder, one_file_of_any_name_is_the_model) {
  Folder f;
  f.shard("weights.safetensors", {"a"});
  EXPECT_EQ(open_safetensors(f.path()).tensors.size(), 1u);
  EXPECT_EQ(open_safetensors(f.file("weights.safetensors")).tensors.size(), 1u);
}

TEST(SafetensorsFolder, links_are_followed) {
  Folder blobs, f;
  blobs.shard("blob", {"a"});
  std::filesystem::create_symlink(blobs.file("blob"), f.file("model.safetensors"));
  EXPECT_EQ(open_safetensors(f.path()).tensors.size(), 1u);
}

TEST(SafetensorsFolder, model_safetensors_goes_before_an_index) {
  Folder f;
  f.shard("model.safetensors", {"a"});
  f.index(R"({"b":"missing.safetensors"})");
  EXPECT_NE(open_safetensors(f.path()).find("a"), nullptr);
}

}  // namespace
}  // namespace pith
