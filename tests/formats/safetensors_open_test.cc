// Folders of safetensors files, with and without an index.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <functional>

#include "formats/safetensors.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/safetensors_bytes.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using test::TemporaryFolder;
using testing::ElementsAre;
using testing::Pair;

// A model folder with everything that open_model() reads of it.
void open_with_tokenizer(const std::string& path) { tokenizer_files_of(open_checkpoint(path)); }

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
    {"trailing_text", R"({"weight_map":{"a":"x"}} {})", "not valid JSON"},
    {"nul_and_more", std::string("{\"weight_map\":{\"a\":\"x\"}}\0}", 26),
     "text follows the value"},
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
    {"no_shard_there", [](Folder& f) { f.index(R"({"a":"1.safetensors","b":"2.safetensors"})"); },
     ErrorKind::kIo, "shard \"1.safetensors\" is missing"},
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
    {"config_too_large",
     [](Folder& f) {
       f.shard("model.safetensors", {"a"});
       f.put("config.json", std::string((16 << 20) + 1, ' '));
     },
     ErrorKind::kCorrupt, "at most 16777216"},
    {"empty_file", [](Folder& f) { f.put("model.safetensors", ""); }, ErrorKind::kCorrupt,
     "the file is empty"},
};
class BadFolder : public testing::TestWithParam<FolderCase> {};
TEST_P(BadFolder, is_refused) {
  Folder f;
  GetParam().make(f);
  EXPECT_PITH_ERROR(open_safetensors(f.path()), GetParam().kind, GetParam().message);
}
INSTANTIATE_TEST_SUITE_P(Table, BadFolder, testing::ValuesIn(kBadFolders),
                         [](const auto& test) { return std::string(test.param.name); });

// As transformers: all tensors of the shards that the index names, and the last of those that occur
// twice.
struct ToleratedCase {
  const char* name;
  std::vector<std::string> first, second;  // tensors of the shards
  const char* weight_map;
  std::string note;
};
const ToleratedCase kTolerated[] = {
    {"tensor_in_two_shards",
     {"a"},
     {"a", "b"},
     R"({"a":"1.safetensors","b":"2.safetensors"})",
     "\"a\" in more than one shard"},
    {"tensor_in_another_shard_than_the_index_says",
     {"a", "c"},
     {"b"},
     R"({"a":"2.safetensors","b":"2.safetensors","c":"1.safetensors"})",
     "\"a\" in another shard than it says"},
    {"tensor_in_no_shard",
     {"a"},
     {"b"},
     R"({"a":"1.safetensors","b":"2.safetensors","c":"1.safetensors"})",
     "\"c\" listed and in no"},
    {"tensors_not_listed",
     {"a", "b", "d"},
     {"c"},
     R"({"a":"1.safetensors","c":"2.safetensors"})",
     "\"b\" and 1 more not listed"},
    {"missing_shard",
     {"a"},
     {"b"},
     R"({"a":"1.safetensors","b":"2.safetensors","c":"3.safetensors"})",
     "\"3.safetensors\" missing"},
};
class Tolerated : public testing::TestWithParam<ToleratedCase> {};
TEST_P(Tolerated, opens_with_a_note) {
  const auto& p = GetParam();
  Folder f;
  f.shard("1.safetensors", p.first);
  f.shard("2.safetensors", p.second);
  f.index(p.weight_map);
  const Checkpoint c = open_safetensors(f.path());
  EXPECT_NE(fmt::format("{}", fmt::join(c.notes, "\n")).find(p.note), std::string::npos)
      << fmt::format("{}", fmt::join(c.notes, "\n"));
  for (const auto* shard : {&p.first, &p.second}) {
    for (const auto& t : *shard) EXPECT_NE(c.find(t), nullptr) << t;
  }
  for (size_t i = 0; i < c.tensors.size(); ++i)
    EXPECT_EQ(c.by_name.at(c.tensors[i].name), i) << c.tensors[i].name;
  EXPECT_EQ(c.by_name.size(), c.tensors.size());
}
INSTANTIATE_TEST_SUITE_P(Table, Tolerated, testing::ValuesIn(kTolerated),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(SafetensorsFolder, of_a_tensor_in_two_shards_the_last_counts) {
  Folder f;
  f.shard("1.safetensors", {"a", "b"});
  f.shard("2.safetensors", {"a"});
  f.index(R"({"a":"1.safetensors","b":"2.safetensors"})");
  const Checkpoint c = open_safetensors(f.path());
  EXPECT_EQ(c.tensors.size(), 2u);
  EXPECT_EQ(c.require("a").file, 1u);
  EXPECT_EQ(c.require("b").file, 0u);
}

TEST(SafetensorsFolder, a_tensor_that_is_not_there_is_an_error_where_it_is_needed) {
  Folder f;
  f.shard("1.safetensors", {"a"});
  f.index(R"({"a":"1.safetensors","b":"1.safetensors","c":"3.safetensors"})");
  const Checkpoint c = open_safetensors(f.path());
  EXPECT_PITH_ERROR(
      c.require("b"), ErrorKind::kCorrupt,
      "tensor \"b\" should be in the shard \"1.safetensors\", which does not have it");
  EXPECT_PITH_ERROR(c.find("c"), ErrorKind::kCorrupt, "\"3.safetensors\", which is missing");
  EXPECT_EQ(c.find("d"), nullptr);
}

TEST(SafetensorsFolder, all_shards_of_a_set_need_no_index) {
  Folder f;
  f.shard("model-00001-of-00002.safetensors", {"a"});
  EXPECT_EQ(open_safetensors(f.path()).tensors.size(), 1u);
  f.shard("model-00002-of-00002.safetensors", {"b"});
  EXPECT_EQ(open_safetensors(f.path()).tensors.size(), 2u);
  f.shard("other.safetensors", {"c"});
  EXPECT_PITH_ERROR(open_safetensors(f.path()), ErrorKind::kUsage, "3 safetensors files");
}

TEST(SafetensorsFolder, element_types_without_use_are_read_past) {
  Folder f;
  f.put("model.safetensors",
        test::safetensors_bytes(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                                R"("mask":{"dtype":"BOOL","shape":[3],"data_offsets":[4,7]},)"
                                R"("f4":{"dtype":"F4","shape":[2,1],"data_offsets":[7,8]},)"
                                R"("f6":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[8,11]},)"
                                R"("c":{"dtype":"C64","shape":[],"data_offsets":[11,19]}})",
                                19));
  const Checkpoint c = open_safetensors(f.path());
  EXPECT_EQ(c.tensors.size(), 1u);
  EXPECT_PITH_ERROR(c.require("mask"), ErrorKind::kUnsupported,
                    "tensor \"mask\" has dtype BOOL, which is not supported");
  ASSERT_EQ(c.notes.size(), 1u);
  EXPECT_NE(c.notes[0].find("\"c\" and 3 more of an element type that is not read"),
            std::string::npos)
      << c.notes[0];
}

TEST(SafetensorsFolder, f64_is_read_as_f32) {
  Folder f;
  std::vector<double> values(2 * 70'000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = 0.1 + static_cast<double>(i);
  std::string bytes = test::safetensors_bytes(
      fmt::format(R"({{"b":{{"dtype":"F64","shape":[2,70000],"data_offsets":[0,{}]}}}})",
                  8 * values.size()),
      0);
  bytes.append(reinterpret_cast<const char*>(values.data()), 8 * values.size());
  f.put("model.safetensors", bytes);
  const Checkpoint c = open_safetensors(f.path());
  const TensorInfo& t = c.require("b");
  EXPECT_EQ(t.encoding, Encoding::dense(DType::kF32));
  std::vector<float> all(values.size()), row(70'000);
  c.read(t, 0, 2, std::as_writable_bytes(std::span(all)));
  c.read(t, 1, 1, std::as_writable_bytes(std::span(row)));
  for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(all[i], static_cast<float>(values[i]));
  EXPECT_TRUE(std::equal(row.begin(), row.end(), all.begin() + 70'000));
  EXPECT_NE(c.notes.at(0).find("\"b\" in F64: read as f32"), std::string::npos);
}

// Placeholders of files that were never downloaded.
TEST(StandIn, is_named_with_its_remedy) {
  const struct {
    const char* name;
    std::string text;
    const char* message;
  } kCases[] = {
      {"lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345678\n",
       "Git LFS pointer, not the file itself; fetch it with"},
      {"xet", "# xet version 0\nfilesize = 9\nhash = 'x'\n", "Xet pointer"},
      {"empty", "", "the file is empty"},
      {"html", "\n <!DOCTYPE html>\n<html><head><title>Hugging Face</title>", "a web server sent"},
      {"html_bare", "<HTML lang=en><body>Sign in</body></html>", "a web server sent"},
      {"xml", "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>",
       "a web server sent"},
      {"plain", "Entry not found", "a web server sent"},
      {"gzip", "\x1f\x8b\x08...........", "is compressed by gzip; unpack it"},
  };
  for (const auto& c : kCases) {
    for (const char* file :
         {"model.safetensors", "config.json", "model.safetensors.index.json", "model.gguf",
          "model.bin", "tokenizer.json", "tokenizer.model", "chat_template.jinja"}) {
      Folder f;
      if (!std::string_view(file).ends_with("index.json")) f.shard("model.safetensors", {"a"});
      f.put(file, c.text);
      if (c.text.empty() && std::string_view(file).ends_with("jinja")) continue;  // none
      const bool single =
          std::string_view(file).ends_with("gguf") || std::string_view(file).ends_with("bin");
      EXPECT_PITH_ERROR(
          open_with_tokenizer(single ? f.file(file) : f.path()), ErrorKind::kCorrupt,
          fmt::format(
              "{}: {}", f.file(file),
              std::string_view(c.message).starts_with("the file") ? "the file is empty" : "is"));
      EXPECT_PITH_ERROR(open_with_tokenizer(single ? f.file(file) : f.path()), ErrorKind::kCorrupt,
                        c.message);
    }
  }
}

TEST(SafetensorsFolder, a_generation_config_that_cannot_be_read_is_ignored_with_a_note) {
  for (const char* text : {"", "{", "<html>"}) {
    Folder f;
    f.shard("model.safetensors", {"a"});
    f.put("generation_config.json", text);
    const Checkpoint c = open_checkpoint(f.path());
    EXPECT_TRUE(c.generation_config.is_null());
    ASSERT_EQ(c.notes.size(), 1u);
    EXPECT_TRUE(c.notes[0].ends_with("it was ignored")) << c.notes[0];
  }
}

// Opening a pipe waits for its writer.
TEST(SafetensorsFolder, pipes_and_sockets_are_refused_without_being_opened) {
  for (const char* name : {"config.json", "model.safetensors", "model.safetensors.index.json",
                           "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                           "chat_template.jinja", "generation_config.json"}) {
    Folder f;
    if (!std::string_view(name).ends_with("index.json")) f.shard("model.safetensors", {"a"});
    remove_file(f.file(name));
    ASSERT_EQ(::mkfifo(f.file(name).c_str(), 0600), 0);
    EXPECT_PITH_ERROR(open_with_tokenizer(f.path()), ErrorKind::kIo,
                      "is a pipe, not a regular file");
    EXPECT_PITH_ERROR(open_checkpoint(f.file(name)), ErrorKind::kIo, "not a regular file");
  }
  EXPECT_PITH_ERROR(open_checkpoint("/dev/zero"), ErrorKind::kIo, "is a device");
}

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
